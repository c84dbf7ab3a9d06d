//! The gate: decides whether a filled value may still be stored (R1, R2).
//!
//! A fill takes a [`Token`] before it reads the database and shows it when it wants to store. Removals are logged by
//! key hash. The check and the insert happen under one lock, and so do the log and the removal, which leaves two
//! orders: the removal comes first and the check sees it, or the insert comes first and the removal takes it out.
//!
//! Values that other nodes had in memory come in by the same check ([`Gate::store_pulled`]), under a token that was taken
//! before they were asked for.
//!
//! Flushes and lost slots need no lock: they change the group's generation or the slot's acquisition, and an entry
//! that slips in under the old number is never served.

mod grace;
mod log;
mod mirrors;
mod plain;
mod pulls;
mod set;
mod tags;
mod token;

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use ring::rules::{self, Rule};
use tokio::time::Instant;

pub use self::mirrors::{Mirror, NotMirrored};
pub use self::plain::{Asking, Keeping, NotOrdered, Ordered};
pub use self::tags::hashes as tag_hashes;
use self::{log::Log, mirrors::Mirrors, tags::Tags};
pub use self::{
    pulls::{NotTaken, Offered, Room, Snapshot, Source},
    set::NotSet,
    token::{Logged, Refused, Token, View, may_store, not_ended, not_overtaken, unsettled},
};
use crate::{
    place::{Place, hash},
    recorder::{Recorder, What},
    slots::Slots,
    store::compress::{Compression, Packed},
    store::{Cause, Cursor, Entry, Inserted, Keep, Stamp, Store, Take},
};

/// Locks of a gate.
const SHARDS: usize = 64;
/// Removals that each lock's log remembers, by default.
pub const LOG: usize = 4096;

/// Removals of tags that a gate remembers, by default.
pub const TAG_LOG: usize = 65_536;
/// Places of the store that a sweep of tags looks at in one step.
const SWEEP_STEP: usize = 1024;

/// The only way into the [`Store`].
#[derive(Debug)]
pub struct Gate {
    store: Store,
    mirrors: Mirrors,
    slots: Arc<Slots>,
    shards: Box<[Mutex<Log>]>,
    groups: Box<[Group]>,
    tags: Tags,
    base: Instant,
    /// In nanoseconds.
    quarantine: AtomicU64,
    /// By group; none are compressed if it is empty.
    compression: Box<[Compression]>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Group {
    /// From 1.
    generation: AtomicU64,
    /// Nanoseconds since `base`, plus one, of the last flush; 0 for never. Written before the generation is.
    flushed: AtomicU64,
    /// How long an entry is kept beyond its time, see [`grace`].
    grace: Duration,
    /// Whether applications write its values without a token, see [`plain`].
    plain: bool,
    /// Whether changes of rows remove any of them.
    reached: bool,
    /// The number of the last removal of a tag that the group's entries may carry.
    tagged: AtomicU64,
    /// When that was, in the form of `flushed`. Written before the number is.
    tagged_at: AtomicU64,
}

impl Gate {
    /// A gate to `store` for a catalog of `groups` groups.
    pub fn new(store: Store, slots: Arc<Slots>, groups: usize, quarantine: Duration, log: usize) -> Self {
        // Mirrors are of few keys: what they take beside the store's own bound is a small part of it.
        let mirrors = Mirrors::new(store.sizes().capacity / 64);
        Self {
            store,
            mirrors,
            slots,
            shards: (0..SHARDS).map(|_| Mutex::new(Log::new(log.max(1)))).collect(),
            groups: (0..groups)
                .map(|_| Group {
                    generation: AtomicU64::new(1),
                    flushed: AtomicU64::new(0),
                    grace: Duration::ZERO,
                    plain: false,
                    reached: true,
                    tagged: AtomicU64::new(0),
                    tagged_at: AtomicU64::new(0),
                })
                .collect(),
            tags: Tags::new(TAG_LOG),
            base: Instant::now(),
            quarantine: AtomicU64::new(nanos(quarantine)),
            compression: Box::default(),
        }
    }

    /// How long after a removal a fill is served but not stored.
    pub fn quarantine(&self) -> Duration {
        Duration::from_nanos(self.quarantine.load(Acquire))
    }

    /// Changes the quarantine, for what is stored from here on.
    pub fn set_quarantine(&self, quarantine: Duration) {
        self.quarantine.store(nanos(quarantine), Release);
    }

