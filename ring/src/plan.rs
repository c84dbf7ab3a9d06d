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
//!
//! While a member goes by [other terms](crate::Terms::are_plain), nobody here knows which slots it takes for its own or whom it pulls from.
//! Then all live nodes are each of the three phases: as often as a value can travel.

use std::collections::BTreeSet;

use crate::rules::{self, Rule};
use crate::{Epoch, Member, NodeId, Ring, Slot};

/// The phases for every slot under one ring; what holds for all slots is worked out once.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    ring: &'a Ring,
    everyone: Option<Vec<NodeId>>,
    /// Whether all members place keys as this ring does.
    plain: bool,
}

impl<'a> Plan<'a> {
    /// Plans by `ring`, which must have been read linearizably after the change was logged; `confirmed` tells the greatest epoch that a node
    /// has confirmed in an acknowledgement, if any; only this ring's own counts.
    pub fn new(ring: &'a Ring, confirmed: &dyn Fn(&NodeId) -> Option<Epoch>) -> Self {
        let plain = ring.members().iter().all(|member| member.terms.are_plain());
        // Not a later one: *a node skips this ring, by which another one owns a slot that is its own by the rings before and after; it has lost
        // nothing by them, confirms the later one, and keeps what this plan removes at the other alone.*
        let known = |member: &Member| confirmed(&member.id) == Some(ring.epoch());
        let settled = plain && ring.members().iter().all(known);
        let wanted = !settled && rules::holds(Rule::Everyone);
        let everyone = wanted.then(|| ring.members().iter().map(|member| member.id.clone()).collect());
        Self { ring, everyone, plain }
    }

    /// All live nodes, if a removal must go to all of them first; `None` if the slot's holders are enough.
    pub fn everyone(&self) -> Option<&[NodeId]> {
        self.everyone.as_deref()
    }

    /// Who must acknowledge the removal of a key in `slot`: phases in their order, none of them empty. No phases: nobody can hold it.
    pub fn phases(&self, slot: Slot) -> Vec<Vec<NodeId>> {
        if !self.plain {
            return self.everyone_thrice();
        }
        let mut holders = self.ring.holders(slot).map(|member| member.id.clone());
        let owner: Vec<_> = holders.next().into_iter().collect();
        let replicas: Vec<_> = holders.collect();
        let everyone = self.everyone.clone().unwrap_or_default();
        in_order([everyone, owner, replicas])
    }

    /// Who must acknowledge a removal that concerns keys of all slots (a flush of groups): all live nodes; then all that own a slot; then, if
    /// slots have replicas, these once more. No phases: there are no members.
    ///
    /// A node that owns slots is a replica of others, so the last two phases name the same nodes; the second of them comes after every
    /// *owner* has acknowledged, which is what a replica's pulls depend on.
    pub fn flush_phases(&self) -> Vec<Vec<NodeId>> {
        if !self.plain {
            return self.everyone_thrice();
        }
        let ids = |keep: &dyn Fn(&NodeId) -> bool| -> Vec<NodeId> {
            self.ring.members().iter().map(|member| member.id.clone()).filter(|id| keep(id)).collect()
        };
        let everyone = self.everyone.clone().unwrap_or_default();
        let owners = ids(&|id| self.ring.owned_by(id) > 0);
        let replicas =
            if self.ring.replicas() > 1 { ids(&|id| self.ring.held_by(id) > 0) } else { Vec::new() };
        let replicas = if owners.len() < 2 { Vec::new() } else { replicas };
        in_order([everyone, owners, replicas])
    }

    fn everyone_thrice(&self) -> Vec<Vec<NodeId>> {
        let everyone = || self.everyone.clone().unwrap_or_default();
        in_order([everyone(), everyone(), everyone()])
    }
}

/// The phases that name anybody, in their order.
fn in_order(phases: [Vec<NodeId>; 3]) -> Vec<Vec<NodeId>> {
    let mut phases: Vec<_> = phases.into_iter().filter(|phase| !phase.is_empty()).collect();
    if !rules::holds(Rule::Phases) && phases.len() > 1 {
        let everybody: BTreeSet<_> = phases.concat().into_iter().collect();
        phases = vec![everybody.into_iter().collect()];
    }
    phases
}

