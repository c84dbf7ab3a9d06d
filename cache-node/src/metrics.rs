//! What a node counts. Labels come from closed sets: groups of the catalog, reasons, causes; never keys.

mod mirrors;
mod pulls;

use std::sync::atomic::AtomicU64;

use catalog::{Catalog, GroupId};
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

pub(crate) use self::{mirrors::MirrorMetrics, pulls::PullMetrics};
use memory::gate::Refused;

use crate::{aside::Refusal, plain};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GetLabels {
    group: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GroupLabel {
    group: String,
}

/// A family's counters of all groups, by the groups' numbers; there from the start.
pub(crate) fn by_group(family: &Family<GroupLabel, Counter>, catalog: &Catalog) -> Vec<Counter> {
    let groups = catalog.groups().iter();
    groups.map(|group| family.get_or_create(&GroupLabel { group: group.name.to_string() }).clone()).collect()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    what: &'static str,
    result: &'static str,
}

/// A node's counters; the parts of the node hold them and count on them directly.
#[derive(Debug)]
pub(crate) struct NodeMetrics {
    groups: Vec<GroupMetrics>,
    refused: Vec<Counter>,
    /// Filled values that were served but are too large to store.
    pub(crate) too_large: Counter,
    /// Entries in memory that could not be proven to be as fresh as was asked for.
    pub(crate) too_old: Counter,
    /// Values set by applications, by what became of them.
    sets: Family<ResultLabel, Counter>,
    /// Writes of plain groups, by what was to be done and what became of it.
    plain_writes: Family<WriteLabels, Counter>,
    /// Keys that were no keys.
    pub(crate) bad_keys: Counter,
    /// Removals applied.
    pub(crate) removes: Counter,
    /// Removals applied whose key was in memory.
    pub(crate) removes_hit: Counter,
    /// Removals of tags applied.
    pub(crate) tag_removes: Counter,
    /// Changes of the database's server that were flushed for.
    pub(crate) switchovers: Counter,
    /// How long after a removal a fill is not stored.
    pub(crate) quarantine: Gauge<f64, AtomicU64>,
    /// Group flushes applied.
    pub(crate) flushes: Counter,
    /// Flushes asked for by a name that no group of this node's catalog has.
    pub(crate) unknown_groups: Counter,
    /// Time to apply a request of the sync service.
    pub(crate) apply_seconds: Histogram,
    /// Requests of browsers' pages from elsewhere, refused.
    pub(crate) foreign_origins: Counter,
    /// Keys forwarded to another node and answered by it.
    pub(crate) forwards: Counter,
    /// Keys whose owner could not be reached.
    pub(crate) forwards_failed: Counter,
    /// Reads of the database for one request alone, because the node is fenced.
    pub(crate) fenced_reads: Counter,
    /// The same, because the node does not hold the slot of a forwarded request.
    pub(crate) stray_reads: Counter,
    /// The same, because the owner can't be reached.
    pub(crate) detour_reads: Counter,
    /// Keys of other nodes that a replica answered, because the owner can't be reached.
    pub(crate) forwards_to_replicas: Counter,
    /// Values on their way between nodes.
    pub(crate) pulls: PullMetrics,
    epoch: Gauge<u64, AtomicU64>,
    confirmed_epoch: Gauge<u64, AtomicU64>,
    slots: Gauge<u64, AtomicU64>,
    fenced: Gauge,
}

/// One group's counters.
#[derive(Debug)]
pub(crate) struct GroupMetrics {
    pub(crate) hits: Counter,
    pub(crate) negative_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) shared: Counter,
    pub(crate) read_through: Counter,
    /// Entries served beyond their time, because the database can't answer.
    pub(crate) stale: Counter,
    /// Keys of a plain group that had no value.
    pub(crate) absent: Counter,
    /// Look-aside misses, which were given a token.
    pub(crate) tokens: Counter,
    /// Plain misses of a group that nothing fills.
    pub(crate) not_filled: Counter,
    pub(crate) errors: Counter,
    pub(crate) fills: Counter,
    pub(crate) fill_errors: Counter,
    pub(crate) fill_seconds: Histogram,
}

