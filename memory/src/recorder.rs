//! The flight recorder: what happened to each key on this node, in bounded memory.
//!
//! "Why was this stale, and since when?" is asked afterwards. So fills, refused stores, sets, pulls, removals that took
//! something, evictions and expiries are noted as they happen, by key hash, in rings that forget their oldest; flushes,
//! slots that came or went, and an emptied store are noted once for all keys that they concern. Nothing is noted for a
//! hit. Removals of keys that were not in memory are not noted here either: the gate's log has the last ones anyway.
//!
//! An event costs one short lock and 48 bytes; 65536 of them are 3 MB.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use ring::{Epoch, SLOTS};
use tokio::time::Instant;

use crate::place::Place;

/// Events that a node remembers, by default.
pub const EVENTS: usize = 65_536;
/// The word for a removal.
pub const REMOVED: &str = "removed";
/// Locks of a recorder.
const SHARDS: usize = 64;
/// Flushes that are remembered.
const FLUSHES: usize = 512;
/// Rings, and lives of the node, that are remembered; a ring takes 4 KiB.
const TURNS: usize = 64;

/// What happened to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Read from the database and stored.
    Filled {
        /// How long the read took.
        took: Duration,
    },
    /// Set by a client that had read it by itself.
    Set,
    /// Taken over from another node.
    Pulled {
        /// The node.
        from: Arc<str>,
    },
    /// Served, perhaps, but not stored.
    Refused {
        /// Why, as in the metric of refused fills.
        why: &'static str,
    },
    /// Removed while it was in memory.
    Removed {
        /// Where the removal came from.
        origin: Arc<str>,
    },
    /// Dropped to make room.
    Evicted,
    /// Found to be past its time.
    Expired,
}

/// An event as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub at: Instant,
    /// A word from a small set.
    pub what: &'static str,
    /// Why, or where it came from.
    pub detail: String,
}

/// The recorder of one node.
#[derive(Debug)]
pub struct Recorder {
    /// By key hash; empty if the recorder is off.
    shards: Box<[Mutex<Shard>]>,
    /// Guards what concerns many keys at once.
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Shard {
    events: VecDeque<Event>,
    capacity: usize,
}

#[derive(Debug)]
struct Event {
    hash: u64,
    at: Instant,
    what: What,
}

#[derive(Debug)]
struct Turns {
    flushes: VecDeque<(Instant, u16, Arc<str>)>,
    lives: VecDeque<(Instant, u64)>,
    rings: VecDeque<Turn>,
    held: Bits,
}

/// What one ring changed.
#[derive(Debug)]
struct Turn {
    at: Instant,
    epoch: Epoch,
    gained: Bits,
    lost: Bits,
}

impl Recorder {
    /// Remembers about `events` events of single keys; 0 turns all of it off.
    pub fn new(events: usize) -> Self {
        let each = events.div_ceil(SHARDS);
        let shards = if events == 0 { 0 } else { SHARDS };
        Self {
            shards: (0..shards)
                .map(|_| Mutex::new(Shard { events: VecDeque::new(), capacity: each }))
                .collect(),
            turns: Mutex::new(Turns {
                flushes: VecDeque::new(),
                lives: VecDeque::new(),
                rings: VecDeque::new(),
                held: Bits::none(),
            }),
        }
    }

    /// Notes what happened to the key of this hash, now.
    pub fn record(&self, hash: u64, what: What) {
        self.record_at(hash, Instant::now(), what);
    }

    /// Notes what happened to the key of this hash.
    pub fn record_at(&self, hash: u64, at: Instant, what: What) {
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock();
        if shard.events.len() == shard.capacity {
            shard.events.pop_front();
        }
        shard.events.push_back(Event { hash, at, what });
    }

    /// Notes that a group was flushed.
    pub fn flushed(&self, group: u16, origin: &Arc<str>) {
        if self.is_on() {
            push(&mut self.turns.lock().flushes, FLUSHES, (Instant::now(), group, origin.clone()));
        }
    }

    /// Notes that the store was emptied for a new life of the node.
    pub fn emptied(&self, incarnation: u64) {
        if self.is_on() {
            push(&mut self.turns.lock().lives, TURNS, (Instant::now(), incarnation));
        }
    }

    /// Notes which slots the node holds by a new ring.
    pub fn slots(&self, epoch: Epoch, holds: impl Fn(u16) -> bool) {
        if !self.is_on() {
            return;
        }
        let mut turns = self.turns.lock();
        let mut turn = Turn { at: Instant::now(), epoch, gained: Bits::none(), lost: Bits::none() };
        for slot in 0..SLOTS {
            match (turns.held.has(slot), holds(slot)) {
                (false, true) => turn.gained.add(slot),
                (true, false) => turn.lost.add(slot),
                _ => continue,
            }
            turns.held.flip(slot);
        }
        if turn.gained.any() || turn.lost.any() {
            push(&mut turns.rings, TURNS, turn);
        }
    }

    /// The last removal of a key that took something, as far as it is remembered.
    pub fn last_removed(&self, hash: u64) -> Option<(Instant, Arc<str>)> {
        let shard = self.shard(hash)?.lock();
        let removals =
            shard.events.iter().filter(|event| event.hash == hash).filter_map(|event| match &event.what {
                What::Removed { origin } => Some((event.at, origin.clone())),
                _ => None,
            });
        removals.max_by_key(|(at, _)| *at)
    }

