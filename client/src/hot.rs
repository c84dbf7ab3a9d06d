//! The keys that are read most, and mirrors of them.

use std::{collections::BTreeMap, time::Duration};

use proto::v1;
use ring::{Epoch, NodeId};
use serde::Serialize;
use tokio::time::Instant;

use crate::{Answer, Error, link::Link, options::whole_millis, wire};

/// What one node is asked for most.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HotKeys {
    /// The node.
    pub node: String,
    /// Its epoch.
    pub epoch: u64,
    /// Reads per second of all keys, about.
    pub reads: f64,
    /// Hottest first.
    pub keys: Vec<HotKey>,
}

/// A key and how often it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HotKey {
    /// The key.
    pub key: String,
    /// Its group.
    pub group: String,
    /// Reads per second that were answered, about.
    pub reads: f64,
    /// Reads per second that were passed on to the owner.
    pub forwarded: f64,
    /// By how much both together may be too high.
    pub error: f64,
    /// Whether it counts as hot.
    pub hot: bool,
    /// Whether it is served from a mirror.
    pub mirrored: bool,
    /// Nodes that have a mirror of it, as far as who granted them knows.
    pub mirrors: u32,
}

/// What several nodes are asked for most, put together: each read is counted where it was answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Merged {
    /// Reads per second of all keys on all nodes that answered.
    pub reads: f64,
    /// Hottest first.
    pub keys: Vec<HotKey>,
    /// The nodes that answered.
    pub nodes: Vec<String>,
    /// Those that did not, each with its error.
    pub unreachable: BTreeMap<String, String>,
}

/// An owner's answer to one who asks for a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// As to a forwarded get.
    pub answer: Answer,
    /// How long it may be served from a mirror, counted from the asking; `None`: not at all.
    pub lease: Option<Duration>,
    /// The owner's incarnation.
    pub incarnation: u64,
    /// The digest of the key's group by the owner's catalog; 0: not told.
    pub group_digest: u64,
}

impl Merged {
    /// How many keys to ask each node for, so that the `top` of all are among them: more, since a key that is tenth everywhere may be the
    /// first of all.
    pub fn of_each(top: usize) -> usize {
        top.saturating_mul(4)
    }

    /// Puts the nodes' answers together.
    pub fn of(answers: Vec<(String, Result<HotKeys, Error>)>, top: usize) -> Self {
        let mut merged = Self::default();
        let mut keys: BTreeMap<String, HotKey> = BTreeMap::new();
        for (node, answer) in answers {
            let hot = match answer {
                Ok(hot) => hot,
                Err(error) => {
                    merged.unreachable.insert(node, error.to_string());
                    continue;
                }
            };
            merged.reads += hot.reads;
            merged.nodes.push(node);
            for key in hot.keys {
                match keys.get_mut(&key.key) {
                    None => {
                        keys.insert(key.key.clone(), key);
                    }
                    Some(known) => {
                        known.reads += key.reads;
                        known.forwarded += key.forwarded;
                        known.error += key.error;
                        known.hot |= key.hot;
                        known.mirrored |= key.mirrored;
                        known.mirrors += key.mirrors;
                    }
                }
            }
        }
        merged.keys = keys.into_values().collect();
        merged.keys.sort_by(|a, b| b.reads.total_cmp(&a.reads).then_with(|| a.key.cmp(&b.key)));
        merged.keys.truncate(top);
        merged
    }

    /// The share of all reads that go to the keys listed, 0 to 1.
    pub fn share(&self) -> f64 {
        let listed: f64 = self.keys.iter().map(|key| key.reads).sum();
        if self.reads > 0.0 { (listed / self.reads).min(1.0) } else { 0.0 }
    }
}

impl From<v1::HotReply> for HotKeys {
    fn from(reply: v1::HotReply) -> Self {
        let key = |key: v1::HotKey| HotKey {
            key: key.key,
            group: key.group,
            reads: key.reads,
            forwarded: key.forwarded,
            error: key.error,
            hot: key.hot,
            mirrored: key.mirrored,
            mirrors: key.mirrors,
        };
        let keys = reply.keys.into_iter().map(key).collect();
        Self { node: reply.node, epoch: reply.epoch, reads: reply.reads, keys }
    }
}