    /// Has values compressed in memory, by group.
    #[must_use]
    pub fn with_compression(mut self, compression: Vec<Compression>) -> Self {
        self.compression = compression.into();
        self
    }

    /// A value as it is to be kept, if that is compressed. Takes its time: not to be done under a lock.
    fn pack(&self, group: u16, value: Option<&Bytes>) -> Option<Packed> {
        self.compression.get(usize::from(group))?.pack(value?)
    }

    /// Remembers so many removals of tags; [`TAG_LOG`] otherwise.
    #[must_use]
    pub fn with_tag_log(mut self, removals: usize) -> Self {
        self.tags = Tags::new(removals);
        self
    }

    /// What happened to keys on this node.
    pub fn recorder(&self) -> &Recorder {
        self.store.recorder()
    }

    /// The store behind the gate.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns a key's entry if it may be served from memory; the node's own membership is the caller's to check.
    pub fn get(&self, place: Place, key: &str, now: Instant) -> Option<Entry> {
        self.get_by(place, key, now, &mut Keep)
    }

    /// Like [`get`](Self::get); `take` says what becomes of the value. It may be given one that is not served: it counts only if an entry
    /// is returned.
    pub fn get_by(&self, place: Place, key: &str, now: Instant, take: &mut impl Take) -> Option<Entry> {
        let entry = self.store.get_by(place.hash, key, now, |stamp| self.check(stamp), take)?;
        if self.tags.check(entry.tags.as_ref()).is_err() {
            self.settle(place.hash, key);
            return None;
        }
        self.in_time(entry, now)
    }

    /// Like [`get`](Self::get), without counting as a use.
    pub fn peek(&self, place: Place, key: &str, now: Instant) -> Option<Entry> {
        let entry = self.store.peek(place.hash, key, now, |stamp| self.check(stamp))?;
        self.tags.check(entry.tags.as_ref()).ok()?;
        self.in_time(entry, now)
    }

    /// Takes a key's entry out if a removal of one of its tags has ended it, and tells the recorder.
    pub fn settle(&self, hash: u64, key: &str) {
        let log = self.shard(hash).lock();
        let Some(entry) = self.store.peek(hash, key, Instant::now(), |_| Ok(())) else { return };
        let Err(removal) = self.tags.check(entry.tags.as_ref()) else { return };
        self.store.remove(hash, key);
        drop(log); // held until here: another value must not come between the look and the removal
        self.recorder().record_at(hash, removal.logged.at, What::Removed { origin: removal.origin() });
    }

    /// Begins a fill: returns its token, and until when the database may still show an old row (R2). `None` if the node
    /// does not hold the slot.
    pub fn token(&self, place: Place) -> Option<(Token, Option<Instant>)> {
        let started = Instant::now();
        let tags = self.tags.seq();
        let log = self.shard(place.hash).lock();
        let view = self.view(&log, place, &[], u64::MAX, started, true);
        let acquisition = view.acquired?.0;
        let token = Token { seq: log.seq(), started, generation: view.generation, acquisition, tags };
        // Which tags the value will have is not known yet: any that the group may carry.
        let quarantine = self.quarantine();
        let tagged = self.tagged(place.group).map(|at| at + quarantine);
        let unsettled = unsettled(&view, quarantine).max(tagged);
        Some((token, unsettled.filter(|until| started < *until)))
    }

    /// Whether a fill of `token` still is what a request that arrives now may share: neither flushed nor lost since, and no tag
    /// removed that its value may turn out to carry.
    pub fn current(&self, token: &Token, place: Place) -> bool {
        self.generation(place.group) == token.generation
            && self
                .groups
                .get(usize::from(place.group))
                .is_some_and(|group| group.tagged.load(Acquire) <= token.tags)
            && self.slots.acquisition(place.slot) == Some(token.acquisition)
    }

    /// Stores a filled value, if it still may be. `live` is asked under the lock.
    pub fn store_filled(
        &self,
        token: &Token,
        place: Place,
        filled: Filled,
        live: impl FnOnce() -> bool,
    ) -> Result<Inserted, Refused> {
        let late = if rules::holds(Rule::Token) { None } else { self.token(place) };
        let token = late.as_ref().map_or(token, |(late, _)| late);
        let packed = self.pack(place.group, filled.value.as_ref());
        let log = self.shard(place.hash).lock();
        let view = self.view(&log, place, &filled.tags, token.seq, token.started, live());
        may_store(token, &view, self.quarantine())?;
        let inserted = self.put(token, place, token.started, filled, packed.as_ref());
        drop(log); // held until here: a removal must not come between the check and the insert
        Ok(inserted)
    }

