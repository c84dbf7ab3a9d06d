//! What a node keeps in memory: values and negative entries, bounded by bytes.
//!
//! Values and negative entries live in two instances of the same structure, each with a share of memory of its own, so
//! that a scan of missing keys can't push out real values. Each instance is split into shards, each behind a lock of
//! its own; a hit takes the lock for reading only.
//!
//! An entry carries the [`Stamp`] under which it was filled. Whoever reads shows a check of stamps: a flush of a group
//! or the loss of a slot ends the validity of all entries at once by changing what the check says, and the sweeper
//! takes the memory back later.

mod cursor;
mod entry;
mod metrics;
mod shard;

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::time::Instant;

pub use self::{
    cursor::Cursor,
    entry::{Entry, Stamp},
};
use self::{metrics::StoreMetrics, shard::Shard};
use crate::{
    metrics::Cause,
    recorder::{Recorder, What},
};

/// Nodes of a shard that the sweeper looks at under one hold of its lock.
const SWEEP_STEP: usize = 256;
/// Nodes of a shard that a page looks at under one hold of its lock.
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
    /// The largest value that is ever stored; it bounds the number of shards.
    pub max_value: u64,
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The entry is in memory.
    Stored,
    /// The entry alone is larger than a shard may be.
    TooLarge,
}