impl GroupMetrics {
    /// Counts a lookup by how it ended.
    pub(crate) fn ended(&self, outcome: wire::Outcome) {
        use wire::Outcome;
        match outcome {
            Outcome::Hit => &self.hits,
            Outcome::NegativeHit => &self.negative_hits,
            Outcome::Miss => &self.misses,
            Outcome::Shared => &self.shared,
            Outcome::Stale => &self.stale,
            Outcome::Absent => &self.absent,
            Outcome::ReadThrough | Outcome::Token => &self.read_through,
        }
        .inc();
    }
}

impl NodeMetrics {
    pub(crate) fn register(registry: &mut Registry, catalog: &Catalog) -> Self {
        let gets = Family::<GetLabels, Counter>::default();
        registry.register("gets", "Keys looked up here, by how the lookup ended", gets.clone());
        let fills = Family::<GroupLabel, Counter>::default();
        registry.register("fills", "Rows read from the database", fills.clone());
        let fill_errors = Family::<GroupLabel, Counter>::default();
        registry.register("fill_errors", "Reads of the database that failed", fill_errors.clone());
        let fill_seconds = Family::<GroupLabel, Histogram, fn() -> Histogram>::new_with_constructor(
            seconds as fn() -> Histogram,
        );
        registry.register_with_unit(
            "fill",
            "Time to read a row, waiting for the budget included",
            Unit::Seconds,
            fill_seconds.clone(),
        );
        let groups = catalog.groups().iter().map(|group| {
            let name = || group.name.to_string();
            let get = |outcome| gets.get_or_create(&GetLabels { group: name(), outcome }).clone();
            GroupMetrics {
                hits: get("hit"),
                negative_hits: get("negative_hit"),
                misses: get("miss"),
                shared: get("shared"),
                read_through: get("read_through"),
                stale: get("stale"),
                absent: get("absent"),
                tokens: get("token"),
                not_filled: get("not_filled"),
                errors: get("error"),
                fills: fills.get_or_create(&GroupLabel { group: name() }).clone(),
                fill_errors: fill_errors.get_or_create(&GroupLabel { group: name() }).clone(),
                fill_seconds: fill_seconds.get_or_create(&GroupLabel { group: name() }).clone(),
            }
        });
        let groups = groups.collect();

        let refused_family = Family::<ReasonLabel, Counter>::default();
        registry.register("fills_refused", "Filled values served but not stored", refused_family.clone());
        let of = |reason| refused_family.get_or_create(&ReasonLabel { reason }).clone();
        let refused = Refused::ALL.iter().map(|refused| of(refused.label())).collect();
        let too_large = of("too_large");
        let sets = Family::<ResultLabel, Counter>::default();
        registry.register("sets", "Values set by applications, by what became of them", sets.clone());
        // Shown from the start, as the others are.
        for result in Refusal::all().map(Refusal::label).chain(["stored"]) {
            drop(sets.get_or_create(&ResultLabel { result }));
        }

        let plain_writes = Family::<WriteLabels, Counter>::default();
        registry.register(
            "plain_writes",
            "Writes of plain groups that this node was to order, by what became of them",
            plain_writes.clone(),
        );
        for (what, result) in
            plain::WHATS.into_iter().flat_map(|what| plain::RESULTS.map(|result| (what, result)))
        {
            drop(plain_writes.get_or_create(&WriteLabels { what, result }));
        }

        let forwards_family = Family::<ResultLabel, Counter>::default();
        registry.register("forwards", "Keys forwarded to their owner", forwards_family.clone());
        let through = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "read_through",
            "Keys read from the database because they may not be served from memory here",
            through.clone(),
        );
        // Closures, so that each guard of a family is gone before the next is asked for.
        let forwarded = |result| forwards_family.get_or_create(&ResultLabel { result }).clone();
        let detour = |reason| through.get_or_create(&ReasonLabel { reason }).clone();

