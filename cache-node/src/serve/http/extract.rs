//! What requests carry, or the problem with it.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use tonic::{Code, Status};

use super::problem::Problem;
use crate::{
    node::Node,
    serve::intake::{Counted, Taken},
};

/// The rest of the path, decoded: a key, or a group and what to do with it.
#[derive(Debug)]
pub(super) struct Tail(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Tail {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(tail)) => Ok(Self(tail)),
            Err(rejected) => {
                let detail = format!("{}; write UTF-8, percent-encoded", rejected.body_text());
                Err(Problem::new(StatusCode::BAD_REQUEST, "bad-path", detail))
            }
        }
    }
}

/// What stands behind the question mark.
pub(in crate::serve) trait Params: DeserializeOwned {
    /// What may stand there.
    const HINT: &'static str;
}

/// [`Params`], read.
#[derive(Debug)]
pub(in crate::serve) struct Asked<T>(pub(in crate::serve) T);

impl<T: Params, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejected) => Err(Problem::bad_query(format!("{}; {}", rejected.body_text(), T::HINT))),
        }
    }
}

/// No parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl Params for Nothing {
    const HINT: &'static str = "this path takes no parameters";
}

/// A request that no HTML form can make: of a type that pages may send anywhere unasked it would be one.
#[derive(Debug)]
pub(super) struct NoForm;

impl<S: Send + Sync> FromRequestParts<S> for NoForm {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let found = media_type(&parts.headers)?;
        match found.as_str() {
            "" | "application/json" => Ok(Self),
            _ => Err(Problem::media_type(&found, "application/json")),
        }
    }
}

/// A JSON body of `T`, and what it takes.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T, pub(super) Arc<Taken>);

impl<T: DeserializeOwned> FromRequest<Arc<Node>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, node: &Arc<Node>) -> Result<Self, Problem> {
        let found = media_type(request.headers())?;
        if found != "application/json" {
            return Err(Problem::media_type(&found, "application/json"));
        }
        let (bytes, taken) = bytes(request, node).await?;
        parse(&bytes).map(|body| Self(body, taken))
    }
}

/// The whole body, within the path's limit and the time that callers have, and what it takes.
pub(super) async fn bytes(request: Request, node: &Arc<Node>) -> Result<(Bytes, Arc<Taken>), Problem> {
    let taken = node.requests.begin();
    let request = request.map(|body| axum::body::Body::new(Counted::new(body, taken.clone())));
    match Bytes::from_request(request, node).await {
        Ok(bytes) => Ok((bytes, taken)),
        Err(rejected) if rejected.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "the body is larger than this path takes: node.max_value and some for a value, node.max_keys for a list of keys",
        )),
        Err(rejected) => Err(match given_up(&rejected) {
            Some(status) if status.code() == Code::DeadlineExceeded => {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "request-late", status.message())
            }
            Some(status) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", status.message())
                .with_header(header::RETRY_AFTER, 1),
            None => Problem::bad_body(rejected.body_text()),
        }),
    }
}

/// Why this side stopped receiving, if it did.
fn given_up<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Status> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::bad_body(format!("{error}; /openapi.json describes the body")))
}

/// The body's media type in small letters, without its parameters; empty if it has none.
pub(super) fn media_type(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(found) = headers.get(header::CONTENT_TYPE) else { return Ok(String::new()) };
    let text = found.to_str().map_err(|_| Problem::bad_header("Content-Type is no text"))?;
    let essence = text.split(';').next().unwrap_or_default();
    Ok(essence.trim().to_ascii_lowercase())
}

/// A duration with its unit that may be left out.
pub(super) fn duration<'de, D: Deserializer<'de>>(text: D) -> Result<Option<std::time::Duration>, D::Error> {
    daemon::config::duration::deserialize(text).map(Some)
}
