//! Wire types to domain types and back. Both ways live here, so that a field can't be carried one way and forgotten the other.

use std::time::Duration;

use proto::v1;
use ring::{Epoch, Member, MemberState, NodeId, Ring};
use tonic::Code;

use crate::{
    Ack, Announcement, Answer, Apply, Clock, EntryState, Error, Event, Explanation, GroupStats, Heartbeat,
    HeartbeatReply, Held, NodeStats, Of, Outcome, Page, PartitionName, Pull, Pulled, Removal, Scan, Set,
    Wanted, Watermark, Watermarks, answer::to_millis,
};

/// A reply with its value; an outcome of a later version is refused, since it may change what the value means.
pub(crate) fn answer(node: &str, reply: v1::GetReply) -> Result<Answer, Error> {
    let outcome = match reply.outcome() {
        v1::Outcome::Hit => Outcome::Hit,
        v1::Outcome::NegativeHit => Outcome::NegativeHit,
        v1::Outcome::Miss => Outcome::Miss,
        v1::Outcome::Shared => Outcome::Shared,
        v1::Outcome::ReadThrough => Outcome::ReadThrough,
        v1::Outcome::Token => Outcome::Token,
        v1::Outcome::Stale => Outcome::Stale,
        v1::Outcome::Absent => Outcome::Absent,
        v1::Outcome::Unspecified => {
            let reason = format!("a reply with the unknown outcome {}", reply.outcome);
            return Err(Error::Internal { node: node.to_owned(), reason });
        }
    };
    Ok(Answer {
        value: reply.value,
        outcome,
        age: Duration::from_millis(reply.age_ms),
        ttl: (reply.ttl_ms > 0).then(|| Duration::from_millis(reply.ttl_ms)),
        node: reply.node,
        epoch: reply.epoch,
        freshness: Duration::from_millis(reply.freshness_ms),
        token: (outcome == Outcome::Token).then_some(reply.token),
    })
}

impl TryFrom<v1::GetReply> for Answer {
    type Error = Error;

    /// For callers without a [`Client`](crate::Client). The time on the way is not in its `freshness` yet.
    fn try_from(reply: v1::GetReply) -> Result<Self, Error> {
        let node = reply.node.clone();
        answer(&node, reply)
    }
}

/// One key's part of a batch.
pub(crate) fn key_result(node: &str, result: v1::KeyResult, waited: Duration) -> Result<Answer, Error> {
    match result.result {
        Some(v1::key_result::Result::Reply(reply)) => {
            let mut answer = answer(node, reply)?;
            answer.freshness += waited; // it was under way, for all of that at worst
            Ok(answer)
        }
        Some(v1::key_result::Result::Error(error)) => {
            Err(Error::from_code(node, Code::from_i32(error.code), &error.message, waited))
        }
        Some(v1::key_result::Result::LeftOut(_)) => Err(Error::LeftOut { node: node.to_owned() }),
        None => {
            Err(Error::Internal { node: node.to_owned(), reason: "an empty result for a key".to_owned() })
        }
    }
}

impl From<Scan> for v1::ScanRequest {
    fn from(scan: Scan) -> Self {
        Self {
            groups: scan.groups,
            cursor: scan.cursor,
            count: scan.count,
            values: scan.values,
            keys: scan.keys,
        }
    }
}

impl From<v1::ScanRequest> for Scan {
    fn from(request: v1::ScanRequest) -> Self {
        Self {
            groups: request.groups,
            cursor: request.cursor,
            count: request.count,
            values: request.values,
            keys: request.keys,
        }
    }
}

impl From<Page> for v1::ScanReply {
    fn from(page: Page) -> Self {
        let entries = page.entries.into_iter().map(Into::into).collect();
        Self { entries, cursor: page.cursor, node: page.node, epoch: page.epoch }
    }
}

