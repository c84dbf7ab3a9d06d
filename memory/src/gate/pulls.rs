//! Values on their way between nodes: what is given to others, and what is taken from them (R10).

use std::sync::Arc;

use bytes::Bytes;
use ring::Epoch;
use tokio::time::Instant;

use super::{Filled, Gate, Refused, Token, not_overtaken};
use crate::{
    place::Place,
    protocol::{self, PullRefused, Standing},
    store::{Cause, Cursor, Entry, Inserted, Stamp},
};

/// What the gate knew before a pull of many keys was asked: a token for each of them can be made of it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    started: Instant,
    /// The last acquisition of any slot.
    acquisition: u64,
    /// By group.
    generations: Box<[u64]>,
    /// By shard of the gate.
    seqs: Box<[u64]>,
    /// The last removal of a tag.
    tags: u64,
}

/// A value as another node had it in memory.
#[derive(Debug, Clone)]
pub struct Offered {
    /// The key.
    pub key: Arc<str>,
    /// The value, or `None` for a negative entry.
    pub value: Option<Bytes>,
    /// When its read from the database began, at the latest.
    pub filled: Instant,
    /// When it expires, at the earliest.
    pub expires: Instant,
    /// The hashes of its tags; `None` if its group has tags and the source did not tell them.
    pub tags: Option<Box<[u64]>>,
    /// Whether its source declares its group as this node does: key, query, tags and rules.
    pub alike: bool,
    /// Who had it.
    pub from: Source,
}

/// Who had a value that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The slot's owner.
    Owner,
    /// Another holder, or a former one that is told of removals still.
    Holder,
    /// One that lost the slot by the ring of this epoch, and is told of no removals since: of plain groups alone.
    Lost(Epoch),
}

/// Whether a pulled value may push out others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It was asked for by a reader: it may.
    Make,
    /// It comes in bulk, wanted by nobody yet: it may not.
    Spare,
}

/// Why a pulled value was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The gate refused it, as it would have refused a filled value.
    #[error(transparent)]
    Overtaken(#[from] Refused),
    /// This node may not take what it asked for.
    #[error(transparent)]
    Refused(#[from] PullRefused),
    /// The key is in memory already; what this node has read by itself is no older.
    #[error("the key is in memory already")]
    Present,
    /// The source declares its group otherwise, or, of an older version, does not tell.
    #[error("the source declares the value's group otherwise")]
    OtherCatalog,
    /// It is of a plain group, and whoever had it may not have been told of a removal that this node has not been told of either.
    #[error("the source may not have been told of all removals")]
    Untold,
    /// Its group has tags, and the source, of an older version, did not tell those of the value.
    #[error("the source did not tell the value's tags")]
    Untagged,
    /// Its time is over.
    #[error("the value has expired")]
    Expired,
    /// It would have pushed out others, or is too large.
    #[error("there is no room for it")]
    NoRoom,
}

impl NotTaken {
    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Overtaken(refused) => refused.label(),
            Self::Refused(refused) => refused.label(),
            Self::Present => "present",
            Self::OtherCatalog => "other_catalog",
            Self::Untold => "untold",
            Self::Untagged => "untagged",
            Self::Expired => "expired",
            Self::NoRoom => "no_room",
        }
    }
}

impl Gate {
    /// Notes what matters to a pull that is asked from now on.
    pub fn snapshot(&self) -> Snapshot {
        // The time first, as in a token; of the rest any order will do, since all of it is before the asking.
        let started = Instant::now();
        Snapshot {
            started,
            tags: self.tags.seq(),
            acquisition: self.slots.last_acquisition(),
            generations: (0..self.groups.len()).map(|group| self.generation(group as u16)).collect(),
            seqs: self.shards.iter().map(|shard| shard.lock().seq()).collect(),
        }
    }

    /// A key's token as of a snapshot; `None` if the node did not hold the slot then as it does now.
    pub fn token_of(&self, snapshot: &Snapshot, place: Place) -> Option<Token> {
        // Acquisitions are numbered in their order: one that is not newer than the last of then was there then.
        let acquisition = self.slots.acquisition(place.slot).filter(|id| *id <= snapshot.acquisition)?;
        Some(Token {
            seq: *snapshot.seqs.get(Self::shard_of(place.hash))?,
            started: snapshot.started,
            generation: *snapshot.generations.get(usize::from(place.group))?,
            acquisition,
            tags: snapshot.tags,
        })
    }

