//! Values on their way between nodes.

use std::sync::atomic::AtomicU64;

use memory::gate::NotTaken;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::error::Error;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    side: &'static str,
    outcome: &'static str,
}

/// What is given to other nodes and taken from them.
#[derive(Debug)]
pub(crate) struct PullMetrics {
    pulls: Family<Labels, Counter>,
    entries: Family<Labels, Counter>,
    /// Pages taken in bulk.
    pub(crate) bulk_pages: Counter,
    /// Sources that were given up.
    pub(crate) bulk_failed: Counter,
    /// Single keys asked for that the source did not have.
    pub(crate) ask_missed: Counter,
    /// Single keys asked for in vain: refused, or not reached.
    pub(crate) ask_failed: Counter,
    /// Single keys that did not come within the wait.
    pub(crate) ask_late: Counter,
    /// Replies with copies of what an owner announced.
    pub(crate) copies: Counter,
    /// Owners that were asked for copies in vain.
    pub(crate) copies_failed: Counter,
    /// From the loss of slots until nothing of them was kept.
    pub(crate) handover_seconds: Histogram,
    departing: Gauge<u64, AtomicU64>,
}

impl PullMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (pulls, entries) = (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
        let handover_seconds = Histogram::new(exponential_buckets(0.01, 2.0, 12));
        let departing = Gauge::<u64, AtomicU64>::default();
        registry.register(
            "pulls",
            "Pulls between nodes, by side (give, take) and how they ended",
            pulls.clone(),
        );
        registry.register(
            "pulled_entries",
            "Entries given to other nodes or offered by them, by side and what became of them",
            entries.clone(),
        );
        registry.register_with_unit(
            "handover",
            "Time from the loss of slots until nothing of them was kept",
            Unit::Seconds,
            handover_seconds.clone(),
        );
        registry.register(
            "departing_slots",
            "Lost slots whose values are kept for the nodes that hold them now",
            departing.clone(),
        );
        let took = |outcome| pulls.get_or_create(&Labels { side: "take", outcome }).clone();
        let metrics = Self {
            bulk_pages: took("page"),
            bulk_failed: took("given_up"),
            ask_missed: took("not_there"),
            ask_failed: took("failed"),
            ask_late: took("late"),
            copies: took("copies"),
            copies_failed: took("copies_failed"),
            handover_seconds,
            departing,
            pulls: pulls.clone(),
            entries,
        };
        // Shown from the start.
        drop(metrics.pulls.get_or_create(&Labels { side: "give", outcome: "ok" }));
        metrics.stored();
        metrics
    }

    /// Counts an answered or refused pull, and the entries in it.
    pub(crate) fn gave(&self, error: Option<&Error>, entries: usize) {
        let outcome = match error {
            None => "ok",
            Some(Error::Pull(refused)) => refused.label(),
            Some(Error::Behind { .. }) => "behind",
            Some(Error::OtherMembers { .. }) => "other_members",
            Some(_) => "error",
        };
        self.pulls.get_or_create(&Labels { side: "give", outcome }).inc();
        self.entries.get_or_create(&Labels { side: "give", outcome: "given" }).inc_by(entries as u64);
    }

    /// Counts an entry that came from another node.
    pub(crate) fn took(&self, stored: Result<(), NotTaken>) {
        let outcome = stored.map_or_else(NotTaken::label, |()| "stored");
        self.entries.get_or_create(&Labels { side: "take", outcome }).inc();
    }

    /// How many entries of other nodes were stored.
    pub(crate) fn stored(&self) -> u64 {
        self.entries.get_or_create(&Labels { side: "take", outcome: "stored" }).get()
    }

    pub(crate) fn departing(&self, slots: u64) {
        self.departing.set(slots);
    }
}