impl From<v1::ScanReply> for Page {
    fn from(reply: v1::ScanReply) -> Self {
        let entries = reply.entries.into_iter().map(Into::into).collect();
        Self { entries, cursor: reply.cursor, node: reply.node, epoch: reply.epoch }
    }
}

impl From<Pull> for v1::PullRequest {
    fn from(pull: Pull) -> Self {
        let (node, epoch) = (pull.node.to_string(), pull.epoch.0);
        let asked =
            Self { node, epoch, max_bytes: pull.max_bytes, protocol: pull.protocol, ..Self::default() };
        match pull.wanted {
            Wanted::Keys(keys) => Self { keys, ..asked },
            Wanted::Slots { slots, cursor, of } => {
                let slots = slots.into_iter().map(u32::from).collect();
                Self { slots, cursor, plain_only: of == Of::PlainGroups, ..asked }
            }
            Wanted::Done => Self { done: true, ..asked },
        }
    }
}

/// Numbers that no slot has are left out: nothing is in them.
impl From<v1::PullRequest> for Pull {
    fn from(request: v1::PullRequest) -> Self {
        let slots = request.slots.into_iter().filter_map(|slot| u16::try_from(slot).ok()).collect();
        let wanted = if request.done {
            Wanted::Done
        } else if request.keys.is_empty() {
            let of = if request.plain_only { Of::PlainGroups } else { Of::AllGroups };
            Wanted::Slots { slots, cursor: request.cursor, of }
        } else {
            Wanted::Keys(request.keys)
        };
        Self {
            node: NodeId::from(request.node),
            epoch: Epoch(request.epoch),
            wanted,
            max_bytes: request.max_bytes,
            protocol: request.protocol,
        }
    }
}

impl From<Announcement> for v1::AnnounceRequest {
    fn from(Announcement { node, keys, protocol }: Announcement) -> Self {
        Self { node: node.to_string(), keys, protocol }
    }
}

impl From<v1::AnnounceRequest> for Announcement {
    fn from(v1::AnnounceRequest { node, keys, protocol }: v1::AnnounceRequest) -> Self {
        Self { node: NodeId::from(node), keys, protocol }
    }
}

impl From<Pulled> for v1::PullReply {
    fn from(pulled: Pulled) -> Self {
        Self {
            node: pulled.node.to_string(),
            incarnation: pulled.incarnation,
            epoch: pulled.epoch.0,
            entries: pulled.entries.into_iter().map(Into::into).collect(),
            cursor: pulled.cursor,
            groups: pulled.groups,
        }
    }
}

impl From<v1::PullReply> for Pulled {
    fn from(reply: v1::PullReply) -> Self {
        Self {
            node: NodeId::from(reply.node),
            incarnation: reply.incarnation,
            epoch: Epoch(reply.epoch),
            entries: reply.entries.into_iter().map(Into::into).collect(),
            cursor: reply.cursor,
            groups: reply.groups,
        }
    }
}

impl From<Held> for v1::Entry {
    fn from(held: Held) -> Self {
        Self {
            key: held.key,
            value: held.value,
            age_ms: to_millis(held.age),
            ttl_ms: to_millis(held.ttl),
            tags: held.tags.map(|hashes| v1::EntryTags { hashes }),
            lost_at: held.lost_at.map(|epoch| epoch.0),
        }
    }
}

impl From<v1::Entry> for Held {
    fn from(entry: v1::Entry) -> Self {
        Self {
            key: entry.key,
            value: entry.value,
            age: Duration::from_millis(entry.age_ms),
            ttl: Duration::from_millis(entry.ttl_ms),
            tags: entry.tags.map(|tags| tags.hashes),
            lost_at: entry.lost_at.map(Epoch),
        }
    }
}

