//! Plain groups: values that applications write without a token, in the order of each key's owner.

use std::time::Duration;

use bytes::Bytes;
use proto::v1;
use ring::{Epoch, Member, NodeId, slot_of};
use tokio::time::Instant;
use wire::{HolderToken, Kept, Lifetime, Only, Ordered, Put, Write, Written, time::to_millis};

use crate::{Client, Error, Peers, attempts::Attempts, link::Link};

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
        Write::Expire(ttl) => What::ExpireMs(to_millis(ttl).max(1)),
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
