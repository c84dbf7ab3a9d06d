//! The HTTP port's own routes; `/metrics`, `/healthz` and `/readyz` come from the daemon. See `docs/http.md`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use client::{Answer, ReadOptions};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::status::http_status;
use crate::{
    error::Error,
    node::{Hop, Node},
};

/// All routes under `/v1`.
pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/keys/{*key}", get(get_key).delete(delete_key))
        .route("/v1/explain/{*key}", get(explain))
        .route("/v1/stats", get(stats))
        .route("/v1/ring", get(ring))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .with_state(node)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        failure(http_status(self.code()), self.to_string())
    }
}

/// What may stand behind the question mark of a read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadQuery {
    #[serde(default, deserialize_with = "bound")]
    max_staleness: Option<Duration>,
}

fn bound<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Duration>, D::Error> {
    daemon::config::duration::deserialize(text).map(Some)
}

/// A key's value as JSON; 404 if the database has no such row.
async fn get_key(
    State(node): State<Arc<Node>>,
    Path(key): Path<String>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejected) => {
            let message = format!("{}; a read takes ?max_staleness=2s", rejected.body_text());
            return Ok(failure(StatusCode::BAD_REQUEST, message));
        }
    };
    let options = ReadOptions { max_staleness: query.max_staleness, ..ReadOptions::default() };
    let answer = node.get_with(&key, Hop::First, options).await?;
    let mut response = match &answer.value {
        Some(value) => ([(header::CONTENT_TYPE, content_type(&node, &key))], value.clone()).into_response(),
        None => failure(StatusCode::NOT_FOUND, format!("the database has no row for {key}")),
    };
    freshness(&answer, &mut response);
    Ok(response)
}

/// What a query fills is JSON; what applications set is theirs to know.
fn content_type(node: &Node, key: &str) -> &'static str {
    let look_aside = node.catalog().resolve(key).is_ok_and(|key| key.group.is_look_aside());
    if look_aside { "application/octet-stream" } else { "application/json" }
}

/// Removes a key from all nodes.
async fn delete_key(State(node): State<Arc<Node>>, Path(key): Path<String>) -> Result<Json<Value>, Error> {
    let removed = node.remove(&[key], Hop::First).await?;
    Ok(Json(json!({ "removed": removed, "epoch": node.epoch().0 })))
}

async fn explain(State(node): State<Arc<Node>>, Path(key): Path<String>) -> Result<Response, Error> {
    let history = node.history(&key).await?;
    Ok(Json(history).into_response())
}

async fn stats(State(node): State<Arc<Node>>) -> Response {
    Json(node.stats()).into_response()
}

async fn ring(State(node): State<Arc<Node>>) -> Json<Value> {
    let ring = node.ring();
    let members: Vec<Value> = ring
        .members()
        .iter()
        .map(|member| {
            json!({
                "id": member.id.as_str(), "incarnation": member.incarnation, "grpc": member.grpc, "http": member.http,
                "weight": member.weight, "state": member.state.as_str(), "owned_slots": ring.owned_by(&member.id),
            })
        })
        .collect();
    Json(json!({
        "node": node.id().as_str(), "epoch": ring.epoch().0, "replicas": ring.replicas(), "members": members,
    }))
}

async fn unknown() -> Response {
    let routes = "/v1/keys/{key}, /v1/explain/{key}, /v1/stats, /v1/ring, /metrics, /healthz and /readyz";
    failure(StatusCode::NOT_FOUND, format!("no such path; there are {routes}"))
}

async fn not_allowed() -> Response {
    failure(StatusCode::METHOD_NOT_ALLOWED, "GET every path; DELETE /v1/keys/{key} removes a key")
}

/// How an answer came about, as headers.
fn freshness(answer: &Answer, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert("x-freshline-outcome", HeaderValue::from_static(answer.outcome.as_str()));
    headers.insert(header::AGE, HeaderValue::from(answer.age.as_secs()));
    headers.insert("x-freshline-age-ms", HeaderValue::from(ms(answer.age)));
    headers.insert("x-freshline-freshness-ms", HeaderValue::from(ms(answer.freshness)));
    if let Some(ttl) = answer.ttl {
        headers.insert("x-freshline-ttl-ms", HeaderValue::from(ms(ttl)));
    }
    headers.insert("x-freshline-epoch", HeaderValue::from(answer.epoch));
    if let Ok(node) = HeaderValue::from_str(&answer.node) {
        headers.insert("x-freshline-node", node);
    }
}

fn failure(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(json!({ "error": message.into() }))).into_response()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
