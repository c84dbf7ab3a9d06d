//! The version of the membership.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the membership that a ring was computed from.
///
/// A ring at epoch `e` has exactly the members that etcd listed at its revision `e`. Epochs of different observers compare: of two rings
/// the one with the greater epoch knows everything that the other one knows, and perhaps more. Two rings with the same members may have
/// different epochs; [`Membership::catch_up`](crate::Membership::catch_up) levels them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Epochs of fixed lists are this number and above, and below twice it: far beyond etcd's revisions, and exact in JSON and in metrics.
    const LISTS: u64 = 1 << 52;

    /// The epoch of a fixed list of members with this digest.
    pub const fn of_list(digest: u64) -> Self {
        Self(Self::LISTS | (digest & (Self::LISTS - 1)))
    }

    /// Whether this is the epoch of a fixed list.
    pub const fn is_of_list(self) -> bool {
        self.0 >= Self::LISTS
    }

    /// Whether the two can be of one membership, so that the greater one knows more. A fixed list has one epoch for ever: any other one is
    /// another list, or no list. An observer that knows nothing yet is at 0.
    pub const fn is_of_same_history(self, other: Self) -> bool {
        self.0 == other.0 || self.0 == 0 || other.0 == 0 || !(self.is_of_list() || other.is_of_list())
    }

    /// Whether somebody at `other` knows of members that this one does not: a later epoch, or another list.
    pub const fn is_behind(self, other: Self) -> bool {
        other.0 > self.0 || !self.is_of_same_history(other)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
