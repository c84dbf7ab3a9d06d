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

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
