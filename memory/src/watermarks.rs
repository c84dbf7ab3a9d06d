//! How fresh this node's memory is: watermarks of the change stream's partitions, in the node's own clock (R9).
//!
//! A watermark says: all changes of this partition that were committed before `at` are applied here. The sync service tells
//! it only when *everybody who had to* has acknowledged all that comes before, every phase included, and the node needs
//! nothing more to believe it:
//!
//! - *It joined, or pulled a value, after the change was applied elsewhere.* What it pulled comes from a node that was before
//!   it in the phases, or in the same one and before it in the next (R4, R10). So before the watermark was told, its source had
//!   dropped the old value, and then the node itself had been asked to; a pull under way over that is refused by the gate (R1).
//! - *It was cut off and has come back.* Nobody tells watermarks to a node that is not a member, so its freshness only grew. It
//!   comes back with an empty memory, and what it fills then is as fresh as the read. So a new incarnation keeps them.
//! - *An instance of the sync service ended, and another one reads its partitions now.* That one goes on from what was
//!   committed, which is what everybody had acknowledged.
//!
//! So watermarks are true when they are told, whatever else the request that carries them asks for: the order of the two has no
//! effect. They are noted last, so that nobody sees a removal's watermark before the removal.
//!
//! The lowest watermark must be read *before* the entry that it is to vouch for. *(a reader takes the old entry; the removal is
//! applied and acknowledged; the watermark passes it; the reader claims that the change is in its entry)*

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{
        AtomicI64, AtomicU64,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::time::Instant;
use wire::{Clock, PartitionName};

use crate::{
    gate::Gate,
    place::Place,
    store::{Entry, Take},
};

/// What `lowest` is while it is unknown; all times are later.
const UNKNOWN: i64 = i64::MIN;

/// Partitions of the change stream at most; a call that names more is refused.
pub const MOST_PARTITIONS: usize = 65_536;

/// One node's clock and watermarks. Readers take no lock.
#[derive(Debug)]
pub struct Watermarks {
    /// Which clock this is: that of one life of the process.
    id: u64,
    base: Instant,
    /// Microseconds since `base`.
    lowest: AtomicI64,
    /// Guards what the lowest is computed from.
    state: Mutex<State>,
    freshness: Gauge<f64, AtomicU64>,
    /// Watermarks that lay in this node's future.
    refused: Counter,
}

#[derive(Debug, Default)]
struct State {
    at: BTreeMap<PartitionName, i64>,
    /// All partitions that there were at `listed`; empty while nobody has told.
    all: BTreeSet<PartitionName>,
    listed: i64,
}

/// An entry from memory, and the moment whose changes are all in it.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The entry.
    pub entry: Entry,
    /// Every change that was committed before is in the entry.
    pub as_of: Instant,
}

/// What a look into memory found.
#[derive(Debug)]
pub enum Look {
    /// An entry that is fresh enough.
    Fresh(Fresh),
    /// An entry that can't be proven to be.
    TooOld,
    /// Nothing.
    Absent,
}

impl Watermarks {
    /// A clock that begins now, and no watermarks. Metrics are registered at the top: they speak for the whole node.
    pub fn register(registry: &mut Registry) -> Self {
        let (freshness, refused) = (Gauge::default(), Counter::default());
        freshness.set(f64::INFINITY);
        registry.register_with_unit(
            "freshness",
            "How old a value served from this node's memory can be at worst, by its watermarks; +Inf while they are unknown",
            Unit::Seconds,
            freshness.clone(),
        );
        registry.register(
            "watermarks_refused",
            "Watermarks that were ignored: they lay in this node's future (its clock and the sync service's run apart), or were too many",
            refused.clone(),
        );
        Self {
            id: rand::random(),
            base: Instant::now(),
            lowest: AtomicI64::new(UNKNOWN),
            state: Mutex::default(),
            freshness,
            refused,
        }
    }

    /// A reading of this node's clock.
    pub fn clock(&self) -> Clock {
        Clock { id: self.id, micros: u64::try_from(self.now()).unwrap_or(0) }
    }

