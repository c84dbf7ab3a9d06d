//! Taking: values that other nodes have in memory, before the database is asked for them (R10).
//!
//! When slots were gained, their values are pulled from the node that has just lost them: in bulk, page by page
//! (`bulk`), and one by one for readers who can't wait for that. A replica asks its owner. All of it is stored by the
//! gate under a token that was taken before the asking.

mod bulk;
mod incoming;

use std::{collections::HashMap, sync::Arc, time::Duration};

use catalog::Key;
use client::Peers;
use memory::{
    gate::{Gate, NotTaken, Offered, Room, Source, Token},
    life::Life,
    place::Place,
    protocol::Standing,
    recorder::What,
    slots::{Change, Slots},
    store::Inserted,
};
use parking_lot::{Mutex, RwLock};
use ring::{Epoch, Member, NodeId, Ring, Slot, slot_of, terms::PROTOCOL};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use wire::{Answer, Held, Outcome, Pull, ReadOptions, Wanted};

use self::incoming::Incoming;
use crate::{config::Config, error::Error, fill::Read, metrics::NodeMetrics};

/// Whom a miss may ask before the database. Each asks what those before it ask, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Nobody: the row itself is wanted.
    Database,
    /// The node that has just lost the slot. It answers from memory alone, so that nobody waits in a circle.
    Departing,
    /// And a replica its owner, which fills what it has not got. Not for a forwarded request: *two nodes, each of which takes
    /// the other for the owner, would wait for each other.*
    Owner,
}

/// What one node takes from others.
pub(crate) struct Warm {
    node: NodeId,
    gate: Arc<Gate>,
    slots: Arc<Slots>,
    life: Arc<Life>,
    peers: Arc<Peers>,
    metrics: Arc<NodeMetrics>,
    /// How long a departing holder keeps its values at most.
    window: Duration,
    /// Bytes per second in bulk; 0 for none.
    rate: u64,
    /// How long a reader waits for a departing holder; zero to ask none.
    wait: Duration,
    max_value: u64,
    /// Whether any group is plain: their values come from replicas too.
    plain: bool,
    /// What is to be had under the ring of now.
    incoming: RwLock<Option<Arc<Incoming>>>,
    /// Told when that has changed. One waits: the task that takes in bulk.
    changed: Notify,
    /// Whether anything is being taken in bulk.
    busy: watch::Sender<bool>,
    /// Until when the rate is used up.
    pace: Mutex<Instant>,
}

impl Warm {
    #[expect(clippy::too_many_arguments, reason = "the parts of one node, each of which it needs")]
    pub(crate) fn new(
        node: NodeId,
        config: &Config,
        gate: Arc<Gate>,
        slots: Arc<Slots>,
        life: Arc<Life>,
        peers: Arc<Peers>,
        metrics: Arc<NodeMetrics>,
        plain: bool,
    ) -> Arc<Self> {
        let (window, rate) = (config.handover, config.warm_rate.0);
        let (wait, max_value) = (config.pull_wait, config.max_value.0);
        Arc::new(Self {
            node,
            gate,
            slots,
            life,
            peers,
            metrics,
            window: if rate == 0 && wait.is_zero() { Duration::ZERO } else { window },
            rate,
            wait,
            max_value,
            plain,
            incoming: RwLock::new(None),
            changed: Notify::new(),
            busy: watch::Sender::new(false),
            pace: Mutex::new(Instant::now()),
        })
    }

    /// Goes by what a new ring changed.
    pub(crate) fn take(&self, change: &Change, ring: &Ring, now: Instant) {
        let mut incoming = self.incoming.write();
        *incoming =
            Incoming::plan(&self.node, incoming.as_deref(), change, ring, now, self.window, self.plain)
                .map(Arc::new);
        self.busy.send_replace(incoming.as_ref().is_some_and(|incoming| !incoming.sources.is_empty()));
        drop(incoming);
        self.changed.notify_one();
    }

    /// Waits until nothing plain is being taken in bulk, no longer than a handover may last: *who leaves before it has all of it can't give it, and
    /// who had it has lost the slot to this node.*
    pub(crate) async fn settled(&self) {
        if self.plain {
            // It ends by itself; whoever does not wait for that gives less.
            let _ = timeout(self.window, self.busy.subscribe().wait_for(|busy| !busy)).await;
        }
    }

