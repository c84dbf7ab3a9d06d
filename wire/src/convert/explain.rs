//! What a node knows about one key.

use std::time::Duration;

use proto::v1;

use super::claimed_millis;
use crate::{EntryState, Event, Explanation, Removal, time::to_millis};

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
