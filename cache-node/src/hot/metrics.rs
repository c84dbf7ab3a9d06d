//! What hot keys come to. Labels are groups and closed sets; never keys.

use std::sync::atomic::AtomicU64;

use catalog::Catalog;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::background::{Ended, Why};
use crate::metrics::{GroupLabel, by_group};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FillLabels {
    why: &'static str,
    result: &'static str,
}

#[derive(Debug)]
pub(crate) struct HotMetrics {
    /// By group.
    reads: Vec<Counter>,
    keys: Gauge<u64, AtomicU64>,
    share: Gauge<f64, AtomicU64>,
    fills: Family<FillLabels, Counter>,
}

impl HotMetrics {
    pub(super) fn register(registry: &mut Registry, catalog: &Catalog) -> Self {
        let reads = Family::<GroupLabel, Counter>::default();
        let (keys, share) = (Gauge::default(), Gauge::default());
        let fills = Family::<FillLabels, Counter>::default();
        registry.register(
            "hot_reads",
            "Reads of hot keys answered here, estimated from a sample",
            reads.clone(),
        );
        registry.register("hot_keys", "Keys that are hot now", keys.clone());
        registry.register("hot_share", "Share of the reads answered here that go to hot keys", share.clone());
        registry.register(
            "background_fills",
            "Fills that no reader waits for, by why (reload after a change, refresh of a hot key) and how they ended",
            fills.clone(),
        );
        // There from the start, so that the first of each is an increase.
        for why in Why::ALL {
            for ended in Ended::ALL {
                drop(fills.get_or_create(&FillLabels { why: why.label(), result: ended.label() }));
            }
        }
        Self { reads: by_group(&reads, catalog), keys, share, fills }
    }

    pub(super) fn hot_read(&self, group: u16, stands_for: u64) {
        if let Some(reads) = self.reads.get(usize::from(group)) {
            reads.inc_by(stands_for);
        }
    }

    pub(super) fn publish(&self, keys: usize, share: f64) {
        self.keys.set(keys as u64);
        self.share.set(share);
    }

    pub(super) fn filled(&self, why: Why, ended: Ended) {
        self.fills.get_or_create(&FillLabels { why: why.label(), result: ended.label() }).inc();
    }
}
