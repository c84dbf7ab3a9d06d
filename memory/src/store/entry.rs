use std::sync::Arc;

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

/// Hashes of an entry's tags; usually it has none.
pub type Tags = Option<Arc<[u64]>>;

/// One key's entry, as it was given to the store and as the store shows it; cheap to clone.
///
/// Times are kept in whole milliseconds, both rounded down: an entry may look older than it is, never younger, and expires
/// earlier, never later.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The value, or `None` for a negative entry. However it is kept in memory, this is what was filled.
    pub value: Option<Bytes>,
    /// Under what it was filled.
    pub stamp: Stamp,
    /// When its read from the database began.
    pub filled: Instant,
    /// When it is no longer served.
    pub expires: Instant,
    /// What it was tagged with.
    pub tags: Tags,
}

/// What becomes of the value of an entry that is found.
pub trait Take {
    /// Of one that lies in memory among others: a copy is what can be held on to.
    fn lent(&mut self, value: &[u8]) -> Bytes;

    /// Of one that stands for itself.
    fn whole(&mut self, value: Bytes) -> Bytes;
}

/// The entry has its value.
#[derive(Debug)]
pub struct Keep;

impl Take for Keep {
    fn lent(&mut self, value: &[u8]) -> Bytes {
        Bytes::copy_from_slice(value)
    }

    fn whole(&mut self, value: Bytes) -> Bytes {
        value
    }
}

/// The value is shown to a function, once, and the entry has an empty one in its place. The shard's lock may be held for reading
/// meanwhile.
#[derive(Debug)]
pub struct Show<F>(pub F);

impl<F: FnMut(&[u8])> Take for Show<F> {
    fn lent(&mut self, value: &[u8]) -> Bytes {
        (self.0)(value);
        Bytes::new()
    }

    fn whole(&mut self, value: Bytes) -> Bytes {
        self.lent(&value)
    }
}