    fn incoming(&self) -> Option<Arc<Incoming>> {
        self.incoming.read().clone()
    }

    /// Whom a miss has to ask, of those that it may; with nobody to ask it is a plain fill, which more requests can share.
    pub(crate) fn reach(&self, place: Place, may: Reach) -> Reach {
        let replica = || self.slots.owned(place.slot).is_none();
        let gained = || !self.wait.is_zero() && self.source_of(place).is_some();
        if may >= Reach::Owner && replica() {
            Reach::Owner
        } else if may >= Reach::Departing && gained() {
            Reach::Departing
        } else {
            Reach::Database
        }
    }

    fn source_of(&self, place: Place) -> Option<(Epoch, Member)> {
        let incoming = self.incoming()?;
        let source = incoming.source_of(place.slot, Instant::now())?;
        if !self.gate.is_plain(place.group) && (incoming.declined || !source.has_rows()) {
            return None;
        }
        Some((incoming.epoch, source.member.clone()))
    }

    /// Asks other nodes for a missing key; `None` if the database must be asked. `token` is the fill's, taken before this.
    ///
    /// # Errors
    ///
    /// The owner's error, if it has answered with one: to ask the database again would only double its load.
    pub(crate) async fn ask(
        &self,
        key: &Key,
        place: Place,
        token: &Token,
        reach: Reach,
    ) -> Result<Option<Read>, Error> {
        let ring = self.slots.ring();
        let owner = ring.as_deref().and_then(|ring| ring.owner(slot_of(&key.text)));
        let owner = owner.filter(|owner| reach >= Reach::Owner && owner.id != self.node);
        if reach >= Reach::Departing
            && !self.wait.is_zero()
            && let Some((epoch, source)) = self.source_of(place)
            // The owner is asked below, and fills what it has not got.
            && owner.is_none_or(|owner| owner.id != source.id)
            && let Some(read) = self.ask_departing(key, place, token, epoch, &source).await
        {
            return Ok(Some(read));
        }
        match (owner, &ring) {
            (Some(owner), Some(ring)) => self.ask_owner(key, place, token, ring.epoch(), owner).await,
            _ => Ok(None),
        }
    }

    /// Asks a slot's owner for what it has in memory, and keeps it; reads no database anywhere. `token` was taken before this.
    pub(crate) async fn ask_memory_of(
        &self,
        key: &Key,
        place: Place,
        token: &Token,
        owner: &Member,
    ) -> Option<Read> {
        let epoch = self.slots.ring()?.epoch();
        self.pull_one(key, place, token, epoch, owner, self.peers.config().silence).await
    }

    async fn ask_departing(
        &self,
        key: &Key,
        place: Place,
        token: &Token,
        epoch: Epoch,
        source: &Member,
    ) -> Option<Read> {
        self.pull_one(key, place, token, epoch, source, self.wait).await
    }

    async fn pull_one(
        &self,
        key: &Key,
        place: Place,
        token: &Token,
        epoch: Epoch,
        source: &Member,
        wait: Duration,
    ) -> Option<Read> {
        let pull = Pull {
            node: self.node.clone(),
            epoch,
            wanted: Wanted::Keys(vec![key.text.to_string()]),
            max_bytes: 0,
            protocol: PROTOCOL,
        };
        let asked = Instant::now();
        // The wait is this reader's alone: one that is over says nothing about whether the source can be reached.
        let call = self.peers.pull(source, pull, self.peers.config().deadline);
        let pulled = match timeout(wait, call).await {
            Ok(Ok(pulled)) if pulled.epoch >= epoch => pulled,
            Ok(Ok(_)) => return None,
            Err(_) => {
                self.metrics.pulls.ask_late.inc();
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!(node = %self.node, source = %source.id, %error, "another holder not asked");
                self.metrics.pulls.ask_failed.inc();
                return None;
            }
        };
        let alike = Self::is_alike(key, &pulled.groups);
        let Some(held) = pulled.entries.into_iter().find(|held| *held.key == *key.text) else {
            self.metrics.pulls.ask_missed.inc();
            return None;
        };
        let outcome = if held.value.is_some() { Outcome::Hit } else { Outcome::NegativeHit };
        let offered = Self::offered(key, held, asked, alike);
        let read = read(&offered, outcome);
        match self.store(token, place, offered, epoch, Room::Make, &source.id) {
            Ok(()) => Some(read),
            Err(NotTaken::Present) => self.present(key, place, outcome),
            // What it may not store it has no reason to trust: the database is asked instead.
            Err(_) => None,
        }
    }

