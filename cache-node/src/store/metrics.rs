use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::Sizes;
use crate::metrics::{Cause, CauseLabel};

#[derive(Debug)]
pub(super) struct StoreMetrics {
    dropped: Family<CauseLabel, Counter>,
    entries: Gauge<u64, AtomicU64>,
    negative_entries: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
}

impl StoreMetrics {
    pub(super) fn register(registry: &mut Registry, capacity: u64) -> Self {
        let metrics = Self {
            dropped: Family::default(),
            entries: Gauge::default(),
            negative_entries: Gauge::default(),
            bytes: Gauge::default(),
        };
        registry.register(
            "dropped",
            "Entries that left memory other than by a removal, by why",
            metrics.dropped.clone(),
        );
        registry.register("entries", "Values in memory", metrics.entries.clone());
        registry.register("negative_entries", "Negative entries in memory", metrics.negative_entries.clone());
        registry.register_with_unit("memory", "Memory taken by entries", Unit::Bytes, metrics.bytes.clone());
        let limit = Gauge::<u64, AtomicU64>::default();
        limit.set(capacity);
        registry.register_with_unit("memory_limit", "Memory that entries may take", Unit::Bytes, limit);
        for cause in Cause::ALL {
            metrics.dropped(cause, 0);
        }
        metrics
    }

    pub(super) fn dropped(&self, cause: Cause, count: u64) {
        self.dropped.get_or_create(&cause.label()).inc_by(count);
    }

    pub(super) fn count(&self, cause: Cause) -> u64 {
        self.dropped.get_or_create(&cause.label()).get()
    }

    pub(super) fn publish(&self, sizes: &Sizes) {
        self.entries.set(sizes.entries);
        self.negative_entries.set(sizes.negative_entries);
        self.bytes.set(sizes.bytes);
    }
}
