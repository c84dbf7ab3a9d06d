//! What requests carry, or the problem with it.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::problem::Problem;

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

/// A JSON body of `T`.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let found = media_type(request.headers())?;
        if found != "application/json" {
            return Err(Problem::media_type(&found, "application/json"));
        }
        let bytes = bytes(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// The whole body, within the path's limit.
pub(super) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejected| match rejected.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "the body is larger than this path takes: node.max_value and some for a value, node.max_keys for a list of keys",
        ),
        _ => Problem::bad_body(rejected.body_text()),
    })
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
