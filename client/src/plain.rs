//! Plain groups: values that applications write without a token, in the order of each key's owner.

use std::time::Duration;

use bytes::Bytes;
use proto::v1;
use ring::{Epoch, Member, NodeId, slot_of};
use tokio::time::Instant;

use crate::{Client, Error, Peers, attempts::Attempts, link::Link, options::whole_millis};

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Gives it a value.
    Put(Put),
    /// Has its value expire after this time, at the end of the group's `ttl` at the latest.
    Expire(Duration),
    /// Takes its value away.
    Remove,
}

/// A value on its way to a plain group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The value; any bytes.
    pub value: Bytes,
    /// How long it is to be there.
    pub lifetime: Lifetime,
    /// Under which condition it is written.
    pub only: Only,
}

/// How long a value is to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the group's `ttl` says.
    #[default]
    Group,
    /// For this long, or for the group's `ttl` if that is less.
    For(Duration),
    /// As long as the value that it takes the place of; without one, as the group says.
    Keep,
}

/// Under which condition a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// Whatever the key has.
    #[default]
    Always,
    /// If it has no value.
    IfAbsent,
    /// If it has one.
    IfPresent,
}

/// What became of a write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Why nothing was written, one word: `exists` or `absent` (the condition, or nothing to expire or remove), `too_large`, `not_kept` (its
    /// time would be over at once); `None` if it was.
    pub refused: Option<String>,
    /// The node that ordered it, the owner of the key's slot.
    pub node: String,
    /// That node's epoch.
    pub epoch: u64,
}

/// What one holder of a slot knew of a key before its owner ordered a write; of use to that holder alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderToken {
    /// The holder's process.
    pub life: u64,
    /// The holder's incarnation.
    pub incarnation: u64,
    /// The last of what its gate had logged.
    pub seq: u64,
    /// The generation of the key's group.
    pub generation: u64,
    /// The acquisition of the key's slot.
    pub acquisition: u64,
    /// The last removal of a tag.
    pub tags: u64,
    /// When, in microseconds of the holder's clock.
    pub at: u64,
}

/// What an owner has another holder keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The owner.
    pub node: NodeId,
    /// The epoch at which it ordered the write.
    pub epoch: Epoch,
    /// The key.
    pub key: String,
    /// What the holder gave before the write was ordered.
    pub token: HolderToken,
    /// The value; `None` if the key was removed.
    pub value: Option<Bytes>,
    /// How long it is to be there, counted from the token.
    pub ttl: Duration,
    /// The digest of the key's group by the owner's catalog.
    pub group_digest: u64,
}

/// What a node answers to a write that another one brought to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// It owns the slot and has ordered it.
    Written(Written),
    /// It does not own the slot at this epoch; nothing was done.
    NotOwner(Epoch),
}

impl Put {
    /// Written whatever the key has, for as long as the group says.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), lifetime: Lifetime::Group, only: Only::Always }
    }
}

impl Written {
    /// Whether it was written.
    pub fn is_done(&self) -> bool {
        self.refused.is_none()
    }
}

impl Client {
    /// Gives a key of a plain group a value, for `ttl` or for the group's if that is less. When this returns, every holder of the key has it.
    /// Safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and [`Error::Deadline`] if it was not acknowledged: the value may be there or not, at some holders or at all.
    /// [`Error::InvalidKey`] if the group is not plain.
    pub async fn put(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Written, Error> {
        let lifetime = ttl.map_or(Lifetime::Group, Lifetime::For);
        self.put_with(key, Put { lifetime, ..Put::new(value) }).await
    }

    /// Like [`put`](Self::put), with a condition and a lifetime. One with a condition is tried once: *it is done, the answer is lost, and the
    /// second try finds its own value there.*
    pub async fn put_with(&self, key: &str, put: Put) -> Result<Written, Error> {
        self.write(key, Write::Put(put)).await
    }

    /// Has a value of a plain group expire after `ttl`, or the group's if that is less; at once if it is zero. False if there is none.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    pub async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, Error> {
        let write = if ttl.is_zero() { Write::Remove } else { Write::Expire(ttl) };
        self.write(key, write).await.map(|written| written.is_done())
    }