        let metrics = Self {
            groups,
            refused,
            too_large,
            too_old: Counter::default(),
            sets,
            plain_writes,
            bad_keys: Counter::default(),
            foreign_origins: Counter::default(),
            removes: Counter::default(),
            removes_hit: Counter::default(),
            tag_removes: Counter::default(),
            switchovers: Counter::default(),
            quarantine: Gauge::default(),
            flushes: Counter::default(),
            unknown_groups: Counter::default(),
            apply_seconds: seconds(),
            forwards: forwarded("ok"),
            forwards_failed: forwarded("failed"),
            fenced_reads: detour("fenced"),
            stray_reads: detour("not_held"),
            detour_reads: detour("owner_unreachable"),
            forwards_to_replicas: forwarded("replica"),
            pulls: PullMetrics::register(registry),
            epoch: Gauge::default(),
            confirmed_epoch: Gauge::default(),
            slots: Gauge::default(),
            fenced: Gauge::default(),
        };
        registry.register(
            "too_old",
            "Lookups whose entry in memory could not be proven to be as fresh as was asked for",
            metrics.too_old.clone(),
        );
        registry.register("bad_keys", "Requested keys that no group has", metrics.bad_keys.clone());
        registry.register(
            "foreign_origins",
            "Requests of browsers' pages from elsewhere, refused",
            metrics.foreign_origins.clone(),
        );
        registry.register("removes", "Removals applied", metrics.removes.clone());
        registry.register("removes_hit", "Removals whose key was in memory", metrics.removes_hit.clone());
        registry.register(
            "database_switches",
            "Changes of the database's server, or of its being the primary, after which all groups were flushed",
            metrics.switchovers.clone(),
        );
        registry.register_with_unit(
            "quarantine",
            "How long after a removal a fill of the key is served and not stored",
            Unit::Seconds,
            metrics.quarantine.clone(),
        );
        registry.register("tag_removes", "Removals of tags applied", metrics.tag_removes.clone());
        registry.register("flushes", "Group flushes applied", metrics.flushes.clone());
        registry.register(
            "unknown_groups",
            "Flushes of groups not in the catalog",
            metrics.unknown_groups.clone(),
        );
        registry.register_with_unit(
            "apply",
            "Time to apply a request of the sync service",
            Unit::Seconds,
            metrics.apply_seconds.clone(),
        );
        registry.register("epoch", "Epoch of the ring in use", metrics.epoch.clone());
        registry.register("confirmed_epoch", "Last epoch confirmed", metrics.confirmed_epoch.clone());
        registry.register("slots", "Slots held", metrics.slots.clone());
        registry.register("fenced", "1 while the node can't prove its membership", metrics.fenced.clone());
        metrics
    }

    /// A group's counters. The id must be of the catalog that the metrics were registered for.
    pub(crate) fn group(&self, id: GroupId) -> &GroupMetrics {
        &self.groups[usize::from(id.0)]
    }

    pub(crate) fn groups(&self) -> &[GroupMetrics] {
        &self.groups
    }

    pub(crate) fn refused(&self, reason: Refused) {
        if let Some(at) = Refused::ALL.iter().position(|refused| *refused == reason) {
            self.refused[at].inc();
        }
    }

    /// Counts a value that an application set: `stored`, or why not.
    pub(crate) fn set(&self, result: &'static str) {
        self.sets.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a write of a plain group that this node was to order; words of [`plain`].
    pub(crate) fn plain_write(&self, what: &'static str, result: &'static str) {
        self.plain_writes.get_or_create(&WriteLabels { what, result }).inc();
    }

    /// Fills refused for any reason, too large ones included.
    pub(crate) fn all_refused(&self) -> u64 {
        self.refused.iter().map(Counter::get).sum::<u64>() + self.too_large.get()
    }

    pub(crate) fn membership(&self, epoch: u64, confirmed: u64, slots: u64, live: bool) {
        self.epoch.set(epoch);
        self.confirmed_epoch.set(confirmed);
        self.slots.set(slots);
        self.fenced.set(i64::from(!live));
    }
}

/// 50 us to 3.3 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 17))
}