    /// All that is remembered of a key, newest first.
    pub fn of(&self, place: Place) -> Vec<Happened> {
        let Some(shard) = self.shard(place.hash) else { return Vec::new() };
        let noted: Vec<(Instant, What)> = shard
            .lock()
            .events
            .iter()
            .filter(|event| event.hash == place.hash)
            .map(|event| (event.at, event.what.clone()))
            .collect();
        let mut all: Vec<Happened> = noted.into_iter().map(|(at, what)| what.told(at)).collect();
        let turns = self.turns.lock();
        for (at, group, origin) in &turns.flushes {
            if *group == place.group {
                all.push(Happened { at: *at, what: "flushed", detail: origin.to_string() });
            }
        }
        for (at, incarnation) in &turns.lives {
            let detail = format!("incarnation {incarnation} began with an empty store");
            all.push(Happened { at: *at, what: "emptied", detail });
        }
        for turn in &turns.rings {
            let what = if turn.gained.has(place.slot) {
                "slot acquired"
            } else if turn.lost.has(place.slot) {
                "slot lost"
            } else {
                continue;
            };
            all.push(Happened { at: turn.at, what, detail: format!("epoch {}", turn.epoch.0) });
        }
        drop(turns);
        all.sort_by_key(|happened| std::cmp::Reverse(happened.at));
        all
    }

    fn is_on(&self) -> bool {
        !self.shards.is_empty()
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        self.shards.get((hash >> 24) as usize % SHARDS)
    }
}

impl What {
    fn told(self, at: Instant) -> Happened {
        let (what, detail) = match self {
            Self::Filled { took } => {
                ("filled", format!("from the database, in {:.1} ms", took.as_secs_f64() * 1e3))
            }
            Self::Set => ("set", "by an application".to_owned()),
            Self::Pulled { from } => ("pulled", format!("from node {from}")),
            Self::Refused { why } => ("refused", why.to_owned()),
            Self::Removed { origin } => (REMOVED, origin.to_string()),
            Self::Evicted => ("evicted", String::new()),
            Self::Expired => ("expired", String::new()),
        };
        Happened { at, what, detail }
    }
}

fn push<T>(ring: &mut VecDeque<T>, capacity: usize, item: T) {
    if ring.len() == capacity {
        ring.pop_front();
    }
    ring.push_back(item);
}

/// A set of slots.
#[derive(Debug)]
struct Bits(Box<[u64; SLOTS as usize / 64]>);

impl Bits {
    fn none() -> Self {
        Self(Box::new([0; SLOTS as usize / 64]))
    }

    fn has(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot) / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn add(&mut self, slot: u16) {
        self.0[usize::from(slot) / 64] |= 1 << (slot % 64);
    }

    fn flip(&mut self, slot: u16) {
        self.0[usize::from(slot) / 64] ^= 1 << (slot % 64);
    }

    fn any(&self) -> bool {
        self.0.iter().any(|word| *word != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(hash: u64) -> Place {
        Place { hash, group: 1, slot: 7 }
    }

    fn words(recorder: &Recorder, hash: u64) -> Vec<&'static str> {
        recorder.of(place(hash)).into_iter().map(|happened| happened.what).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_keys_story_is_told_newest_first_and_names_what_concerned_many_keys() {
        let recorder = Recorder::new(1000);
        let step = || tokio::time::advance(Duration::from_millis(10));
        recorder.emptied(3);
        step().await;
        recorder.slots(Epoch(5), |slot| slot < 10);
        step().await;
        recorder.record(1, What::Filled { took: Duration::from_micros(1250) });
        recorder.record(2, What::Set);
        step().await;
        recorder.flushed(1, &"request".into());
        recorder.flushed(2, &"request".into());
        step().await;
        recorder.record(1, What::Refused { why: "quarantine" });
        step().await;
        recorder.record(1, What::Removed { origin: "shop/0@42".into() });
        step().await;
        recorder.slots(Epoch(6), |slot| slot < 5);
        recorder.slots(Epoch(7), |slot| slot < 5);
        let story = recorder.of(place(1));
        let what: Vec<_> = story.iter().map(|happened| happened.what).collect();
        assert_eq!(
            what,
            ["slot lost", "removed", "refused", "flushed", "filled", "slot acquired", "emptied"]
        );
        assert_eq!(story[0].detail, "epoch 6");
        assert_eq!(story[1].detail, "shop/0@42");
        assert_eq!(story[4].detail, "from the database, in 1.2 ms");
        assert_eq!(words(&recorder, 2), ["slot lost", "flushed", "set", "slot acquired", "emptied"]);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_are_forgotten() {
        let recorder = Recorder::new(SHARDS * 2);
        for n in 0..100_000_u64 {
            recorder.record(n << 24, What::Pulled { from: n.to_string().into() });
            recorder.flushed(1, &"request".into());
        }
        let kept: usize = recorder.shards.iter().map(|shard| shard.lock().events.len()).sum();
        assert_eq!(kept, SHARDS * 2);
        assert_eq!(recorder.turns.lock().flushes.len(), FLUSHES);
        let newest = recorder.of(Place { hash: 99_999 << 24, group: 0, slot: 0 });
        assert_eq!(newest[0].detail, "from node 99999");
        assert!(size_of::<Event>() <= 48, "an event takes {} bytes", size_of::<Event>());
    }

    #[test]
    fn a_recorder_that_is_off_remembers_nothing() {
        let recorder = Recorder::new(0);
        recorder.record(1, What::Evicted);
        recorder.emptied(1);
        recorder.flushed(1, &"request".into());
        recorder.slots(Epoch(1), |_| true);
        assert!(recorder.of(place(1)).is_empty());
        assert!(recorder.turns.lock().rings.is_empty());
    }
}
