//! What a node answers: readers, requests that share what it waits for, and nodes that ask it.

use memory::protocol::PullRefused;

use super::Cluster;
use crate::model::coverage::Seen;
use crate::model::decisions;
use crate::model::rings::{NODES, Set};
use crate::model::rules::Rule;
use crate::model::state::{Entry, Fetch, Mirror, Node, State};

/// What a node that is asked has.
pub(super) struct Answer {
    pub(super) value: Set,
    /// Whether requests at the asker share it, stored or not.
    pub(super) shared: bool,
}

impl Cluster {
    /// Nodes that serve, or let requests share, a value that lacks a delivered change.
    pub(crate) fn stale(&self, state: &State) -> impl Iterator<Item = usize> {
        let delivered = state.delivered();
        let lacks = move |value: Set| delivered & !value != 0;
        (0..NODES).filter(move |&node| {
            let Node { fill, pull, .. } = state.nodes[node];
            self.serves(state, node).is_some_and(|entry| lacks(entry.value))
                || self.serves_mirror(state, node).is_some_and(|mirror| lacks(mirror.value))
                || [fill, pull]
                    .into_iter()
                    .flatten()
                    .any(|fetch| lacks(fetch.value) && self.is_shared(state, node, fetch))
        })
    }

    pub(super) fn serves(&self, state: &State, node: usize) -> Option<Entry> {
        let holds = self.holds(state, node);
        state.nodes[node].entry.filter(|&entry| {
            if self.holds_rule(Rule::EndedByTagNotServed) && !self.stands(&state.nodes[node], entry) {
                return false;
            }
            if matches!(self.out, Some(Rule::LostSlotsEnd | Rule::DepartingNotServed)) {
                let entry = Entry { departing: false, ..entry };
                return decisions::serves(&state.nodes[node], true, entry);
            }
            decisions::serves(&state.nodes[node], holds, entry)
        })
    }

    /// Whether no removal of its tag has ended the entry.
    fn stands(&self, node: &Node, entry: Entry) -> bool {
        let forgotten = node.forgot && self.out == Some(Rule::ForgottenTagsEnd);
        forgotten || decisions::stands(node, entry)
    }

    /// The mirror that the node serves.
    fn serves_mirror(&self, state: &State, node: usize) -> Option<Mirror> {
        let own = &state.nodes[node];
        let mirror = own.mirror?;
        // The life that the ring lists: one that began after it is not in it.
        let born = state.nodes[mirror.from].born;
        let same_life = born == mirror.life || born == 0 || born > own.view;
        let same_owner = self.owner(state, own.view) == Some(mirror.from) && same_life;
        let same_owner = same_owner || !self.holds_rule(Rule::MirrorOfOwnerNow);
        decisions::serves_mirror(own, self.holds(state, node), same_owner).then_some(mirror)
    }

    /// Whether requests that come now would share the fetch though the database shows them more.
    pub(super) fn is_shared(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let Node { live, removed_with, acquired_with, tagged_with, .. } = state.nodes[node];
        let quarantine = (removed_with | acquired_with | tagged_with) & !state.visible != 0;
        let of_key = fetch.after_removal || fetch.after_acquisition;
        let unsettled = of_key || fetch.after_tag;
        let ends = of_key && self.holds_rule(Rule::SharingOfUnsettledEnds)
            || fetch.after_tag && self.holds_rule(Rule::SharingOfUnsettledTagsEnds);
        live && fetch.shared && !fetch.lost && !(unsettled && quarantine) && !ends
    }

    /// What `from` answers if `node` asks it now.
    pub(super) fn answer(&self, state: &State, node: usize, from: usize) -> Option<Answer> {
        let (asker, source) = (&state.nodes[node], &state.nodes[from]);
        let entry = source.entry?;
        match decisions::answers(source, asker.view) {
            Err(PullRefused::Fenced) if self.out == Some(Rule::SourceLive) => {}
            Err(PullRefused::Behind { .. }) if self.out == Some(Rule::SourceNotBehind) => {}
            Err(_) => {
                self.coverage.see(Seen::SourceRefused);
                return None;
            }
            Ok(()) => {}
        }
        // Asked as the owner it answers like to any reader; asked for a lost slot's values it gives what departs or what it owns.
        let asked_as_owner = self.owner(state, asker.view) == Some(from);
        let serves = self.serves(state, from).is_some();
        if asked_as_owner && serves {
            return Some(Answer { value: entry.value, shared: true });
        }
        let owns = self.owner(state, source.view) == Some(from);
        let valid = self.stands(source, entry) || !self.holds_rule(Rule::EndedByTagNotGiven);
        let gives =
            valid && decisions::gives(source, owns, entry) || (self.out == Some(Rule::OneWay) && serves);
        gives.then_some(Answer { value: entry.value, shared: false })
    }

    /// The value that `from` grants a mirror of if `node` asks it now.
    pub(super) fn granted(&self, state: &State, node: usize, from: usize) -> Option<Set> {
        let (asker, source) = (&state.nodes[node], &state.nodes[from]);
        if self.owner(state, asker.view) != Some(from) {
            return None;
        }
        let entry = source.entry?;
        let owns = self.owner(state, source.view) == Some(from) && self.holds(state, from);
        match decisions::grants(source, owns, asker.view, entry) {
            Err(PullRefused::Moved) if self.out == Some(Rule::OwnerGrants) => {}
            Err(_) => return None,
            Ok(()) => {}
        }
        Some(entry.value)
    }
}