impl From<Answer> for v1::GetReply {
    fn from(answer: Answer) -> Self {
        let outcome = match answer.outcome {
            Outcome::Hit => v1::Outcome::Hit,
            Outcome::NegativeHit => v1::Outcome::NegativeHit,
            Outcome::Miss => v1::Outcome::Miss,
            Outcome::Shared => v1::Outcome::Shared,
            Outcome::ReadThrough => v1::Outcome::ReadThrough,
            Outcome::Token => v1::Outcome::Token,
            Outcome::Stale => v1::Outcome::Stale,
            Outcome::Absent => v1::Outcome::Absent,
        };
        Self {
            value: answer.value,
            outcome: outcome.into(),
            age_ms: to_millis(answer.age),
            // 0 says "not in memory"; what is about to expire still is.
            ttl_ms: answer.ttl.map_or(0, |ttl| to_millis(ttl).max(1)),
            node: answer.node,
            epoch: answer.epoch,
            freshness_ms: claimed_millis(answer.freshness),
            token: answer.token.unwrap_or_default(),
            group_digest: 0,
        }
    }
}

/// A claim in whole milliseconds: rounded up, so that it never says fresher than it is.
fn claimed_millis(freshness: Duration) -> u64 {
    to_millis(freshness.saturating_add(Duration::from_nanos(999_999)))
}

impl From<Apply> for v1::ApplyRequest {
    fn from(apply: Apply) -> Self {
        Self {
            epoch: apply.epoch.0,
            remove: apply.remove,
            remove_tags: apply.remove_tags,
            flush: apply.flush,
            origin: apply.origin,
            watermarks: apply.watermarks.map(Into::into),
        }
    }
}

impl From<v1::ApplyRequest> for Apply {
    fn from(request: v1::ApplyRequest) -> Self {
        Self {
            epoch: Epoch(request.epoch),
            remove: request.remove,
            remove_tags: request.remove_tags,
            flush: request.flush,
            origin: request.origin,
            watermarks: request.watermarks.map(Into::into),
        }
    }
}

impl From<v1::SetReply> for Set {
    fn from(reply: v1::SetReply) -> Self {
        Self { refused: (!reply.stored).then_some(reply.refused), node: reply.node, epoch: reply.epoch }
    }
}

impl From<Set> for v1::SetReply {
    fn from(set: Set) -> Self {
        Self {
            stored: set.refused.is_none(),
            refused: set.refused.unwrap_or_default(),
            node: set.node,
            epoch: set.epoch,
        }
    }
}

impl From<Watermarks> for v1::Watermarks {
    fn from(watermarks: Watermarks) -> Self {
        let partition =
            |name: PartitionName| v1::Partition { topic: name.topic.to_string(), number: name.number };
        let one = |watermark: Watermark| v1::Watermark {
            partition: Some(partition(watermark.partition)),
            next: watermark.next,
            at: watermark.at,
        };
        Self {
            clock: watermarks.clock,
            partitions: watermarks.partitions.into_iter().map(one).collect(),
            all: watermarks.all.into_iter().map(partition).collect(),
            listed: watermarks.listed,
        }
    }
}

impl From<v1::Watermarks> for Watermarks {
    fn from(watermarks: v1::Watermarks) -> Self {
        let partition = |name: v1::Partition| PartitionName { topic: name.topic.into(), number: name.number };
        let one = |watermark: v1::Watermark| {
            Some(Watermark {
                partition: partition(watermark.partition?),
                next: watermark.next,
                at: watermark.at,
            })
        };
        Self {
            clock: watermarks.clock,
            partitions: watermarks.partitions.into_iter().filter_map(one).collect(),
            all: watermarks.all.into_iter().map(partition).collect(),
            listed: watermarks.listed,
        }
    }
}

impl From<Ack> for v1::ApplyReply {
    fn from(ack: Ack) -> Self {
        Self {
            node: ack.node.to_string(),
            incarnation: ack.incarnation,
            epoch: ack.epoch.0,
            confirmed_epoch: ack.confirmed_epoch.0,
            removed: ack.removed,
            clock: ack.clock.map(Into::into),
        }
    }
}

