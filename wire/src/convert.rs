//! Messages to vocabulary and back. Both ways live here, so that a field can't be carried one way and forgotten the other.

mod answer;
mod apply;
mod entries;
mod explain;
mod hot;
mod plain;
mod ring;
mod stats;

use std::time::Duration;

pub use self::{
    answer::UnknownOutcome,
    ring::{ring_of_reply, ring_reply},
};
use crate::time::to_millis;

/// A claim in whole milliseconds: rounded up, so that it never says fresher than it is.
fn claimed_millis(freshness: Duration) -> u64 {
    to_millis(freshness.saturating_add(Duration::from_nanos(999_999)))
}

#[cfg(test)]
mod tests;
