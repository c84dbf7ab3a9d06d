//! Which slots this node holds, since when, and under which epoch.
//!
//! Every time that a slot is gained it gets a new acquisition number. Entries, tokens and fills carry the number under
//! which they began; when the slot is lost, the number ends, and all of them with it, whether or not they have been
//! swept yet (R5). Readers take no lock.
//!
//! A lost slot may *depart*: nobody reads or fills it here any more, but what was stored under its ended acquisition stays
//! for a while, to answer pulls of the node that holds it now (R10). A slot of which the node was the owner and is a replica now departs
//! too: it is read and filled as before, and what it has is given to who owns it now. Until that is over the node has not confirmed its
//! epoch, and so takes nothing from others. Plain values of lost slots linger besides (`lingering`), whether or not the slots depart.

mod lingering;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use ring::{
    Epoch, NodeId, Ring, SLOTS, Slot,
    rules::{self, Rule},
};
use tokio::{sync::watch, time::Instant};

use self::lingering::Lingering;
use crate::protocol;

/// The slots of one node.
#[derive(Debug)]
pub struct Slots {
    node: NodeId,
    base: Instant,
    /// By slot, 0 while it is not held. What every read looks at, and apart from the rest, so that it stays in the processor's cache.
    acquisitions: Box<[AtomicU64]>,
    held: Box<[Held]>,
    epoch: AtomicU64,
    confirmed: watch::Sender<Epoch>,
    count: AtomicU64,
    departing: AtomicU64,
    lingering: Lingering,
    /// Guards changes.
    changes: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Held {
    /// Nanoseconds since `base`; written before the acquisition is.
    at: AtomicU64,
    /// The acquisition whose values are still given away, though this node does not own them: an ended one, or of what it holds as a replica
    /// since; 0 if there is none.
    departing: AtomicU64,
    /// Whether this node is the owner, and no replica.
    owned: AtomicBool,
    /// The epoch of the ring by which it was acquired, the greatest there is if it was by a new life; written before the acquisition is.
    since: AtomicU64,
}

/// What was done last.
#[derive(Debug, Default)]
struct Last {
    acquisition: u64,
    /// `None` before the first ring.
    ring: Option<Arc<Ring>>,
    /// The life that the memory belongs to; `None` before the first one.
    incarnation: Option<u64>,
}

impl Last {
    /// Whether a ring lists the node in its present life. Only then does the node hold slots by it.
    fn lists(&self, node: &NodeId, ring: &Ring) -> bool {
        self.incarnation.is_none_or(|own| ring.member(node).is_some_and(|listed| listed.incarnation == own))
    }
}

/// Whether the values of lost slots are kept for a while, to be given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// They are, if somebody could want them and this node does not rather take (see [`protocol::gives`]).
    Depart,
    /// They are dropped at once.
    Drop,
}

/// What a new ring changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// The epoch that now holds.
    pub epoch: Epoch,
    /// The ring that held before; `None` for the first one.
    pub previous: Option<Arc<Ring>>,
    /// Slots that this node did not hold before.
    pub gained: Vec<Slot>,
    /// Slots that this node was a replica of, and owns now.
    pub promoted: Vec<Slot>,
    /// Slots that this node no longer holds.
    pub lost: usize,
    /// The slots that this change made depart: lost ones, and those that this node owned and is a replica of now.
    pub departed: Vec<Slot>,
    /// Slots that depart now, of this change and of earlier ones.
    pub departing: u64,
}

