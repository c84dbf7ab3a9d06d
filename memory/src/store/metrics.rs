use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{
    Eviction, Sizes,
    cause::{Cause, CauseLabel},
};

#[derive(Debug)]
pub(super) struct StoreMetrics {
    /// By the number of the cause, which is its place in [`Cause::ALL`].
    dropped: [Counter; Cause::ALL.len()],
    entries: Gauge<u64, AtomicU64>,
    negative_entries: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
    compressed_entries: Gauge<u64, AtomicU64>,
    compressed_bytes: Gauge<u64, AtomicU64>,
    compressed_plain_bytes: Gauge<u64, AtomicU64>,
    /// Values that could not be decompressed.
    pub(super) damaged: Counter,
}

impl StoreMetrics {
    pub(super) fn register(registry: &mut Registry, capacity: u64, eviction: Eviction) -> Self {
        let dropped = Family::<CauseLabel, Counter>::default();
        let metrics = Self {
            dropped: Cause::ALL.map(|cause| dropped.get_or_create(&cause.label()).clone()),
            entries: Gauge::default(),
            negative_entries: Gauge::default(),
            bytes: Gauge::default(),
            compressed_entries: Gauge::default(),
            compressed_bytes: Gauge::default(),
            compressed_plain_bytes: Gauge::default(),
            damaged: Counter::default(),
        };
        registry.register("dropped", "Entries that left memory other than by a removal, by why", dropped);
        registry.register("entries", "Values in memory", metrics.entries.clone());
        registry.register("negative_entries", "Negative entries in memory", metrics.negative_entries.clone());
        registry.register_with_unit("memory", "Memory taken by entries", Unit::Bytes, metrics.bytes.clone());
        registry.register(
            "compressed_entries",
            "Values that are compressed in memory",
            metrics.compressed_entries.clone(),
        );
        registry.register_with_unit(
            "compressed",
            "What these values take in memory",
            Unit::Bytes,
            metrics.compressed_bytes.clone(),
        );
        registry.register_with_unit(
            "compressed_plain",
            "What these values would take if they were not compressed",
            Unit::Bytes,
            metrics.compressed_plain_bytes.clone(),
        );
        registry.register(
            "damaged",
            "Values in memory that could not be decompressed, and were dropped",
            metrics.damaged.clone(),
        );
        let limit = Gauge::<u64, AtomicU64>::default();
        limit.set(capacity);
        registry.register_with_unit("memory_limit", "Memory that entries may take", Unit::Bytes, limit);
        registry.register(
            "eviction",
            "Who has to go when memory is full",
            Info::new([("policy", eviction.name())]),
        );
        metrics
    }

    pub(super) fn dropped(&self, cause: Cause, count: u64) {
        self.dropped[cause as usize].inc_by(count);
    }

    pub(super) fn count(&self, cause: Cause) -> u64 {
        self.dropped[cause as usize].get()
    }

    pub(super) fn publish(&self, sizes: &Sizes) {
        self.entries.set(sizes.entries);
        self.negative_entries.set(sizes.negative_entries);
        self.bytes.set(sizes.bytes);
        self.compressed_entries.set(sizes.compressed.entries);
        self.compressed_bytes.set(sizes.compressed.bytes);
        self.compressed_plain_bytes.set(sizes.compressed.plain_bytes);
    }
}
