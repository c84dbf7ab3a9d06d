use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::Error;

/// What an operator asks about fills: how many run and wait, how long they take, how well they batch, how they fail.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) limit: Gauge,
    pub(crate) breaker: Gauge,
    pub(crate) breaker_opened: Counter,
    pub(crate) batch_keys: Histogram,
    pub(crate) seconds: Histogram,
    pub(crate) errors: Family<ErrorKind, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ErrorKind {
    kind: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            running: Gauge::default(),
            waiting: Gauge::default(),
            limit: Gauge::default(),
            breaker: Gauge::default(),
            breaker_opened: Counter::default(),
            batch_keys: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            errors: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers the loader's metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "loader_running",
            "Database reads running now (one batch is one)",
            metrics.running.clone(),
        );
        registry.register(
            "loader_waiting",
            "Keys waiting for the budget of database reads",
            metrics.waiting.clone(),
        );
        registry.register(
            "loader_limit",
            "Database reads that may run at once now, from database.min_fills to database.max_fills",
            metrics.limit.clone(),
        );
        registry.register(
            "loader_breaker",
            "The breaker of the database: 0 closed, 1 trying the database, 2 open",
            metrics.breaker.clone(),
        );
        registry.register(
            "loader_breaker_opened",
            "How often the breaker of the database opened",
            metrics.breaker_opened.clone(),
        );
        registry.register(
            "loader_batch_keys",
            "Keys loaded together by one database read",
            metrics.batch_keys.clone(),
        );
        registry.register(
            "loader_load_seconds",
            "Time of a load as its caller sees it, waiting for the budget included",
            metrics.seconds.clone(),
        );
        registry.register("loader_errors", "Loads that failed, by kind", metrics.errors.clone());
        // Shown from the start: whoever asks how much one has grown misses its first step otherwise.
        for kind in Error::KINDS {
            drop(metrics.errors.get_or_create(&ErrorKind { kind }));
        }
        metrics
    }

    pub(crate) fn failed(&self, error: &Error) {
        self.errors.get_or_create(&ErrorKind { kind: error.kind() }).inc();
    }
}
