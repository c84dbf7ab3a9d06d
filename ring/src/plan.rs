//! Who must acknowledge a removal, and in which order (rule R4). Pure.
//!
//! Values travel one way: departing holder -> owner -> replica. So removals follow them, in phases; each phase is acknowledged as a whole
//! before the next one is sent.
//!
//! 1. **All live nodes**, if any live node has not confirmed the ring's epoch. Such a node may still hold slots of an older ring, and we can't
//!    know which; a node that has confirmed has dropped what it lost.
//! 2. **The owner.** Also when it got the removal in phase 1, where nothing is ordered: *the new owner applies the removal; it then pulls the
//!    old value from the departing holder, whose copy of the removal is still under way.* When phase 1 is complete no departing holder has the
//!    old value any more, so what the owner loses now it can't get back.
//! 3. **The replicas**, for the same reason: until phase 2 was complete one could still pull the old value from the owner.

use crate::{Epoch, NodeId, Ring, Slot};

/// The phases for every slot under one ring; what holds for all slots is worked out once.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    ring: &'a Ring,
    everyone: Option<Vec<NodeId>>,
}

impl<'a> Plan<'a> {
    /// Plans by `ring`, which must have been read linearizably after the change was logged; `confirmed` tells the greatest epoch that a node
    /// has confirmed in an acknowledgement, if any.
    pub fn new(ring: &'a Ring, confirmed: &dyn Fn(&NodeId) -> Option<Epoch>) -> Self {
        let settled = ring.members().iter().all(|member| confirmed(&member.id) >= Some(ring.epoch()));
        let everyone = (!settled).then(|| ring.members().iter().map(|member| member.id.clone()).collect());
        Self { ring, everyone }
    }

    /// All live nodes, if a removal must go to all of them first; `None` if the slot's holders are enough.
    pub fn everyone(&self) -> Option<&[NodeId]> {
        self.everyone.as_deref()
    }

    /// Who must acknowledge the removal of a key in `slot`: phases in their order, none of them empty. No phases: nobody can hold it.
    pub fn phases(&self, slot: Slot) -> Vec<Vec<NodeId>> {
        let mut holders = self.ring.holders(slot).map(|member| member.id.clone());
        let owner: Vec<_> = holders.next().into_iter().collect();
        let replicas: Vec<_> = holders.collect();
        let everyone = self.everyone.clone().unwrap_or_default();
        [everyone, owner, replicas].into_iter().filter(|phase| !phase.is_empty()).collect()
    }

    /// Who must acknowledge a removal that concerns keys of all slots (a flush of groups): all live nodes; then all that own a slot; then, if
    /// slots have replicas, these once more. No phases: there are no members.
    ///
    /// A node that owns slots is a replica of others, so the last two phases name the same nodes; the second of them comes after every
    /// *owner* has acknowledged, which is what a replica's pulls depend on.
    pub fn flush_phases(&self) -> Vec<Vec<NodeId>> {
        let ids = |keep: &dyn Fn(&NodeId) -> bool| -> Vec<NodeId> {
            self.ring.members().iter().map(|member| member.id.clone()).filter(|id| keep(id)).collect()
        };
        let everyone = self.everyone.clone().unwrap_or_default();
        let owners = ids(&|id| self.ring.owned_by(id) > 0);
        let replicas = if self.ring.replicas() > 1 { ids(&|id| self.ring.held_by(id) > 0) } else { Vec::new() };
        let replicas = if owners.len() < 2 { Vec::new() } else { replicas };
        [everyone, owners, replicas].into_iter().filter(|phase| !phase.is_empty()).collect()
    }
}

/// Who must acknowledge the removal of one key in `slot`; see [`Plan`], which serves many keys at once.
pub fn phases(ring: &Ring, confirmed: &dyn Fn(&NodeId) -> Option<Epoch>, slot: Slot) -> Vec<Vec<NodeId>> {
    Plan::new(ring, confirmed).phases(slot)
}
