//! The gate for values of plain groups: the owner puts the writes of a key in order, other holders keep what it has ordered.
//!
//! Every write is logged as a removal is: it ends whatever was on its way to this node under an older token - an earlier write that was held up,
//! a value that is being pulled. *An owner gives up on a slow holder, and orders the next write, which that holder gets at once and evicts; then
//! the first one arrives.*

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant};
use wire::{Lifetime, Only, Put, Write};

use super::{Filled, Gate, Refused, Token, log::Log, not_overtaken, token::Logged};
use crate::{
    place::Place,
    store::{Entry, Inserted},
};

/// A write that has its place in its key's order.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// What the gate knew then: what it refuses now has come after it.
    pub token: Token,
    /// What the other holders are to have, and until when; `None`: nothing.
    pub value: Option<(Bytes, Instant)>,
    /// Whether there is none though one was put, since it alone is larger than its part of memory.
    pub too_large: bool,
    /// Whether the key had a value before.
    pub had: bool,
}

/// A write that asks for its place.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The key.
    pub key: &'a Arc<str>,
    /// What is to become of it.
    pub write: &'a Write,
    /// The hashes of the tags that its value is to carry.
    pub tags: &'a [u64],
    /// The most that a value may be there.
    pub longest: Duration,
    /// Where it comes from, for the key's story.
    pub origin: &'a Arc<str>,
    /// The acquisition under which all members go by this node's ring.
    pub acquisition: u64,
}

/// Why a write was not ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOrdered {
    /// This node does not own the slot, or can't prove that it is a member.
    Refused(Refused),
    /// It was to be written only where there is no value.
    Exists,
    /// There is no value, and there was to be one.
    Absent,
}

/// What an owner has ordered, on its way into another holder's store.
#[derive(Debug, Clone)]
pub struct Keeping {
    /// The key.
    pub key: Arc<str>,
    /// `None`: the key was removed.
    pub value: Option<Bytes>,
    /// Counted from the token.
    pub ttl: Duration,
    /// The hashes of its tags.
    pub tags: Box<[u64]>,
}

impl Gate {
    /// Says which groups are plain, by their numbers.
    #[must_use]
    pub fn with_plain(mut self, plain: impl IntoIterator<Item = bool>) -> Self {
        for (group, plain) in self.groups.iter_mut().zip(plain) {
            group.plain = plain;
        }
        self
    }

    /// Says which groups changes of rows remove values of, by their numbers; all otherwise.
    #[must_use]
    pub fn with_reached(mut self, reached: impl IntoIterator<Item = bool>) -> Self {
        for (group, reached) in self.groups.iter_mut().zip(reached) {
            group.reached = reached;
        }
        self
    }

    pub(super) fn is_reached(&self, group: u16) -> bool {
        self.groups.get(usize::from(group)).is_none_or(|group| group.reached)
    }

    /// Whether the group of this number is plain.
    pub fn is_plain(&self, group: u16) -> bool {
        self.groups.get(usize::from(group)).is_some_and(|group| group.plain)
    }

    /// Puts a write in its key's order, as the owner of its slot, and carries it out here. `live` is asked under the lock.
    pub fn order(
        &self,
        place: Place,
        asking: Asking<'_>,
        live: impl Fn() -> bool,
    ) -> Result<Ordered, NotOrdered> {
        let Asking { key, write, tags, longest, origin, acquisition } = asking;
        loop {
            // Compressed before the lock is taken; of an expiry, the value of now, if it still is that under the lock.
            let value = match write {
                Write::Put(put) => Some(put.value.clone()),
                Write::Expire(_) => self.peek(place, key, Instant::now()).and_then(|entry| entry.value),
                Write::Remove => None,
            };
            let packed = self.pack(place.group, value.as_ref());
            let mut log = self.shard(place.hash).lock();
            // *The slot went to another owner and back: nobody but this node may go by the last ring yet.*
            if self.slots.owned(place.slot) != Some(acquisition) {
                return Err(NotOrdered::Refused(Refused::SlotLost));
            }
            if !live() {
                return Err(NotOrdered::Refused(Refused::Fenced));
            }
            let (tag, generation, now) = (self.tags.seq(), self.generation(place.group), Instant::now());
            let current = self.peek(place, key, now);
            if matches!(write, Write::Expire(_))
                && current.as_ref().and_then(|entry| entry.value.as_ref()) != value.as_ref()
            {
                continue; // written meanwhile
            }
            let expires = lifetime(write, current.as_ref(), now, longest)?;
            let had = current.is_some();
            match write {
                Write::Remove => log.push(place.hash, now, origin.clone()),
                Write::Put(_) | Write::Expire(_) => log.push_write(place.hash, now),
            }
            let token = Token { seq: log.seq(), started: now, generation, acquisition, tags: tag };
            let Some((value, expires)) = value.zip(expires) else {
                self.store.remove(place.hash, key);
                return Ok(Ordered { token, value: None, too_large: false, had });
            };
            let ttl = expires.saturating_duration_since(now);
            let filled = Filled { key: key.clone(), value: Some(value.clone()), ttl, tags: tags.into() };
            let inserted = self.put(&token, place, now, filled, packed.as_ref());
            drop(log); // held until here: another write must not come between the order and the insert
            let too_large = inserted == Inserted::TooLarge;
            return Ok(Ordered { token, value: (!too_large).then_some((value, expires)), too_large, had });
        }
    }

