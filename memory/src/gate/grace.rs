//! Entries whose time is over, kept for a while for when the database can't answer (`stale_if_error`).
//!
//! In the store such a group's entries expire later by its grace; the gate adds it on their way in and takes it off whenever it shows one. So
//! nobody sees the difference but whoever asks for [`Gate::stale`]: what is stale is no hit, is not given to other nodes, not
//! paged through, and is replaced by whatever comes. What a removal, a flush or a lost slot ends is gone either way.

use std::time::Duration;

use tokio::time::Instant;

use super::{Gate, Place};
use crate::store::{Entry, Stamp};

impl Gate {
    /// Keeps entries of groups beyond their time, by the groups' numbers.
    #[must_use]
    pub fn with_graces(mut self, graces: impl IntoIterator<Item = Duration>) -> Self {
        for (group, grace) in self.groups.iter_mut().zip(graces) {
            group.grace = grace;
        }
        self
    }

    /// Returns a key's entry, also if its time has been over for up to its group's grace. It was not removed, not flushed, and is of a
    /// slot that this node holds; the node's own membership is the caller's to check. Counts as no use.
    pub fn stale(&self, place: Place, key: &str, now: Instant) -> Option<Entry> {
        let entry = self.store.peek(place.hash, key, now, |stamp| self.check(stamp))?;
        self.tags.check(entry.tags.as_ref()).ok()?;
        Some(self.shown(entry))
    }

    pub(super) fn grace(&self, group: u16) -> Duration {
        self.groups.get(usize::from(group)).map_or(Duration::ZERO, |group| group.grace)
    }

    /// An entry with its own time, if that is not over.
    pub(super) fn in_time(&self, entry: Entry, now: Instant) -> Option<Entry> {
        let entry = self.shown(entry);
        (entry.expires > now).then_some(entry)
    }

    /// Whether an entry that the store keeps until `expires` is in its own time.
    pub(super) fn runs(&self, stamp: &Stamp, expires: Instant, now: Instant) -> bool {
        expires > now + self.grace(stamp.group)
    }

    fn shown(&self, entry: Entry) -> Entry {
        let expires = entry.expires.checked_sub(self.grace(entry.stamp.group)).unwrap_or(entry.filled);
        Entry { expires, ..entry }
    }
}