    async fn ask_owner(
        &self,
        key: &Key,
        place: Place,
        token: &Token,
        epoch: Epoch,
        owner: &Member,
    ) -> Result<Option<Read>, Error> {
        let asked = Instant::now();
        let (answer, digest) = match self.peers.copy(owner, &key.text, ReadOptions::default()).await {
            Ok(copied) => copied,
            Err(error) if error.is_unanswered() => {
                tracing::debug!(node = %self.node, owner = %owner.id, %error, "owner not reached, filling here");
                self.metrics.pulls.ask_failed.inc();
                return Ok(None);
            }
            Err(error) => {
                return Err(Error::Peer { node: owner.id.to_string(), error: Box::new(error) });
            }
        };
        let alike = digest == key.group.digest;
        if !alike {
            // Another query's value is no answer to this node's readers either.
            self.metrics.pulls.took(Err(NotTaken::OtherCatalog));
            return Ok(None);
        }
        let kept = is_kept(&answer, &owner.id, epoch);
        let Answer { value, outcome, age, ttl, .. } = answer;
        let (key_text, ttl) = (String::new(), ttl.unwrap_or_default());
        let held = Held { key: key_text, value, age, ttl, tags: None, lost_at: None };
        let offered = Self::offered(key, held, asked, alike);
        let read = read(&offered, outcome);
        let stored = if kept && !key.group.tagging.is_empty() {
            self.copy_tagged(key, place, token, epoch, owner).await
        } else {
            kept.then(|| self.store(token, place, offered, epoch, Room::Make, &owner.id))
        };
        let read = match stored {
            Some(Ok(())) => Some(read),
            Some(Err(NotTaken::Present)) => self.present(key, place, outcome),
            _ => Some(Read { expires: None, ..read }),
        };
        Ok(read)
    }

    /// Copies what the owner has just stored, with its tags, which an answer to a reader does not tell. `token` is from before that.
    async fn copy_tagged(
        &self,
        key: &Key,
        place: Place,
        token: &Token,
        epoch: Epoch,
        owner: &Member,
    ) -> Option<Result<(), NotTaken>> {
        let wanted = Wanted::Keys(vec![key.text.to_string()]);
        let pull = Pull { node: self.node.clone(), epoch, wanted, max_bytes: 0, protocol: PROTOCOL };
        let asked = Instant::now();
        let pulled = match self.peers.pull(owner, pull, self.peers.config().deadline).await {
            Ok(pulled) if pulled.epoch >= epoch => pulled,
            _ => return None,
        };
        let alike = Self::is_alike(key, &pulled.groups);
        let held = pulled.entries.into_iter().find(|held| *held.key == *key.text)?;
        let offered = Self::offered(key, held, asked, alike);
        Some(self.store(token, place, offered, epoch, Room::Make, &owner.id))
    }

    /// What came into memory while another node was asked.
    fn present(&self, key: &Key, place: Place, outcome: Outcome) -> Option<Read> {
        let incarnation = self.life.incarnation();
        let entry = self.gate.get(place, &key.text, Instant::now())?;
        self.life.vouches_for(incarnation).then_some(Read {
            value: entry.value,
            started: entry.filled,
            expires: Some(entry.expires),
            elsewhere: Some(outcome),
        })
    }

    /// Whether a source declares a key's group as this node does, by the digests that it told; an older version tells none.
    pub(crate) fn is_alike(key: &Key, told: &HashMap<String, u64>) -> bool {
        told.get(&*key.group.name) == Some(&key.group.digest)
    }

