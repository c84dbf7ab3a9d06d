//! Which slots a node has gained, and which node still has their values.

use std::{
    collections::BTreeMap,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use memory::slots::Change;
use ring::{Epoch, Member, NodeId, Ring, SLOTS, Slot};
use tokio::time::Instant;

/// No source.
const NONE: u16 = u16::MAX;

/// What is to be had from other nodes under one ring.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The epoch at which it is asked for.
    pub(crate) epoch: Epoch,
    /// Until when it can be had at best.
    pub(crate) until: Instant,
    pub(crate) sources: Vec<Source>,
    /// All other members: nothing is asked of them, and they are told so. One of them may wait to be asked: *this node has skipped a
    /// ring, by which a slot went from `a` to `b`, and sees it come from `a`, while `b` has lost it to this node.*
    pub(crate) others: Vec<Member>,
    /// Whether this node gives and so takes nothing but plain values (see [`gives`](memory::protocol::gives)): its sources are told that they
    /// need not wait for it.
    pub(crate) declined: bool,
    /// Whether it is by the first ring, so that others may have come at the same time.
    pub(crate) first: bool,
    /// Index into `sources` by slot.
    by_slot: Box<[u16]>,
}

/// A node that has values of slots that this node has gained.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) member: Member,
    pub(crate) slots: Vec<u16>,
    open: AtomicBool,
    /// Whether values of rows are asked of it too, which the database has as well.
    rows: AtomicBool,
}

impl Incoming {
    /// What is to be had after a change of the ring; `None` if nothing is handed over ever, or if there is no other member.
    ///
    /// A slot's source is the node that owned it before, whatever it is of it now; if that is gone, another that held it and has lost it, or
    /// the owner of now if it held it before; with `plain` groups also, for the owner, a replica that kept it, and by the first ring, of which nobody
    /// knows what was before, any other holder. What is still open of `before` stays so.
    pub(crate) fn plan(
        node: &NodeId,
        before: Option<&Self>,
        change: &Change,
        ring: &Ring,
        now: Instant,
        window: Duration,
        plain: bool,
    ) -> Option<Self> {
        if window.is_zero() {
            return None;
        }
        let mut slots: BTreeMap<&NodeId, Vec<u16>> = BTreeMap::new();
        let mut until = now;
        if let Some(before) = before.filter(|before| before.until > now) {
            for source in before.sources.iter().filter(|source| source.is_open()) {
                let Some(member) = same_life(ring, &source.member) else { continue };
                let kept = source.slots.iter().copied().filter(|&slot| {
                    Slot::new(slot).is_some_and(|slot| {
                        let anew = [&change.gained, &change.promoted];
                        ring.holds(node, slot) && anew.iter().all(|slots| slots.binary_search(&slot).is_err())
                    })
                });
                slots.entry(&member.id).or_default().extend(kept);
            }
            until = before.until;
        }
        for slot in change.gained.iter().chain(&change.promoted) {
            let source = match &change.previous {
                Some(previous) => source(node, previous, ring, *slot, plain),
                // Of a fixed list there is no ring but the first: who was there before this node came back has what it had.
                None => ring.holders(*slot).filter(|_| plain).find(|member| member.id != *node),
            };
            if let Some(member) = source {
                slots.entry(&member.id).or_default().push(slot.get());
                until = now + window;
            }
        }
        slots.retain(|_, slots| !slots.is_empty());
        let mut by_slot = vec![NONE; usize::from(SLOTS)].into_boxed_slice();
        let mut sources = Vec::new();
        for (id, slots) in slots {
            let Some(member) = ring.member(id) else { continue };
            for slot in &slots {
                by_slot[usize::from(*slot)] = sources.len() as u16;
            }
            // Of the first ring nobody has lost anything to this node: its replicas have what no other node could fill.
            let rows = AtomicBool::new(change.previous.is_some());
            sources.push(Source { member: member.clone(), slots, open: AtomicBool::new(true), rows });
        }
        let is_source = |member: &Member| sources.iter().any(|source| source.member.id == member.id);
        let others: Vec<_> = ring
            .members()
            .iter()
            .filter(|member| member.id != *node && !is_source(member))
            .cloned()
            .collect();
        let (declined, first) = (change.departing > 0, change.previous.is_none());
        let alone = sources.is_empty() && others.is_empty();
        (!alone).then_some(Self { epoch: change.epoch, until, sources, others, declined, first, by_slot })
    }

    /// The node that may still have values of a slot.
    pub(crate) fn source_of(&self, slot: u16, now: Instant) -> Option<&Source> {
        let at = *self.by_slot.get(usize::from(slot))?;
        self.sources.get(usize::from(at)).filter(|source| now < self.until && source.is_open())
    }
}

impl Source {
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Acquire)
    }

    /// Whether values of rows are asked of it.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows.load(Acquire)
    }

    /// Plain values alone are asked of it from here on.
    pub(crate) fn close_for_rows(&self) {
        self.rows.store(false, Release);
    }

    /// Nothing more is asked of it.
    pub(crate) fn close(&self) {
        self.open.store(false, Release);
    }
}

/// A member that still is in the ring under the same incarnation: one that came back has an empty store.
fn same_life<'a>(ring: &'a Ring, member: &Member) -> Option<&'a Member> {
    ring.member(&member.id).filter(|now| now.incarnation == member.incarnation)
}

fn source<'a>(node: &NodeId, previous: &Ring, ring: &'a Ring, slot: Slot, plain: bool) -> Option<&'a Member> {
    let still_there = |member: &Member| same_life(ring, member).filter(|member| member.id != *node);
    // The former owner has most of what there is: a replica has copies alone.
    if let Some(owner) = previous.owner(slot).and_then(still_there) {
        return Some(owner);
    }
    let kept = |member: &Member| previous.member(&member.id).and_then(still_there);
    let held = |member: &&Member| previous.holds(&member.id, slot);
    let departing =
        previous.holders(slot).filter_map(still_there).find(|member| !ring.holds(&member.id, slot));
    let owner = || ring.owner(slot).filter(held).and_then(kept);
    // Of plain groups alone it gives anything.
    let replica = || ring.holders(slot).filter(|_| plain).filter(held).find_map(kept);
    departing.or_else(owner).or_else(replica)
}
