//! What a node knows and does for operators: explain, scan, stats, ring, flush.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::Scan;

use super::{
    batch::Shown,
    extract::{Asked, NoForm, Nothing, Params, Tail},
    freshness::ms,
    keys::is_set_by_applications,
    problem::Problem,
};
use crate::node::{Hop, Node};

/// Entries of a page at most.
const MOST: u32 = 10_000;

pub(super) async fn explain(
    State(node): State<Arc<Node>>,
    Tail(key): Tail,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Problem> {
    Ok(Json(node.history(&key).await?).into_response())
}

pub(super) async fn stats(State(node): State<Arc<Node>>, Asked(Nothing {}): Asked<Nothing>) -> Response {
    Json(node.stats()).into_response()
}

pub(super) async fn ring(State(node): State<Arc<Node>>, Asked(Nothing {}): Asked<Nothing>) -> Json<Value> {
    let ring = node.ring();
    let members: Vec<Value> = ring
        .members()
        .iter()
        .map(|member| {
            json!({
                "id": member.id.as_str(), "incarnation": member.incarnation, "grpc": member.grpc, "http": member.http,
                "resp": member.resp, "weight": member.weight, "state": member.state.as_str(), "owned_slots": ring.owned_by(&member.id),
            })
        })
        .collect();
    Json(json!({
        "node": node.id().as_str(), "epoch": ring.epoch().0, "replicas": ring.replicas(), "members": members,
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScanQuery {
    group: Option<String>,
    #[serde(default)]
    cursor: u64,
    #[serde(default)]
    count: u32,
    #[serde(default)]
    values: bool,
}

impl Params for ScanQuery {
    const HINT: &'static str =
        "a scan takes ?group=NAME, ?count=1000, ?values=true, and the ?cursor= of the page before";
}

#[derive(Serialize)]
struct Entry {
    key: String,
    age_ms: u64,
    ttl_ms: u64,
    #[serde(flatten)]
    value: Option<Shown>,
}

#[derive(Serialize)]
struct Page {
    entries: Vec<Entry>,
    cursor: Option<String>,
    node: String,
    epoch: u64,
}

/// A page of what is in this node's own memory.
pub(super) async fn scan(
    State(node): State<Arc<Node>>,
    Asked(query): Asked<ScanQuery>,
) -> Result<Response, Problem> {
    if query.count > MOST {
        return Err(Problem::bad_query(format!("count is {}, the limit is {MOST}", query.count)));
    }
    let scan = Scan {
        groups: query.group.into_iter().collect(),
        cursor: query.cursor,
        count: query.count,
        values: query.values,
        keys: Vec::new(),
    };
    let page = node.scan(&scan)?;
    let entries = page.entries.into_iter().map(|held| Entry {
        age_ms: ms(held.age),
        ttl_ms: ms(held.ttl),
        value: query
            .values
            .then(|| Shown::new(held.value.as_ref(), !is_set_by_applications(&node, &held.key))),
        key: held.key,
    });
    let entries: Vec<Entry> = entries.collect();
    // As text: many readers of JSON have no whole numbers of 64 bits.
    let cursor = (page.cursor != 0).then(|| page.cursor.to_string());
    Ok(Json(Page { entries, cursor, node: page.node, epoch: page.epoch }).into_response())
}

/// `POST /v1/groups/{group}:flush`. A router has no word for a name with a verb behind it.
pub(super) async fn flush(
    State(node): State<Arc<Node>>,
    Tail(action): Tail,
    Asked(Nothing {}): Asked<Nothing>,
    NoForm: NoForm,
) -> Result<Json<Value>, Problem> {
    let Some(group) = action.strip_suffix(":flush") else { return Err(Problem::no_such_path()) };
    flush_groups(&node, vec![group.to_owned()]).await
}

/// Drops every entry of all groups.
pub(super) async fn flush_all(
    State(node): State<Arc<Node>>,
    Asked(Nothing {}): Asked<Nothing>,
    NoForm: NoForm,
) -> Result<Json<Value>, Problem> {
    let all = node.catalog().groups().iter().map(|group| group.name.to_string()).collect();
    flush_groups(&node, all).await
}

async fn flush_groups(node: &Node, groups: Vec<String>) -> Result<Json<Value>, Problem> {
    node.flush(&groups, Hop::First).await?;
    Ok(Json(json!({ "flushed": groups, "epoch": node.epoch().0 })))
}
