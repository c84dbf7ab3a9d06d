//! One key: `/v1/keys/{key}`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use wire::{Answer, Lifetime, Only, Outcome, Put, ReadOptions, Write};

use super::{
    extract::{self, Asked, Nothing, Params, Tail},
    freshness::{self, TOKEN},
    problem::Problem,
};
use crate::{
    node::{Hop, Node},
    serve::hold,
};

/// A value, its token and its time to live in one document, for those who can't set headers or bytes.
const SET: &str = "application/vnd.freshline.set+json";
const TAKEN: &str =
    "application/json, application/octet-stream, text/plain, application/vnd.freshline.set+json";

/// What may stand behind the question mark of a read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    #[serde(default, deserialize_with = "extract::duration")]
    max_staleness: Option<Duration>,
    #[serde(default)]
    look_aside: bool,
}

impl Params for ReadQuery {
    const HINT: &'static str = "a read takes ?max_staleness=2s and ?look_aside=true";
}

/// A key's value; 404 if the database has no such row, or with a token.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    Tail(key): Tail,
    Asked(query): Asked<ReadQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let bounds = [query.max_staleness, freshness::max_staleness(&headers)?];
    let max_staleness = bounds.into_iter().flatten().min();
    let options = ReadOptions { max_staleness, look_aside: query.look_aside };
    let answer = node.get_with(&key, Hop::First, options).await?;
    let reserved = node.reserved(&answer)?;
    let mut response = match &answer.value {
        Some(value) => {
            let etag = freshness::etag(value);
            let mut response = if freshness::has(&headers, &etag) {
                StatusCode::NOT_MODIFIED.into_response()
            } else {
                ([(header::CONTENT_TYPE, content_type(&node, &key))], value.clone()).into_response()
            };
            if let Ok(etag) = HeaderValue::from_str(&etag) {
                response.headers_mut().insert(header::ETAG, etag);
            }
            response
        }
        None => nothing(&key, &answer).into_response(),
    };
    freshness::tell(&answer, &mut response);
    hold::until_sent(response.extensions_mut(), reserved);
    Ok(response)
}

/// Why there is no value.
pub(super) fn nothing(key: &str, answer: &Answer) -> Problem {
    if answer.outcome == Outcome::Absent {
        return Problem::new(StatusCode::NOT_FOUND, "absent", format!("{key} has no value; PUT it one"));
    }
    let Some(token) = answer.token.as_ref().filter(|_| answer.outcome == Outcome::Token) else {
        return Problem::new(StatusCode::NOT_FOUND, "absent", format!("the database has no row for {key}"));
    };
    let token = BASE64_URL_SAFE_NO_PAD.encode(token);
    let detail = if token.is_empty() {
        "not in memory, and no node that holds the key's slot could be reached: read the value, and set nothing"
    } else {
        "not in memory: read the value now, then PUT it with the token in X-Freshline-Token"
    };
    let problem = Problem::new(StatusCode::NOT_FOUND, "not-cached", detail).with("token", token.clone());
    match HeaderValue::from_str(&token) {
        Ok(header) if !token.is_empty() => problem.with_header(TOKEN, header),
        _ => problem,
    }
}

/// What a query fills is JSON; what applications set is theirs to know.
fn content_type(node: &Node, key: &str) -> &'static str {
    if is_set_by_applications(node, key) { "application/octet-stream" } else { "application/json" }
}

pub(super) fn is_set_by_applications(node: &Node, key: &str) -> bool {
    node.catalog().resolve(key).is_ok_and(|key| !key.group.is_filled())
}

/// What may stand behind the question mark of a set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetQuery {
    #[serde(default, deserialize_with = "extract::duration")]
    ttl: Option<Duration>,
}

impl Params for SetQuery {
    const HINT: &'static str = "a set takes ?ttl=10s";
}

/// The body of [`SET`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    token: Option<String>,
    value: Option<Box<RawValue>>,
    value_base64: Option<String>,
    #[serde(default)]
    absent: bool,
    #[serde(default, deserialize_with = "extract::duration")]
    ttl: Option<Duration>,
}

