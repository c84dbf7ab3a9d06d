//! Plain values of lost slots, which are given away whatever else the node gives or takes, and whether or not it has confirmed its epoch.
//!
//! Who has confirmed is not told of removals any more, so what lingers may be old. It does no harm at a holder that has been told of every removal
//! since this node lost the slot, and takes only values of keys that nothing has happened to
//! ([`Gate::store_pulled`](crate::gate::Gate::store_pulled)). Each holder is told of all removals since it acquired the slot; so it is enough that it
//! acquired it by the ring by which this node lost it, or by an earlier one. By which ring that was is told with the value, to who asks by the ring that
//! this node goes by now.
//!
//! *The slot goes from `a` to `b` and from there to `c`, which has skipped the ring in between and asks `a`; what was removed meanwhile was removed from
//! `b` alone.*

use std::{
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use ring::{Epoch, SLOTS, Slot};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Lingering {
    /// For how long at most; zero for never.
    window: Duration,
    slots: Box<[Lost]>,
    base: Instant,
}

#[derive(Debug, Default)]
struct Lost {
    /// The ended acquisition; 0 if nothing lingers.
    acquisition: AtomicU64,
    /// The epoch by which it ended; written before the acquisition is.
    at: AtomicU64,
    /// Nanoseconds since `base`.
    until: AtomicU64,
}

impl Lingering {
    pub(super) fn new(window: Duration) -> Self {
        let slots = if window.is_zero() { 0 } else { usize::from(SLOTS) };
        let slots = (0..slots).map(|_| Lost::default()).collect();
        Self { window, slots, base: Instant::now() }
    }

    /// A slot was lost by the ring of this epoch. Before its acquisition ends, so that a sweep in between finds one of the two.
    pub(super) fn lost(&self, slot: Slot, acquisition: u64, epoch: Epoch, now: Instant) {
        let Some(lost) = self.slots.get(slot.index()) else { return };
        let until = now.saturating_duration_since(self.base) + self.window;
        lost.acquisition.store(0, Release);
        lost.until.store(until.as_nanos() as u64, Release);
        lost.at.store(epoch.0, Release);
        lost.acquisition.store(acquisition, Release);
    }

    /// The list of members has this epoch too, which is a later one: two observers may know one list by two epochs.
    pub(super) fn known_as(&self, epoch: Epoch) {
        for lost in &self.slots {
            lost.at.store(epoch.0, Release);
        }
    }

    /// Nothing of a slot lingers any more.
    pub(super) fn end(&self, slot: Slot) {
        if let Some(lost) = self.slots.get(slot.index()) {
            lost.acquisition.store(0, Release);
        }
    }

    /// The acquisition under which values of a slot linger, and the epoch by which it ended.
    pub(super) fn of(&self, slot: u16, now: Instant) -> Option<(u64, Epoch)> {
        let lost = self.slots.get(usize::from(slot))?;
        let acquisition = lost.acquisition.load(Acquire);
        let (at, until) = (Epoch(lost.at.load(Acquire)), lost.until.load(Acquire));
        // Once more, behind the others: they are of this acquisition.
        let lasts = lost.acquisition.load(Acquire) == acquisition
            && (now.saturating_duration_since(self.base).as_nanos() as u64) < until;
        (acquisition != 0 && lasts).then_some((acquisition, at))
    }
}
