//! Plain groups: values that applications write without a token (`docs/plain.md`).
//!
//! # The protocol
//!
//! The owner of a key's slot puts the writes of the key in order.
//!
//! 0. Writes of one key take turns at the owner.
//! 1. It has every member of its ring go by its epoch, once for each epoch; so nobody orders by an older ring any more, and nobody skips this one.
//! 2. Of each other holder of the slot it gets a token, *before* it orders the write.
//! 3. It orders the write under the lock of its gate, checks its condition there, and carries it out.
//! 4. It has the other holders keep what was ordered, each under its token, and acknowledges when all have, at the same epoch. A holder whose
//!    token something has overtaken refuses; it gives another one, and is asked again if the write still is the last thing that happened to the key at
//!    the owner.
//!
//! # Why it holds
//!
//! *No holder has what a removal took.* A removal of the sync service reaches the owner first and the other holders once it has acknowledged
//! ([`ring::plan`]); one of an application is a write, in the owner's order. So a removal that came after a write at the owner comes after the token
//! at every other holder: what is there by then it takes, what comes later the token refuses.
//!
//! *No holder goes back to an older write.* Each write is logged at the gate of each holder as a removal is, and refuses what comes under tokens
//! of before: an earlier write that was held up, a pull. What a former holder still has is taken only of keys that nothing has happened to since the
//! slot was acquired ([`Gate::store_pulled`](memory::gate::Gate)); so what a former holder gives needs no protection by removals that reach it first,
//! and a node gives and takes plain values whatever else it does (`slots::lingering`).
//!
//! *There is one order.* Two nodes that own a slot by different rings: the later one has had the earlier one go by its ring before its first write;
//! and a holder keeps nothing of another epoch than its own.
//!
//! What is in memory is served as any other entry is, under the same acquisitions, generations and leases.

mod holder;
mod order;

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use catalog::Key;
use daemon::Paced;
use memory::place::{Place, hash};
use parking_lot::Mutex;
use ring::{Epoch, NodeId, slot_of};
use tokio::time::Instant;
use wire::{Answer, Lifetime, Ordered, Outcome, Put, ReadOptions, Write, Written};

use crate::{
    error::Error,
    node::{Hop, Node},
    warm::Reach,
};

/// What a write is called in metrics.
pub(crate) const WHATS: [&str; 3] = ["put", "expire", "remove"];
/// What becomes of one, in metrics.
pub(crate) const RESULTS: [&str; 7] =
    ["done", "exists", "absent", "too_large", "not_kept", "unacknowledged", "refused"];
/// Writes that can be under way at the same time.
const TURNS: usize = 4096;
/// How often a node looks again for the owner of a slot that moves.
const TRIES: usize = 4;

/// What a node needs for plain groups.
#[derive(Debug)]
pub(crate) struct Plain {
    /// This process, in its tokens.
    life: u64,
    /// What the times of its tokens count from.
    base: Instant,
    /// Writes of a key take turns; those of others with a hash alike too.
    turns: Box<[tokio::sync::Mutex<()>]>,
    /// Members that have gone by this epoch.
    attended: Mutex<(Epoch, HashSet<NodeId>)>,
    /// Of writes that were not acknowledged: a holder that is away has that happen at any rate.
    told: Paced,
}

impl Plain {
    pub(crate) fn new(base: Instant) -> Self {
        let attended = Mutex::new((Epoch(0), HashSet::new()));
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        Self { life: rand::random(), base, turns, attended, told: Paced::new(10, Duration::from_secs(10)) }
    }

    /// Held while a write of a key is under way at its owner.
    fn turn(&self, place: Place) -> &tokio::sync::Mutex<()> {
        &self.turns[place.hash as usize % TURNS]
    }
}

impl Node {
    /// Gives a key of a plain group a value, at all holders of its slot when this returns.
    ///
    /// Safe to repeat, and to drop: then, as after [`Error::Unacknowledged`], the value may be there or not.
    ///
    /// # Errors
    ///
    /// [`Error::NotPlain`] for a key of another group; [`Error::Unacknowledged`] names who did not acknowledge it.
    pub async fn put(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
        hop: Hop,
    ) -> Result<Written, Error> {
        let lifetime = ttl.map_or(Lifetime::Group, Lifetime::For);
        self.write(key, Write::Put(Put { lifetime, ..Put::new(value) }), hop).await
    }

    /// Writes a key of a plain group. Errors are those of [`put`](Self::put).
    pub async fn write(&self, key: &str, write: Write, hop: Hop) -> Result<Written, Error> {
        let key = self.resolve(key)?;
        match self.write_key(&key, write, hop, self.epoch()).await? {
            Ordered::Written(written) => Ok(written),
            Ordered::NotOwner(_) => Err(Error::NoOwner),
        }
    }

