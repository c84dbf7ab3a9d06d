//! What is in one node's memory.

use std::time::Duration;

use bytes::Bytes;
use ring::Epoch;

/// Which entries of one node's memory to return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Groups to return entries of; empty for all.
    pub groups: Vec<String>,
    /// Where to begin: 0 for the beginning, what the last page said, or any number for a random place.
    pub cursor: u64,
    /// How many entries to look at, about; 0 for 1000.
    pub count: u32,
    /// Whether to return values, or keys and times alone.
    pub values: bool,
    /// Return the entries of these keys alone, those that there are; cursor and count mean nothing then.
    pub keys: Vec<String>,
}

/// Entries of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries that the node would have served from memory.
    pub entries: Vec<Held>,
    /// Where to go on; 0 if that was all.
    pub cursor: u64,
    /// The node.
    pub node: String,
    /// Its epoch.
    pub epoch: u64,
}

/// An entry as it is in a node's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The key.
    pub key: String,
    /// The value as JSON; `None` for a negative entry, and where values were not asked for.
    pub value: Option<Bytes>,
    /// How long ago its read from the database began.
    pub age: Duration,
    /// How long until it expires.
    pub ttl: Duration,
    /// The hashes of its tags; `None` where they are not told.
    pub tags: Option<Vec<u64>>,
    /// The epoch by which the answering node lost the slot, if that is not told of removals since (`proto`'s `Entry.lost_at`).
    pub lost_at: Option<Epoch>,
}