    /// Stores what may be stored and was read at `read`, as fills and pulls do. The caller holds the key's log.
    ///
    /// Under the numbers of its token, not those of now. *The check finds nothing; the group is flushed, the slot lost or a tag removed, none
    /// of which takes a lock of the key; the entry is stored: under an older number, it is never served.*
    fn put(
        &self,
        token: &Token,
        place: Place,
        read: Instant,
        filled: Filled,
        packed: Option<&Packed>,
    ) -> Inserted {
        let stamp = Stamp {
            group: place.group,
            slot: place.slot,
            generation: token.generation,
            acquisition: token.acquisition,
        };
        let expires = read + filled.ttl + self.grace(place.group);
        let tags = tags::stamped(token.tags, &filled.tags);
        let entry = Entry { value: filled.value, stamp, filled: read, expires, tags };
        self.store.insert(place.hash, &filled.key, &entry, packed)
    }

    /// Removes a key; returns whether it was in memory.
    pub fn remove(&self, key: &str, origin: &Arc<str>) -> bool {
        let hash = hash(key);
        let mut log = self.shard(hash).lock();
        let at = Instant::now();
        log.push(hash, at, origin.clone());
        let found = self.store.remove(hash, key);
        self.mirrors.remove(key);
        drop(log); // held until here: a fill's check must not come between the log and the removal
        if found {
            self.recorder().record_at(hash, at, What::Removed { origin: origin.clone() });
        }
        found
    }

    /// Flushes a group, in constant time whatever it holds. Returns false for a number that no group has.
    pub fn flush(&self, group: u16) -> bool {
        let Some(state) = self.groups.get(usize::from(group)) else { return false };
        let at = Instant::now().duration_since(self.base).as_nanos() as u64 + 1;
        state.flushed.fetch_max(at, AcqRel);
        state.generation.fetch_add(1, AcqRel);
        true
    }

    /// Removes a tag: no entry that carries it is served any more. In constant time, whatever carries it. `groups` are those whose
    /// entries may.
    pub fn remove_tag(&self, tag: &str, groups: &[u16], origin: &Arc<str>) {
        self.tags.remove(hash(tag), tag, origin, |logged| {
            let at = logged.at.duration_since(self.base).as_nanos() as u64 + 1;
            for group in groups.iter().filter_map(|group| self.groups.get(usize::from(*group))) {
                group.tagged_at.fetch_max(at, AcqRel);
                group.tagged.fetch_max(logged.seq, AcqRel);
            }
        });
    }

    /// Ends when so many tags were removed that a sweep would be good.
    pub async fn pressed(&self) {
        self.tags.pressed().await;
    }

    /// The last removal of a key or, if the recorder saw it, of its entry by a tag, or flush of its group, or acquisition of its
    /// slot, that the gate remembers.
    pub fn last_removal(&self, place: Place) -> Option<(Instant, Arc<str>)> {
        let removed = self.shard(place.hash).lock().recall(place.hash);
        let flushed = self.flushed(place.group).map(|at| (at, Arc::from("flush")));
        let acquired = self.slots.acquired(place.slot).map(|(_, at)| (at, Arc::from("slot acquired")));
        let recorded = self.recorder().last_removed(place.hash);
        [acquired, flushed, recorded, removed].into_iter().flatten().max_by_key(|(at, _)| *at)
    }

    /// All removals of a key that the gate remembers, newest first; without flushes, unlike
    /// [`last_removal`](Self::last_removal).
    pub fn removals(&self, place: Place) -> Vec<(Instant, Arc<str>)> {
        self.shard(place.hash).lock().removals(place.hash)
    }

    /// Shows valid entries, page by page, as [`Store::page`] does; the node's own membership is the caller's to check.
    pub fn page(
        &self,
        from: Cursor,
        count: usize,
        now: Instant,
        take: impl FnMut(&Arc<str>, &Entry) -> bool,
    ) -> Option<Cursor> {
        self.page_of(from, count, now, |_| true, take)
    }

