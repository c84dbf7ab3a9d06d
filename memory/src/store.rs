//! What a node keeps in memory: values and negative entries, bounded by bytes.
//!
//! Values and negative entries live in two instances of the same structure (`part`), each with a share of memory of its own, so
//! that a scan of missing keys can't push out real values. Each instance is split into shards, each behind a lock of its own; a
//! hit takes the lock for reading only. A shard (`shard`) is a table of nodes (`nodes`), an arena of blocks (`arena`) that hold the
//! entries (`block`), and a policy that says who goes (`policy`). What all shards of an instance take is counted in one budget.
//!
//! An entry carries the [`Stamp`] under which it was filled. Whoever reads shows a check of stamps: a flush of a group
//! or the loss of a slot ends the validity of all entries at once by changing what the check says, and the sweeper
//! takes the memory back later.

mod arena;
#[cfg(feature = "bare-store")]
pub mod bare;
mod block;
mod budget;
mod cause;
pub mod compress;
mod cursor;
mod entry;
mod metrics;
mod nodes;
mod part;
mod policy;
mod regions;
mod shard;
mod sync;
mod table;
mod uses;

use std::sync::Arc;

use tokio::time::Instant;

pub use self::entry::{Keep, Show, Take};
use self::{
    block::{Base, Incoming},
    metrics::StoreMetrics,
    part::Part,
    shard::{Found, Make, Shard},
    sync::RwLock,
};
pub use self::{
    cause::Cause,
    cursor::Cursor,
    entry::{Entry, Stamp, Tags},
    policy::Eviction,
    shard::Compressed,
};
use crate::{
    recorder::{Recorder, What},
    store::compress::Packed,
};

/// Places of a shard that the sweeper looks at under one hold of its lock.
const SWEEP_STEP: usize = 256;
/// The most bytes of a value that is lent, see [`Take`].
pub const LENT: usize = arena::MAX_BLOCK;
/// Places of a shard that a page looks at under one hold of its lock.
const PAGE_STEP: usize = 256;

/// The bounded store of one node.
#[derive(Debug)]
pub struct Store {
    values: Part,
    negatives: Part,
    metrics: StoreMetrics,
    recorder: Arc<Recorder>,
}

/// How a store is bounded.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of memory in total: keys, values and what an entry costs beside them.
    pub memory: u64,
    /// The share of `memory` that negative entries may take, from 0 to 0.9.
    pub negative_share: f64,
    /// Who has to go when room is needed.
    pub eviction: Eviction,
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The entry is in memory.
    Stored,
    /// The entry alone is larger than its part of memory.
    TooLarge,
}

impl Store {
    /// An empty store.
    pub fn new(bounds: Bounds, registry: &mut prometheus_client::registry::Registry) -> Self {
        #[expect(clippy::cast_sign_loss, reason = "the share is clamped to what is not negative")]
        let negative = (bounds.memory as f64 * bounds.negative_share.clamp(0.0, 0.9)) as u64;
        let make = Make { eviction: bounds.eviction, region: 0, base: Base(Instant::now()) };
        Self {
            values: Part::new(bounds.memory - negative, make),
            negatives: Part::new(negative, make),
            metrics: StoreMetrics::register(registry, bounds.memory, bounds.eviction),
            recorder: Arc::new(Recorder::new(0)),
        }
    }

