//! Which slots this node holds, since when, and under which epoch.
//!
//! Every time that a slot is gained it gets a new acquisition number. Entries, tokens and fills carry the number under
//! which they began; when the slot is lost, the number ends, and all of them with it, whether or not they have been
//! swept yet (R5). Readers take no lock.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use parking_lot::Mutex;
use ring::{
    Epoch, NodeId, Ring, SLOTS, Slot,
    rules::{self, Rule},
};
use tokio::time::Instant;

/// The slots of one node.
#[derive(Debug)]
pub struct Slots {
    node: NodeId,
    base: Instant,
    held: Box<[Held]>,
    epoch: AtomicU64,
    confirmed: AtomicU64,
    count: AtomicU64,
    /// Guards changes.
    changes: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Held {
    /// 0 while the slot is not held.
    acquisition: AtomicU64,
    /// Nanoseconds since `base`; written before the acquisition is.
    at: AtomicU64,
}

/// What was done last.
#[derive(Debug, Default)]
struct Last {
    acquisition: u64,
    /// `None` before the first ring.
    ring: Option<Epoch>,
}

/// What a new ring changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The epoch that now holds.
    pub epoch: Epoch,
    /// The epoch that held before; `None` for the first ring.
    pub previous: Option<Epoch>,
    /// Slots that this node did not hold before.
    pub gained: usize,
    /// Slots that this node no longer holds.
    pub lost: usize,
}

impl Slots {
    /// A node that holds nothing yet.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            base: Instant::now(),
            held: (0..SLOTS).map(|_| Held::default()).collect(),
            epoch: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            count: AtomicU64::new(0),
            changes: Mutex::default(),
        }
    }

    /// The acquisition under which the slot of this number is held, or `None`.
    pub fn acquisition(&self, slot: u16) -> Option<u64> {
        match self.held(slot).acquisition.load(Acquire) {
            0 => None,
            id => Some(id),
        }
    }

    /// Like [`acquisition`](Self::acquisition), with the time of the acquisition.
    pub(crate) fn acquired(&self, slot: u16) -> Option<(u64, Instant)> {
        let held = self.held(slot);
        let id = held.acquisition.load(Acquire);
        // If the slot changes hands between the two loads, the time is a later one, which only refuses more.
        let at = self.base + std::time::Duration::from_nanos(held.at.load(Acquire));
        (id != 0).then_some((id, at))
    }

    /// Takes over a ring: what is lost is no longer served or filled when this returns, what is gained is in quarantine
    /// from now on. A ring that is not newer than the one that holds changes nothing; then the result is `None`.
    pub fn apply(&self, ring: &Ring, now: Instant) -> Option<Change> {
        let mut last = self.changes.lock();
        if last.ring.is_some_and(|epoch| ring.epoch().0 <= epoch.0) {
            return None;
        }
        let previous = last.ring.replace(ring.epoch());
        let (mut gained, mut given_up, mut count) = (0, 0, 0);
        for (number, held) in self.held.iter().enumerate() {
            let holds = Slot::new(number as u16).is_some_and(|slot| ring.holds(&self.node, slot));
            let held_before = held.acquisition.load(Acquire) != 0;
            count += u64::from(holds);
            if holds && !held_before {
                self.acquire(held, &mut last, now);
                gained += 1;
            } else if !holds && held_before {
                if rules::holds(Rule::Leaving) {
                    held.acquisition.store(0, Release);
                }
                given_up += 1;
            }
        }
        self.count.store(count, Release);
        self.epoch.store(ring.epoch().0, Release);
        Some(Change { epoch: ring.epoch(), previous, gained, lost: given_up })
    }

    /// Begins every held slot anew, as if all had been lost and gained: nothing filled before is ever served or stored.
    pub fn renew(&self, now: Instant) {
        let mut last = self.changes.lock();
        for held in &self.held {
            if held.acquisition.load(Acquire) != 0 {
                self.acquire(held, &mut last, now);
            }
        }
    }

    /// The epoch of the last ring taken over.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Acquire))
    }

    /// The last epoch of which nothing lost is kept.
    pub fn confirmed(&self) -> Epoch {
        Epoch(self.confirmed.load(Acquire))
    }

    /// Notes that nothing of the slots lost up to `epoch` is in memory any more.
    pub fn confirm(&self, epoch: Epoch) {
        self.confirmed.fetch_max(epoch.0, Release);
    }

    /// How many slots the node holds.
    pub fn count(&self) -> u64 {
        self.count.load(Acquire)
    }

    fn acquire(&self, held: &Held, last: &mut Last, now: Instant) {
        last.acquisition += 1;
        held.at.store(now.duration_since(self.base).as_nanos() as u64, Release);
        held.acquisition.store(last.acquisition, Release);
    }

    /// Gains or loses one slot.
    #[cfg(test)]
    pub(crate) fn set(&self, slot: u16, holds: bool) {
        let mut last = self.changes.lock();
        let held = self.held(slot);
        match (holds, held.acquisition.load(Acquire) != 0) {
            (true, false) => self.acquire(held, &mut last, Instant::now()),
            (false, true) => held.acquisition.store(0, Release),
            _ => {}
        }
    }

    fn held(&self, slot: u16) -> &Held {
        &self.held[usize::from(slot) % self.held.len()]
    }
}
