//! Many keys at once: `/v1/keys:batchGet` and `/v1/keys:batchDelete`; and all entries of tags: `/v1/tags:batchDelete`.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, response::IntoResponse as _, response::Response};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use wire::{Answer, Outcome, ReadOptions};

use super::{
    extract::{self, Asked, Body, Nothing},
    freshness::ms,
    keys::is_set_by_applications,
    problem::Problem,
};
use crate::{
    node::{Hop, Node},
    serve::hold,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetBody {
    keys: Vec<String>,
    #[serde(default, deserialize_with = "extract::duration")]
    max_staleness: Option<Duration>,
    #[serde(default)]
    look_aside: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteBody {
    keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TagsBody {
    tags: Vec<String>,
}

#[derive(Serialize)]
struct Results<'a> {
    results: Vec<KeyResult<'a>>,
    epoch: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum KeyResult<'a> {
    Answer(KeyAnswer<'a>),
    Error { key: &'a str, error: Value },
}

#[derive(Serialize)]
struct KeyAnswer<'a> {
    key: &'a str,
    outcome: Outcome,
    #[serde(flatten)]
    value: Shown,
    age_ms: u64,
    freshness_ms: u64,
    ttl_ms: Option<u64>,
    node: String,
    epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A value in a JSON document: as the JSON that it is, or in base64 if it is none by contract.
#[derive(Debug, Default, Serialize)]
pub(super) struct Shown {
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Shown {
    pub(super) fn new(value: Option<&Bytes>, is_json: bool) -> Self {
        let Some(bytes) = value else { return Self::default() };
        let json = std::str::from_utf8(bytes).ok().filter(|_| is_json);
        match json.and_then(|text| serde_json::from_str(text).ok()) {
            Some(raw) => Self { value: Some(raw), value_base64: None },
            None => Self { value: None, value_base64: Some(BASE64_STANDARD.encode(bytes)) },
        }
    }
}

/// The values of many keys, in their order; each has its own outcome or problem.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(body, _taken): Body<GetBody>,
) -> Result<Response, Problem> {
    let options = ReadOptions { max_staleness: body.max_staleness, look_aside: body.look_aside };
    let (answers, reserved) = node.get_within(&body.keys, Hop::First, options, 0).await?;
    let results = body.keys.iter().zip(answers).map(|(key, answer)| match answer {
        Ok(answer) => KeyResult::Answer(shown(&node, key, answer)),
        Err(error) => KeyResult::Error { key, error: Problem::from(error).to_json() },
    });
    let mut response = Json(Results { results: results.collect(), epoch: node.epoch().0 }).into_response();
    hold::until_sent(response.extensions_mut(), Some(reserved));
    Ok(response)
}

fn shown<'a>(node: &Node, key: &'a str, answer: Answer) -> KeyAnswer<'a> {
    KeyAnswer {
        key,
        outcome: answer.outcome,
        value: Shown::new(answer.value.as_ref(), !is_set_by_applications(node, key)),
        age_ms: ms(answer.age),
        freshness_ms: ms(answer.freshness),
        ttl_ms: answer.ttl.map(ms),
        node: answer.node,
        epoch: answer.epoch,
        token: answer.token.map(|token| BASE64_URL_SAFE_NO_PAD.encode(token)),
    }
}

/// Removes many keys from all nodes.
pub(super) async fn delete(
    State(node): State<Arc<Node>>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(body, _taken): Body<DeleteBody>,
) -> Result<Json<Value>, Problem> {
    let removed = node.remove(&body.keys, Hop::First).await?;
    Ok(Json(json!({ "removed": removed, "epoch": node.epoch().0 })))
}

/// Removes all entries that carry any of these tags, from all nodes.
pub(super) async fn delete_tags(
    State(node): State<Arc<Node>>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(body, _taken): Body<TagsBody>,
) -> Result<Json<Value>, Problem> {
    node.remove_tags(&body.tags, Hop::First).await?;
    Ok(Json(json!({ "tags": body.tags, "epoch": node.epoch().0 })))
}
