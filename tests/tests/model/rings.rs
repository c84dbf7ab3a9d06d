//! Real rings over three members, made once: one for each list of members and epoch that a run can come to.

use ring::plan::Plan;
use ring::{Epoch, Member, MemberState, NodeId, Ring, SLOTS, Slot};

/// Nodes of the model.
pub(crate) const NODES: usize = 3;
/// Their names. The key's slot is one that `a` owns if it is active, else `b`, else `c`; replicas are the next ones.
pub(crate) const NAMES: [&str; NODES] = ["a", "b", "c"];
/// Epochs that the model can count.
pub(crate) const EPOCHS: usize = 8;

/// A set of nodes or of changes, a bit for each.
pub(crate) type Set = u8;

/// The state of all members in etcd, two bits for each: 0 absent, 1 joining, 2 active, 3 leaving.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Members(pub(crate) u8);

impl Members {
    pub(crate) fn new(states: [Option<MemberState>; NODES]) -> Self {
        let mut members = Self::default();
        for (node, state) in states.into_iter().enumerate() {
            members = members.with(node, state);
        }
        members
    }

    pub(crate) fn get(self, node: usize) -> Option<MemberState> {
        match self.0 >> (2 * node) & 3 {
            1 => Some(MemberState::Joining),
            2 => Some(MemberState::Active),
            3 => Some(MemberState::Leaving),
            _ => None,
        }
    }

    #[must_use]
    pub(crate) fn with(self, node: usize, state: Option<MemberState>) -> Self {
        let bits = match state {
            None => 0,
            Some(MemberState::Joining) => 1,
            Some(MemberState::Active) => 2,
            Some(MemberState::Leaving) => 3,
        };
        Self(self.0 & !(3 << (2 * node)) | bits << (2 * node))
    }

    fn list(self) -> Vec<Member> {
        (0..NODES)
            .filter_map(|node| {
                let state = self.get(node)?;
                let (grpc, http, resp) = (String::new(), String::new(), String::new());
                Some(Member {
                    id: NAMES[node].into(),
                    incarnation: 1,
                    grpc,
                    http,
                    resp,
                    weight: 1,
                    state,
                    terms: ring::Terms::default(),
                })
            })
            .collect()
    }
}

/// All rings of a number of replicas.
#[derive(Debug)]
pub(crate) struct Rings {
    slot: Slot,
    /// A slot that goes to them in the other order: that of the tag's own name.
    tags_slot: Slot,
    /// By epoch and members.
    known: Vec<Ring>,
    /// By members: the holders of the slot, owner first.
    holders: Vec<Vec<usize>>,
}

impl Rings {
    pub(crate) fn new(replicas: usize) -> Self {
        let every: Vec<_> = (0..64).map(|members| Members(members).list()).collect();
        let placed: Vec<_> = every.iter().map(|list| Ring::build(Epoch(1), list.clone(), replicas)).collect();
        let slot = slot_in_order([0, 1, 2]);
        let tags_slot = slot_in_order([2, 1, 0]);
        let known = (0..EPOCHS as u64)
            .flat_map(|epoch| {
                placed.iter().zip(&every).map(move |(ring, list)| ring.advance(Epoch(epoch), list.clone()))
            })
            .collect();
        let holders =
            placed.iter().map(|ring| ring.holders(slot).map(|member| number(&member.id)).collect()).collect();
        Self { slot, tags_slot, known, holders }
    }

    fn ring(&self, epoch: u8, members: Members) -> &Ring {
        &self.known[usize::from(epoch) * 64 + usize::from(members.0)]
    }

    /// The owner, then the replicas.
    pub(crate) fn holders(&self, members: Members) -> &[usize] {
        &self.holders[usize::from(members.0)]
    }

    /// Who must acknowledge a removal, by the real plan: up to three phases in their order, zeros after the last.
    pub(crate) fn phases(
        &self,
        epoch: u8,
        members: Members,
        confirmed: impl Fn(usize) -> Option<u8>,
        removed: Removed,
    ) -> [Set; 3] {
        let confirmed = |id: &NodeId| confirmed(number(id)).map(|epoch| Epoch(u64::from(epoch)));
        let plan = Plan::new(self.ring(epoch, members), &confirmed);
        let phases = match removed {
            Removed::Key => plan.phases(self.slot),
            Removed::Tag => plan.flush_phases(),
            Removed::TagAsKey => plan.phases(self.tags_slot),
        };
        let mut sets = [0; 3];
        for (set, phase) in sets.iter_mut().zip(phases) {
            *set = phase.iter().map(|id| 1 << number(id)).sum();
        }
        sets
    }
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    Key,
    Tag,
    /// The tag, as if it were a key that nodes hold by its name.
    TagAsKey,
}

fn number(id: &NodeId) -> usize {
    NAMES.iter().position(|name| *name == id.as_str()).expect("only these three are members")
}

/// A slot that goes to nodes in this order, whoever of them is active.
fn slot_in_order(order: [usize; NODES]) -> Slot {
    let active = |set: usize| {
        Members::new([0, 1, 2].map(|node| (set >> node & 1 == 1).then_some(MemberState::Active)))
    };
    let rings: Vec<_> = (1..8).map(|set| (set, Ring::build(Epoch(1), active(set).list(), NODES))).collect();
    let in_order = |slot: &Slot| {
        rings.iter().all(|(set, ring)| {
            let holders = ring.holders(*slot).map(|member| number(&member.id));
            holders.eq(order.into_iter().filter(|node| set >> node & 1 == 1))
        })
    };
    (0..SLOTS).filter_map(Slot::new).find(in_order).expect("one of 16384 slots is in this order")
}