    async fn write(&self, key: &str, write: Write) -> Result<Written, Error> {
        let conditional = matches!(&write, Write::Put(Put { only, .. }) if *only != Only::Always);
        let (mut attempts, slot, write) = (Attempts::new(self), Some(slot_of(key)), &write);
        loop {
            let link = attempts.target(slot)?;
            let error = match one(&link, attempts.deadline(), key, write.clone(), None).await {
                Ok(Ordered::Written(written)) => {
                    self.routes().heard(written.epoch);
                    return Ok(written);
                }
                Ok(Ordered::NotOwner(_)) => {
                    let reason = "it took the write for another node's".to_owned();
                    Error::Internal { node: link.id().to_string(), reason }
                }
                Err(error) => error,
            };
            attempts.failed(&link, &error);
            if conditional {
                return Err(error);
            }
            attempts.again(error).await?;
        }
    }
}

impl Peers {
    /// Brings a write to the member that is to order it. `epoch` is by whose ring.
    pub async fn order(&self, to: &Member, key: &str, write: Write, epoch: Epoch) -> Result<Ordered, Error> {
        let link = self.admitted(to)?;
        one(&link, self.deadline(), key, write, Some(epoch)).await
    }

    /// Has a member go by an epoch, and, with a key, give its token. Returns its own epoch.
    pub async fn attend(
        &self,
        to: &Member,
        from: &NodeId,
        epoch: Epoch,
        key: Option<&str>,
    ) -> Result<(Epoch, Option<HolderToken>), Error> {
        let link = self.admitted(to)?;
        let request = v1::PlainAttendRequest {
            node: from.to_string(),
            epoch: epoch.0,
            protocol: ring::terms::PROTOCOL,
            key: key.unwrap_or_default().to_owned(),
        };
        let call = link.plain(self.deadline(), request, |mut client, request| async move {
            client.attend(request).await
        });
        let reply: v1::PlainAttendReply = call.await?;
        Ok((Epoch(reply.epoch), reply.token.map(Into::into)))
    }

    /// Has another holder keep what this node has ordered: why it did not (`None`: it did), and its epoch after that.
    pub async fn keep(&self, to: &Member, kept: Kept) -> Result<(Option<String>, Epoch), Error> {
        let link = self.admitted(to)?;
        let request = v1::PlainKeepRequest::from(kept);
        let call = link
            .plain(self.deadline(), request, |mut client, request| async move { client.keep(request).await });
        let reply: v1::PlainKeepReply = call.await?;
        Ok(((!reply.refused.is_empty()).then_some(reply.refused), Epoch(reply.epoch)))
    }
}

/// One `Write`; `forwarded` by a node at this epoch.
async fn one(
    link: &Link,
    deadline: Instant,
    key: &str,
    write: Write,
    forwarded: Option<Epoch>,
) -> Result<Ordered, Error> {
    use v1::plain_write_request::What;
    let what = match write {
        Write::Put(put) => What::Put(put.into()),
        // 0 would be no time at all.
        Write::Expire(ttl) => What::ExpireMs(whole_millis(ttl).max(1)),
        Write::Remove => What::Remove(true),
    };
    let request = v1::PlainWriteRequest {
        key: key.to_owned(),
        what: Some(what),
        forwarded: forwarded.is_some(),
        epoch: forwarded.map_or(0, |epoch| epoch.0),
    };
    let reply: v1::PlainWriteReply = link
        .plain(deadline, request, |mut client, request| async move { client.write(request).await })
        .await?;
    Ok(if reply.not_owner {
        Ordered::NotOwner(Epoch(reply.epoch))
    } else {
        let refused = (!reply.refused.is_empty()).then_some(reply.refused);
        Ordered::Written(Written { refused, node: reply.node, epoch: reply.epoch })
    })
}

