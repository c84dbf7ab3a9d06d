//! The owner's part: puts a write in its key's order, and has the other holders keep it.

use std::sync::Arc;

use catalog::Key;
use futures_util::future;
use memory::{
    gate::{self, Asking, NotOrdered, Refused},
    place::Place,
    recorder::What,
};
use ring::{
    Epoch, Member, Ring,
    rules::{self, Rule},
    slot_of,
};
use tokio::time::{Instant, timeout};
use wire::{HolderToken, Kept, Lifetime, Ordered, Put, Write, Written};

use super::{TRIES, origin, tags};
use crate::{
    error::Error,
    node::{Node, place},
};

/// Everybody goes by this ring's epoch.
struct Attended {
    ring: Arc<Ring>,
    /// Under which this node owns the slot by it.
    acquisition: u64,
    /// The other holders of the slot, with their tokens.
    holders: Vec<(Member, HolderToken)>,
}

/// What became of having the other holders keep a write.
enum Spread {
    /// All have it.
    Done,
    /// Something has overtaken a token, or a ring came.
    Again,
    /// These did not acknowledge, each with its reason.
    Failed(Vec<String>),
}

impl Node {
    /// Orders a write of a key, if this node owns its slot; the other holders have it when this returns.
    pub(crate) async fn order(&self, key: &Key, write: &Write) -> Result<Ordered, Error> {
        let what = what(write);
        let result = self.order_uncounted(key, write).await;
        let label = match &result {
            Ok(Ordered::Written(Written { refused: None, .. })) => "done",
            Ok(Ordered::Written(Written { refused: Some(why), .. })) => {
                super::RESULTS.into_iter().find(|result| result == why).unwrap_or("refused")
            }
            Ok(Ordered::NotOwner(_)) => return result,
            Err(Error::Unacknowledged { nodes }) => {
                if let Some(untold) = self.plain.told.due() {
                    tracing::warn!(
                        node = %self.id, group = %key.group.name, nodes = nodes.join(", "), untold,
                        "a write was not acknowledged by all holders: it may be there or not"
                    );
                }
                "unacknowledged"
            }
            Err(_) => "refused",
        };
        self.metrics.plain_write(what, label);
        result
    }

    async fn order_uncounted(&self, key: &Key, write: &Write) -> Result<Ordered, Error> {
        if let Some(refused) = self.unfit(key, write) {
            return Ok(self.written(Some(refused)));
        }
        let (place, tags) = (place(key), tags(key));
        // *A write is overtaken by a later one, which not all holders acknowledge: it would be acknowledged, and the older value stand there.*
        let waited = self.peers.config().deadline;
        let Ok(_in_turn) = timeout(waited, self.plain.turn(place).lock()).await else {
            return Err(Error::InTurn { waited });
        };
        let mut attended = match self.attend_all(key, place).await? {
            Ok(attended) => attended,
            Err(epoch) => return Ok(Ordered::NotOwner(epoch)),
        };
        if depends(write) && self.gate.peek(place, &key.text, Instant::now()).is_none() {
            self.take_first(key, place).await?;
        }
        let origin = origin(write);
        let (longest, acquisition) = (key.group.ttl, attended.acquisition);
        let asking = Asking { key: &key.text, write, tags: &tags, longest, origin: &origin, acquisition };
        let ordered = match self.gate.order(place, asking, || self.life.live()) {
            Ok(ordered) => ordered,
            Err(NotOrdered::Exists) => return Ok(self.written(Some("exists"))),
            Err(NotOrdered::Absent) => return Ok(self.written(Some("absent"))),
            Err(NotOrdered::Refused(Refused::Fenced)) => return Err(Error::Fenced),
            Err(NotOrdered::Refused(_)) => return Ok(Ordered::NotOwner(self.epoch())),
        };
        self.resp.removed(&key.text);
        if ordered.value.is_some() {
            self.gate.recorder().record_at(place.hash, ordered.token.started, What::Set);
        } else if ordered.had {
            self.gate.recorder().record_at(place.hash, ordered.token.started, What::Removed { origin });
        }
        let refused = if ordered.too_large {
            Some("too_large")
        } else {
            (ordered.value.is_none() && !ordered.had).then_some("absent")
        };
        for _ in 0..TRIES {
            match self.spread_write(key, &attended, &ordered).await {
                Spread::Done => return Ok(self.written(refused)),
                Spread::Failed(nodes) => return Err(Error::Unacknowledged { nodes }),
                Spread::Again => {}
            }
            attended = match self.attend_all(key, place).await {
                Ok(Ok(attended)) => attended,
                Ok(Err(_)) => return Err(moved()),
                Err(unacknowledged @ Error::Unacknowledged { .. }) => return Err(unacknowledged),
                // The write is ordered: whatever went wrong, it may be there.
                Err(error) => {
                    return Err(Error::Unacknowledged { nodes: vec![format!("{} ({error})", self.id)] });
                }
            };
            if attended.acquisition != ordered.token.acquisition {
                return Err(moved()); // another owner may have written meanwhile
            }
            // After the tokens were taken: what comes to this key from here on, they know of.
            match self.gate.stands(&ordered.token, place, &tags, self.life.live()) {
                Ok(()) => {}
                // The write was done, and is gone: what took it goes to the other holders by itself.
                Err(Refused::Removed | Refused::Flushed | Refused::TagRemoved) => {
                    return Ok(self.written(refused));
                }
                Err(_) => return Err(moved()),
            }
        }
        Err(Error::Unacknowledged { nodes: vec!["others (they keep changing)".to_owned()] })
    }