/// Stores what the caller read by itself after a miss had given it the token; a key of a plain group without one.
pub(super) async fn put(
    State(node): State<Arc<Node>>,
    Tail(key): Tail,
    Asked(query): Asked<SetQuery>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let headers = request.headers().clone();
    let media = extract::media_type(request.headers())?;
    let header = match request.headers().get(TOKEN) {
        None => None,
        Some(text) => {
            let text = text.to_str().map_err(|_| Problem::bad_header("X-Freshline-Token is no text"))?;
            Some(text.to_owned())
        }
    };
    if !TAKEN.split(", ").chain([""]).any(|known| known == media) {
        return Err(Problem::media_type(&media, TAKEN));
    }
    let (bytes, _taken) = extract::bytes(request, &node).await?;
    let (token, value, ttl) = match media.as_str() {
        SET => {
            let body: SetBody = extract::parse(&bytes)?;
            let value = match (body.value, body.value_base64, body.absent) {
                (Some(json), None, false) => Some(Bytes::from(json.get().to_owned())),
                (None, Some(text), false) => {
                    let bytes = BASE64_STANDARD.decode(text);
                    Some(bytes.map_err(|error| Problem::bad_body(format!("value_base64: {error}")))?.into())
                }
                (None, None, true) => None,
                _ => {
                    let detail = "write one of value, value_base64 and absent = true; a JSON null is \"value_base64\": \"bnVsbA==\"";
                    return Err(Problem::bad_body(detail));
                }
            };
            (body.token.or(header), value, body.ttl.or(query.ttl))
        }
        "application/json" => {
            extract::parse::<Box<RawValue>>(&bytes)?;
            (header, Some(bytes), query.ttl)
        }
        _ => (header, Some(bytes), query.ttl),
    };
    if node.catalog().resolve(&key).map_err(crate::error::Error::key)?.group.is_plain() {
        let only = only(&headers)?;
        return put_plain(&node, &key, value, ttl, only).await;
    }
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        let detail =
            "GET the key with ?look_aside=true, read the value, and send the token that the miss gave";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "token-required", detail));
    };
    let token = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "bad-token", format!("{error}; send it as it came"))
    })?;
    let set = node.set(&key, value, &Bytes::from(token), ttl, Hop::First).await?;
    match set.refused.as_deref() {
        None => Ok(Json(json!({ "stored": true, "node": set.node, "epoch": set.epoch }))),
        Some(reason) => Err(refused(reason).with("reason", reason).with("node", set.node)),
    }
}

/// Under which condition a key of a plain group is written: `If-None-Match: *` if it has no value, `If-Match: *` if it has one.
fn only(headers: &HeaderMap) -> Result<Only, Problem> {
    let any = |name| match headers.get(&name) {
        None => Ok(false),
        Some(value) if value.as_bytes() == b"*" => Ok(true),
        Some(_) => {
            Err(Problem::bad_header(format!("{name} takes * here: a value is not written by its ETag")))
        }
    };
    Ok(match (any(header::IF_NONE_MATCH)?, any(header::IF_MATCH)?) {
        (true, true) => {
            return Err(Problem::bad_header("If-Match and If-None-Match can't both hold; send one"));
        }
        (true, false) => Only::IfAbsent,
        (false, true) => Only::IfPresent,
        (false, false) => Only::Always,
    })
}

/// Writes a key of a plain group; no token is needed.
async fn put_plain(
    node: &Node,
    key: &str,
    value: Option<Bytes>,
    ttl: Option<Duration>,
    only: Only,
) -> Result<Json<Value>, Problem> {
    let Some(value) = value else {
        return Err(Problem::bad_body("that a key of a plain group has no value is not kept: DELETE it"));
    };
    let lifetime = ttl.map_or(Lifetime::Group, Lifetime::For);
    let written = node.write(key, Write::Put(Put { value, lifetime, only }), Hop::First).await?;
    match written.refused.as_deref() {
        None => Ok(Json(json!({ "stored": true, "node": written.node, "epoch": written.epoch }))),
        Some(reason) => Err(refused(reason).with("reason", reason).with("node", written.node)),
    }
}

fn refused(reason: &str) -> Problem {
    match reason {
        "exists" => Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "condition-failed",
            "not stored (exists): the key has a value, and If-None-Match: * wants none",
        ),
        "absent" => Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "condition-failed",
            "not stored (absent): the key has no value, and If-Match: * wants one",
        ),
        "not_kept" => Problem::new(
            StatusCode::CONFLICT,
            "set-refused",
            "not stored (not_kept): its time to live is zero; write ?ttl=10s, or DELETE the key",
        ),
        "too_large" => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "value-too-large",
            "the value is larger than its group or the node takes",
        ),
        "token_malformed" => Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-token",
            "that is no token; send it as the miss gave it",
        ),
        // Another token would be of no use.
        "tagged" => Problem::new(
            StatusCode::CONFLICT,
            "set-refused",
            "not stored (tagged): entries of this group carry tags, which only a fill of its query can tell; GET the key and it is filled, \
             or keep values of your own in a group without a query",
        ),
        _ => Problem::new(
            StatusCode::CONFLICT,
            "set-refused",
            format!(
                "not stored ({reason}): your value is good for this request; the next miss gives another token"
            ),
        ),
    }
}

/// Removes a key from all nodes.
pub(super) async fn delete(
    State(node): State<Arc<Node>>,
    Tail(key): Tail,
    headers: HeaderMap,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Problem> {
    if let Some(name) =
        [header::IF_MATCH, header::IF_NONE_MATCH].iter().find(|name| headers.contains_key(*name))
    {
        return Err(Problem::bad_header(format!("a removal has no condition: leave {name} out")));
    }
    let removed = node.remove(&[key], Hop::First).await?;
    Ok(Json(json!({ "removed": removed, "epoch": node.epoch().0 })))
}
