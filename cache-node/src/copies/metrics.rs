//! Counters of announcements.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// What became of keys that an owner stored.
#[derive(Debug)]
pub(crate) struct CopyMetrics {
    pub(crate) announced: Counter,
    pub(crate) not_announced: Counter,
    pub(crate) not_wanted: Counter,
}

impl CopyMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let mut counter = |name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            announced: counter(
                "copies_announced",
                "Keys that this node stored as an owner and told a replica of",
            ),
            not_announced: counter(
                "copies_not_announced",
                "Keys that this node stored as an owner and a replica was not told of: the queue was full, or it was not reached",
            ),
            not_wanted: counter(
                "copies_dropped",
                "Announced keys that this node did not copy, since its queue was full or the key too long",
            ),
        }
    }
}