    /// Takes over what an instance of the sync service knows. What is older than what is known changes nothing.
    pub fn note(&self, told: &wire::Watermarks) {
        if told.clock != self.id {
            return; // of an earlier life of this node: says nothing about this one's clock
        }
        let now = self.now();
        let mut state = self.state.lock();
        for watermark in &told.partitions {
            if watermark.at > now {
                self.refused.inc();
                continue;
            }
            let full = state.at.len() >= MOST_PARTITIONS;
            match state.at.get_mut(&watermark.partition) {
                Some(at) => *at = watermark.at.max(*at),
                // Of names that are in no list, as many are remembered as a list may have.
                None if full => {
                    self.refused.inc();
                }
                None => {
                    state.at.insert(watermark.partition.clone(), watermark.at);
                }
            }
        }
        if !told.all.is_empty() && told.listed <= now && (state.all.is_empty() || told.listed > state.listed)
        {
            state.list(&told.all, told.listed);
        }
        let lowest = state.lowest();
        self.lowest.store(lowest, Release);
    }

    /// Looks into memory for an entry of which it can be proven that it is at most `bound` old.
    pub fn look(
        &self,
        gate: &Gate,
        place: Place,
        key: &str,
        bound: Option<Duration>,
        now: Instant,
        take: &mut impl Take,
    ) -> Look {
        let lowest = self.lowest(); // before the entry is read, see above
        let Some(entry) = gate.get_by(place, key, now, take) else { return Look::Absent };
        let fresh = Fresh::new(entry, lowest);
        if within(fresh.as_of, bound) { Look::Fresh(fresh) } else { Look::TooOld }
    }

    /// Like [`look`](Self::look), also for an entry whose time is over, see [`Gate::stale`].
    pub fn look_stale(&self, gate: &Gate, place: Place, key: &str, bound: Option<Duration>) -> Option<Fresh> {
        let lowest = self.lowest(); // before the entry is read, see above
        let fresh = Fresh::new(gate.stale(place, key, Instant::now())?, lowest);
        within(fresh.as_of, bound).then_some(fresh)
    }

    /// The moment before which all changes are applied on this node; `None` while it is unknown. Take it before an entry is
    /// read that it is to vouch for.
    pub fn lowest(&self) -> Option<Instant> {
        let micros = self.lowest.load(Acquire);
        let distance = Duration::from_micros(micros.unsigned_abs());
        if micros == UNKNOWN {
            None
        } else if micros < 0 {
            self.base.checked_sub(distance)
        } else {
            self.base.checked_add(distance)
        }
    }

    /// Shows the freshness of now.
    pub fn publish(&self) {
        let known = self.lowest().map(|lowest| Instant::now().saturating_duration_since(lowest));
        self.freshness.set(known.map_or(f64::INFINITY, |freshness| freshness.as_secs_f64()));
    }

    fn now(&self) -> i64 {
        i64::try_from(self.base.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

impl Fresh {
    /// `lowest` was taken before the entry was read.
    pub fn new(entry: Entry, lowest: Option<Instant>) -> Self {
        let as_of = lowest.map_or(entry.filled, |lowest| lowest.max(entry.filled));
        Self { entry, as_of }
    }
}

/// Whether what shows all changes before `as_of` is at most `bound` old now.
pub fn within(as_of: Instant, bound: Option<Duration>) -> bool {
    // Beyond what a clock can tell is no bound.
    bound.and_then(|bound| as_of.checked_add(bound)).is_none_or(|until| Instant::now() <= until)
}

impl State {
    /// Takes a newer list. A partition that is new in it had no messages when the older one was made.
    fn list(&mut self, all: &[PartitionName], listed: i64) {
        let mut at = BTreeMap::new();
        for partition in all {
            let new = !self.all.is_empty() && !self.all.contains(partition);
            let known = self.at.get(partition).copied().max(new.then_some(self.listed));
            if let Some(known) = known {
                at.insert(partition.clone(), known);
            }
        }
        self.at = at;
        self.all = all.iter().cloned().collect();
        self.listed = listed;
    }

    /// The lowest of all partitions, and not beyond the list: there may be partitions since of which nobody knows.
    fn lowest(&self) -> i64 {
        if self.all.is_empty() {
            return UNKNOWN;
        }
        let of = |partition| self.at.get(partition).copied().unwrap_or(UNKNOWN);
        self.all.iter().map(of).min().unwrap_or(UNKNOWN).min(self.listed)
    }
}

#[cfg(test)]
mod tests;
