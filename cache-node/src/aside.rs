//! Look-aside: a miss gives the application a token, it reads the value by itself and sets it under that token (R10).
//!
//! The token is the gate's own, as a fill takes it, sealed for its way through the application. What is set goes through the same
//! gate as what is filled. *(the application misses and reads the old row; a removal arrives; the application sets the old row)*

mod seal;

use std::time::Duration;

use bytes::Bytes;
use catalog::Key;
use ring::Ring;
use tokio::time::Instant;
use wire::{Answer, Lifetime, Outcome, Put, ReadOptions, Set, Write, Written};

pub(crate) use self::seal::Seal;
use self::seal::{BadToken, Opened};
use memory::{
    gate::{Filled, NotSet, Refused},
    place::{Place, hash},
    recorder::What,
    store::Inserted,
};

use crate::{
    config::Fenced,
    error::Error,
    node::{Hop, Node, place, strictest},
};

/// Why a value was not set. The caller has its value and goes on; the next miss gives another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The gate would have refused a fill as well.
    Gate(Refused),
    /// The token is none that this node takes for this key.
    Token(BadToken),
    /// The miss gave no token, because no node that holds the slot could be reached.
    NoToken,
    /// A value is in memory that was read later.
    Superseded,
    /// The group's entries carry tags, which only a fill can tell.
    Tagged,
    /// The value is larger than its group or the node takes.
    TooLarge,
    /// Its time to live is zero.
    NotKept,
}

impl Refusal {
    /// All reasons, for metrics.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let own = [Self::NoToken, Self::Superseded, Self::Tagged, Self::TooLarge, Self::NotKept];
        let gate = Refused::ALL.into_iter().map(Self::Gate);
        gate.chain(BadToken::ALL.into_iter().map(Self::Token)).chain(own)
    }

    /// The reason on the wire and in the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Gate(refused) => refused.label(),
            Self::Token(bad) => bad.label(),
            Self::NoToken => "no_token",
            Self::Superseded => "superseded",
            Self::Tagged => "tagged",
            Self::TooLarge => "too_large",
            Self::NotKept => "not_kept",
        }
    }
}

impl From<NotSet> for Refusal {
    fn from(why: NotSet) -> Self {
        match why {
            NotSet::Refused(refused) => Self::Gate(refused),
            NotSet::Superseded => Self::Superseded,
        }
    }
}

impl Node {
    /// Answers a look-aside miss of a slot that this node holds; `None` if it does not hold it any more.
    ///
    /// A fenced node that reads through gives a token too: if its lease is alive after all, no removal has passed it by.
    pub(crate) fn give_token(&self, key: &Key, place: Place) -> Result<Option<Answer>, Error> {
        let incarnation = self.life.incarnation();
        if self.config.fenced == Fenced::Unavailable && !self.life.live() {
            self.metrics.group(key.group.id).errors.inc();
            return Err(Error::Fenced);
        }
        let Some((token, _)) = self.gate.token(place) else { return Ok(None) };
        Ok(Some(self.told_to_read(key, self.seal.close(&token, incarnation, place.hash))))
    }

    /// A replica's look-aside miss, answered by the owner: with what it has in memory, of which the replica keeps a copy, or with its token. So
    /// a value that was set is found at every holder, and is set at the owner. `None` if this node answers by itself: it is the owner, the
    /// owner can't be reached, or the reader takes nothing that another node may have had for longer.
    ///
    /// *A value is set at the owner; a load balancer leads the next read to a replica, which says that there is none.*
    pub(crate) async fn aside_by_owner(
        &self,
        ring: &Ring,
        key: &Key,
        place: Place,
        hop: Hop,
        options: ReadOptions,
    ) -> Result<Option<Answer>, Error> {
        let aside = options.look_aside || key.group.is_look_aside();
        if !aside || hop == Hop::Forwarded || strictest(key, options).is_some() || !self.life.live() {
            return Ok(None);
        }
        let owner = self.owner_elsewhere(ring, key).filter(|_| self.slots.owned(place.slot).is_none());
        let Some(owner) = owner else { return Ok(None) };
        let _turn = self.aside_asks.acquire().await.ok();
        // Before the asking, and after the turn: a token is to be young.
        let Some((token, _)) = self.gate.token(place) else { return Ok(None) };
        if let Some(read) = self.warm.ask_memory_of(key, place, &token, owner).await {
            let outcome = read.elsewhere.unwrap_or(Outcome::Hit);
            self.metrics.group(key.group.id).ended(outcome);
            return Ok(Some(self.answer(read, outcome)));
        }
        if !options.look_aside {
            return Ok(None);
        }
        match self.peers.get(owner, &key.text, options).await {
            Ok(answer) => Ok(Some(self.forwarded(ring, answer))),
            Err(error) if error.is_unanswered() => Ok(None),
            Err(error) => Err(Error::Peer { node: owner.id.to_string(), error: Box::new(error) }),
        }
    }

