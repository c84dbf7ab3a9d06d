//! The HTTP admin port: `/metrics`, `/healthz` and `/readyz`.

mod warnings;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::warnings::Warnings;
use crate::{
    connections::{self, Connections, Limits},
    metrics::{self, SharedRegistry},
};

/// How long open requests may take to end once the port stops.
const GRACE: Duration = Duration::from_secs(5);
/// Connections of a port that has only these paths.
const CONNECTIONS: usize = 1024;
/// How long a caller of it may take to ask.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the process may be sent work, and if not, what it waits for.
///
/// Clones share one state. Starts not ready: `starting`.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Part to reason; ready when empty.
    waits: Arc<watch::Sender<BTreeMap<String, String>>>,
    /// Of the parts of the process, shown beside.
    warnings: Vec<Warnings>,
}

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self {
            waits: Arc::new(watch::Sender::new(BTreeMap::from([(
                PROCESS.to_owned(),
                "starting".to_owned(),
            )]))),
            warnings: Vec::new(),
        }
    }

    /// Shows a part's warnings too. They are shown by this one and its later clones.
    #[must_use]
    pub fn with_warnings(mut self, warnings: &Warnings) -> Self {
        self.warnings.push(warnings.clone());
        self
    }

    /// What a person should know, ready or not.
    pub fn warnings(&self) -> BTreeMap<String, String> {
        self.warnings.iter().flat_map(Warnings::all).collect()
    }

    /// The process as a whole is ready; it shows as ready when no part [waits](Self::wait) either.
    pub fn set_ready(&self) {
        self.done(PROCESS);
    }

    /// The process as a whole is not ready, for this reason.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.wait(PROCESS, reason);
    }

    /// One part is not ready, such as `database`, for this reason; an earlier one of that part is replaced.
    pub fn wait(&self, part: &str, reason: impl Into<String>) {
        let reason = reason.into();
        self.waits.send_if_modified(|waits| {
            waits.insert(part.to_owned(), reason.clone()).as_ref() != Some(&reason)
        });
    }

    /// One part is ready.
    pub fn done(&self, part: &str) {
        self.waits.send_if_modified(|waits| waits.remove(part).is_some());
    }

    /// Whether nothing is waited for.
    pub fn is_ready(&self) -> bool {
        self.waits.borrow().is_empty()
    }

    /// What is waited for: part to reason.
    pub fn reasons(&self) -> BTreeMap<String, String> {
        self.waits.borrow().clone()
    }

    /// Tells of every change; ready when the map is empty.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.waits.subscribe()
    }
}

/// The part that stands for the process as a whole.
const PROCESS: &str = "process";

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells whether the process works at all; an error means that only a restart helps.
pub type Health = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// A [`Health`] for a process that is healthy as long as it answers.
pub fn healthy() -> Health {
    Arc::new(|| Ok(()))
}

/// `/metrics` (`OpenMetrics` text), `/healthz` and `/readyz` (200, or 503 with the reasons, as JSON; with warnings either way).
pub fn router(registry: SharedRegistry, readiness: Readiness, health: Health) -> Router {
    Router::new()
        .route("/metrics", get(serve_metrics).with_state(registry))
        .route("/healthz", get(serve_health).with_state(health))
        .route("/readyz", get(serve_ready).with_state(readiness))
}

/// What the ports of a process count their connections by, and how long callers may take, where there is only the admin port.
pub fn connections(registry: &SharedRegistry) -> Connections {
    let limits = Limits { most: CONNECTIONS, field: "the admin port", patience: PATIENCE, greeting: 0 };
    Connections::new("http", limits, &connections::Metrics::register(&mut registry.lock()))
}

/// Serves until `stop`, then gives open requests five seconds to end. Dropping the future closes the port at once.
pub async fn serve(listener: TcpListener, connections: Connections, router: Router, stop: CancellationToken) {
    serve_within(listener, connections, router, stop, GRACE).await;
}

async fn serve_within(
    listener: TcpListener,
    connections: Connections,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) {
    let served = crate::http::serve(listener, connections, router, PATIENCE, stop.clone());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = served => {}
        () = late => warn!(?grace, "closing the http port with requests still open"),
    }
}

async fn serve_metrics(State(registry): State<SharedRegistry>) -> Response {
    match metrics::encode(&registry) {
        Ok(body) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be encoded").into_response(),
    }
}

async fn serve_health(State(health): State<Health>) -> Response {
    match health() {
        Ok(()) => Json(json!({ "status": "ok" })).into_response(),
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failed", "reason": reason })))
                .into_response()
        }
    }
}

async fn serve_ready(State(readiness): State<Readiness>) -> Response {
    let (reasons, warnings) = (readiness.reasons(), readiness.warnings());
    let (code, mut body) = if reasons.is_empty() {
        (StatusCode::OK, json!({ "status": "ready" }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "not ready", "reasons": reasons }))
    };
    if !warnings.is_empty() {
        body["warnings"] = json!(warnings);
    }
    (code, Json(body)).into_response()
}

#[cfg(test)]
mod tests;
