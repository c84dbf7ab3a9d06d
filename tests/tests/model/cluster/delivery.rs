//! Removals: planned, applied by nodes, acknowledged.

use super::Cluster;
use crate::model::coverage::Seen;
use crate::model::rings::{NODES, Removed};
use crate::model::rules::Rule;
use crate::model::state::{Delivery, State, Tag};

impl Cluster {
    pub(super) fn plan(&self, state: &mut State, change: usize, epoch: u8, knows: bool) {
        for node in &mut state.nodes {
            node.owed[change] = None; // asked again, it removes again
        }
        let members = state.members(epoch);
        let confirmed = |node: usize| {
            let learnt = knows.then_some(state.nodes[node].confirmed);
            if self.holds_rule(Rule::EverybodyIfUnconfirmed) { learnt } else { Some(epoch) }
        };
        let removed = match self.removes_tag(change) {
            false => Removed::Key,
            true if self.holds_rule(Rule::TagsGoToAll) => Removed::Tag,
            true => Removed::TagAsKey,
        };
        let mut waits = self.rings.phases(epoch, members, confirmed, removed);
        if !self.holds_rule(Rule::Phases) {
            waits = [waits[0] | waits[1] | waits[2], 0, 0];
        }
        if waits[0].count_ones() == NODES as u32 {
            self.coverage.see(Seen::DeliveredToEverybody);
        }
        state.changes[change] =
            if waits == [0; 3] { Delivery::Done } else { Delivery::Planned { epoch, waits } };
    }

    /// A node applies a removal and acknowledges, or waits for its mirrors first.
    pub(super) fn apply(&self, state: &mut State, change: usize, node: usize) {
        let Delivery::Planned { epoch, .. } = state.changes[change] else { return };
        let due = if let Some(left) = state.nodes[node].owed[change] {
            left
        } else if self.removes_tag(change) {
            self.remove_tag(state, node);
            0 // what has tags is in no mirror
        } else {
            self.remove(state, node);
            let grants = state.nodes[node].grants;
            if self.holds_rule(Rule::MirrorsAcknowledge) { grants } else { 0 }
        };
        if due != 0 {
            self.coverage.see(Seen::MirrorAwaited);
            state.nodes[node].owed[change] = Some(due);
            return;
        }
        state.nodes[node].owed[change] = None;
        let acknowledged_at = state.nodes[node].view;
        let again = acknowledged_at > epoch && self.holds_rule(Rule::ReplanOnNewerEpoch);
        self.acknowledge(state, change, node, again);
    }

    /// Whether the change removes the tag that every value carries, and not the key.
    pub(super) fn removes_tag(&self, change: usize) -> bool {
        self.configuration.tags >> change & 1 == 1
    }

    /// A node notes that the tag was removed: nothing leaves its memory; its gate and its fills under way know.
    pub(super) fn remove_tag(&self, state: &mut State, node: usize) {
        let unseen = state.logged & !state.visible;
        let node = &mut state.nodes[node];
        node.tagged_with |= unseen;
        (node.forgot, node.swept) = (false, false);
        if let Some(entry) = &mut node.entry
            && entry.tag == Tag::Stands
        {
            self.coverage.see(Seen::EndedByTag);
            entry.tag = Tag::Removed;
        }
        for fetch in [&mut node.fill, &mut node.pull].into_iter().flatten() {
            fetch.tagged = true;
            fetch.shared &= !self.holds_rule(Rule::SharingEndsByTags);
        }
    }

    /// The key leaves a node's memory; its gate and its fills under way know.
    pub(super) fn remove(&self, state: &mut State, node: usize) {
        let unseen = state.logged & !state.visible;
        let node = &mut state.nodes[node];
        node.entry = None;
        node.mirror = None;
        if let Some(mirror) = &mut node.mirroring {
            mirror.removed = true;
        }
        node.removed_with |= unseen;
        for fetch in [&mut node.fill, &mut node.pull].into_iter().flatten() {
            fetch.removed = true;
            fetch.shared &= !self.holds_rule(Rule::SharingEnds);
        }
    }

    pub(super) fn acknowledge(&self, state: &mut State, change: usize, node: usize, again: bool) {
        let Delivery::Planned { epoch, mut waits } = state.changes[change] else { return };
        if again {
            self.coverage.see(Seen::PlannedAgain);
            state.changes[change] = Delivery::Open;
            return;
        }
        waits[0] &= !(1 << node);
        while waits[0] == 0 && waits != [0; 3] {
            waits = [waits[1], waits[2], 0];
        }
        state.changes[change] = if waits == [0; 3] {
            self.coverage.see(Seen::Delivered);
            Delivery::Done
        } else {
            Delivery::Planned { epoch, waits }
        };
    }

    /// Ends the mirror that `owner` granted to `node`, on both sides.
    pub(super) fn end_mirror(state: &mut State, owner: usize, node: usize) {
        let own = &mut state.nodes[node];
        own.mirror = own.mirror.filter(|mirror| mirror.from != owner);
        own.mirroring = own.mirroring.filter(|mirror| mirror.from != owner);
        let granted = &mut state.nodes[owner];
        granted.grants &= !(1 << node);
        for owed in granted.owed.iter_mut().flatten() {
            *owed &= !(1 << node);
        }
    }
}