    /// Times as this node's clock tells them, never too late: the reply was made after the asking, and whole milliseconds
    /// are rounded down. `alike`: whether the source declares the group as this node does.
    pub(crate) fn offered(key: &Key, held: Held, asked: Instant, alike: bool) -> Offered {
        let age = held.age + Duration::from_millis(1);
        Offered {
            key: key.text.clone(),
            // A copy of its own: the message's buffer may be larger than the value and is not counted.
            value: held.value.map(|value| bytes::Bytes::copy_from_slice(&value)),
            filled: asked.checked_sub(age).unwrap_or(asked),
            alike,
            from: held.lost_at.map_or(Source::Holder, Source::Lost),
            tags: match held.tags {
                _ if key.group.tagging.is_empty() => Some(Box::default()),
                told => told.map(Into::into),
            },
            expires: if asked.checked_sub(age).is_some() { asked + held.ttl } else { asked },
        }
    }

    /// Stores what was pulled, if it may be.
    pub(crate) fn store(
        &self,
        token: &Token,
        place: Place,
        offered: Offered,
        asked: Epoch,
        room: Room,
        from: &NodeId,
    ) -> Result<(), NotTaken> {
        if offered.value.as_ref().is_some_and(|value| value.len() as u64 > self.max_value) {
            self.metrics.pulls.took(Err(NotTaken::NoRoom));
            return Err(NotTaken::NoRoom);
        }
        let owned = self.gate.is_plain(place.group) && self.is_owner(from, place.slot);
        let offered = if owned { Offered { from: Source::Owner, ..offered } } else { offered };
        let stored = self.gate.store_pulled(token, place, offered, asked, room, || self.standing());
        let stored = stored.and_then(|inserted| match inserted {
            Inserted::Stored => Ok(()),
            Inserted::TooLarge => Err(NotTaken::NoRoom),
        });
        self.metrics.pulls.took(stored);
        let what = match stored {
            Ok(()) => What::Pulled { from: Arc::from(from.as_str()) },
            Err(refused) => What::Refused { why: refused.label() },
        };
        if !matches!(stored, Err(NotTaken::Present | NotTaken::NoRoom)) {
            self.gate.recorder().record(place.hash, what);
        }
        stored
    }

    fn is_owner(&self, node: &NodeId, slot: u16) -> bool {
        let owner = |ring: &Ring| Some(ring.owner(Slot::new(slot)?)?.id == *node);
        self.slots.ring().as_deref().and_then(owner).unwrap_or(false)
    }

    fn standing(&self) -> Standing {
        Standing { live: self.life.live(), epoch: self.slots.epoch(), confirmed: self.slots.confirmed() }
    }
}

/// Whether the owner has what it answered in its own store, by a ring that is not older: only then will a removal that comes
/// after the owner's find it here too.
fn is_kept(answer: &Answer, owner: &NodeId, asked: Epoch) -> bool {
    let from_memory =
        matches!(answer.outcome, Outcome::Hit | Outcome::NegativeHit | Outcome::Miss | Outcome::Shared);
    from_memory && answer.ttl.is_some() && answer.node == owner.as_str() && Epoch(answer.epoch) >= asked
}

fn read(offered: &Offered, outcome: Outcome) -> Read {
    Read {
        value: offered.value.clone(),
        started: offered.filled,
        expires: Some(offered.expires),
        elsewhere: Some(outcome),
    }
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm").field("node", &self.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_owner_keeps_at_this_epoch_or_later_is_kept_here() {
        let answer = |outcome, ttl, node: &str, epoch| Answer {
            value: None,
            outcome,
            age: Duration::ZERO,
            ttl,
            node: node.to_owned(),
            epoch,
            freshness: Duration::ZERO,
            token: None,
        };
        let (owner, ttl) = (NodeId::from("a"), Some(Duration::from_secs(1)));
        let kept = |answer: &Answer| is_kept(answer, &owner, Epoch(5));
        assert!(kept(&answer(Outcome::Hit, ttl, "a", 5)) && kept(&answer(Outcome::Miss, ttl, "a", 6)));
        assert!(!kept(&answer(Outcome::ReadThrough, None, "a", 5)), "it may be what a removal overtook");
        assert!(!kept(&answer(Outcome::Shared, None, "a", 5)), "nor what its gate refused");
        assert!(!kept(&answer(Outcome::Hit, ttl, "b", 5)), "another node's");
        assert!(!kept(&answer(Outcome::Hit, ttl, "a", 4)), "of an older ring");
    }
}
