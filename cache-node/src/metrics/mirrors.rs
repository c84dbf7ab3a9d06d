//! Mirrors of other nodes' hot keys.

use std::sync::atomic::AtomicU64;

use catalog::Catalog;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{GroupLabel, ResultLabel, by_group};

/// What can become of a mirror that is asked for.
const ASKED: [&str; 6] = ["other_catalog", "kept", "not_granted", "refused", "no_room", "failed"];
/// How the mirrors of a key can end.
const ENDED: [&str; 2] = ["acknowledged", "lease_over"];

#[derive(Debug)]
pub(crate) struct MirrorMetrics {
    /// By group.
    hits: Vec<Counter>,
    asked: Family<ResultLabel, Counter>,
    ended: Family<ResultLabel, Counter>,
    kept: Gauge<u64, AtomicU64>,
}

impl MirrorMetrics {
    pub(crate) fn register(registry: &mut Registry, catalog: &Catalog) -> Self {
        let hits = Family::<GroupLabel, Counter>::default();
        let (asked, ended) =
            (Family::<ResultLabel, Counter>::default(), Family::<ResultLabel, Counter>::default());
        let kept = Gauge::default();
        registry.register(
            "mirror_hits",
            "Keys of other nodes that were answered from a mirror; they count as hits too",
            hits.clone(),
        );
        registry.register("mirror_asks", "Mirrors asked for, by what became of them", asked.clone());
        registry.register(
            "mirror_ends",
            "Nodes whose mirrors of this one's keys had to end: acknowledged, or waited for until the lease was over",
            ended.clone(),
        );
        registry.register("mirrors", "Mirrors of other nodes' keys in memory", kept.clone());
        // There from the start, so that the first of each is an increase.
        for (family, results) in [(&asked, &ASKED[..]), (&ended, &ENDED[..])] {
            for result in results {
                drop(family.get_or_create(&ResultLabel { result }));
            }
        }
        Self { hits: by_group(&hits, catalog), asked, ended, kept }
    }

    pub(crate) fn hit(&self, group: u16) {
        if let Some(hits) = self.hits.get(usize::from(group)) {
            hits.inc();
        }
    }

    pub(crate) fn asked(&self, result: &'static str) {
        self.asked.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn ended(&self, result: &'static str) {
        self.ended.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn kept(&self, mirrors: usize) {
        self.kept.set(mirrors as u64);
    }
}