impl Store {
    /// An empty store.
    pub fn new(bounds: Bounds, registry: &mut prometheus_client::registry::Registry) -> Self {
        #[expect(clippy::cast_sign_loss, reason = "the share is clamped to what is not negative")]
        let negative = (bounds.memory as f64 * bounds.negative_share.clamp(0.0, 0.9)) as u64;
        let largest = entry::weight(256, bounds.max_value as usize) as u64;
        Self {
            values: Part::new(bounds.memory - negative, largest),
            negatives: Part::new(negative, entry::weight(4096, 0) as u64),
            metrics: StoreMetrics::register(registry, bounds.memory),
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
        for part in [&self.values, &self.negatives] {
            let Some(entry) = part.shard(hash).read().get(hash, key) else { continue };
            match judge(&entry, now, &check) {
                Ok(()) => return Some(entry),
                Err(Cause::SlotLost) => {}
                Err(cause) => {
                    let mut shard = part.shard(hash).write();
                    // Another thread may have replaced it between the two locks.
                    if shard.remove_if(hash, key, |found| judge(found, now, &check).is_err()) {
                        self.dropped(hash, cause);
                    }
                }
            }
        }
        None
    }

    /// Returns the entry of `key` if it is valid now, without counting as a use of it.
    pub fn peek(
        &self,
        hash: u64,
        key: &str,
        now: Instant,
        check: impl Fn(&Stamp) -> Result<(), Cause>,
    ) -> Option<Entry> {
        [&self.values, &self.negatives].into_iter().find_map(|part| {
            let entry = part.shard(hash).read().peek(hash, key)?;
            judge(&entry, now, &check).is_ok().then_some(entry)
        })
    }

    /// Stores an entry in place of what the key had, evicting others as needed.
    ///
    /// Only the gate calls this: it alone knows whether a filled value may still be stored.
    pub(crate) fn insert(&self, hash: u64, key: Arc<str>, entry: Entry) -> Inserted {
        let (into, other) = if entry.value.is_some() {
            (&self.values, &self.negatives)
        } else {
            (&self.negatives, &self.values)
        };
        other.shard(hash).write().remove_if(hash, &key, |_| true);
        let evicted = |hash| self.dropped(hash, Cause::Evicted);
        if into.shard(hash).write().insert(hash, key, entry, evicted) {
            Inserted::Stored
        } else {
            Inserted::TooLarge
        }
    }

    /// Whether an entry of this key and value could be inserted now without evicting another.
    pub(crate) fn has_room(&self, hash: u64, key: &str, value: Option<usize>) -> bool {
        let part = if value.is_some() { &self.values } else { &self.negatives };
        part.shard(hash).read().has_room(entry::weight(key.len(), value.unwrap_or_default()))
    }

    /// Removes a key's entry, valid or not; returns whether there was one.
    pub(crate) fn remove(&self, hash: u64, key: &str) -> bool {
        let value = self.values.shard(hash).write().remove_if(hash, key, |_| true);
        let negative = self.negatives.shard(hash).write().remove_if(hash, key, |_| true);
        value || negative
    }

    /// Drops everything that is no longer valid, in steps: locks are held for a few entries at a time, and others run
    /// between the steps. Dropping the future leaves the rest unswept.
    pub async fn sweep(&self, now: Instant, check: impl Fn(&Stamp) -> Result<(), Cause>) {
        for part in [&self.values, &self.negatives] {
            for shard in &part.shards {
                let mut from = Some(0);
                while let Some(at) = from {
                    from = shard.write().sweep(at, SWEEP_STEP, |hash, entry| {
                        let judged = judge(entry, now, &check);
                        if let Err(cause) = judged {
                            self.dropped(hash, cause);
                        }
                        judged.is_ok()
                    });
                    tokio::task::yield_now().await;
                }
            }
        }
        self.publish();
    }

    /// Drops everything.
    pub fn clear(&self) {
        for part in [&self.values, &self.negatives] {
            for shard in &part.shards {
                let dropped = shard.write().clear();
                self.metrics.dropped(Cause::SlotLost, dropped);
            }
        }
        self.publish();
    }

    /// Shows the entries of about `count` places, valid or not, in no order that means anything, until `take` has enough
    /// and says false; that entry is the first of the next page. Returns where to go on, or `None` after the last.
    ///
    /// Locks are held for a few entries at a time. What is in memory all the while is shown once, if `from` is
    /// [`Cursor::START`] at first and then what the last page returned; what comes or goes meanwhile may be missed.
    pub fn page(
        &self,
        from: Cursor,
        count: usize,
        mut take: impl FnMut(&Arc<str>, &Entry) -> bool,
    ) -> Option<Cursor> {
        let (mut shard, mut place) = from.resolve(self);
        let mut left = count.max(1);
        while let Some(lock) = self.shard_at(shard) {
            let mut enough = false;
            let (reached, places) = {
                let shard = lock.read();
                let reached = shard.page(place, left.min(PAGE_STEP), |key, entry| {
                    enough = !take(key, entry);
                    !enough
                });
                (reached, shard.places())
            };
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
        let (entries, value_bytes) = self.values.size();
        let (negative_entries, negative_bytes) = self.negatives.size();
        Sizes {
            entries,
            negative_entries,
            bytes: value_bytes + negative_bytes,
            capacity: self.values.capacity + self.negatives.capacity,
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
    /// Bytes that both take, overhead counted.
    pub bytes: u64,
    /// Bytes that both may take.
    pub capacity: u64,
    /// Entries dropped to make room since the start.
    pub evictions: u64,
    /// Entries dropped because their time was over since the start.
    pub expirations: u64,
}

fn judge(entry: &Entry, now: Instant, check: impl Fn(&Stamp) -> Result<(), Cause>) -> Result<(), Cause> {
    if entry.expires <= now { Err(Cause::Expired) } else { check(&entry.stamp) }
}

/// One instance of the sharded structure.
#[derive(Debug)]
struct Part {
    shards: Box<[RwLock<Shard>]>,
    capacity: u64,
}

impl Part {
    fn new(capacity: u64, largest: u64) -> Self {
        // A shard must have room for several of the largest entries, or they would push out each other.
        let wanted = (capacity / largest.saturating_mul(4).max(64 * 1024)).clamp(1, 64);
        let count = 1usize << wanted.ilog2();
        let each = (capacity / count as u64) as usize;
        Self {
            shards: (0..count).map(|_| RwLock::new(Shard::new(each))).collect(),
            capacity: each as u64 * count as u64,
        }
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // The table inside a shard uses the low and the topmost bits; take others.
        &self.shards[(hash >> 40) as usize & (self.shards.len() - 1)]
    }

    fn size(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(entries, bytes), shard| {
            let shard = shard.read();
            (entries + shard.len() as u64, bytes + shard.bytes() as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use prometheus_client::registry::Registry;

    use super::*;

    const STAMP: Stamp = Stamp { group: 0, slot: 0, generation: 1, acquisition: 1 };

    fn store(memory: u64) -> Store {
        Store::new(Bounds { memory, negative_share: 0.1, max_value: 1024 }, &mut Registry::default())
    }

    fn hash(key: &str) -> u64 {
        xxhash_rust::xxh3::xxh3_64(key.as_bytes())
    }

    fn entry(value: Option<usize>) -> Entry {
        let now = Instant::now();
        Entry {
            value: value.map(|len| Bytes::from(vec![b'x'; len])),
            stamp: STAMP,
            filled: now,
            expires: now + Duration::from_mins(1),
        }
    }

    fn put(store: &Store, key: &str, value: Option<usize>) {
        assert_eq!(store.insert(hash(key), key.into(), entry(value)), Inserted::Stored);
    }

    fn has(store: &Store, key: &str) -> bool {
        store.get(hash(key), key, Instant::now(), |_| Ok(())).is_some()
    }

    #[test]
    fn memory_stays_within_its_bound_and_the_count_is_exact() {
        let store = store(1 << 20);
        for n in 0..20_000 {
            put(&store, &format!("user:{n}"), Some(100 + n % 50));
        }
        let sizes = store.sizes();
        assert!(sizes.bytes <= 1 << 20, "{sizes:?}");
        assert!(sizes.bytes > (1 << 20) * 7 / 10, "memory is used: {sizes:?}");
        assert_eq!(sizes.entries + sizes.evictions, 20_000);
        for n in 0..20_000 {
            store.remove(hash(&format!("user:{n}")), &format!("user:{n}"));
        }
        assert_eq!((store.sizes().bytes, store.sizes().entries), (0, 0), "every byte is given back");
    }

    #[test]
    fn a_scan_of_missing_keys_pushes_out_no_value() {
        let store = store(1 << 20);
        for n in 0..1000 {
            put(&store, &format!("user:{n}"), Some(100));
        }
        for n in 0..100_000 {
            put(&store, &format!("missing:{n}"), None);
        }
        assert!((0..1000).all(|n| has(&store, &format!("user:{n}"))));
        assert!(store.sizes().bytes <= 1 << 20);
    }

    #[test]
    fn keys_in_use_outlive_a_scan_of_keys_used_once() {
        let store = store(1 << 20);
        let hot: Vec<String> = (0..200).map(|n| format!("hot:{n}")).collect();
        for key in &hot {
            put(&store, key, Some(100));
        }
        for n in 0..50_000 {
            put(&store, &format!("once:{n}"), Some(100));
            if n % 1000 == 0 {
                assert!(hot.iter().all(|key| has(&store, key)), "after {n}");
            }
        }
    }

    #[test]
    fn a_value_takes_the_place_of_a_negative_entry_and_back() {
        let store = store(1 << 20);
        put(&store, "user:1", None);
        put(&store, "user:1", Some(10));
        assert_eq!((store.sizes().entries, store.sizes().negative_entries), (1, 0));
        put(&store, "user:1", None);
        assert_eq!((store.sizes().entries, store.sizes().negative_entries), (0, 1));
        assert!(store.remove(hash("user:1"), "user:1"));
        assert!(!store.remove(hash("user:1"), "user:1"));
    }

    #[tokio::test]
    async fn expired_and_flushed_entries_are_never_returned_and_are_swept() {
        let store = store(1 << 20);
        put(&store, "user:1", Some(10));
        put(&store, "user:2", Some(10));
        let later = Instant::now() + Duration::from_secs(61);
        assert!(store.get(hash("user:1"), "user:1", later, |_| Ok(())).is_none());
        assert!(store.peek(hash("user:2"), "user:2", Instant::now(), |_| Err(Cause::Flushed)).is_none());
        assert_eq!(store.sizes().entries, 1, "the first was dropped by the read, a peek drops nothing");
        store
            .sweep(Instant::now(), |stamp| if stamp.generation == 1 { Err(Cause::Flushed) } else { Ok(()) })
            .await;
        assert_eq!((store.sizes().entries, store.sizes().bytes, store.sizes().expirations), (0, 0, 1));
    }

    #[test]
    fn pages_show_every_entry_once_whatever_their_size_and_a_refused_entry_begins_the_next() {
        let store = store(1 << 20);
        for n in 0..2000 {
            put(&store, &format!("user:{n}"), (n % 10 > 0).then_some(10));
        }
        for (count, most) in [(1, 1), (7, 100), (256, 5), (1000, 1000), (100_000, 100_000)] {
            let mut seen = Vec::new();
            let mut from = Some(Cursor::START);
            while let Some(cursor) = from {
                let mut page = Vec::new();
                from = store.page(cursor, count, |key, _| {
                    let room = page.len() < most;
                    if room {
                        page.push(key.to_string());
                    }
                    room
                });
                seen.extend(page);
            }
            assert_eq!(seen.len(), 2000, "each once, {count} at a time");
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), 2000, "{count} at a time");
        }
    }

    #[test]
    fn any_number_is_a_place_to_begin_and_all_places_are_about_as_likely() {
        let store = store(1 << 20);
        for n in 0..1000 {
            put(&store, &format!("user:{n}"), (n % 10 > 0).then_some(10));
        }
        let (mut firsts, mut absent) = (std::collections::BTreeSet::new(), 0);
        for n in 1..=4000_u64 {
            let start = Cursor::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            store.page(start, 1, |key, entry| {
                firsts.insert(key.to_string());
                absent += u64::from(entry.value.is_none());
                false
            });
        }
        assert!(firsts.len() > 900, "{} of 1000 were begun with", firsts.len());
        assert!((200..800).contains(&absent), "{absent} of 4000, negative entries are a tenth");
        let empty = Store::new(
            Bounds { memory: 1 << 20, negative_share: 0.1, max_value: 1024 },
            &mut Registry::default(),
        );
        assert_eq!(empty.page(Cursor::from(12345), 10, |_, _| true), None);
    }

    #[test]
    fn an_entry_larger_than_a_shard_is_refused_and_harms_nothing() {
        let store = store(64 * 1024);
        put(&store, "user:1", Some(10));
        let outcome = store.insert(hash("user:2"), "user:2".into(), entry(Some(100_000)));
        assert_eq!(outcome, Inserted::TooLarge);
        assert!(has(&store, "user:1"));
        let outcome = store.insert(hash("user:1"), "user:1".into(), entry(Some(100_000)));
        assert_eq!(outcome, Inserted::TooLarge);
        assert!(!has(&store, "user:1"), "the value that it would have replaced must not stay");
    }
}
