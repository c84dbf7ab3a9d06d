//! What can go wrong with a membership, by what the caller can do about it.

use crate::{Epoch, NodeId};

/// Why a membership or a registration could not answer.
///
/// Cheap to clone: one failed read may answer many callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store of the membership did not answer; trying again later may succeed.
    #[error("membership is not available: {endpoints}: {reason}")]
    Unavailable {
        /// Where the membership is kept, as configured.
        endpoints: String,
        /// What the last attempt ran into.
        reason: String,
    },
    /// An epoch was asked for that the membership has not reached; whoever sent it reads another membership.
    #[error(
        "epoch {wanted} is ahead of the membership, which is at {found}; do all parts use the same etcd and cluster name?"
    )]
    Ahead {
        /// The epoch that was asked for.
        wanted: Epoch,
        /// The newest one there is.
        found: Epoch,
    },
    /// An epoch was asked for that is of another list of members than this one's, or of etcd where this one is a list.
    #[error(
        "asked to go by epoch {wanted}, and this one goes by the fixed list of epoch {found}: cluster.members (ids and weights) and \
         cluster.replicas must be the same for all nodes and the sync service"
    )]
    OtherList {
        /// The epoch that was asked for.
        wanted: Epoch,
        /// The one that there is.
        found: Epoch,
    },
    /// etcd's history went back: it was wiped, or restored from a backup. Epochs can't be compared any more.
    #[error(
        "etcd's revision went back from {known} to {found}, so it was wiped or restored from a backup; \
         restart all nodes and sync services, so that they start from its new history"
    )]
    WentBack {
        /// The revision that was known.
        known: Epoch,
        /// The revision that etcd is at now.
        found: Epoch,
    },
    /// The node has no lease at the moment, so there is nothing to change; it registers again by itself, as a new incarnation.
    #[error("node {id} is not registered: its lease has ended, or it has not been granted yet")]
    NotRegistered {
        /// The node.
        id: NodeId,
    },
    /// A member goes by terms that this version can't be a member beside.
    #[error(transparent)]
    Conflict(#[from] crate::terms::Conflict),
    /// A setting that can never work.
    #[error("{0}")]
    Invalid(String),
    /// The membership was closed.
    #[error("membership is closed")]
    Closed,
}