impl Slots {
    /// A node that holds nothing yet.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            base: Instant::now(),
            acquisitions: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            held: (0..SLOTS).map(|_| Held::default()).collect(),
            epoch: AtomicU64::new(0),
            confirmed: watch::Sender::new(Epoch(0)),
            count: AtomicU64::new(0),
            departing: AtomicU64::new(0),
            lingering: Lingering::new(Duration::ZERO),
            changes: Mutex::default(),
        }
    }

    /// Has plain values of lost slots linger for so long.
    #[must_use]
    pub fn with_lingering(mut self, window: Duration) -> Self {
        self.lingering = Lingering::new(window);
        self
    }

    /// The acquisition under which the slot of this number is held, or `None`.
    pub fn acquisition(&self, slot: u16) -> Option<u64> {
        match self.acquisitions[index(slot)].load(Acquire) {
            0 => None,
            id => Some(id),
        }
    }

    /// Like [`acquisition`](Self::acquisition), with the time of the acquisition.
    pub fn acquired(&self, slot: u16) -> Option<(u64, Instant)> {
        let id = self.acquisition(slot)?;
        // If the slot changes hands between the two loads, the time is a later one, which only refuses more.
        let at = self.base + Duration::from_nanos(self.held(slot).at.load(Acquire));
        Some((id, at))
    }

    /// The acquisition under which values of the slot may still be given away though the node does not own it, or `None`.
    pub fn departs(&self, slot: u16) -> Option<u64> {
        match self.held(slot).departing.load(Acquire) {
            0 => None,
            id => Some(id),
        }
    }

    /// The ended acquisition of a lost slot whose plain values may still be given away, and the epoch by which it ended.
    pub fn lingers(&self, slot: u16) -> Option<(u64, Epoch)> {
        self.lingering.of(slot, Instant::now())
    }

    /// The epoch of the ring since which this node is told of all removals of the slot's keys, or `None` if it does not hold it.
    pub fn acquired_by(&self, slot: u16) -> Option<Epoch> {
        self.acquisition(slot)?;
        // As in `acquired`: a later one, at worst.
        Some(Epoch(self.held(slot).since.load(Acquire)))
    }

    /// The acquisition under which the slot is held, if this node is its owner.
    pub fn owned(&self, slot: u16) -> Option<u64> {
        // The acquisition first: should the slot change hands in between, the number is an ended one.
        let id = self.acquisition(slot)?;
        self.held(slot).owned.load(Acquire).then_some(id)
    }

    /// Takes over a ring: what is lost is no longer served or filled when this returns, what is gained is in quarantine
    /// from now on. A ring that is not newer than the one that holds changes nothing; then the result is `None`.
    ///
    /// If nothing lost is in memory, the ring's epoch is confirmed when this returns.
    ///
    /// A ring that does not list the node's [present life](Self::renew) gives it nothing.
    pub fn apply(&self, ring: &Arc<Ring>, now: Instant, departure: Lost) -> Option<Change> {
        let mut last = self.changes.lock();
        if last.ring.as_ref().is_some_and(|held| ring.epoch() <= held.epoch()) {
            return None;
        }
        let previous = last.ring.replace(ring.clone());
        let listed = last.lists(&self.node, ring);
        if previous.as_ref().is_some_and(|previous| previous.members() == ring.members()) {
            self.lingering.known_as(ring.epoch());
        }
        let (mut gained, mut promoted) = (Vec::new(), Vec::new());
        let (mut given_up, mut demoted, mut before, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for slot in Slot::all() {
            let held = &self.held[slot.index()];
            let holds = listed && ring.holds(&self.node, slot);
            let owns = holds && ring.owner(slot).is_some_and(|owner| owner.id == self.node);
            let (owned, departs) = (held.owned.load(Acquire), held.departing.load(Acquire) != 0);
            count += u64::from(holds);
            match (holds, self.acquisition(slot.get()).is_some()) {
                (true, false) => gained.push(slot),
                (false, true) => given_up.push(slot),
                (true, true) if owns => {
                    if !owned {
                        promoted.push(slot);
                    }
                    held.departing.store(0, Release); // an owner gives as such
                }
                (true, true) if owned => demoted.push(slot),
                _ if departs => before.push(slot),
                _ => {}
            }
        }
        let wanted = |slot: &Slot| ring.owner(*slot).is_some();
        let departing = given_up.len() + demoted.len() + before.len();
        let gives = departure == Lost::Depart
            && protocol::gives(gained.len(), departing)
            && given_up.iter().chain(&demoted).chain(&before).any(wanted);
        if !gives {
            for slot in &before {
                self.held[slot.index()].departing.store(0, Release);
            }
        }
        for slot in &given_up {
            let acquisition = &self.acquisitions[slot.index()];
            // Before the acquisition ends: a sweep in between must find one of the two.
            let departing = if gives { acquisition.load(Acquire) } else { 0 };
            self.held[slot.index()].departing.store(departing, Release);
            if departure == Lost::Depart {
                self.lingering.lost(*slot, acquisition.load(Acquire), ring.epoch(), now);
            }
            if rules::holds(Rule::Leaving) {
                acquisition.store(0, Release);
            }
        }
        if gives {
            for slot in &demoted {
                let acquisition = self.acquisitions[slot.index()].load(Acquire);
                self.held[slot.index()].departing.store(acquisition, Release);
            }
        }
        for slot in &gained {
            // What departed is not this acquisition's.
            self.held[slot.index()].departing.store(0, Release);
            self.lingering.end(*slot);
            self.acquire(slot.index(), &mut last, now, ring.epoch());
        }
        self.own(ring, listed);
        let departing = if gives { departing as u64 } else { 0 };
        self.count.store(count, Release);
        self.departing.store(departing, Release);
        self.epoch.store(ring.epoch().0, Release);
        let settled = previous.as_ref().is_none_or(|previous| previous.epoch() == self.confirmed());
        if given_up.is_empty() && departing == 0 && settled {
            self.confirm(ring.epoch());
        }
        let mut change = Change {
            epoch: ring.epoch(),
            previous,
            gained,
            promoted,
            lost: given_up.len(),
            departed: Vec::new(),
            departing,
        };
        if gives {
            change.departed = given_up;
            change.departed.extend(demoted);
            change.departed.sort_unstable();
        }
        Some(change)
    }

    /// Ends what departs: nothing of it can be reached when this returns, though it may still take memory.
    pub fn end_departing(&self) {
        let _no_change = self.changes.lock();
        for held in &self.held {
            held.departing.store(0, Release);
        }
        self.departing.store(0, Release);
    }

    /// The epoch to confirm after a sweep that begins now; `None` while something departs or if it is confirmed already.
    pub fn unconfirmed(&self) -> Option<Epoch> {
        let last = self.changes.lock();
        let epoch = last.ring.as_ref()?.epoch();
        (self.departing_count() == 0 && self.confirmed() < epoch).then_some(epoch)
    }

    /// Begins a new life: nothing filled before is ever served or stored. Slots are held, all acquired anew, only if the ring
    /// taken over last lists this life.
    ///
    /// *A replica's lease ends; the sync service plans a removal without it; it registers again, and by its old ring pulls the
    /// old value from the owner, which has yet to apply the removal and is not behind that ring: the owner acknowledges at the
    /// plan's epoch, and nobody tells the replica.*
    pub fn renew(&self, incarnation: u64, now: Instant) {
        let mut last = self.changes.lock();
        last.incarnation = Some(incarnation);
        let ring = last.ring.clone().filter(|ring| last.lists(&self.node, ring));
        let mut count = 0;
        for slot in Slot::all() {
            self.held[slot.index()].departing.store(0, Release);
            self.lingering.end(slot);
            if ring.as_ref().is_some_and(|ring| ring.holds(&self.node, slot)) {
                // What was removed by that ring already may have been told to the life before.
                self.acquire(slot.index(), &mut last, now, Epoch(u64::MAX));
                count += 1;
            } else {
                self.acquisitions[slot.index()].store(0, Release);
            }
        }
        match &ring {
            Some(ring) => self.own(ring, true),
            None => self.held.iter().for_each(|held| held.owned.store(false, Release)),
        }
        self.count.store(count, Release);
        self.departing.store(0, Release);
    }

    /// The epoch of the last ring taken over.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Acquire))
    }

    /// The ring taken over last.
    pub fn ring(&self) -> Option<Arc<Ring>> {
        self.changes.lock().ring.clone()
    }

    /// The last epoch of which nothing lost is kept.
    pub fn confirmed(&self) -> Epoch {
        *self.confirmed.borrow()
    }

    /// Notes that nothing of the slots lost up to `epoch` is in memory any more.
    pub fn confirm(&self, epoch: Epoch) {
        self.confirmed.send_if_modified(|confirmed| {
            let newer = epoch > *confirmed;
            if newer {
                *confirmed = epoch;
            }
            newer
        });
    }

    /// Waits until an epoch is confirmed, for ever if it never is. Safe to drop.
    pub async fn confirms(&self, epoch: Epoch) {
        // The sender lives as long as `self`.
        let _ = self.confirmed.subscribe().wait_for(|confirmed| *confirmed >= epoch).await;
    }

    /// How many lost slots still have values to give away.
    pub fn departing_count(&self) -> u64 {
        self.departing.load(Acquire)
    }

    /// The number of the last acquisition: every slot that is held now was acquired by then.
    pub fn last_acquisition(&self) -> u64 {
        self.changes.lock().acquisition
    }

    /// How many slots the node holds.
    pub fn count(&self) -> u64 {
        self.count.load(Acquire)
    }

    /// Notes which slots this node is the owner of.
    fn own(&self, ring: &Ring, listed: bool) {
        for slot in Slot::all() {
            let owned = listed && ring.owner(slot).is_some_and(|owner| owner.id == self.node);
            self.held[slot.index()].owned.store(owned, Release);
        }
    }

    /// `epoch`: since when removals of the slot's keys are told to this acquisition.
    fn acquire(&self, index: usize, last: &mut Last, now: Instant, epoch: Epoch) {
        last.acquisition += 1;
        self.held[index].since.store(epoch.0, Release);
        self.held[index].at.store(now.duration_since(self.base).as_nanos() as u64, Release);
        self.acquisitions[index].store(last.acquisition, Release);
    }

    /// Gains or loses one slot.
    #[cfg(test)]
    pub fn set(&self, slot: u16, holds: bool) {
        let mut last = self.changes.lock();
        match (holds, self.acquisition(slot).is_some()) {
            (true, false) => self.acquire(index(slot), &mut last, Instant::now(), Epoch(1)),
            (false, true) => self.acquisitions[index(slot)].store(0, Release),
            _ => {}
        }
    }

    /// Loses one slot, whose values depart.
    #[cfg(test)]
    pub fn depart(&self, slot: u16) {
        self.held(slot).departing.store(self.acquisitions[index(slot)].swap(0, Acquire), Release);
        self.departing.fetch_add(1, Release);
    }

    fn held(&self, slot: u16) -> &Held {
        &self.held[index(slot)]
    }
}

fn index(slot: u16) -> usize {
    usize::from(slot) % usize::from(SLOTS)
}

/// The holders of any of `slots` by `ring`, but for `without`: who could want what departs.
pub fn holders(ring: &Ring, slots: impl IntoIterator<Item = Slot>, without: &NodeId) -> BTreeSet<NodeId> {
    let all = slots.into_iter().flat_map(|slot| ring.holders(slot));
    all.filter(|member| member.id != *without).map(|member| member.id.clone()).collect()
}

#[cfg(test)]
mod tests;
