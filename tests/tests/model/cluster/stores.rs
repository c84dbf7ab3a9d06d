//! What a node lets into its memory: the real verdicts, but for the rule that is out.

use memory::protocol::PullRefused;

use super::Cluster;
use crate::model::decisions;
use crate::model::rules::Rule;
use crate::model::state::{Entry, Fetch, State, Tag};

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
                shown.tagged = false;
                shown.after_tag = now.tagged_with & !state.visible != 0;
            }
            Some(Rule::TokenKnowsRemovals) => shown.removed = false,
            Some(Rule::TokenKnowsLostSlots) => shown.lost = false,
            Some(Rule::QuarantineOfRemovals) => shown.after_removal = false,
            Some(Rule::QuarantineOfAcquisitions) => shown.after_acquisition = false,
            Some(Rule::QuarantineOfTags) => shown.after_tag = false,
            Some(Rule::TokenKnowsTags) => shown.tagged = false,
            Some(Rule::ForgottenTagsRefuse) if now.forgot => {
                (shown.tagged, shown.after_tag) = (false, false);
            }
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
        let now = &state.nodes[node];
        match self.out {
            Some(Rule::PullTokenFirst) => (shown.removed, shown.lost, shown.tagged) = (false, false, false),
            Some(Rule::TokenKnowsTags | Rule::PulledWithTags) => shown.tagged = false,
            Some(Rule::ForgottenTagsRefuse) if now.forgot => shown.tagged = false,
            _ => {}
        }
        match decisions::takes(now, fetch.asked) {
            Err(PullRefused::Moved) if self.out == Some(Rule::TakerUnmoved) => {}
            Err(PullRefused::Unconfirmed) if self.out == Some(Rule::TakerConfirmed) => {}
            verdict => verdict.map_err(Some)?,
        }
        decisions::stores_pull(now, self.holds(state, node), shown).map_err(|_| None)
    }

    /// What a fetch leaves in memory: an entry under the number of its own token, whatever was removed since.
    pub(super) fn stored(&self, fetch: Fetch) -> Entry {
        let is_pull = fetch.asked != 0;
        let late = if is_pull { Rule::PullTokenFirst } else { Rule::TokenBeforeRead };
        let tag = if is_pull && self.out == Some(Rule::PulledWithTags) {
            Tag::Untold
        } else if fetch.tagged && self.holds_rule(late) {
            Tag::Removed
        } else {
            Tag::Stands
        };
        Entry { value: fetch.value, departing: false, tag }
    }

    /// Whether a fill can still be stored or shared. What the gate refuses once it refuses for ever, but for the rules that are out.
    pub(super) fn fill_matters(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let next_life = self.out == Some(Rule::FencedStoresNothing) && !state.nodes[node].live;
        let regained = self.out == Some(Rule::TokenKnowsLostSlots) && fetch.lost && !fetch.removed;
        self.out == Some(Rule::TokenBeforeRead)
            || next_life
            || regained
            || self.is_about_to_be_forgotten(fetch)
            || self.may_store_fill(state, node, fetch)
            || self.is_shared(state, node, fetch)
            || (matches!(self.out, Some(Rule::SharingOfUnsettledEnds | Rule::SharingOfUnsettledTagsEnds))
                && fetch.shared
                && !fetch.lost)
    }

    /// Whether the gate refuses a fetch for a removal of its tag, which it would not if that were forgotten, since the rule is out.
    fn is_about_to_be_forgotten(&self, fetch: Fetch) -> bool {
        let refused = fetch.tagged || fetch.after_tag;
        self.out == Some(Rule::ForgottenTagsRefuse) && refused && !fetch.removed && !fetch.lost
    }

    pub(super) fn pull_matters(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let hopeful = match self.may_store_pull(state, node, fetch) {
            Ok(()) | Err(Some(PullRefused::Unconfirmed)) => true,
            Err(_) => {
                self.is_about_to_be_forgotten(fetch)
                    || (self.out == Some(Rule::PullTokenFirst) && state.nodes[node].view == fetch.asked)
            }
        };
        hopeful || self.is_shared(state, node, fetch)
    }
}
