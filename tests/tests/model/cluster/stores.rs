//! What a node lets into its memory: the real verdicts, but for the rule that is out.

use cache_node::protocol::PullRefused;

use super::Cluster;
use crate::model::decisions;
use crate::model::rules::Rule;
use crate::model::state::{Fetch, State};

impl Cluster {
    /// The gate's verdict on a fill.
    pub(super) fn may_store_fill(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let mut shown = fetch;
        let now = &state.nodes[node];
        match self.out {
            Some(Rule::TokenBeforeRead) => {
                shown.removed = false;
                shown.lost = false;
                shown.after_removal = now.removed_with & !state.visible != 0;
                shown.after_acquisition = now.acquired_with & !state.visible != 0;
            }
            Some(Rule::TokenKnowsRemovals) => shown.removed = false,
            Some(Rule::TokenKnowsLostSlots) => shown.lost = false,
            Some(Rule::QuarantineOfRemovals) => shown.after_removal = false,
            Some(Rule::QuarantineOfAcquisitions) => shown.after_acquisition = false,
            _ => {}
        }
        decisions::stores_fill(now, self.holds(state, node), shown).is_ok()
    }

    /// The verdict on a pull: of the gate, and of what the taker knows about itself.
    pub(super) fn may_store_pull(
        &self,
        state: &State,
        node: usize,
        fetch: Fetch,
    ) -> Result<(), Option<PullRefused>> {
        let mut shown = fetch;
        if self.out == Some(Rule::PullTokenFirst) {
            shown.removed = false;
            shown.lost = false;
        }
        let now = &state.nodes[node];
        match decisions::takes(now, fetch.asked) {
            Err(PullRefused::Moved) if self.out == Some(Rule::TakerUnmoved) => {}
            Err(PullRefused::Unconfirmed) if self.out == Some(Rule::TakerConfirmed) => {}
            verdict => verdict.map_err(Some)?,
        }
        decisions::stores_pull(now, self.holds(state, node), shown).map_err(|_| None)
    }

    /// Whether a fill can still be stored or shared. What the gate refuses once it refuses for ever, but for the rules that are out.
    pub(super) fn fill_matters(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let next_life = self.out == Some(Rule::FencedStoresNothing) && !state.nodes[node].live;
        let regained = self.out == Some(Rule::TokenKnowsLostSlots) && fetch.lost && !fetch.removed;
        self.out == Some(Rule::TokenBeforeRead)
            || next_life
            || regained
            || self.may_store_fill(state, node, fetch)
            || self.is_shared(state, node, fetch)
            || (self.out == Some(Rule::SharingOfUnsettledEnds) && fetch.shared && !fetch.lost)
    }

    pub(super) fn pull_matters(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let hopeful = match self.may_store_pull(state, node, fetch) {
            Ok(()) | Err(Some(PullRefused::Unconfirmed)) => true,
            Err(_) => self.out == Some(Rule::PullTokenFirst) && state.nodes[node].view == fetch.asked,
        };
        hopeful || self.is_shared(state, node, fetch)
    }
}