impl From<v1::ApplyReply> for Ack {
    fn from(reply: v1::ApplyReply) -> Self {
        Self {
            node: NodeId::from(reply.node),
            incarnation: reply.incarnation,
            epoch: Epoch(reply.epoch),
            confirmed_epoch: Epoch(reply.confirmed_epoch),
            removed: reply.removed,
            clock: reply.clock.map(Into::into),
        }
    }
}

impl From<Clock> for v1::Clock {
    fn from(clock: Clock) -> Self {
        Self { id: clock.id, micros: clock.micros }
    }
}

impl From<v1::Clock> for Clock {
    fn from(clock: v1::Clock) -> Self {
        Self { id: clock.id, micros: clock.micros }
    }
}

impl From<Heartbeat> for v1::HeartbeatRequest {
    fn from(heartbeat: Heartbeat) -> Self {
        Self { epoch: heartbeat.epoch.0, watermarks: heartbeat.watermarks.map(Into::into) }
    }
}

impl From<v1::HeartbeatRequest> for Heartbeat {
    fn from(request: v1::HeartbeatRequest) -> Self {
        Self { epoch: Epoch(request.epoch), watermarks: request.watermarks.map(Into::into) }
    }
}

impl From<HeartbeatReply> for v1::HeartbeatReply {
    fn from(reply: HeartbeatReply) -> Self {
        Self {
            node: reply.node.to_string(),
            incarnation: reply.incarnation,
            epoch: reply.epoch.0,
            confirmed_epoch: reply.confirmed_epoch.0,
            clock: reply.clock.map(Into::into),
        }
    }
}

impl From<v1::HeartbeatReply> for HeartbeatReply {
    fn from(reply: v1::HeartbeatReply) -> Self {
        Self {
            node: NodeId::from(reply.node),
            incarnation: reply.incarnation,
            epoch: Epoch(reply.epoch),
            confirmed_epoch: Epoch(reply.confirmed_epoch),
            clock: reply.clock.map(Into::into),
        }
    }
}

impl From<v1::ExplainReply> for Explanation {
    fn from(reply: v1::ExplainReply) -> Self {
        let entry = match reply.entry() {
            v1::EntryState::Value => EntryState::Value,
            v1::EntryState::Negative => EntryState::Negative,
            v1::EntryState::Absent | v1::EntryState::Unspecified => EntryState::Absent,
        };
        let there = entry != EntryState::Absent;
        Self {
            entry,
            age: there.then(|| Duration::from_millis(reply.age_ms)),
            ttl: there.then(|| Duration::from_millis(reply.ttl_ms)),
            key: reply.key,
            group: reply.group,
            slot: u16::try_from(reply.slot).unwrap_or(u16::MAX),
            owner: reply.owner,
            replicas: reply.replicas,
            epoch: reply.epoch,
            node: reply.node,
            holds: reply.holds,
            size: reply.size,
            last_removal: reply.last_removal.map(|removal| Removal {
                age: Duration::from_millis(removal.age_ms),
                origin: removal.origin,
            }),
            fill_in_flight: reply.fill_in_flight,
            query: reply.query,
            events: reply
                .events
                .into_iter()
                .map(|event| Event {
                    age: Duration::from_millis(event.age_ms),
                    what: event.what,
                    detail: event.detail,
                })
                .collect(),
            freshness: Duration::from_millis(reply.freshness_ms),
        }
    }
}