    /// Whether nothing has happened to a key since a write of it was ordered here, so that other holders may be given it now.
    pub fn stands(&self, order: &Token, place: Place, tags: &[u64], live: bool) -> Result<(), Refused> {
        let log = self.shard(place.hash).lock();
        not_overtaken(order, &self.view(&log, place, tags, order.seq, order.started, live))
    }

    /// Keeps what the owner has ordered, under the token that this node gave before that. `live` is asked under the lock.
    ///
    /// *The owner has a value; a removal reaches the owner, and then this node; the value arrives.* Every removal that the owner applies after
    /// the write reaches this node after it reached the owner, so after this token.
    pub fn keep(
        &self,
        token: &Token,
        place: Place,
        keeping: Keeping,
        origin: &Arc<str>,
        live: impl FnOnce() -> bool,
    ) -> Result<(), Refused> {
        let packed = self.pack(place.group, keeping.value.as_ref());
        let mut log = self.shard(place.hash).lock();
        let view = self.view(&log, place, &keeping.tags, token.seq, token.started, live());
        not_overtaken(token, &view)?;
        let Keeping { key, value, ttl, tags } = keeping;
        match &value {
            None => log.push(place.hash, Instant::now(), origin.clone()),
            Some(_) => log.push_write(place.hash, Instant::now()),
        }
        let Some(value) = value.filter(|_| !ttl.is_zero()) else {
            self.store.remove(place.hash, &key);
            return Ok(());
        };
        let filled = Filled { key, value: Some(value), ttl, tags };
        // What has no room here is as good as evicted.
        self.put(token, place, token.started, filled, packed.as_ref());
        drop(log); // held until here, as for a fill
        Ok(())
    }

    /// Whether a plain value of these tags may be taken from a node that is not told of removals and writes before this one: nothing has been
    /// written, removed or flushed here since this node acquired the slot. `log` is the key's.
    ///
    /// *The new owner takes a write, and evicts it; the old owner's value comes back.*
    pub(super) fn untouched(&self, log: &Log, place: Place, tags: &[u64]) -> Result<(), Refused> {
        let (_, since) = self.slots.acquired(place.slot).ok_or(Refused::SlotLost)?;
        let (tagged, tags_forgotten) = self.tags.view(tags);
        let later = |logged: Option<Logged>| logged.is_some_and(|logged| logged.at >= since);
        if log.last(place.hash, u64::MAX, since).is_some() {
            Err(Refused::Removed)
        } else if self.flushed(place.group).is_some_and(|at| at >= since) {
            Err(Refused::Flushed)
        } else if later(tagged) {
            Err(Refused::TagRemoved)
        } else if later(log.forgotten()) || later(tags_forgotten) {
            Err(Refused::LogOverrun)
        } else {
            Ok(())
        }
    }
}

/// Until when a key is to have its value; `None`: it is to have none.
fn lifetime(
    write: &Write,
    current: Option<&Entry>,
    now: Instant,
    longest: Duration,
) -> Result<Option<Instant>, NotOrdered> {
    match write {
        Write::Put(Put { lifetime, only, .. }) => {
            match (only, current) {
                (Only::IfAbsent, Some(_)) => return Err(NotOrdered::Exists),
                (Only::IfPresent, None) => return Err(NotOrdered::Absent),
                _ => {}
            }
            Ok(Some(match (lifetime, current) {
                (Lifetime::For(ttl), _) => now + longest.min(*ttl),
                (Lifetime::Keep, Some(entry)) => entry.expires,
                (Lifetime::Group, _) | (Lifetime::Keep, None) => now + longest,
            }))
        }
        Write::Expire(ttl) if current.is_some() => Ok(Some(now + longest.min(*ttl))),
        Write::Expire(_) => Err(NotOrdered::Absent),
        // Ordered all the same: other holders may have what this one has not.
        Write::Remove => Ok(None),
    }
}

#[cfg(test)]
mod tests;
