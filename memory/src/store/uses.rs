//! Hits that wait to be told to the policy.
//!
//! A hit holds its shard's lock for reading only, and policies with queues in order of use must change theirs. So hits are noted
//! here, and whoever next holds the lock for writing tells them, before anything else is changed: no noted number of a node is
//! ever of another entry. What comes when it is full is lost: a policy is a guess, and hits must not wait.

use std::sync::atomic::Ordering::Relaxed;

use super::sync::{AtomicU64, AtomicUsize};

const SIZE: usize = 64;

#[derive(Debug)]
pub(super) struct Uses {
    slots: Box<[AtomicU64]>,
    /// Hits since the last drain, lost ones included.
    count: AtomicUsize,
}

impl Uses {
    /// A place for hits; for a policy that does not follow them, none.
    pub(super) fn new(follows: bool) -> Self {
        let size = if follows { SIZE } else { 0 };
        Self { slots: (0..size).map(|_| AtomicU64::new(0)).collect(), count: AtomicUsize::new(0) }
    }

    /// Notes a hit. The caller holds the lock for reading; that it is given up orders this before the next drain.
    pub(super) fn note(&self, id: u32, print: u32) {
        if let Some(slot) = self.slots.get(self.count.fetch_add(1, Relaxed)) {
            slot.store(u64::from(id) << 32 | u64::from(print), Relaxed);
        }
    }

    /// Whether hits are about to be lost.
    pub(super) fn is_full(&self) -> bool {
        !self.slots.is_empty() && self.count.load(Relaxed) >= self.slots.len()
    }

    /// Shows what was noted, in order, and forgets it. The caller holds the lock for writing.
    pub(super) fn drain(&mut self, mut tell: impl FnMut(u32, u32)) {
        let count = self.count.load(Relaxed).min(self.slots.len());
        for slot in &self.slots[..count] {
            let noted = slot.load(Relaxed);
            tell((noted >> 32) as u32, noted as u32);
        }
        self.count.store(0, Relaxed);
    }
}
