//! How values are asked for by the node that holds their slot now.

use std::collections::HashMap;

use ring::{Epoch, NodeId};

use crate::Held;

/// What a node asks of one that holds, or has just lost, a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The asker.
    pub node: NodeId,
    /// The asker's epoch.
    pub epoch: Epoch,
    /// What it wants.
    pub wanted: Wanted,
    /// How many bytes of entries the reply may have, about.
    pub max_bytes: u64,
    /// The version of the protocol that the asker speaks; 0: not told.
    pub protocol: u32,
}

/// Which values are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those of these keys, as far as they are in memory.
    Keys(Vec<String>),
    /// All of these slots, page by page.
    Slots {
        /// The slots' numbers.
        slots: Vec<u16>,
        /// 0 at first, then what the last page said.
        cursor: u64,
        /// Which groups' values.
        of: Of,
    },
    /// None any more: as far as the asker is concerned, what departs can be dropped.
    Done,
}

/// Of which groups a pull of slots is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Of all.
    AllGroups,
    /// Of plain groups alone: the asker has not confirmed its epoch, and may take no others.
    PlainGroups,
}

/// What an owner tells a replica: keys that it has stored, for the replica to [pull](Pull).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The owner.
    pub node: NodeId,
    /// The keys.
    pub keys: Vec<String>,
    /// The version of the protocol that the owner speaks; 0: not told.
    pub protocol: u32,
}

/// A node's answer to a [`Pull`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The node that answered.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: u64,
    /// Its epoch.
    pub epoch: Epoch,
    /// The entries.
    pub entries: Vec<Held>,
    /// Where to go on; 0 if that was all.
    pub cursor: u64,
    /// The digests of the entries' groups by the answering node's catalog.
    pub groups: HashMap<String, u64>,
}
