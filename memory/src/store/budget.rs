//! The bytes that all shards of a part share.

use std::sync::atomic::Ordering::Relaxed;

use super::sync::{AtomicU32, AtomicU64};

/// Bytes in use, of as many as there may be, and a clock that ticks with every insert.
///
/// Only sums are kept here, so no order with other memory is needed: whoever reserves bytes owns them.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    capacity: u64,
    inserts: AtomicU32,
}

impl Budget {
    pub(super) fn new(capacity: u64) -> Self {
        Self { used: AtomicU64::new(0), capacity, inserts: AtomicU32::new(0) }
    }

    /// Takes `bytes` if they are there.
    pub(super) fn reserve(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.capacity);
        self.used.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    /// Takes `bytes` whether or not they are there; the caller then makes room for them.
    pub(super) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Relaxed);
    }

    /// Gives `bytes` back.
    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn left(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    pub(super) fn is_over(&self) -> bool {
        self.used() > self.capacity
    }

    /// Counts an insert; returns how many there were before.
    pub(super) fn tick(&self) -> u32 {
        self.inserts.fetch_add(1, Relaxed)
    }

    /// How many inserts there were, wrapping.
    pub(super) fn now(&self) -> u32 {
        self.inserts.load(Relaxed)
    }
}