impl From<Explanation> for v1::ExplainReply {
    fn from(explanation: Explanation) -> Self {
        let entry = match explanation.entry {
            EntryState::Absent => v1::EntryState::Absent,
            EntryState::Value => v1::EntryState::Value,
            EntryState::Negative => v1::EntryState::Negative,
        };
        Self {
            key: explanation.key,
            group: explanation.group,
            slot: explanation.slot.into(),
            owner: explanation.owner,
            replicas: explanation.replicas,
            epoch: explanation.epoch,
            node: explanation.node,
            holds: explanation.holds,
            entry: entry.into(),
            age_ms: explanation.age.map_or(0, to_millis),
            ttl_ms: explanation.ttl.map_or(0, to_millis),
            size: explanation.size,
            last_removal: explanation
                .last_removal
                .map(|removal| v1::Removal { age_ms: to_millis(removal.age), origin: removal.origin }),
            fill_in_flight: explanation.fill_in_flight,
            query: explanation.query,
            events: explanation
                .events
                .into_iter()
                .map(|event| v1::Event {
                    age_ms: to_millis(event.age),
                    what: event.what,
                    detail: event.detail,
                })
                .collect(),
            freshness_ms: claimed_millis(explanation.freshness),
        }
    }
}

/// Counters travel under the same names on both sides.
macro_rules! same_fields {
    ($from:expr, { $($field:ident),* $(,)? }, { $($name:ident : $value:expr),* $(,)? }) => {
        Self { $($field: $from.$field,)* $($name: $value,)* }
    };
}

impl From<v1::StatsReply> for NodeStats {
    fn from(reply: v1::StatsReply) -> Self {
        let groups = reply.groups.into_iter().map(|group| GroupStats {
            name: group.name,
            hits: group.hits,
            misses: group.misses,
            fills: group.fills,
        });
        same_fields!(reply, {
            node, incarnation, epoch, version, entries, negative_entries, bytes, capacity_bytes, hits, negative_hits, misses, shared,
            fills, fill_errors, fills_refused, removes, removes_hit, tag_removes, flushes, evictions, expirations, forwards, slots, fenced,
            compressed_entries, compressed_bytes, compressed_plain_bytes,
        }, { uptime: Duration::from_millis(reply.uptime_ms), groups: groups.collect() })
    }
}

impl From<NodeStats> for v1::StatsReply {
    fn from(stats: NodeStats) -> Self {
        let groups = stats.groups.into_iter().map(|group| v1::GroupStats {
            name: group.name,
            hits: group.hits,
            misses: group.misses,
            fills: group.fills,
        });
        same_fields!(stats, {
            node, incarnation, epoch, version, entries, negative_entries, bytes, capacity_bytes, hits, negative_hits, misses, shared,
            fills, fill_errors, fills_refused, removes, removes_hit, tag_removes, flushes, evictions, expirations, forwards, slots, fenced,
            compressed_entries, compressed_bytes, compressed_plain_bytes,
        }, { uptime_ms: to_millis(stats.uptime), groups: groups.collect() })
    }
}

/// A member in a state of a later version counts as joining: it gets removals and holds nothing.
fn member(member: v1::Member) -> Member {
    Member {
        id: NodeId::from(member.id),
        incarnation: member.incarnation,
        grpc: member.grpc,
        http: member.http,
        resp: member.resp,
        weight: member.weight,
        state: member.state.parse().unwrap_or(MemberState::Joining),
        terms: ring::Terms::default(),
    }
}

/// The ring that a node told; built here, since same members give the same ring everywhere.
pub(crate) fn ring(reply: v1::RingReply) -> Ring {
    let members = reply.members.into_iter().map(member).collect();
    Ring::build(Epoch(reply.epoch), members, reply.replicas as usize)
}

/// A ring as a node tells it; `node`, of `cluster`, is who answers.
pub fn ring_reply(cluster: &str, node: &str, ring: &Ring) -> v1::RingReply {
    v1::RingReply {
        epoch: ring.epoch().0,
        members: ring
            .members()
            .iter()
            .map(|member| v1::Member {
                id: member.id.to_string(),
                incarnation: member.incarnation,
                grpc: member.grpc.clone(),
                http: member.http.clone(),
                resp: member.resp.clone(),
                weight: member.weight,
                state: member.state.to_string(),
            })
            .collect(),
        replicas: u32::try_from(ring.replicas()).unwrap_or(u32::MAX),
        node: node.to_owned(),
        cluster: cluster.to_owned(),
    }
}

#[cfg(test)]
mod tests;
