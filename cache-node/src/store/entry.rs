use std::{mem, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

/// Under what a value was filled. A value whose stamp is no longer the node's own is never served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The key's group.
    pub group: u16,
    /// The key's slot.
    pub slot: u16,
    /// The group's generation; a flush begins a new one.
    pub generation: u64,
    /// The acquisition of the slot; losing the slot ends it, getting it again begins another.
    pub acquisition: u64,
}

/// One key's entry; cheap to clone.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The value, or `None` for a negative entry.
    pub value: Option<Bytes>,
    /// Under what it was filled.
    pub stamp: Stamp,
    /// When its read from the database began.
    pub filled: Instant,
    /// When it is no longer served.
    pub expires: Instant,
}

/// Bytes that an entry costs beyond its key and value: its node, the table's slot at its average load, the counts of
/// the shared key, the shared part of the value, and what the allocator adds to two allocations.
const OVERHEAD: usize = mem::size_of::<super::shard::Node>() + 8 + 2 * mem::size_of::<usize>() + 24 + 2 * 16;

/// Bytes that an entry counts for.
pub(super) const fn weight(key: usize, value: usize) -> usize {
    OVERHEAD + key + value
}

/// Bytes that this entry counts for.
pub(super) fn weight_of(key: &Arc<str>, entry: &Entry) -> usize {
    weight(key.len(), entry.value.as_ref().map_or(0, Bytes::len))
}
