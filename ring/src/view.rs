//! The ring: the members at one epoch, and which slots they hold.

use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::placement::{Placement, Seat};
use crate::{Epoch, Member, MemberState, NodeId, Slot};

/// All live members at one epoch, and the slots that the active ones hold. Immutable; share it by `Arc`.
///
/// Two rings of the same members are the same on every machine, whatever order the members were learnt in.
#[derive(Clone)]
pub struct Ring {
    epoch: Epoch,
    replicas: usize,
    /// What the observer has been told; counts where a member does not tell.
    configured: usize,
    /// By id.
    members: Vec<Member>,
    placement: Arc<Placement>,
    /// For each seat of the placement, the index of its member.
    seated: Vec<u16>,
}

impl Ring {
    /// The ring of `members` at `epoch`, with `replicas` holders of each slot in total (at least 1; fewer if there are fewer active members).
    ///
    /// What members [tell](crate::Terms) counts more than `replicas`: the greatest of their numbers, and `replicas` for those that tell none.
    /// *A sync service that is set to 1 sends removals to owners alone; nodes that are set to 2 have replicas, which stay stale.*
    ///
    /// Of members with the same id the one with the greatest incarnation counts. Takes about 1 ms for 3
    /// members and 15 to 30 ms for 100; [`advance`](Self::advance) saves that where the active members stay.
    pub fn build(epoch: Epoch, members: Vec<Member>, replicas: usize) -> Self {
        let (members, configured) = (in_order(members), replicas.max(1));
        let replicas = agreed(&members, configured);
        let placement = Arc::new(Placement::compute(seats(&members), replicas));
        Self::assemble(epoch, members, (configured, replicas), placement)
    }

    /// The ring without members, from before anything is known.
    pub fn empty(replicas: usize) -> Self {
        Self::build(Epoch::default(), Vec::new(), replicas)
    }

    /// The ring of `members` at `epoch`, computed anew only if the active ones have changed since this ring.
    #[must_use]
    pub fn advance(&self, epoch: Epoch, members: Vec<Member>) -> Self {
        let members = in_order(members);
        let seats = seats(&members);
        let replicas = agreed(&members, self.configured);
        let placement = if replicas == self.replicas && self.placement.seats() == seats.as_slice() {
            self.placement.clone()
        } else {
            Arc::new(Placement::compute(seats, replicas))
        };
        Self::assemble(epoch, members, (self.configured, replicas), placement)
    }

    fn assemble(
        epoch: Epoch,
        members: Vec<Member>,
        (configured, replicas): (usize, usize),
        placement: Arc<Placement>,
    ) -> Self {
        let seated = placement
            .seats()
            .iter()
            .map(|seat| {
                let at = members.binary_search_by(|member| member.id.cmp(&seat.id));
                u16::try_from(at.expect("every seat is an active member's"))
                    .expect("placement bounds the number of members")
            })
            .collect();
        Self { epoch, replicas, configured, members, placement, seated }
    }

    /// The version of the membership that this ring was computed from.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many holders a slot has, if there are enough active members; 1 is the owner alone.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// What the observer was told of [`replicas`](Self::replicas), whatever the members tell.
    pub fn configured_replicas(&self) -> usize {
        self.configured
    }

    /// All live members, in every state, by id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The live member with this id.
    pub fn member(&self, id: &NodeId) -> Option<&Member> {
        let at = self.members.binary_search_by(|member| member.id.cmp(id)).ok()?;
        Some(&self.members[at])
    }

    /// The owner of `slot`; `None` if no member is active.
    pub fn owner(&self, slot: Slot) -> Option<&Member> {
        self.holders(slot).next()
    }

    /// The owner of `slot`, then its replicas.
    pub fn holders(&self, slot: Slot) -> impl Iterator<Item = &Member> {
        self.placement
            .holders(slot)
            .iter()
            .map(|&seat| &self.members[usize::from(self.seated[usize::from(seat)])])
    }

    /// Whether `id` is the owner or a replica of `slot`.
    pub fn holds(&self, id: &NodeId, slot: Slot) -> bool {
        self.holders(slot).any(|member| member.id == *id)
    }

    /// How many slots `id` owns.
    pub fn owned_by(&self, id: &NodeId) -> usize {
        self.placement.seat_of(id).map_or(0, |seat| self.placement.owned(seat))
    }

    /// How many slots `id` holds, as owner or replica.
    pub fn held_by(&self, id: &NodeId) -> usize {
        self.placement.seat_of(id).map_or(0, |seat| self.placement.held(seat))
    }

    /// Whether both rings have the same members, in the same incarnations and states; their epochs may differ.
    pub fn same_members(&self, other: &Self) -> bool {
        self.members == other.members
    }
}

fn in_order(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|a, b| a.id.cmp(&b.id).then(b.incarnation.cmp(&a.incarnation)));
    members.dedup_by(|next, kept| next.id == kept.id);
    members
}

/// How many holders a slot has by what the members tell; those that tell nothing are taken to go by what the observer was told.
fn agreed(members: &[Member], configured: usize) -> usize {
    let told = |member: &Member| match member.terms.replicas {
        0 => configured,
        told => told,
    };
    members.iter().map(told).max().unwrap_or(configured)
}

/// Only active members hold slots. A joining one has not yet confirmed its epoch, a leaving one is about to hand over.
fn seats(members: &[Member]) -> Vec<Seat> {
    members
        .iter()
        .filter(|member| member.state == MemberState::Active && member.weight > 0)
        .map(|member| Seat { id: member.id.clone(), weight: member.weight })
        .collect()
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("epoch", &self.epoch)
            .field("replicas", &self.replicas)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// Epoch, replicas and members; the slots follow from them.
impl Serialize for Ring {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ring = serializer.serialize_struct("Ring", 3)?;
        ring.serialize_field("epoch", &self.epoch)?;
        ring.serialize_field("replicas", &self.replicas)?;
        ring.serialize_field("members", &self.members)?;
        ring.end()
    }
}
