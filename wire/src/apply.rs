//! What the sync service has nodes apply, and how they acknowledge it.

use ring::{Epoch, NodeId};

use crate::{Clock, Watermarks};

/// What the sync service tells a node to apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apply {
    /// The epoch under which the call was planned; a node whose own is older catches up first.
    pub epoch: Epoch,
    /// Keys to remove.
    pub remove: Vec<String>,
    /// Tags to remove: no entry that carries one may be served any more.
    pub remove_tags: Vec<String>,
    /// Groups to flush.
    pub flush: Vec<String>,
    /// Where the newest change came from: `topic/partition@offset`.
    pub origin: String,
    /// How far the change stream was applied on the node before.
    pub watermarks: Option<Watermarks>,
}

/// A node's acknowledgement: all of an [`Apply`] holds there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The node.
    pub node: NodeId,
    /// Which life of the node acknowledged.
    pub incarnation: u64,
    /// The epoch at which it was applied.
    pub epoch: Epoch,
    /// The last epoch that the node has confirmed.
    pub confirmed_epoch: Epoch,
    /// How many of the keys were in memory.
    pub removed: u64,
    /// The node's clock, read while it answered.
    pub clock: Option<Clock>,
}
