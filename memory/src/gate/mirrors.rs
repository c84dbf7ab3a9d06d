//! Mirrors of other nodes' hot keys, as far as the gate has to do with them: the token, the storing, the removal.
//!
//! They are kept apart from the store: what is in them is given to no other node, and is bounded for itself. A removal takes a key out of
//! both under one lock, and a value that was asked for before it comes into neither (R1).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::RwLock;
use ring::{Moment, NodeId};
use tokio::time::Instant;

use super::{Gate, Refused, Token, not_overtaken};
use crate::{
    place::Place,
    store::{Entry, Stamp},
};

/// A value of another node, and the right to serve it for a while.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The value, or `None` for a negative entry.
    pub value: Option<Bytes>,
    /// When its read from the database began, at the latest.
    pub filled: Instant,
    /// When it expires, at the earliest.
    pub expires: Instant,
    /// Whose it is, and in which life.
    pub owner: (NodeId, u64),
    /// When it was asked for, and how long from then on it may be served.
    pub asked: Moment,
    /// See `asked`.
    pub lease: Duration,
    /// This node's own life that asked.
    pub life: u64,
}

/// A mirror that may be served, as far as the gate and the lease go.
#[derive(Debug, Clone)]
pub struct Mirrored {
    pub entry: Entry,
    pub owner: (NodeId, u64),
    pub life: u64,
    /// Whether the lease is near its end.
    pub ends_soon: bool,
}

/// Why a mirror was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotMirrored {
    /// Something has overtaken it since its token.
    Overtaken(Refused),
    /// There is no room among the mirrors.
    NoRoom,
}

/// All mirrors of one node.
#[derive(Debug)]
pub(super) struct Mirrors {
    /// Guards the map alone. Taken after the lock of a key's log, never before it.
    kept: RwLock<HashMap<Arc<str>, (u16, u64, Mirror)>>,
    /// How many there are, so that nodes without mirrors pay nothing for them.
    count: AtomicUsize,
    bytes: AtomicU64,
    most_bytes: u64,
}

impl Mirrors {
    pub(super) fn new(most_bytes: u64) -> Self {
        Self { kept: RwLock::default(), count: AtomicUsize::new(0), bytes: AtomicU64::new(0), most_bytes }
    }

    /// Takes a key out. The caller holds its log.
    pub(super) fn remove(&self, key: &str) -> bool {
        if self.count.load(Acquire) == 0 {
            return false;
        }
        let mut kept = self.kept.write();
        let removed = kept.remove(key);
        if let Some((_, _, mirror)) = &removed {
            self.bytes.fetch_sub(weight(key, mirror), Relaxed);
        }
        self.count.store(kept.len(), Release);
        removed.is_some()
    }

    fn retain(&self, mut keep: impl FnMut(u16, u64, &Mirror) -> bool) {
        let mut kept = self.kept.write();
        kept.retain(|key, (group, generation, mirror)| {
            let stays = keep(*group, *generation, mirror);
            if !stays {
                self.bytes.fetch_sub(weight(key, mirror), Relaxed);
            }
            stays
        });
        self.count.store(kept.len(), Release);
    }
}

fn weight(key: &str, mirror: &Mirror) -> u64 {
    (key.len() + mirror.value.as_ref().map_or(0, Bytes::len) + size_of::<Mirror>()) as u64
}

impl Mirror {
    fn lasts(&self, now: Moment) -> bool {
        now.passed_since(&self.asked) < self.lease
    }
}

impl Gate {
    /// What a mirror takes before its owner is asked: a token like a fill's, but of a slot that is not held.
    pub fn mirror_token(&self, place: Place) -> Token {
        let started = Instant::now();
        let log = self.shard(place.hash).lock();
        Token {
            seq: log.seq(),
            started,
            generation: self.generation(place.group),
            acquisition: NOT_HELD,
            tags: 0,
        }
    }

    /// Keeps a mirror, if nothing has overtaken it since its token (R1). `live` is asked under the locks of the key and of all mirrors.
    pub fn store_mirror(
        &self,
        token: &Token,
        place: Place,
        key: &Arc<str>,
        mirror: Mirror,
        live: impl FnOnce() -> bool,
    ) -> Result<(), NotMirrored> {
        let log = self.shard(place.hash).lock();
        let mirrors = &self.mirrors;
        let mut kept = mirrors.kept.write();
        let mut view = self.view(&log, place, &[], token.seq, token.started, live());
        view.acquired = Some((NOT_HELD, token.started));
        not_overtaken(token, &view).map_err(NotMirrored::Overtaken)?;
        let before = kept.get(key).map_or(0, |(_, _, before)| weight(key, before));
        let bytes = mirrors.bytes.load(Relaxed) - before + weight(key, &mirror);
        if bytes > mirrors.most_bytes {
            return Err(NotMirrored::NoRoom);
        }
        mirrors.bytes.store(bytes, Relaxed);
        kept.insert(key.clone(), (place.group, token.generation, mirror));
        mirrors.count.store(kept.len(), Release);
        drop(kept);
        drop(log); // held until here: a removal must not come between the check and the insert
        Ok(())
    }

    /// A key's mirror while its lease lasts. Whose it is, and this node's own membership, are the caller's to check.
    pub fn mirror(&self, place: Place, key: &str, now: Moment) -> Option<Mirrored> {
        if self.mirrors.count.load(Acquire) == 0 {
            return None;
        }
        let kept = self.mirrors.kept.read();
        let (group, generation, mirror) = kept.get(key)?;
        if self.generation(*group) != *generation || mirror.expires <= Instant::now() || !mirror.lasts(now) {
            return None;
        }
        let stamp = Stamp { group: *group, slot: place.slot, generation: *generation, acquisition: NOT_HELD };
        let (value, filled, expires) = (mirror.value.clone(), mirror.filled, mirror.expires);
        Some(Mirrored {
            entry: Entry { value, stamp, filled, expires, tags: None },
            owner: mirror.owner.clone(),
            life: mirror.life,
            ends_soon: now.passed_since(&mirror.asked) > mirror.lease / 2,
        })
    }

    /// Whether a key is mirrored now.
    pub fn has_mirror(&self, key: &str, now: Moment) -> bool {
        self.mirrors.kept.read().get(key).is_some_and(|(_, _, mirror)| mirror.lasts(now))
    }

    /// How many mirrors there are.
    pub fn mirror_count(&self) -> usize {
        self.mirrors.count.load(Acquire)
    }

    /// Drops mirrors that are over.
    pub fn tidy_mirrors(&self, now: Moment) {
        if self.mirror_count() > 0 {
            self.mirrors.retain(|group, generation, mirror| {
                mirror.lasts(now) && self.generation(group) == generation
            });
        }
    }

    /// Drops all mirrors of one owner's keys.
    pub fn clear_mirrors_of(&self, owner: &NodeId) {
        self.mirrors.retain(|_, _, mirror| mirror.owner.0 != *owner);
    }

    /// Drops all mirrors.
    pub fn clear_mirrors(&self) {
        self.mirrors.retain(|_, _, _| false);
    }
}

/// Instead of the acquisition of a slot: acquisitions begin with 1.
const NOT_HELD: u64 = 0;

#[cfg(test)]
mod tests;