    /// The same, for another node that goes by `epoch`.
    pub(crate) async fn write_key(
        &self,
        key: &Key,
        write: Write,
        hop: Hop,
        epoch: Epoch,
    ) -> Result<Ordered, Error> {
        if !key.group.is_plain() {
            return Err(Error::NotPlain { group: key.group.name.clone() });
        }
        if hop == Hop::Forwarded {
            self.catch_up(epoch).await?;
            return self.order(key, &write).await;
        }
        if let Some(refused) = self.unfit(key, &write) {
            self.metrics.plain_write(order::what(&write), refused);
            return Ok(self.written(Some(refused)));
        }
        for _ in 0..TRIES {
            let ring = self.current_ring();
            let Some(owner) = ring.owner(slot_of(&key.text)) else { return Err(Error::NoOwner) };
            let ordered = if owner.id == self.id {
                self.order(key, &write).await?
            } else {
                let ordered = self.peers.order(owner, &key.text, write.clone(), ring.epoch()).await;
                ordered.map_err(|error| Error::Peer { node: owner.id.to_string(), error: Box::new(error) })?
            };
            match ordered {
                // Nothing was done: the slot has moved, and this node does not know it yet.
                Ordered::NotOwner(epoch) => self.catch_up(epoch).await?,
                written @ Ordered::Written(_) => return Ok(written),
            }
        }
        Err(Error::NoOwner)
    }

    /// Removes keys of plain groups; returns how many had a value at their owners.
    pub(crate) async fn remove_plain(&self, keys: &[Key]) -> Result<u64, Error> {
        /// Keys that are removed at the same time.
        const TOGETHER: usize = 64;
        let mut removed = 0;
        for keys in keys.chunks(TOGETHER) {
            let writes = keys.iter().map(|key| self.write_key(key, Write::Remove, Hop::First, self.epoch()));
            for ordered in futures_util::future::join_all(writes).await {
                removed += u64::from(matches!(ordered?, Ordered::Written(written) if written.is_done()));
            }
        }
        Ok(removed)
    }

    /// Answers a key of a plain group that is not in memory here. Only its owner may say that it has no value.
    pub(crate) async fn get_plain(&self, key: &Key, place: Place, hop: Hop) -> Result<Answer, Error> {
        let ring = self.current_ring();
        let group = self.metrics.group(key.group.id);
        if !self.holds(place) {
            return match hop {
                Hop::First => self.forward(&ring, key, ReadOptions::default()).await,
                Hop::Forwarded => Err(Error::NoOwner),
            };
        }
        if !self.life.live() {
            group.errors.inc();
            return Err(Error::Fenced);
        }
        let Some((token, _)) = self.gate.token(place) else { return Err(Error::NoOwner) };
        if self.slots.owned(place.slot) == Some(token.acquisition) {
            let incarnation = self.life.incarnation();
            self.planned();
            let reach = self.warm.reach(place, Reach::Departing);
            if let Some(read) = self.warm.ask(key, place, &token, reach).await? {
                let outcome = read.elsewhere.unwrap_or(Outcome::Hit);
                group.ended(outcome);
                return Ok(self.answer(read, outcome));
            }
            // What was written meanwhile is here.
            if let Some(answer) = self.hit(key, place, None) {
                return Ok(answer);
            }
            if self.slots.owned(place.slot) != Some(token.acquisition) {
                return Err(Error::NoOwner);
            }
            if !self.life.vouches_for(incarnation) {
                return Err(Error::Fenced);
            }
            group.absent.inc();
            return Ok(self.absent());
        }
        let owner = self.owner_elsewhere(&ring, key).filter(|_| hop == Hop::First).ok_or(Error::NoOwner)?;
        let _turn = self.aside_asks.acquire().await.ok();
        let Some((token, _)) = self.gate.token(place) else { return Err(Error::NoOwner) };
        if let Some(read) = self.warm.ask_memory_of(key, place, &token, owner).await {
            group.ended(Outcome::Hit);
            return Ok(self.answer(read, Outcome::Hit));
        }
        match self.peers.get(owner, &key.text, ReadOptions::default()).await {
            Ok(answer) => Ok(self.forwarded(&ring, answer)),
            Err(error) => {
                group.errors.inc();
                Err(Error::Peer { node: owner.id.to_string(), error: Box::new(error) })
            }
        }
    }

    fn absent(&self) -> Answer {
        Answer {
            value: None,
            outcome: Outcome::Absent,
            age: Duration::ZERO,
            ttl: None,
            node: self.id.to_string(),
            epoch: self.epoch().0,
            freshness: Duration::ZERO,
            token: None,
        }
    }
}

/// The tags of a key of a plain group, as its entry carries them.
fn tags(key: &Key) -> Box<[u64]> {
    key.group.tagging.of_key.iter().map(|tag| hash(&tag.render(key))).collect()
}

/// Where writes come from, in stories of keys.
fn origin(write: &Write) -> Arc<str> {
    match write {
        Write::Put(_) => "set".into(),
        Write::Expire(_) => "expire".into(),
        Write::Remove => "request".into(),
    }
}