    /// Like [`page`](Self::page), only those whose stamp is `wanted`: others are not even decompressed.
    pub fn page_of(
        &self,
        from: Cursor,
        count: usize,
        now: Instant,
        wanted: impl Fn(&Stamp) -> bool,
        mut take: impl FnMut(&Arc<str>, &Entry) -> bool,
    ) -> Option<Cursor> {
        let valid = |stamp: &Stamp, expires| {
            self.runs(stamp, expires, now) && wanted(stamp) && self.check(stamp).is_ok()
        };
        self.store.page_of(from, count, valid, |key, entry| {
            self.tags.check(entry.tags.as_ref()).is_err()
                || self.in_time(entry.clone(), now).is_none_or(|entry| take(key, &entry))
        })
    }

    /// Drops all that is expired, flushed, removed by a tag, or of lost slots that don't depart; others run meanwhile.
    pub async fn sweep(&self) {
        let keep = |stamp: &Stamp| match self.check(stamp) {
            Err(Cause::SlotLost) if self.departs(stamp) => Ok(()),
            checked => checked,
        };
        self.store.sweep(Instant::now(), keep).await;
        if let Some(seq) = self.tags.to_sweep() {
            self.sweep_tags().await;
            self.tags.swept(seq);
        }
    }

    /// Looks at the tags of all entries that are in memory when this is called, or come in meanwhile: these were looked at then.
    async fn sweep_tags(&self) {
        // An entry that was looked at before this, and is on its way into the store, is there after this.
        for shard in &self.shards {
            drop(shard.lock());
        }
        let mut from = Some(Cursor::START);
        while let Some(cursor) = from {
            let mut ended = Vec::new();
            from = self.store.page(cursor, SWEEP_STEP, |key, entry| {
                if self.tags.check(entry.tags.as_ref()).is_err() {
                    ended.push(key.clone());
                }
                true
            });
            for key in ended {
                self.settle(hash(&key), &key);
            }
            tokio::task::yield_now().await;
        }
    }

    fn check(&self, stamp: &Stamp) -> Result<(), Cause> {
        if self.slots.acquisition(stamp.slot) != Some(stamp.acquisition) {
            Err(Cause::SlotLost)
        } else if self.generation(stamp.group) != stamp.generation {
            Err(Cause::Flushed)
        } else {
            Ok(())
        }
    }

    /// What the gate knows now that can matter to a token of `since_seq` and `started`, and to a value of these tags.
    fn view(
        &self,
        log: &Log,
        place: Place,
        tags: &[u64],
        since_seq: u64,
        started: Instant,
        live: bool,
    ) -> View {
        let (tagged, tags_forgotten) = self.tags.view(tags);
        // Removals at least a quarantine older than the token matter no more, unless they have a later number.
        let since_time = started.checked_sub(self.quarantine()).unwrap_or(self.base);
        // The generation first: its flush is then in `flushed` already.
        let generation = self.generation(place.group);
        View {
            removed: log.last(place.hash, since_seq, since_time),
            forgotten: log.forgotten(),
            generation,
            flushed: self.flushed(place.group),
            acquired: self.slots.acquired(place.slot),
            live,
            tagged,
            tags_forgotten,
        }
    }

    /// When a tag was last removed that the group's entries may carry.
    fn tagged(&self, group: u16) -> Option<Instant> {
        let at = self.groups.get(usize::from(group))?.tagged_at.load(Acquire);
        (at > 0).then(|| self.base + Duration::from_nanos(at - 1))
    }

    fn generation(&self, group: u16) -> u64 {
        self.groups.get(usize::from(group)).map_or(0, |state| state.generation.load(Acquire))
    }

    fn flushed(&self, group: u16) -> Option<Instant> {
        let at = self.groups.get(usize::from(group))?.flushed.load(Acquire);
        (at > 0).then(|| self.base + Duration::from_nanos(at - 1))
    }

    fn shard(&self, hash: u64) -> &Mutex<Log> {
        &self.shards[Self::shard_of(hash)]
    }

    fn shard_of(hash: u64) -> usize {
        (hash >> 32) as usize % SHARDS
    }
}

/// A value on its way into the store.
#[derive(Debug, Clone)]
pub struct Filled {
    /// The key.
    pub key: Arc<str>,
    /// The value, or `None` for a negative entry.
    pub value: Option<Bytes>,
    /// How long it may be served, counted from when it was read.
    pub ttl: Duration,
    /// The hashes of its tags, see [`hash`].
    pub tags: Box<[u64]>,
}

#[cfg(test)]
mod tests;
