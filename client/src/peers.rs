//! Calls between nodes, and from the sync service to nodes: one call to one member, without retries.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::RwLock;
use proto::v1;
use ring::{Epoch, Member, NodeId, Ring};
use tokio::time::Instant;
use wire::{
    Ack, Announcement, Answer, Apply, Explanation, Heartbeat, HeartbeatReply, HotKeys, Mirrored, NodeStats,
    Page, Pull, Pulled, ReadOptions, Scan, Set, time::to_millis,
};

use crate::{
    Config, Error, hot,
    identity::{Callee, ClusterName},
    link::Link,
    replies,
};

/// One multiplexed connection per node, each with its breaker.
///
/// All calls but [`apply`](Self::apply) fail at once while the node's breaker is open, and say `forwarded`, so that the node answers itself
/// and passes nothing on. Whether to ask again, or another node, is the caller's decision.
#[derive(Debug)]
pub struct Peers {
    config: Config,
    cluster: ClusterName,
    /// Guards the map alone; never held across a call.
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
}

impl Peers {
    /// No connections yet; they open as members are called.
    pub fn new(config: Config) -> Arc<Self> {
        let cluster = ClusterName::new(&config.cluster);
        Arc::new(Self { config, cluster, links: RwLock::default() })
    }

    /// The name of the cluster that is called; empty while it is not known.
    pub fn cluster(&self) -> &str {
        self.cluster.get()
    }

    /// How calls are made.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether calls to a member pass its breaker; true for one that was never called.
    pub fn is_reachable(&self, to: &Member) -> bool {
        let links = self.links.read();
        links.get(&to.id).is_none_or(|link| link.address() != to.grpc || link.breaker().is_closed())
    }

    /// Asks a member for one key.
    pub async fn get(&self, to: &Member, key: &str, options: ReadOptions) -> Result<Answer, Error> {
        let link = self.admitted(to)?;
        get(&link, self.deadline(), key, options, true, 0).await
    }

    /// Asks a key's owner for its value to keep a copy, and for the digest of its group by the owner's catalog (0: not told).
    pub async fn copy(&self, to: &Member, key: &str, options: ReadOptions) -> Result<(Answer, u64), Error> {
        let link = self.admitted(to)?;
        let begun = Instant::now();
        let request = v1::GetRequest { copy: true, ..get_request(key, options, true, 0) };
        let reply = get_reply(&link, self.deadline(), request).await?;
        let digest = reply.group_digest;
        answered(&link, reply, begun).map(|answer| (answer, digest))
    }

    /// Asks a member for many keys; the results are in their order. Of more than `most` bytes of values the rest is left out:
    /// [`Error::LeftOut`].
    pub async fn get_many(
        &self,
        to: &Member,
        keys: &[String],
        options: ReadOptions,
        most: u64,
    ) -> Result<Vec<Result<Answer, Error>>, Error> {
        let link = self.admitted(to)?;
        let request =
            v1::GetManyRequest { max_reply_bytes: most, ..get_many_request(keys.to_vec(), options, true, 0) };
        get_many(&link, self.deadline(), request).await.map(|(results, _)| results)
    }