impl From<HotKeys> for v1::HotReply {
    fn from(hot: HotKeys) -> Self {
        let key = |key: HotKey| v1::HotKey {
            key: key.key,
            group: key.group,
            reads: key.reads,
            forwarded: key.forwarded,
            error: key.error,
            hot: key.hot,
            mirrored: key.mirrored,
            mirrors: key.mirrors,
        };
        let keys = hot.keys.into_iter().map(key).collect();
        Self { node: hot.node, epoch: hot.epoch, reads: hot.reads, keys }
    }
}

impl From<Mirrored> for v1::MirrorReply {
    fn from(mirrored: Mirrored) -> Self {
        Self {
            reply: Some(mirrored.answer.into()),
            lease_ms: mirrored.lease.map_or(0, whole_millis),
            incarnation: mirrored.incarnation,
            group_digest: mirrored.group_digest,
        }
    }
}

/// One `Hot`.
pub(crate) async fn of(link: &Link, deadline: Instant, top: usize) -> Result<HotKeys, Error> {
    let request = v1::HotRequest { top: u32::try_from(top).unwrap_or(u32::MAX) };
    let reply: v1::HotReply =
        link.hot(deadline, request, |mut client, request| async move { client.hot(request).await }).await?;
    Ok(reply.into())
}

/// One `Mirror`.
pub(crate) async fn mirror(
    link: &Link,
    deadline: Instant,
    from: &NodeId,
    epoch: Epoch,
    key: &str,
    lease: Duration,
) -> Result<Mirrored, Error> {
    let begun = Instant::now();
    let request = v1::MirrorRequest {
        node: from.to_string(),
        epoch: epoch.0,
        key: key.to_owned(),
        lease_ms: whole_millis(lease),
        protocol: ring::terms::PROTOCOL,
    };
    let reply: v1::MirrorReply = link
        .hot(deadline, request, |mut client, request| async move { client.mirror(request).await })
        .await?;
    let Some(got) = reply.reply else {
        let reason = "a mirror without a reply".to_owned();
        return Err(Error::Internal { node: link.id().to_string(), reason });
    };
    let mut answer = wire::answer(link.id().as_str(), got)?;
    answer.freshness += begun.elapsed(); // it was under way, for all of that at worst
    let lease = (reply.lease_ms > 0).then(|| Duration::from_millis(reply.lease_ms));
    Ok(Mirrored { answer, lease, incarnation: reply.incarnation, group_digest: reply.group_digest })
}

/// One `Unmirror`.
pub(crate) async fn unmirror(
    link: &Link,
    deadline: Instant,
    from: &NodeId,
    keys: &[String],
    origin: &str,
    all: bool,
) -> Result<(), Error> {
    let (node, keys, origin) = (from.to_string(), keys.to_vec(), origin.to_owned());
    let request = v1::UnmirrorRequest { node, keys, origin, all };
    let _: v1::UnmirrorReply = link
        .hot(deadline, request, |mut client, request| async move { client.unmirror(request).await })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_nodes_are_added_up_and_who_does_not_answer_is_named() {
        let key = |key: &str, reads| HotKey { key: key.to_owned(), reads, ..HotKey::default() };
        let hot = |reads, keys| Ok(HotKeys { reads, keys, ..HotKeys::default() });
        let lost = Error::NoNodes { reason: "gone".to_owned() };
        let merged = Merged::of(
            vec![
                ("a".to_owned(), hot(100.0, vec![key("user:1", 50.0), key("user:2", 30.0)])),
                ("b".to_owned(), hot(60.0, vec![key("user:2", 40.0), key("user:3", 1.0)])),
                ("c".to_owned(), Err(lost)),
            ],
            2,
        );
        let found: Vec<_> = merged.keys.iter().map(|key| (&*key.key, key.reads)).collect();
        assert_eq!(found, [("user:2", 70.0), ("user:1", 50.0)]);
        assert!((merged.share() - 0.75).abs() < 1e-9, "{}", merged.share());
        assert_eq!((merged.nodes.len(), merged.unreachable.len()), (2, 1));
        let whole = HotKeys { node: "a".into(), epoch: 3, reads: 1.5, keys: vec![key("user:1", 2.0)] };
        assert_eq!(HotKeys::from(v1::HotReply::from(whole.clone())), whole);
    }
}
