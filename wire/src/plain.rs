//! Plain groups: writes without a token, in the order of each key's owner.

use std::time::Duration;

use bytes::Bytes;
use ring::{Epoch, NodeId};

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Gives it a value.
    Put(Put),
    /// Has its value expire after this time, at the end of the group's `ttl` at the latest.
    Expire(Duration),
    /// Takes its value away.
    Remove,
}

/// A value on its way to a plain group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The value; any bytes.
    pub value: Bytes,
    /// How long it is to be there.
    pub lifetime: Lifetime,
    /// Under which condition it is written.
    pub only: Only,
}

/// How long a value is to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the group's `ttl` says.
    #[default]
    Group,
    /// For this long, or for the group's `ttl` if that is less.
    For(Duration),
    /// As long as the value that it takes the place of; without one, as the group says.
    Keep,
}

/// Under which condition a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// Whatever the key has.
    #[default]
    Always,
    /// If it has no value.
    IfAbsent,
    /// If it has one.
    IfPresent,
}

/// What became of a write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Why nothing was written, one word: `exists` or `absent` (the condition, or nothing to expire or remove), `too_large`, `not_kept` (its
    /// time would be over at once); `None` if it was.
    pub refused: Option<String>,
    /// The node that ordered it, the owner of the key's slot.
    pub node: String,
    /// That node's epoch.
    pub epoch: u64,
}

/// What one holder of a slot knew of a key before its owner ordered a write; of use to that holder alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderToken {
    /// The holder's process.
    pub life: u64,
    /// The holder's incarnation.
    pub incarnation: u64,
    /// The last of what its gate had logged.
    pub seq: u64,
    /// The generation of the key's group.
    pub generation: u64,
    /// The acquisition of the key's slot.
    pub acquisition: u64,
    /// The last removal of a tag.
    pub tags: u64,
    /// When, in microseconds of the holder's clock.
    pub at: u64,
}

/// What an owner has another holder keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The owner.
    pub node: NodeId,
    /// The epoch at which it ordered the write.
    pub epoch: Epoch,
    /// The key.
    pub key: String,
    /// What the holder gave before the write was ordered.
    pub token: HolderToken,
    /// The value; `None` if the key was removed.
    pub value: Option<Bytes>,
    /// How long it is to be there, counted from the token.
    pub ttl: Duration,
    /// The digest of the key's group by the owner's catalog.
    pub group_digest: u64,
}

/// What a node answers to a write that another one brought to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// It owns the slot and has ordered it.
    Written(Written),
    /// It does not own the slot at this epoch; nothing was done.
    NotOwner(Epoch),
}

impl Put {
    /// Written whatever the key has, for as long as the group says.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), lifetime: Lifetime::Group, only: Only::Always }
    }
}

impl Written {
    /// Whether it was written.
    pub fn is_done(&self) -> bool {
        self.refused.is_none()
    }
}