    /// Answers a look-aside miss that no holder of the slot can be reached for: with a token that sets nothing.
    pub(crate) fn give_nothing(&self, key: &Key) -> Answer {
        self.told_to_read(key, Bytes::new())
    }

    fn told_to_read(&self, key: &Key, token: Bytes) -> Answer {
        self.metrics.group(key.group.id).tokens.inc();
        Answer {
            value: None,
            outcome: Outcome::Token,
            age: Duration::ZERO,
            ttl: None,
            node: self.id.to_string(),
            epoch: self.epoch().0,
            freshness: Duration::ZERO,
            token: Some(token),
        }
    }

    /// Stores a value that the caller read by itself after a miss had given it `token`; `None` says that there is no such row. A key of a plain
    /// group is [written](Self::write), whatever the token.
    ///
    /// A token of another node is brought to that node, once. Safe to drop and to repeat. That the value was not stored is no error: the
    /// reason is in the result.
    pub async fn set(
        &self,
        key: &str,
        value: Option<Bytes>,
        token: &Bytes,
        ttl: Option<Duration>,
        hop: Hop,
    ) -> Result<Set, Error> {
        let key = self.resolve(key)?;
        if key.group.is_plain() {
            let lifetime = ttl.map_or(Lifetime::Group, Lifetime::For);
            let put = |value| Write::Put(Put { lifetime, ..Put::new(value) });
            let Written { refused, node, epoch } =
                self.write(&key.text, value.map_or(Write::Remove, put), hop).await?;
            // That there was nothing to remove is what was wanted.
            let refused = refused.filter(|why| why != "absent");
            return Ok(Set { refused, node, epoch });
        }
        if hop == Hop::First
            && let Some(issuer) = seal::issuer(token).filter(|issuer| *issuer != self.seal.node())
        {
            let ring = self.current_ring();
            // Whoever gave it: the owner, or a replica that the caller had read from. If it is gone, so is its hold on the slot.
            let Some(giver) = ring.members().iter().find(|member| seal::node_hash(&member.id) == issuer)
            else {
                return Ok(self.refuse_set(Refusal::Gate(Refused::SlotLost)));
            };
            return self
                .peers
                .set(giver, &key.text, value, token.clone(), ttl)
                .await
                .map_err(|error| Error::Peer { node: giver.id.to_string(), error: Box::new(error) });
        }
        // Before it is stored: what removes it comes after it in its story.
        let (begun, hash) = (Instant::now(), hash(&key.text));
        Ok(match self.set_here(&key, value, token, ttl) {
            Ok(()) => {
                self.gate.recorder().record_at(hash, begun, What::Set);
                self.copies.stored(&key.text);
                self.metrics.set("stored");
                // A client may hold that there was nothing.
                self.resp.removed(&key.text);
                self.outcome_of_set(None)
            }
            Err(refusal) => {
                self.gate.recorder().record(hash, What::Refused { why: refusal.label() });
                self.refuse_set(refusal)
            }
        })
    }

    fn set_here(
        &self,
        key: &Key,
        value: Option<Bytes>,
        token: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), Refusal> {
        if token.is_empty() {
            return Err(Refusal::NoToken);
        }
        if !key.group.tagging.is_empty() {
            return Err(Refusal::Tagged);
        }
        let place = place(key);
        let now = Instant::now();
        let Opened { token, incarnation } =
            self.seal.open(token, place.hash, now, self.config.token_ttl).map_err(Refusal::Token)?;
        let limit = key.group.max_value.unwrap_or(u64::MAX).min(self.config.max_value.0);
        if value.as_ref().is_some_and(|value| value.len() as u64 > limit) {
            return Err(Refusal::TooLarge);
        }
        let own =
            if value.is_some() { key.group.jittered_ttl(rand::random()) } else { key.group.negative_ttl };
        let ttl = ttl.map_or(own, |asked| asked.min(own));
        if ttl.is_zero() {
            return Err(Refusal::NotKept);
        }
        let filled = Filled { key: key.text.clone(), value, ttl, tags: Box::default() };
        match self.gate.store_set(&token, place, filled, || self.life.vouches_for(incarnation))? {
            Inserted::Stored => Ok(()),
            Inserted::TooLarge => Err(Refusal::TooLarge),
        }
    }

    fn refuse_set(&self, refusal: Refusal) -> Set {
        self.metrics.set(refusal.label());
        self.outcome_of_set(Some(refusal.label().to_owned()))
    }

    fn outcome_of_set(&self, refused: Option<String>) -> Set {
        Set { refused, node: self.id.to_string(), epoch: self.epoch().0 }
    }

    /// What a plain miss of a look-aside group ends with.
    pub(crate) fn check_fillable(&self, key: &Key) -> Result<(), Error> {
        if !key.group.is_filled() {
            self.metrics.group(key.group.id).not_filled.inc();
            return Err(Error::Fill(loader::Error::NoQuery { group: key.group.name.clone() }));
        }
        Ok(())
    }
}
