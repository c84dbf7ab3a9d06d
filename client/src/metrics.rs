//! What the client counts.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counters of one client or of one node's calls to others. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Calls sent to nodes, retries included.
    pub requests: Counter,
    /// Calls that failed, whatever the reason.
    pub failures: Counter,
    /// Attempts after the first.
    pub retries: Counter,
    /// Times that a node was left alone because it could not be reached.
    pub breaker_opens: Counter,
    /// Times that the ring was asked for.
    pub refreshes: Counter,
}

impl Metrics {
    /// Registers under `client_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("client");
        registry.register("requests", "Calls sent to nodes, retries included", metrics.requests.clone());
        registry.register("failures", "Calls to nodes that failed", metrics.failures.clone());
        registry.register("retries", "Attempts after the first", metrics.retries.clone());
        registry.register(
            "breaker_opens",
            "Times that a node was left alone because it could not be reached",
            metrics.breaker_opens.clone(),
        );
        registry.register("refreshes", "Times that the ring was asked for", metrics.refreshes.clone());
        metrics
    }
}
