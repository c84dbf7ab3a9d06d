//! Nodes that register, retire, lose their leases, and follow the ring.

use ring::MemberState::{self, Joining};

use super::Cluster;
use crate::model::coverage::Seen;
use crate::model::rings::NODES;
use crate::model::rules::Rule;
use crate::model::state::{Entry, State};

impl Cluster {
    pub(super) fn advance(&self, state: &mut State, node: usize, to: u8, keep: bool) {
        let (held, holds) = (self.holds(state, node), self.holds_at(state, to, node));
        let giving = keep && self.is_demoted(state, node, to);
        let unseen = state.logged & !state.visible;
        let node = &mut state.nodes[node];
        if held && !holds {
            node.entry = node.entry.filter(|_| keep).map(|entry| Entry { departing: true, ..entry });
            for fetch in [&mut node.fill, &mut node.pull].into_iter().flatten() {
                fetch.lost = true;
            }
        } else if !held {
            node.entry = node.entry.filter(|_| keep);
        }
        if holds && !held {
            node.acquired_with = unseen;
        }
        node.view = to;
        node.giving = giving;
        if giving {
            self.coverage.see(Seen::Demoted);
        }
        let departs = node.entry.is_some_and(|entry| entry.departing);
        if departs {
            self.coverage.see(Seen::Departed);
        }
        let mirrored = !holds && node.grants != 0 && self.holds_rule(Rule::MirrorsEndBeforeConfirm);
        if mirrored {
            self.coverage.see(Seen::ConfirmAwaited);
        }
        let gives = giving && self.holds_rule(Rule::DemotedUnconfirmed);
        let at_once = !departs && !mirrored && !gives;
        if at_once || matches!(self.out, Some(Rule::DropBeforeConfirm | Rule::LostSlotsEnd)) {
            node.confirmed = to;
        }
    }

    /// Whether a node that goes by the ring of `to` has the choice to keep what it has lost.
    pub(super) fn may_keep(&self, state: &State, node: usize, to: u8) -> bool {
        // A slot that comes back drops what departed, unless takers need not be confirmed.
        let back = self.holds_at(state, to, node);
        let was_held = self.holds(state, node);
        let wanted = !self.rings.holders(state.members(to)).is_empty();
        let lost = if back { !was_held && self.out == Some(Rule::TakerConfirmed) } else { wanted };
        let lost = lost || self.is_demoted(state, node, to);
        self.configuration.pulls && lost && state.nodes[node].entry.is_some()
    }

    /// Whether the node owned the slot, or gives what it owned, and is only a replica by the ring of `to`.
    fn is_demoted(&self, state: &State, node: usize, to: u8) -> bool {
        let own = &state.nodes[node];
        let owns = |epoch| self.holds_at(state, epoch, node) && self.owner(state, epoch) == Some(node);
        (owns(own.view) || own.giving) && self.holds_at(state, to, node) && !owns(to)
    }

    pub(super) fn change_members(state: &mut State, node: usize, to: Option<MemberState>) {
        let members = state.members_now().with(node, to);
        state.epoch += 1;
        state.history[usize::from(state.epoch)] = members;
    }

    pub(super) fn register(&self, state: &mut State, node: usize) {
        Self::change_members(state, node, Some(Joining));
        let (epoch, unseen) = (state.epoch, state.logged & !state.visible);
        let own = &mut state.nodes[node];
        own.live = true;
        own.giving = false;
        // With one of these out the node still goes by its old ring: else nothing of its former life could be of any use.
        let old_ring = [Rule::ReturnByNewRing, Rule::EmptyReturn, Rule::FencedStoresNothing];
        if !self.out.is_some_and(|out| old_ring.contains(&out)) {
            own.born = epoch;
        }
        if self.out != Some(Rule::EmptyReturn) {
            own.entry = None;
        }
        (own.mirror, own.mirroring) = (None, None);
        if self.out != Some(Rule::FencedStoresNothing) {
            (own.fill, own.pull) = (None, None);
            own.acquired_with = unseen;
        }
    }

    pub(super) fn end(&self, state: &mut State, node: usize) {
        Self::change_members(state, node, None);
        if self.holds_rule(Rule::MirrorLeaseWithinOwners) {
            for mirror in 0..NODES {
                Self::end_mirror(state, node, mirror);
            }
        } else {
            (state.nodes[node].grants, state.nodes[node].owed) = (0, [None; 2]);
        }
        if self.holds_rule(Rule::Fence) {
            state.nodes[node].live = false;
        }
    }
}
