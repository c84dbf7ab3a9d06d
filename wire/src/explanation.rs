//! All that a node knows about one key.

use std::time::Duration;

use serde::Serialize;

use crate::time::{millis, optional_millis};

/// All that a node knows about one key. Serializes with times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The key.
    pub key: String,
    /// The group whose template it matches.
    pub group: String,
    /// Its slot.
    pub slot: u16,
    /// Who owns that slot; empty if nobody does.
    pub owner: String,
    /// Who else holds it.
    pub replicas: Vec<String>,
    /// The epoch of the node's ring.
    pub epoch: u64,
    /// The node that this describes.
    pub node: String,
    /// Whether that node holds the slot.
    pub holds: bool,
    /// What is in its memory.
    pub entry: EntryState,
    /// How long ago the entry was filled; `None` without an entry.
    #[serde(rename = "age_ms", serialize_with = "optional_millis")]
    pub age: Option<Duration>,
    /// How long until it expires; `None` without an entry.
    #[serde(rename = "ttl_ms", serialize_with = "optional_millis")]
    pub ttl: Option<Duration>,
    /// Bytes of the value.
    pub size: u64,
    /// The last removal of the key that the node remembers.
    pub last_removal: Option<Removal>,
    /// Whether the key is being filled.
    pub fill_in_flight: bool,
    /// The query that fills the group; empty for a look-aside group.
    pub query: String,
    /// What the node remembers of the key, newest first.
    pub events: Vec<Event>,
    /// How old a value served by this node now could be at worst.
    #[serde(rename = "freshness_ms", serialize_with = "millis")]
    pub freshness: Duration,
}

/// One thing that happened to a key on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// How long ago.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
    /// A word from a small set, such as `filled` or `removed`.
    pub what: String,
    /// Why, or where it came from.
    pub detail: String,
}

/// What a node's memory holds under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Nothing.
    Absent,
    /// A value.
    Value,
    /// The knowledge that there is no such row.
    Negative,
}

/// A removal that a node remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// How long ago it was applied.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
    /// Where it came from: `topic/partition@offset`, or the words `request`, `flush`, `slot acquired`.
    pub origin: String,
}