impl From<Put> for v1::PlainPut {
    fn from(put: Put) -> Self {
        let ttl_ms = match put.lifetime {
            Lifetime::For(ttl) => whole_millis(ttl).max(1),
            Lifetime::Group | Lifetime::Keep => 0,
        };
        Self {
            value: put.value,
            ttl_ms,
            keep_ttl: put.lifetime == Lifetime::Keep,
            only_if_absent: put.only == Only::IfAbsent,
            only_if_present: put.only == Only::IfPresent,
        }
    }
}

impl From<v1::PlainPut> for Put {
    /// Both conditions at once are one that never holds; the first counts, and the second makes it no worse.
    fn from(put: v1::PlainPut) -> Self {
        let lifetime = match (put.keep_ttl, put.ttl_ms) {
            (true, _) => Lifetime::Keep,
            (false, 0) => Lifetime::Group,
            (false, ttl) => Lifetime::For(Duration::from_millis(ttl)),
        };
        let only = match (put.only_if_absent, put.only_if_present) {
            (true, _) => Only::IfAbsent,
            (false, true) => Only::IfPresent,
            (false, false) => Only::Always,
        };
        Self { value: put.value, lifetime, only }
    }
}

impl From<Ordered> for v1::PlainWriteReply {
    fn from(ordered: Ordered) -> Self {
        match ordered {
            Ordered::Written(Written { refused, node, epoch }) => {
                Self { refused: refused.unwrap_or_default(), node, epoch, not_owner: false }
            }
            Ordered::NotOwner(epoch) => Self { epoch: epoch.0, not_owner: true, ..Self::default() },
        }
    }
}

/// Tokens travel under the same names on both sides.
macro_rules! token {
    ($from:expr) => {{
        let from = $from;
        Self {
            life: from.life,
            incarnation: from.incarnation,
            seq: from.seq,
            generation: from.generation,
            acquisition: from.acquisition,
            tags: from.tags,
            at: from.at,
        }
    }};
}

impl From<HolderToken> for v1::PlainToken {
    fn from(token: HolderToken) -> Self {
        token!(token)
    }
}

impl From<v1::PlainToken> for HolderToken {
    fn from(token: v1::PlainToken) -> Self {
        token!(token)
    }
}

impl From<Kept> for v1::PlainKeepRequest {
    fn from(kept: Kept) -> Self {
        Self {
            node: kept.node.to_string(),
            epoch: kept.epoch.0,
            key: kept.key,
            token: Some(kept.token.into()),
            value: kept.value,
            ttl_ms: whole_millis(kept.ttl),
            group_digest: kept.group_digest,
        }
    }
}

impl From<v1::PlainKeepRequest> for Kept {
    /// Without a token it has one of no life, which no holder takes.
    fn from(request: v1::PlainKeepRequest) -> Self {
        Self {
            node: NodeId::from(request.node),
            epoch: Epoch(request.epoch),
            key: request.key,
            token: request.token.unwrap_or_default().into(),
            value: request.value,
            ttl: Duration::from_millis(request.ttl_ms),
            group_digest: request.group_digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_and_kept_comes_as_it_was_sent() {
        for lifetime in [Lifetime::Group, Lifetime::For(Duration::from_millis(7)), Lifetime::Keep] {
            for only in [Only::Always, Only::IfAbsent, Only::IfPresent] {
                let put = Put { value: Bytes::from_static(b"v"), lifetime, only };
                assert_eq!(Put::from(v1::PlainPut::from(put.clone())), put);
            }
        }
        let token =
            HolderToken { life: 1, incarnation: 2, seq: 3, generation: 4, acquisition: 5, tags: 6, at: 7 };
        let kept = Kept {
            node: "a".into(),
            epoch: Epoch(8),
            key: "session:1".to_owned(),
            token,
            value: None,
            ttl: Duration::from_millis(9),
            group_digest: 10,
        };
        assert_eq!(Kept::from(v1::PlainKeepRequest::from(kept.clone())), kept);
    }
}
