//! Brings states that can't be told apart from here on to one form: a search is as large as the states that it keeps.

use super::Cluster;
use crate::model::coverage::Seen;
use crate::model::rings::{Members, NODES};
use crate::model::rules::Rule;
use crate::model::state::{Delivery, Node, State};

impl Cluster {
    /// Brings states that can't be told apart from here on to one form.
    pub(super) fn settle(&self, mut state: State) -> State {
        let all = self.all();
        for node in 0..NODES {
            let gone = state.members_now().get(node).is_none();
            let own = &mut state.nodes[node];
            own.removed_with &= !state.visible;
            own.acquired_with &= !state.visible;
            own.tagged_with &= !state.visible;
            own.entry = own.entry.filter(|entry| entry.value != all);
            own.fill = own.fill.filter(|fetch| fetch.value != all);
            own.pull = own.pull.filter(|fetch| fetch.value != all);
            own.mirror = own.mirror.filter(|mirror| mirror.value != all);
            own.mirroring = own.mirroring.filter(|mirror| mirror.value != all);
            // Its next life begins with nothing of this one.
            let nothing_left = !matches!(
                self.out,
                Some(
                    Rule::Fence
                        | Rule::EmptyReturn
                        | Rule::FencedStoresNothing
                        | Rule::ReturnByNewRing
                        | Rule::SourceLive
                )
            );
            if gone && nothing_left {
                *own = Node::default();
            }
            let own = state.nodes[node];
            if own.fill.is_some_and(|fetch| !self.fill_matters(&state, node, fetch)) {
                self.coverage.see(Seen::FillRefused);
                state.nodes[node].fill = None;
            }
            if own.pull.is_some_and(|fetch| !self.pull_matters(&state, node, fetch)) {
                self.coverage.see(Seen::PullRefused);
                state.nodes[node].pull = None;
            }
            if !state.nodes[node].minds_tag() {
                (state.nodes[node].forgot, state.nodes[node].swept) = (false, false);
            }
        }
        self.settle_mirrors(&mut state);
        if self.holds_rule(Rule::LinearizableRead) {
            let live_views = state.nodes.iter().filter(|node| node.view > 0).map(|node| node.view);
            let planned = state.changes.iter().filter_map(|delivery| match delivery {
                Delivery::Planned { epoch, .. } => Some(*epoch),
                _ => None,
            });
            let oldest = live_views.chain(planned).min().unwrap_or(state.epoch);
            // The state before the joining of a member that has not been active yet is still asked for.
            let oldest = oldest.min(state.epoch);
            for epoch in 0..oldest {
                state.history[usize::from(epoch)] = Members::default();
            }
        }
        state
    }

    /// Drops what the gate refuses for ever, and grants of which nothing is left: those could end at any time.
    fn settle_mirrors(&self, state: &mut State) {
        for node in 0..NODES {
            let own = &mut state.nodes[node];
            if own.mirroring.is_some_and(|mirror| mirror.removed) && self.holds_rule(Rule::MirrorToken) {
                self.coverage.see(Seen::MirrorRefused);
                own.mirroring = None;
            }
            let own = state.nodes[node];
            for owner in 0..NODES {
                let kept =
                    [own.mirror, own.mirroring].into_iter().flatten().any(|mirror| mirror.from == owner);
                if !kept {
                    Self::end_mirror(state, owner, node);
                }
            }
        }
    }

    /// Whether nothing can go wrong any more: all changes are visible, and no value anywhere lacks one.
    pub(super) fn is_over(&self, state: &State) -> bool {
        state.visible == self.all()
            && state.nodes.iter().all(|node| {
                node.entry.is_none()
                    && node.fill.is_none()
                    && node.pull.is_none()
                    && node.mirror.is_none()
                    && node.mirroring.is_none()
            })
    }
}
