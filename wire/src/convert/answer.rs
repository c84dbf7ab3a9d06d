//! Answers to readers, and what became of values that they set.

use std::time::Duration;

use proto::v1;

use super::claimed_millis;
use crate::{Answer, Outcome, Set, time::to_millis};

/// A reply whose outcome this version does not know, by its number. It may change what the value means, so the value is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reply with the unknown outcome {0}")]
pub struct UnknownOutcome(pub i32);

impl TryFrom<v1::GetReply> for Answer {
    type Error = UnknownOutcome;

    /// The time on the way is not in its `freshness` yet.
    fn try_from(reply: v1::GetReply) -> Result<Self, UnknownOutcome> {
        let outcome = match reply.outcome() {
            v1::Outcome::Hit => Outcome::Hit,
            v1::Outcome::NegativeHit => Outcome::NegativeHit,
            v1::Outcome::Miss => Outcome::Miss,
            v1::Outcome::Shared => Outcome::Shared,
            v1::Outcome::ReadThrough => Outcome::ReadThrough,
            v1::Outcome::Token => Outcome::Token,
            v1::Outcome::Stale => Outcome::Stale,
            v1::Outcome::Absent => Outcome::Absent,
            v1::Outcome::Unspecified => return Err(UnknownOutcome(reply.outcome)),
        };
        Ok(Self {
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