    /// Has a recorder told of what leaves.
    #[must_use]
    pub fn with_recorder(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Who is told of what leaves; nobody, without [`with_recorder`](Self::with_recorder).
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Returns the entry of `key` if it is valid now, and counts as a use of it.
    ///
    /// `check` says whether a stamp is still valid. An entry that is no longer valid is dropped on the way, but for one of a lost
    /// slot: it may depart, to be given to another node, and only the sweeper knows.
    pub fn get(
        &self,
        hash: u64,
        key: &str,
        now: Instant,
        check: impl Fn(&Stamp) -> Result<(), Cause>,
    ) -> Option<Entry> {
        self.get_by(hash, key, now, check, &mut Keep)
    }

    /// Like [`get`](Self::get); `take` says what becomes of the value.
    pub fn get_by(
        &self,
        hash: u64,
        key: &str,
        now: Instant,
        check: impl Fn(&Stamp) -> Result<(), Cause>,
        take: &mut impl Take,
    ) -> Option<Entry> {
        let judge = |stamp: &Stamp, expires| judge(stamp, expires, now, &check);
        for part in [&self.values, &self.negatives] {
            let lock = part.shard(hash);
            let (found, behind) = {
                let shard = lock.read();
                let Some(found) = shard.get(hash, key, judge, take) else { continue };
                (found, shard.is_behind())
            };
            if behind && let Some(mut shard) = lock.try_write() {
                shard.catch_up();
            }
            match found {
                Ok(found) => return self.plain(part, hash, key, found, take),
                Err(Cause::SlotLost) => {}
                Err(cause) => {
                    // Another thread may have replaced it between the two locks.
                    let invalid = |stamp: &Stamp, expires| judge(stamp, expires).is_err();
                    if lock.write().remove_if(hash, key, &part.budget, invalid) {
                        self.dropped(hash, cause);
                    }
                }
            }
        }
        None
    }

    /// An entry as it was filled. One whose value is damaged is dropped, and counts as none.
    fn plain(&self, part: &Part, hash: u64, key: &str, found: Found, take: &mut impl Take) -> Option<Entry> {
        match found.plain(take) {
            Ok(entry) => Some(entry),
            Err(damaged) => {
                tracing::error!(key, "{damaged}; it is dropped and will be filled again");
                self.metrics.damaged.inc();
                part.remove(hash, key);
                None
            }
        }
    }

    /// Returns the entry of `key` if it is valid now, without counting as a use of it.
    pub fn peek(
        &self,
        hash: u64,
        key: &str,
        now: Instant,
        check: impl Fn(&Stamp) -> Result<(), Cause>,
    ) -> Option<Entry> {
        let judge = |stamp: &Stamp, expires| judge(stamp, expires, now, &check);
        [&self.values, &self.negatives].into_iter().find_map(|part| {
            let found = part.shard(hash).read().peek(hash, key, judge)?.ok()?;
            self.plain(part, hash, key, found, &mut Keep)
        })
    }

    /// Stores an entry in place of what the key had, evicting others as needed; `packed` is its value as it is to be kept, if that is
    /// compressed. `hash` is the gate's of the key.
    ///
    /// Only the gate calls this: it alone knows whether a filled value may still be stored.
    pub fn insert(&self, hash: u64, key: &str, entry: &Entry, packed: Option<&Packed>) -> Inserted {
        let (into, other) = if entry.value.is_some() {
            (&self.values, &self.negatives)
        } else {
            (&self.negatives, &self.values)
        };
        other.remove(hash, key);
        let evicted = |hash| self.dropped(hash, Cause::Evicted);
        let new = Incoming { key, entry, packed };
        if into.insert(hash, &new, evicted) { Inserted::Stored } else { Inserted::TooLarge }
    }

    /// Whether an entry of this key and value could be inserted now without evicting another.
    pub fn has_room(&self, hash: u64, key: &str, value: Option<usize>) -> bool {
        let part = if value.is_some() { &self.values } else { &self.negatives };
        part.has_room(hash, key.len(), value.unwrap_or_default())
    }

    /// Removes a key's entry, valid or not; returns whether there was one.
    pub fn remove(&self, hash: u64, key: &str) -> bool {
        let value = self.values.remove(hash, key);
        let negative = self.negatives.remove(hash, key);
        value || negative
    }

    /// Drops everything that is no longer valid, in steps: locks are held for a few entries at a time, and others run
    /// between the steps. Dropping the future leaves the rest unswept.
    pub async fn sweep(&self, now: Instant, check: impl Fn(&Stamp) -> Result<(), Cause>) {
        for part in [&self.values, &self.negatives] {
            for shard in &part.shards {
                let mut from = Some(0);
                while let Some(at) = from {
                    let judge = |stamp: &Stamp, expires| judge(stamp, expires, now, &check);
                    let dropped = |hash, cause| self.dropped(hash, cause);
                    from = shard.write().sweep(at, SWEEP_STEP, &part.budget, judge, dropped);
                    tokio::task::yield_now().await;
                }
                shard.write().trim(&part.budget);
            }
        }
        self.publish();
    }

    /// Drops everything.
    pub fn clear(&self) {
        for part in [&self.values, &self.negatives] {
            for shard in &part.shards {
                let dropped = shard.write().clear(&part.budget);
                self.metrics.dropped(Cause::SlotLost, dropped);
            }
        }
        self.publish();
    }

    /// Shows the entries of about `count` places, valid or not, in no order that means anything, until `take` has enough and says
    /// false; that entry is the first of the next page. Returns where to go on, or `None` after the last.
    ///
    /// Locks are held for a few entries at a time, and not while `take` runs. What is in memory all the while is shown once, if
    /// `from` is [`Cursor::START`] at first and then what the last page returned; what comes or goes meanwhile may be missed.
    pub fn page(
        &self,
        from: Cursor,
        count: usize,
        take: impl FnMut(&Arc<str>, &Entry) -> bool,
    ) -> Option<Cursor> {
        self.page_of(from, count, |_, _| true, take)
    }

    /// Like [`page`](Self::page), only those that `wanted` says true for by stamp and expiry: others are not even decompressed.
    pub fn page_of(
        &self,
        from: Cursor,
        count: usize,
        mut wanted: impl FnMut(&Stamp, Instant) -> bool,
        mut take: impl FnMut(&Arc<str>, &Entry) -> bool,
    ) -> Option<Cursor> {
        let (mut shard, mut place) = from.resolve(self);
        let mut left = count.max(1);
        while let Some(lock) = self.shard_at(shard) {
            let (entries, mut reached, places) = {
                let shard = lock.read();
                let (entries, reached) = shard.page(place, left.min(PAGE_STEP), &mut wanted);
                (entries, reached, shard.places())
            };
            let mut enough = false;
            for (at, key, found) in entries {
                // What is damaged is dropped when it is read.
                let Ok(entry) = found.plain(&mut Keep) else { continue };
                if !take(&key.into(), &entry) {
                    (enough, reached) = (true, at);
                    break;
                }
            }
            left -= (reached - place).min(left);
            place = reached;
            if !enough && place >= places {
                (shard, place) = (shard + 1, 0);
            }
            if enough || left == 0 {
                break;
            }
        }
        self.shard_at(shard).map(|_| Cursor::at(shard, place))
    }

    fn shard_at(&self, number: usize) -> Option<&RwLock<Shard>> {
        self.values.shards.iter().chain(&self.negatives.shards).nth(number)
    }

    fn dropped(&self, hash: u64, cause: Cause) {
        self.metrics.dropped(cause, 1);
        match cause {
            Cause::Evicted => self.recorder.record(hash, What::Evicted),
            Cause::Expired => self.recorder.record(hash, What::Expired),
            // Noted once for all keys when it happened.
            Cause::Flushed | Cause::SlotLost => {}
        }
    }

    /// Sizes and counts at this moment.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            entries: self.values.len(),
            negative_entries: self.negatives.len(),
            bytes: self.values.budget.used() + self.negatives.budget.used(),
            capacity: self.values.budget.capacity() + self.negatives.budget.capacity(),
            compressed: self.values.compressed(),
            evictions: self.metrics.count(Cause::Evicted),
            expirations: self.metrics.count(Cause::Expired),
        }
    }

    /// Sets the gauges from the shards' own counts, which are exact.
    pub fn publish(&self) {
        self.metrics.publish(&self.sizes());
    }
}

/// A store's sizes and counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Values in memory, also those that expired or were flushed and have not been swept yet.
    pub entries: u64,
    /// Negative entries in memory.
    pub negative_entries: u64,
    /// Bytes that both take, overhead and free blocks counted.
    pub bytes: u64,
    /// What compression saves of them.
    pub compressed: Compressed,
    /// Bytes that both may take.
    pub capacity: u64,
    /// Entries dropped to make room since the start.
    pub evictions: u64,
    /// Entries dropped because their time was over since the start.
    pub expirations: u64,
}

fn judge(
    stamp: &Stamp,
    expires: Instant,
    now: Instant,
    check: impl Fn(&Stamp) -> Result<(), Cause>,
) -> Result<(), Cause> {
    if expires <= now { Err(Cause::Expired) } else { check(stamp) }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests;

#[cfg(all(test, not(feature = "shuttle")))]
mod model;

#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