    /// Stores a pulled value, if it still may be. `token` was taken before the pull was asked, at epoch `asked`; `standing` is
    /// asked under the lock.
    ///
    /// *The source reads the old value; the removal reaches the source, and then this node; the reply arrives: the token
    /// knows.* *The ring changes between the asking and the reply, and a removal planned by the newer one passes this node by:
    /// its epoch is no longer the asked one.*
    ///
    /// A value of a group that its source declares otherwise is not stored: *it may lack the tags by which a change would find it (R11).*
    pub fn store_pulled(
        &self,
        token: &Token,
        place: Place,
        offered: Offered,
        asked: Epoch,
        room: Room,
        standing: impl FnOnce() -> Standing,
    ) -> Result<Inserted, NotTaken> {
        let now = Instant::now();
        let packed = self.pack(place.group, offered.value.as_ref());
        let log = self.shard(place.hash).lock();
        let standing = standing();
        if !offered.alike {
            return Err(NotTaken::OtherCatalog);
        }
        let tags = offered.tags.ok_or(NotTaken::Untagged)?;
        if self.is_plain(place.group) {
            protocol::may_take_plain(standing, asked)?;
            if offered.from != Source::Owner || protocol::may_take_pull(standing, asked).is_err() {
                self.untouched(&log, place, &tags)?;
            }
            if !self.is_told(place, offered.from, asked) {
                return Err(NotTaken::Untold);
            }
        } else {
            protocol::may_take_pull(standing, asked)?;
        }
        let view = self.view(&log, place, &tags, token.seq, token.started, standing.live);
        not_overtaken(token, &view)?;
        if offered.expires <= now {
            return Err(NotTaken::Expired);
        }
        if self.peek(place, &offered.key, now).is_some() {
            return Err(NotTaken::Present);
        }
        let size = packed.as_ref().map(|packed| &packed.bytes).or(offered.value.as_ref()).map(Bytes::len);
        if room == Room::Spare && !self.store.has_room(place.hash, &offered.key, size) {
            return Err(NotTaken::NoRoom);
        }
        let Offered { key, value, filled: read, expires, .. } = offered;
        let filled = Filled { key, value, ttl: expires.saturating_duration_since(read), tags };
        let inserted = self.put(token, place, read, filled, packed.as_ref());
        drop(log); // held until here: a removal must not come between the check and the insert
        Ok(inserted)
    }

    /// Whether every removal that the source may lack is told to this node, since it acquired the slot.
    ///
    /// *In a fixed list the owner applies a removal and is killed, which no epoch shows; it comes back, and asks its replica, which the removal has
    /// yet to reach.*
    fn is_told(&self, place: Place, from: Source, asked: Epoch) -> bool {
        match from {
            Source::Owner => true,
            Source::Holder => {
                !self.is_reached(place.group) || !asked.is_of_list() && self.has_since(place.slot, asked)
            }
            Source::Lost(epoch) => self.has_since(place.slot, epoch),
        }
    }

    /// Whether the slot was acquired by the ring of this epoch or an earlier one, and is held since.
    fn has_since(&self, slot: u16, epoch: Epoch) -> bool {
        self.slots.acquired_by(slot).is_some_and(|acquired| acquired <= epoch)
    }

    /// Returns a key's entry if it may be given to a node that pulls it, whether or not readers get it here. The node's own
    /// membership and epoch are the caller's to check. Counts as no use.
    pub fn given(&self, place: Place, key: &str, now: Instant) -> Option<Entry> {
        let entry = self.store.peek(place.hash, key, now, |stamp| self.may_give(stamp))?;
        self.tags.check(entry.tags.as_ref()).ok()?;
        self.in_time(entry, now)
    }

    /// Shows the entries that may be given away and whose stamp is `wanted`, page by page, as [`Store::page`](crate::store::Store::page) does.
    pub fn given_page(
        &self,
        from: Cursor,
        count: usize,
        now: Instant,
        wanted: impl Fn(&Stamp) -> bool,
        mut take: impl FnMut(&Arc<str>, &Entry) -> bool,
    ) -> Option<Cursor> {
        let given = |stamp: &Stamp, expires| {
            self.runs(stamp, expires, now) && wanted(stamp) && self.may_give(stamp).is_ok()
        };
        self.store.page_of(from, count, given, |key, entry| {
            self.tags.check(entry.tags.as_ref()).is_err()
                || self.in_time(entry.clone(), now).is_none_or(|entry| take(key, &entry))
        })
    }

    /// Whether an entry is of a slot that was lost, and may be given away.
    pub(super) fn departs(&self, stamp: &Stamp) -> bool {
        let departs = self.slots.departs(stamp.slot) == Some(stamp.acquisition);
        (departs || self.lingers(stamp).is_some()) && self.generation(stamp.group) == stamp.generation
    }

    fn may_give(&self, stamp: &Stamp) -> Result<(), Cause> {
        if self.giving(stamp).is_none() {
            Err(Cause::SlotLost)
        } else if self.generation(stamp.group) != stamp.generation {
            Err(Cause::Flushed)
        } else {
            Ok(())
        }
    }

    /// As what an entry of this stamp is given away now, as far as slots have a say in it; `None` if it is not.
    pub fn giving(&self, stamp: &Stamp) -> Option<Source> {
        let (departs, mut owned) = (self.slots.departs(stamp.slot), self.slots.owned(stamp.slot));
        if self.is_plain(stamp.group) {
            // A replica's too: who takes them asks whether they may still be taken (`untouched`).
            owned = self.slots.acquisition(stamp.slot);
        }
        if protocol::may_give(departs, owned, stamp.acquisition) {
            return Some(Source::Holder);
        }
        self.lingers(stamp).map(Source::Lost)
    }

    fn lingers(&self, stamp: &Stamp) -> Option<Epoch> {
        if !self.is_plain(stamp.group) {
            return None;
        }
        let (_, epoch) = self.slots.lingers(stamp.slot).filter(|(lost, _)| *lost == stamp.acquisition)?;
        Some(epoch)
    }
}
