//! What a lookup returns.

use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::time::{millis, optional_millis};

/// The answer to one key. Serializes with the value as the JSON that it is, and times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The value, JSON if a query fills the group; `None` if the database has no such row, or nobody has set one.
    #[serde(serialize_with = "json")]
    pub value: Option<Bytes>,
    /// How the lookup ended.
    pub outcome: Outcome,
    /// How long ago the value was read from the database.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
    /// How long until the value expires; `None` if it is not in memory.
    #[serde(rename = "ttl_ms", serialize_with = "optional_millis")]
    pub ttl: Option<Duration>,
    /// The node that answered from its memory or its fill.
    pub node: String,
    /// That node's epoch.
    pub epoch: u64,
    /// How old the value can be at worst: every change that was committed earlier than this is in it.
    #[serde(rename = "freshness_ms", serialize_with = "millis")]
    pub freshness: Duration,
    /// What to set the key with, if the outcome is [`Outcome::Token`].
    #[serde(skip)]
    pub token: Option<Bytes>,
}

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Served from memory.
    Hit,
    /// Served from memory: the database is known to have no such row.
    NegativeHit,
    /// Filled from the database and stored.
    Miss,
    /// Filled from the database; another request's fill was shared.
    Shared,
    /// Read from the database and not stored.
    ReadThrough,
    /// Served from memory though its time was over, because the database can't answer and its group allows it.
    Stale,
    /// Not in memory, and not filled because the caller will read by itself; the answer has a token.
    Token,
    /// A key of a plain group that has no value.
    Absent,
}

impl Outcome {
    /// The name, as in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::NegativeHit => "negative_hit",
            Self::Miss => "miss",
            Self::Shared => "shared",
            Self::ReadThrough => "read_through",
            Self::Stale => "stale",
            Self::Token => "token",
            Self::Absent => "absent",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value is JSON by contract; one that is not shows as a string.
#[expect(clippy::ref_option, reason = "serde's signature")]
fn json<S: Serializer>(value: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(bytes) = value else {
        return serializer.serialize_none();
    };
    let text = String::from_utf8_lossy(bytes);
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(raw) => raw.serialize(serializer),
        Err(_) => serializer.serialize_str(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_prints_its_value_as_the_json_that_it_is() {
        let mut answer = Answer {
            value: Some(Bytes::from_static(b"{\"id\":18446744073709551615,\"price\":1.10}")),
            outcome: Outcome::Miss,
            age: Duration::from_millis(5),
            ttl: None,
            node: "a".to_owned(),
            epoch: 7,
            freshness: Duration::from_millis(5),
            token: None,
        };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"value":{"id":18446744073709551615,"price":1.10},"outcome":"miss","age_ms":5,"ttl_ms":null,"node":"a","epoch":7,"freshness_ms":5}"#
        );
        answer.value = Some(Bytes::from_static(b"\xff"));
        assert!(serde_json::to_string(&answer).unwrap().starts_with("{\"value\":\"\u{fffd}\""));
    }
}