    /// Brings a value that an application set to the member that gave it the token.
    pub async fn set(
        &self,
        to: &Member,
        key: &str,
        value: Option<Bytes>,
        token: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Set, Error> {
        let link = self.admitted(to)?;
        set(&link, self.deadline(), key, value, token, ttl, true).await
    }

    /// Removes keys from one member. Returns how many of them it had, and the epoch by which it went after that.
    pub async fn remove(&self, to: &Member, keys: &[String]) -> Result<(u64, Epoch), Error> {
        let link = self.admitted(to)?;
        remove(&link, self.deadline(), keys.to_vec(), true)
            .await
            .map(|(removed, epoch)| (removed, Epoch(epoch)))
    }

    /// Removes tags on one member. Returns the epoch by which it went after that.
    pub async fn remove_tags(&self, to: &Member, tags: &[String]) -> Result<Epoch, Error> {
        let link = self.admitted(to)?;
        remove_tags(&link, self.deadline(), tags.to_vec(), true).await.map(Epoch)
    }

    /// Flushes groups on one member; none named flushes all. Returns the epoch by which it went after that.
    pub async fn flush(&self, to: &Member, groups: &[String]) -> Result<Epoch, Error> {
        let link = self.admitted(to)?;
        flush(&link, self.deadline(), groups.to_vec(), true).await.map(Epoch)
    }

    /// Asks a member for all that it knows about one key.
    pub async fn explain(&self, to: &Member, key: &str) -> Result<Explanation, Error> {
        let link = self.admitted(to)?;
        explain(&link, self.deadline(), key, true).await
    }

    /// Asks a member for entries that are in its memory.
    pub async fn scan(&self, to: &Member, scan: Scan) -> Result<Page, Error> {
        let link = self.admitted(to)?;
        self::scan(&link, self.deadline(), scan).await
    }

    /// Asks a member for its counters and sizes.
    pub async fn stats(&self, to: &Member) -> Result<NodeStats, Error> {
        let link = self.admitted(to)?;
        stats(&link, self.deadline()).await
    }

    /// Has a member apply removals and flushes. `Ok` is its acknowledgement.
    ///
    /// Always tries, whatever the breaker says: until its lease is gone, this node's acknowledgement is what commits wait for. Safe to drop
    /// and to repeat; removals are idempotent.
    pub async fn apply(&self, to: &Member, apply: Apply, timeout: Duration) -> Result<Ack, Error> {
        let link = self.link(&to.id, &to.grpc)?;
        let request = v1::ApplyRequest::from(apply);
        let reply: v1::ApplyReply = link
            .invalidation(Instant::now() + timeout, request, |mut client, request| async move {
                client.apply(request).await
            })
            .await?;
        Ok(reply.into())
    }

    /// Tells a member how far the change stream is applied there, and asks what it has confirmed. Always tries, as
    /// [`apply`](Self::apply) does. Safe to drop and to repeat.
    pub async fn heartbeat(
        &self,
        to: &Member,
        heartbeat: Heartbeat,
        timeout: Duration,
    ) -> Result<HeartbeatReply, Error> {
        let link = self.link(&to.id, &to.grpc)?;
        let request = v1::HeartbeatRequest::from(heartbeat);
        let reply: v1::HeartbeatReply = link
            .invalidation(Instant::now() + timeout, request, |mut client, request| async move {
                client.heartbeat(request).await
            })
            .await?;
        Ok(reply.into())
    }

    /// Asks a member for values that it holds, or has just lost. Waits at most `timeout`.
    pub async fn pull(&self, to: &Member, pull: Pull, timeout: Duration) -> Result<Pulled, Error> {
        let link = self.admitted(to)?;
        let request = v1::PullRequest::from(pull);
        let reply: v1::PullReply = link
            .handover(Instant::now() + timeout, request, |mut client, request| async move {
                client.pull(request).await
            })
            .await?;
        Ok(reply.into())
    }

    /// Tells a replica which keys this node has stored. Waits at most `timeout`. Safe to drop and to repeat.
    pub async fn announce(
        &self,
        to: &Member,
        announcement: Announcement,
        timeout: Duration,
    ) -> Result<(), Error> {
        let link = self.admitted(to)?;
        let request = v1::AnnounceRequest::from(announcement);
        let _: v1::AnnounceReply = link
            .handover(Instant::now() + timeout, request, |mut client, request| async move {
                client.announce(request).await
            })
            .await?;
        Ok(())
    }

    /// Asks a member for the keys that it is asked for most.
    pub async fn hot(&self, to: &Member, top: usize) -> Result<HotKeys, Error> {
        let link = self.admitted(to)?;
        hot::of(&link, self.deadline(), top).await
    }

    /// Asks a key's owner for its value, and for a mirror of it that lasts for `lease`.
    pub async fn mirror(
        &self,
        to: &Member,
        from: &NodeId,
        epoch: Epoch,
        key: &str,
        lease: Duration,
    ) -> Result<Mirrored, Error> {
        let link = self.admitted(to)?;
        hot::mirror(&link, self.deadline(), from, epoch, key, lease).await
    }

    /// Ends a member's mirrors of keys. Always tries, whatever the breaker says. Safe to drop and to repeat.
    pub async fn unmirror(
        &self,
        to: &Member,
        from: &NodeId,
        keys: &[String],
        origin: &str,
        timeout: Duration,
    ) -> Result<(), Error> {
        let link = self.link(&to.id, &to.grpc)?;
        hot::unmirror(&link, Instant::now() + timeout, from, keys, origin, false).await
    }

    /// Ends all mirrors of `from`'s keys that a member has. Always tries, as [`unmirror`](Self::unmirror) does.
    pub async fn unmirror_all(&self, to: &Member, from: &NodeId, timeout: Duration) -> Result<(), Error> {
        let link = self.link(&to.id, &to.grpc)?;
        hot::unmirror(&link, Instant::now() + timeout, from, &[], "a new process", true).await
    }

    /// Takes the name of the cluster from a node's answer, if none is known yet.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the node is of another cluster.
    pub(crate) fn learn_cluster(&self, link: &Link, told: &str) -> Result<(), Error> {
        if self.cluster.learn(told) {
            return Ok(());
        }
        let reason = format!("it is of cluster {told}, and cluster {} was meant", self.cluster.get());
        Err(Error::Unavailable { node: link.id().to_string(), reason })
    }

    /// Drops the connections of members that are gone or have moved to another address. Calls under way end by themselves.
    pub fn retain(&self, ring: &Ring) {
        self.links
            .write()
            .retain(|id, link| ring.member(id).is_some_and(|member| member.grpc == link.address()));
    }

    /// The connection to a node, made if there is none to this address yet.
    pub(crate) fn link(&self, id: &NodeId, address: &str) -> Result<Arc<Link>, Error> {
        self.link_to(Some(id.clone()), id, address)
    }

    /// The connection to an address of which only a ring is asked: any node of the cluster may answer there.
    pub(crate) fn seed(&self, address: &str) -> Result<Arc<Link>, Error> {
        self.link_to(None, &NodeId::from(address), address)
    }

    fn link_to(&self, callee: Option<NodeId>, id: &NodeId, address: &str) -> Result<Arc<Link>, Error> {
        if let Some(link) = self.links.read().get(id).filter(|link| link.address() == address) {
            return Ok(link.clone());
        }
        let mut links = self.links.write();
        if let Some(link) = links.get(id).filter(|link| link.address() == address) {
            return Ok(link.clone()); // made by another call meanwhile
        }
        let callee = Callee::new(self.cluster.clone(), callee);
        let link = Arc::new(Link::new(id.clone(), address, callee, &self.config)?);
        links.insert(id.clone(), link.clone());
        Ok(link)
    }

    pub(crate) fn admitted(&self, to: &Member) -> Result<Arc<Link>, Error> {
        let link = self.link(&to.id, &to.grpc)?;
        if link.breaker().admits() {
            return Ok(link);
        }
        Err(Error::Unavailable {
            node: to.id.to_string(),
            reason: format!(
                "it was not reached at {} several times in a row and is left alone for a moment; the last time: {}",
                to.grpc,
                link.reason()
            ),
        })
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.deadline
    }
}

/// One `Get`.
pub(crate) async fn get(
    link: &Link,
    deadline: Instant,
    key: &str,
    options: ReadOptions,
    forwarded: bool,
    epoch: u64,
) -> Result<Answer, Error> {
    let begun = Instant::now();
    let reply = get_reply(link, deadline, get_request(key, options, forwarded, epoch)).await?;
    answered(link, reply, begun)
}

fn get_request(key: &str, options: ReadOptions, forwarded: bool, epoch: u64) -> v1::GetRequest {
    v1::GetRequest {
        key: key.to_owned(),
        forwarded,
        epoch,
        max_staleness_ms: options.max_staleness.map(to_millis),
        look_aside: options.look_aside,
        copy: false,
    }
}

async fn get_reply(link: &Link, deadline: Instant, request: v1::GetRequest) -> Result<v1::GetReply, Error> {
    link.cache(deadline, request, |mut client, request| async move { client.get(request).await }).await
}

fn answered(link: &Link, reply: v1::GetReply, begun: Instant) -> Result<Answer, Error> {
    let mut answer = replies::answer(link.id().as_str(), reply)?;
    answer.freshness += begun.elapsed(); // it was under way, for all of that at worst
    Ok(answer)
}

/// One `GetMany`: the results in the keys' order, and the node's epoch.
pub(crate) async fn get_many(
    link: &Link,
    deadline: Instant,
    request: v1::GetManyRequest,
) -> Result<(Vec<Result<Answer, Error>>, u64), Error> {
    let (begun, count) = (Instant::now(), request.keys.len());
    let reply: v1::GetManyReply = link
        .cache(deadline, request, |mut client, request| async move { client.get_many(request).await })
        .await?;
    if reply.results.len() != count {
        return Err(Error::Internal {
            node: link.id().to_string(),
            reason: format!("{} results for {count} keys", reply.results.len()),
        });
    }
    let waited = begun.elapsed();
    let results =
        reply.results.into_iter().map(|result| replies::key_result(link.id().as_str(), result, waited));
    Ok((results.collect(), reply.epoch))
}

/// What a `GetMany` carries.
pub(crate) fn get_many_request(
    keys: Vec<String>,
    options: ReadOptions,
    forwarded: bool,
    epoch: u64,
) -> v1::GetManyRequest {
    v1::GetManyRequest {
        keys,
        forwarded,
        epoch,
        max_staleness_ms: options.max_staleness.map(to_millis),
        look_aside: options.look_aside,
        max_reply_bytes: 0,
    }
}

/// One `Set`.
pub(crate) async fn set(
    link: &Link,
    deadline: Instant,
    key: &str,
    value: Option<Bytes>,
    token: Bytes,
    ttl: Option<Duration>,
    forwarded: bool,
) -> Result<Set, Error> {
    // 0 would be the group's.
    let ttl_ms = ttl.map_or(0, |ttl| to_millis(ttl).max(1));
    let request = v1::SetRequest { key: key.to_owned(), value, token, ttl_ms, forwarded };
    let reply: v1::SetReply =
        link.cache(deadline, request, |mut client, request| async move { client.set(request).await }).await?;
    Ok(reply.into())
}

/// One `Remove`: how many keys were in memory, and the node's epoch.
pub(crate) async fn remove(
    link: &Link,
    deadline: Instant,
    keys: Vec<String>,
    forwarded: bool,
) -> Result<(u64, u64), Error> {
    let request = v1::RemoveRequest { keys, forwarded, tags: Vec::new() };
    let reply: v1::RemoveReply = link
        .cache(deadline, request, |mut client, request| async move { client.remove(request).await })
        .await?;
    Ok((reply.removed, reply.epoch))
}

/// One `Remove` of tags: the node's epoch.
pub(crate) async fn remove_tags(
    link: &Link,
    deadline: Instant,
    tags: Vec<String>,
    forwarded: bool,
) -> Result<u64, Error> {
    let request = v1::RemoveRequest { keys: Vec::new(), forwarded, tags };
    let reply: v1::RemoveReply = link
        .cache(deadline, request, |mut client, request| async move { client.remove(request).await })
        .await?;
    Ok(reply.epoch)
}

/// One `Flush`: the node's epoch.
pub(crate) async fn flush(
    link: &Link,
    deadline: Instant,
    groups: Vec<String>,
    forwarded: bool,
) -> Result<u64, Error> {
    let request = v1::FlushRequest { groups, forwarded };
    let reply: v1::FlushReply = link
        .cache(deadline, request, |mut client, request| async move { client.flush(request).await })
        .await?;
    Ok(reply.epoch)
}

/// One `Explain`.
pub(crate) async fn explain(
    link: &Link,
    deadline: Instant,
    key: &str,
    forwarded: bool,
) -> Result<Explanation, Error> {
    let request = v1::ExplainRequest { key: key.to_owned(), forwarded };
    let reply: v1::ExplainReply = link
        .cache(deadline, request, |mut client, request| async move { client.explain(request).await })
        .await?;
    Ok(reply.into())
}

/// One `Scan`.
pub(crate) async fn scan(link: &Link, deadline: Instant, scan: Scan) -> Result<Page, Error> {
    let request = v1::ScanRequest::from(scan);
    let reply: v1::ScanReply = link
        .cache(deadline, request, |mut client, request| async move { client.scan(request).await })
        .await?;
    Ok(reply.into())
}

/// One `Stats`.
pub(crate) async fn stats(link: &Link, deadline: Instant) -> Result<NodeStats, Error> {
    let reply: v1::StatsReply =
        link.cache(deadline, v1::StatsRequest {}, |mut client, request| async move {
            client.stats(request).await
        })
        .await?;
    Ok(reply.into())
}

/// One `Ring`, and the name of the node's cluster.
pub(crate) async fn ring_of(link: &Link, deadline: Instant) -> Result<(Ring, String), Error> {
    let reply: v1::RingReply = link
        .cache(deadline, v1::RingRequest {}, |mut client, request| async move { client.ring(request).await })
        .await?;
    let cluster = reply.cluster.clone();
    Ok((wire::convert::ring_of_reply(reply), cluster))
}