/// Who must acknowledge the removal of one key in `slot`; see [`Plan`], which serves many keys at once.
pub fn phases(ring: &Ring, confirmed: &dyn Fn(&NodeId) -> Option<Epoch>, slot: Slot) -> Vec<Vec<NodeId>> {
    Plan::new(ring, confirmed).phases(slot)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{MemberState, Terms};

    const SLOT: Slot = Slot::new(77).unwrap();

    fn ring(members: &[(&str, MemberState)], replicas: usize) -> Ring {
        let member = |&(id, state): &(&str, _)| Member {
            id: id.into(),
            incarnation: 1,
            grpc: String::new(),
            http: String::new(),
            resp: String::new(),
            weight: 1,
            state,
            terms: crate::Terms::default(),
        };
        Ring::build(Epoch(10), members.iter().map(member).collect(), replicas)
    }

    fn confirmed(epochs: &[(&str, u64)]) -> impl Fn(&NodeId) -> Option<Epoch> {
        let epochs: HashMap<_, _> =
            epochs.iter().map(|&(id, epoch)| (NodeId::from(id), Epoch(epoch))).collect();
        move |id| epochs.get(id).copied()
    }

    fn all() -> Vec<NodeId> {
        ["a", "b", "c"].map(NodeId::from).to_vec()
    }

    const ACTIVE: [(&str, MemberState); 3] =
        [("a", MemberState::Active), ("b", MemberState::Active), ("c", MemberState::Active)];

    #[test]
    fn when_all_have_confirmed_the_epoch_the_holders_are_enough_owner_first() {
        let known = confirmed(&[("a", 10), ("b", 10), ("c", 10)]);
        let alone = ring(&ACTIVE, 1);
        assert_eq!(phases(&alone, &known, SLOT), [[alone.owner(SLOT).unwrap().id.clone()]]);

        let ring = ring(&ACTIVE, 3);
        let holders: Vec<_> = ring.holders(SLOT).map(|member| member.id.clone()).collect();
        assert_eq!(phases(&ring, &known, SLOT), [holders[..1].to_vec(), holders[1..].to_vec()]);
    }

    #[test]
    fn one_node_that_has_not_confirmed_brings_all_in_before_the_owner_and_the_owner_once_more() {
        let ring = ring(&ACTIVE, 1);
        let owner = vec![ring.owner(SLOT).unwrap().id.clone()];
        for known in [
            confirmed(&[("a", 10), ("b", 9), ("c", 10)]),
            confirmed(&[("a", 10), ("c", 10)]),
            confirmed(&[("a", 10), ("b", 12), ("c", 10)]), // it may have skipped this ring
        ] {
            assert_eq!(phases(&ring, &known, SLOT), [all(), owner.clone()]);
        }
    }

    #[test]
    fn a_member_of_another_version_brings_all_in_whatever_it_confirms() {
        let known = confirmed(&[("a", 10), ("b", 10), ("c", 10)]);
        let mut members = ring(&ACTIVE, 1).members().to_vec();
        members[2].terms = Terms::untold();
        let mixed = Ring::build(Epoch(10), members, 1);
        assert_eq!(phases(&mixed, &known, SLOT), [all(), all(), all()]);
        assert_eq!(Plan::new(&mixed, &known).flush_phases(), [all(), all(), all()]);
    }

    /// *A listed node goes by another list, whose digest is the greater number.*
    #[test]
    fn what_a_node_of_another_list_confirms_counts_for_nothing_whichever_number_is_greater() {
        let members = ring(&ACTIVE, 1).members().to_vec();
        let own = Epoch::of_list(5);
        let listed = Ring::build(own, members, 1);
        for other in [Epoch::of_list(4), Epoch::of_list(6), Epoch(10)] {
            let told = [("a", own.0), ("b", other.0), ("c", own.0)];
            assert_eq!(phases(&listed, &confirmed(&told), SLOT).first(), Some(&all()), "{other}");
        }
        let told = [("a", own.0), ("b", own.0), ("c", own.0)];
        assert_ne!(phases(&listed, &confirmed(&told), SLOT)[0], all());
    }

    #[test]
    fn nodes_that_join_or_leave_count_as_live() {
        let members = [("a", MemberState::Joining), ("b", MemberState::Active), ("c", MemberState::Leaving)];
        let known = confirmed(&[("b", 10)]);
        assert_eq!(phases(&ring(&members, 2), &known, SLOT), [all(), vec!["b".into()]]);
        // Nobody active, so nobody holds the slot; those who have not confirmed may still.
        let passive = ring(&members[..1], 1);
        assert_eq!(phases(&passive, &known, SLOT), [["a".into()]]);
        assert!(phases(&passive, &confirmed(&[("a", 10)]), SLOT).is_empty());
    }

    #[test]
    fn without_members_nobody_can_hold_anything() {
        assert!(phases(&Ring::empty(2), &confirmed(&[]), SLOT).is_empty());
        assert!(Plan::new(&Ring::empty(2), &confirmed(&[])).flush_phases().is_empty());
    }

    #[test]
    fn a_flush_goes_to_all_owners_and_to_them_as_replicas_once_more() {
        let known = confirmed(&[("a", 10), ("b", 10), ("c", 10)]);
        assert_eq!(Plan::new(&ring(&ACTIVE, 1), &known).flush_phases(), [all()]);
        assert_eq!(Plan::new(&ring(&ACTIVE, 2), &known).flush_phases(), [all(), all()]);
        let unknown = confirmed(&[]);
        assert_eq!(Plan::new(&ring(&ACTIVE, 2), &unknown).flush_phases(), [all(), all(), all()]);
        assert_eq!(
            Plan::new(&ring(&ACTIVE[..1], 2), &confirmed(&[("a", 10)])).flush_phases(),
            [["a".into()]]
        );
    }
}
