//! How far the change stream is applied on a node, told in that node's own clock.

use std::sync::Arc;

use ring::{Epoch, NodeId};

/// A reading of a node's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Which clock it is; changes when the process does.
    pub id: u64,
    /// Microseconds since its beginning.
    pub micros: u64,
}

/// One partition of the change stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number there.
    pub number: i32,
}

/// All changes of a partition that were committed before `at` are applied on the node that this is told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The partition.
    pub partition: PartitionName,
    /// The first offset that is not applied yet.
    pub next: i64,
    /// Microseconds of the node's clock; negative is before its beginning.
    pub at: i64,
}

/// What one instance of the sync service knows about a node's watermarks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// The clock that they are told in.
    pub clock: u64,
    /// The partitions that the instance reads.
    pub partitions: Vec<Watermark>,
    /// All partitions that there are, whoever reads them; empty if the instance does not know.
    pub all: Vec<PartitionName>,
    /// When `all` was asked for, in microseconds of the node's clock.
    pub listed: i64,
}

/// How the sync service tells a node how far it is, also when nothing changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender's epoch; a node whose own is older catches up, without making the sender wait.
    pub epoch: Epoch,
    /// How far the change stream is applied on the node.
    pub watermarks: Option<Watermarks>,
}

/// A node's answer to a [`Heartbeat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The node.
    pub node: NodeId,
    /// Which life of the node answered.
    pub incarnation: u64,
    /// The epoch of its ring.
    pub epoch: Epoch,
    /// The last epoch that it has confirmed.
    pub confirmed_epoch: Epoch,
    /// Its clock, read while it answered.
    pub clock: Option<Clock>,
}
