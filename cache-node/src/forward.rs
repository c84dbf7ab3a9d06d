//! Keys of other nodes: asked for once at their owner, at a replica if the owner can't be reached, and read through if
//! nobody can.

use catalog::Key;
use futures_util::future;
use ring::{Epoch, Member, NodeId, Ring, slot_of};
use wire::{Answer, ReadOptions};

use crate::{
    error::Error,
    node::{Hop, Node},
};

impl Node {
    /// Asks the key's owner, or else its replicas. If there are none, or they can't be reached, the row is read for this request
    /// alone: right, only slower.
    pub(crate) async fn forward(
        &self,
        ring: &Ring,
        key: &Key,
        options: ReadOptions,
    ) -> Result<Answer, Error> {
        let Some(owner) = self.owner_elsewhere(ring, key) else { return self.detour(key, options).await };
        match self.peers.get(owner, &key.text, options).await {
            Ok(answer) => Ok(self.forwarded(ring, answer)),
            Err(error) => self.forward_failed(ring, owner, key, options, error).await,
        }
    }

    /// Takes note of an owner's answer.
    pub(crate) fn forwarded(&self, ring: &Ring, answer: Answer) -> Answer {
        self.metrics.forwards.inc();
        self.agreement.heard(Epoch(answer.epoch), ring.epoch());
        answer
    }

    /// Asks one owner for several keys, of `most` bytes of values; results carry the keys and their places in the request.
    pub(crate) async fn forward_many(
        &self,
        ring: &Ring,
        owner: &NodeId,
        keys: Vec<(usize, Key)>,
        options: ReadOptions,
        most: u64,
    ) -> Vec<(usize, Key, Result<Answer, Error>)> {
        let Some(owner) = ring.member(owner) else {
            let alone = keys.into_iter().map(async |(index, key)| {
                let answer = self.get_key(&key, Hop::First, options).await;
                (index, key, answer)
            });
            return future::join_all(alone).await;
        };
        let texts: Vec<String> = keys.iter().map(|(_, key)| key.text.to_string()).collect();
        let results = match self.peers.get_many(owner, &texts, options, most).await {
            Ok(results) => results,
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        };
        let answered = keys.into_iter().zip(results).map(async |((index, key), result)| {
            let result = match result {
                Ok(answer) => Ok(self.forwarded(ring, answer)),
                Err(error @ client::Error::LeftOut { .. }) => {
                    Err(Error::Peer { node: owner.id.to_string(), error: Box::new(error) })
                }
                Err(error) => self.forward_failed(ring, owner, &key, options, error).await,
            };
            (index, key, result)
        });
        future::join_all(answered).await
    }

    /// The owner of a key, unless it is this node.
    pub(crate) fn owner_elsewhere<'a>(&self, ring: &'a Ring, key: &Key) -> Option<&'a Member> {
        ring.owner(slot_of(&key.text)).filter(|owner| owner.id != self.id)
    }

    async fn forward_failed(
        &self,
        ring: &Ring,
        owner: &Member,
        key: &Key,
        options: ReadOptions,
        error: client::Error,
    ) -> Result<Answer, Error> {
        self.metrics.forwards_failed.inc();
        if !error.is_transient() {
            // The owner has answered: asking the database again would only double its load.
            self.metrics.group(key.group.id).errors.inc();
            return Err(Error::Peer { node: owner.id.to_string(), error: Box::new(error) });
        }
        let replicas = ring.holders(slot_of(&key.text)).filter(|member| member.id != owner.id);
        for replica in replicas.filter(|member| member.id != self.id && self.peers.is_reachable(member)) {
            // As the owner would, it answers and asks nobody: the call says that it is forwarded.
            match self.peers.get(replica, &key.text, options).await {
                Ok(answer) => {
                    self.metrics.forwards_to_replicas.inc();
                    return Ok(answer);
                }
                Err(error) => {
                    tracing::debug!(node = %self.id, replica = %replica.id, %error, "replica not reached");
                }
            }
        }
        tracing::debug!(node = %self.id, owner = %owner.id, %error, "no holder reached, reading through");
        self.detour(key, options).await
    }

    async fn detour(&self, key: &Key, options: ReadOptions) -> Result<Answer, Error> {
        if key.group.is_plain() {
            return Err(Error::NoOwner);
        }
        if options.look_aside {
            return Ok(self.give_nothing(key));
        }
        self.metrics.detour_reads.inc();
        self.read_through(key).await
    }
}
