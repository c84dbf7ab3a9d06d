//! What is counted of Redis clients. Commands are counted by the names of the table, and all others together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{error, table};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabel {
    command: &'static str,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    /// By the table's order, then one for what is not in it.
    commands: Vec<Counter>,
    /// By the same order: those of them that were answered with an error.
    failed: Vec<AtomicU64>,
    pub(crate) errors: Counter,
    /// The same by [`error::CLASSES`].
    classes: [AtomicU64; error::CLASSES.len()],
    /// Bytes from and to all clients.
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) cross_protocol: Counter,
    pub(crate) late: Counter,
    pub(crate) output_overflows: Counter,
    pub(crate) memory: Gauge<u64, AtomicU64>,
    pub(crate) memory_evictions: Counter,
    pub(crate) tracked: Gauge<u64, AtomicU64>,
    pub(crate) registrations: Gauge<u64, AtomicU64>,
    pub(crate) invalidations: Counter,
    pub(crate) evicted: Counter,
    pub(crate) overflows: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("resp");
        let commands = Family::<CommandLabel, Counter>::default();
        registry.register("commands", "Commands of Redis clients", commands.clone());
        let names = table::COMMANDS.iter().map(|command| command.name).chain(["unknown"]);
        let metrics = Self {
            commands: names
                .map(|command| commands.get_or_create(&CommandLabel { command }).clone())
                .collect(),
            failed: (0..=table::COMMANDS.len()).map(|_| AtomicU64::new(0)).collect(),
            errors: Counter::default(),
            classes: Default::default(),
            received: Counter::default(),
            sent: Counter::default(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            cross_protocol: Counter::default(),
            late: Counter::default(),
            output_overflows: Counter::default(),
            memory: Gauge::default(),
            memory_evictions: Counter::default(),
            tracked: Gauge::default(),
            registrations: Gauge::default(),
            invalidations: Counter::default(),
            evicted: Counter::default(),
            overflows: Counter::default(),
        };
        registry.register("errors", "Replies to Redis clients that were errors", metrics.errors.clone());
        registry.register("connections", "Redis clients connected now", metrics.connections.clone());
        registry.register("accepted", "Connections of Redis clients", metrics.accepted.clone());
        registry.register("refused", "Connections refused: too many clients", metrics.refused.clone());
        registry.register(
            "late",
            "Connections closed because the rest of a request did not come within node.caller_timeout",
            metrics.late.clone(),
        );
        registry.register(
            "cross_protocol",
            "Connections closed because they sent HTTP to the port of Redis clients",
            metrics.cross_protocol.clone(),
        );
        registry.register(
            "output_overflows",
            "Connections closed because their client took no replies while node.resp_output_limit of them waited",
            metrics.output_overflows.clone(),
        );
        registry.register(
            "memory_bytes",
            "What requests and replies of all connections hold beyond what an idle one has; bounded by node.resp_memory",
            metrics.memory.clone(),
        );
        registry.register(
            "memory_evictions",
            "Connections closed because all together held more than node.resp_memory, and they most",
            metrics.memory_evictions.clone(),
        );
        registry.register("tracked_keys", "Keys remembered for CLIENT TRACKING", metrics.tracked.clone());
        registry.register(
            "tracked_registrations",
            "Clients remembered for CLIENT TRACKING, each once for each key; bounded by node.tracking_keys",
            metrics.registrations.clone(),
        );
        registry.register(
            "invalidations",
            "Keys told to be invalid, to all clients",
            metrics.invalidations.clone(),
        );
        registry.register(
            "tracking_evicted",
            "Tracked keys invalidated early because node.tracking_keys was reached",
            metrics.evicted.clone(),
        );
        registry.register(
            "tracking_overflows",
            "Connections closed because invalidations piled up for them",
            metrics.overflows.clone(),
        );
        metrics
    }

    pub(crate) fn command(&self, at: Option<usize>) {
        self.commands[at.unwrap_or(self.commands.len() - 1)].inc();
    }

    /// Counts an error that a command was answered with.
    pub(crate) fn error(&self, command: Option<usize>, text: &str) {
        self.errors.inc();
        self.classes[error::class(text)].fetch_add(1, Relaxed);
        self.failed[command.unwrap_or(self.commands.len() - 1)].fetch_add(1, Relaxed);
    }

    /// Calls of a command, and how many of them were errors.
    pub(crate) fn of_command(&self, at: usize) -> (u64, u64) {
        (self.commands[at].get(), self.failed[at].load(Relaxed))
    }

    pub(crate) fn all_commands(&self) -> u64 {
        self.commands.iter().map(Counter::get).sum()
    }

    pub(crate) fn errors_by_class(&self) -> impl Iterator<Item = u64> {
        self.classes.iter().map(|count| count.load(Relaxed))
    }
}