    /// Why a write can't be carried out, whoever owns the slot.
    pub(super) fn unfit(&self, key: &Key, write: &Write) -> Option<&'static str> {
        let Write::Put(Put { value, lifetime, .. }) = write else { return None };
        let limit = key.group.max_value.unwrap_or(u64::MAX).min(self.config.max_value.0);
        if value.len() as u64 > limit {
            return Some("too_large");
        }
        matches!(lifetime, Lifetime::For(ttl) if ttl.is_zero()).then_some("not_kept")
    }

    pub(super) fn written(&self, refused: Option<&str>) -> Ordered {
        let refused = refused.map(str::to_owned);
        Ordered::Written(Written { refused, node: self.id.to_string(), epoch: self.epoch().0 })
    }

    /// Has all members go by this node's epoch, and gets the tokens of the slot's other holders. `Err` with the epoch by which this node does not own
    /// the slot.
    async fn attend_all(&self, key: &Key, place: Place) -> Result<Result<Attended, Epoch>, Error> {
        for _ in 0..TRIES {
            self.current_ring();
            // Before the ring: should the slot change hands in between, the acquisition is an ended one.
            let acquisition = self.slots.owned(place.slot);
            let ring = self.current_ring();
            let owner = ring.owner(slot_of(&key.text)).is_some_and(|owner| owner.id == self.id);
            let Some(acquisition) = acquisition.filter(|_| owner) else { return Ok(Err(ring.epoch())) };
            let epoch = ring.epoch();
            let unattended = |member: &&Member| {
                if !rules::holds(Rule::PlainAttended) {
                    return false;
                }
                // Of a fixed list there is no other ring that anybody could go by.
                let attended = self.plain.attended.lock();
                !epoch.is_of_list() && (attended.0 != epoch || !attended.1.contains(&member.id))
            };
            let others = ring.members().iter().filter(|member| member.id != self.id);
            let asked = others.filter_map(|member| {
                let holds = ring.holds(&member.id, slot_of(&key.text));
                (holds || unattended(&member)).then_some((member, holds))
            });
            let asked = asked.map(async |(member, holds)| {
                let key = holds.then_some(&*key.text);
                (member, holds, self.peers.attend(member, &self.id, epoch, key).await)
            });
            let (mut holders, mut failed, mut newest) = (Vec::new(), Vec::new(), epoch);
            for (member, holds, reply) in future::join_all(asked).await {
                match reply {
                    Ok((theirs, token)) if theirs == epoch => {
                        let mut attended = self.plain.attended.lock();
                        if attended.0 != epoch {
                            *attended = (epoch, std::collections::HashSet::new());
                        }
                        attended.1.insert(member.id.clone());
                        match token {
                            Some(token) => holders.push((member.clone(), token)),
                            None if holds => {
                                failed.push(format!("{} (it does not hold the slot yet)", member.id));
                            }
                            None => {}
                        }
                    }
                    Ok((theirs, _)) => newest = newest.max(theirs),
                    Err(error) => failed.push(format!("{} ({error})", member.id)),
                }
            }
            if newest > epoch {
                self.catch_up(newest).await?;
            } else if failed.is_empty() {
                return Ok(Ok(Attended { ring, acquisition, holders }));
            } else {
                return Err(Error::Unacknowledged { nodes: failed });
            }
        }
        Err(moved())
    }

    /// Takes what a former holder still has of a key, where the write depends on it.
    async fn take_first(&self, key: &Key, place: Place) -> Result<(), Error> {
        if let Some((token, _)) = self.gate.token(place) {
            self.planned();
            let reach = self.warm.reach(place, crate::warm::Reach::Departing);
            self.warm.ask(key, place, &token, reach).await?;
        }
        Ok(())
    }

    async fn spread_write(&self, key: &Key, attended: &Attended, ordered: &gate::Ordered) -> Spread {
        let epoch = attended.ring.epoch();
        let kept = attended.holders.iter().map(async |(member, token)| {
            // Measured after the token was taken, counted from it: the value ends there no later than here.
            let left = |until: Instant| until.saturating_duration_since(Instant::now());
            let kept = Kept {
                node: self.id.clone(),
                epoch,
                key: key.text.to_string(),
                token: *token,
                value: ordered.value.as_ref().map(|(value, _)| value.clone()),
                ttl: ordered.value.as_ref().map_or_else(Default::default, |(_, until)| left(*until)),
                group_digest: key.group.digest,
            };
            (member, self.peers.keep(member, kept).await)
        });
        let (mut failed, mut again) = (Vec::new(), false);
        for (member, reply) in future::join_all(kept).await {
            match reply {
                Ok((None, theirs)) if theirs == epoch => {}
                Ok((Some(refused), theirs)) if theirs == epoch && !is_overtaken(&refused) => {
                    failed.push(format!("{} (refused: {refused})", member.id));
                }
                Ok(_) => again = true,
                Err(error) => failed.push(format!("{} ({error})", member.id)),
            }
        }
        if !failed.is_empty() {
            Spread::Failed(failed)
        } else if again || self.current_ring().epoch() != epoch {
            // By the new ring others may hold the key, who have pulled it before it was written.
            Spread::Again
        } else {
            Spread::Done
        }
    }
}

/// Whether another token helps.
fn is_overtaken(refused: &str) -> bool {
    [Refused::Removed, Refused::Flushed, Refused::TagRemoved, Refused::LogOverrun, Refused::SlotLost]
        .iter()
        .any(|known| known.label() == refused)
}

/// Whether what the key has decides what becomes of a write.
fn depends(write: &Write) -> bool {
    match write {
        Write::Put(put) => put.only != wire::Only::Always || put.lifetime == Lifetime::Keep,
        Write::Expire(_) => true,
        Write::Remove => false,
    }
}

/// What a write is called in metrics.
pub(super) fn what(write: &Write) -> &'static str {
    match write {
        Write::Put(_) => "put",
        Write::Expire(_) => "expire",
        Write::Remove => "remove",
    }
}

fn moved() -> Error {
    Error::Unacknowledged { nodes: vec!["a new owner (the ring has changed meanwhile)".to_owned()] }
}
