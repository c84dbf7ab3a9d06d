//! Where a key belongs: what gate, store and fills know it by.

/// Where a key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The key's hash, see [`hash`].
    pub hash: u64,
    /// The number of its group.
    pub group: u16,
    /// The number of its slot.
    pub slot: u16,
}

/// The hash of a key, for gate, store and fills; and of a tag, the same on all nodes.
pub fn hash(key: &str) -> u64 {
    hash_bytes(key.as_bytes())
}

/// [`hash`] of a key that lies in memory as bytes.
pub fn hash_bytes(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}
