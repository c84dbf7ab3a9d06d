//! A node's counters and sizes.

use std::time::Duration;

use serde::Serialize;

use crate::time::millis;

/// A node's counters and sizes since its start. Serializes with times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeStats {
    /// The node's id.
    pub node: String,
    /// Which life of the node this is.
    pub incarnation: u64,
    /// The epoch of its ring.
    pub epoch: u64,
    /// The build.
    pub version: String,
    /// Time since its start.
    #[serde(rename = "uptime_ms", serialize_with = "millis")]
    pub uptime: Duration,
    /// Values in memory.
    pub entries: u64,
    /// Negative entries in memory.
    pub negative_entries: u64,
    /// Bytes in use, keys and overhead counted.
    pub bytes: u64,
    /// Bytes that may be used.
    pub capacity_bytes: u64,
    /// Values that are compressed in memory.
    pub compressed_entries: u64,
    /// Bytes that these take.
    pub compressed_bytes: u64,
    /// Bytes that these had.
    pub compressed_plain_bytes: u64,
    /// Lookups served from memory.
    pub hits: u64,
    /// Lookups served by a negative entry.
    pub negative_hits: u64,
    /// Lookups that filled.
    pub misses: u64,
    /// Lookups that shared another's fill.
    pub shared: u64,
    /// Fills.
    pub fills: u64,
    /// Fills that failed.
    pub fill_errors: u64,
    /// Fills that were served but not stored.
    pub fills_refused: u64,
    /// Keys removed on request or by a change.
    pub removes: u64,
    /// Those of them that were in memory.
    pub removes_hit: u64,
    /// Tags removed.
    pub tag_removes: u64,
    /// Group flushes.
    pub flushes: u64,
    /// Entries that made room.
    pub evictions: u64,
    /// Entries whose time was over.
    pub expirations: u64,
    /// Calls forwarded to an owner.
    pub forwards: u64,
    /// Slots held.
    pub slots: u32,
    /// Whether the node can't prove its membership and serves nothing from memory.
    pub fenced: bool,
    /// By group.
    pub groups: Vec<GroupStats>,
}

/// One group's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupStats {
    /// The group's name.
    pub name: String,
    /// Lookups served from memory.
    pub hits: u64,
    /// Lookups that filled.
    pub misses: u64,
    /// Fills.
    pub fills: u64,
}
