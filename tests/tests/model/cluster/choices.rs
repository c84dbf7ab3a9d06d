//! What can happen next.

use ring::MemberState::{Active, Joining};

use super::Cluster;
use crate::model::configurations::Configuration;
use crate::model::rings::NODES;
use crate::model::rules::Rule;
use crate::model::state::{Delivery, State};
use crate::model::steps::Step;

impl Cluster {
    pub(super) fn node_steps(&self, state: &State, node: usize, steps: &mut Vec<Step>) {
        let Configuration { fetches, evicts, pulls, .. } = self.configuration;
        let own = &state.nodes[node];
        if own.fill.is_some() {
            steps.push(Step::StoreFill { node });
        }
        if own.pull.is_some() {
            steps.push(Step::StorePull { node });
        }
        if own.live
            && self.holds(state, node)
            && self.serves(state, node).is_none()
            && state.fetches() < fetches
        {
            if own.fill.is_none() && state.visible != self.all() {
                steps.push(Step::Fill { node });
            }
            if pulls && own.pull.is_none() {
                for from in (0..NODES).filter(|&from| from != node) {
                    if self.answer(state, node, from).is_some() {
                        steps.push(Step::Pull { node, from });
                    }
                }
            }
        }
        if own.mirroring.is_some() {
            steps.push(Step::StoreMirror { node });
        }
        for mirror in (0..NODES).filter(|mirror| own.grants >> mirror & 1 == 1) {
            steps.push(Step::EndMirror { owner: node, node: mirror });
        }
        if self.configuration.mirrors
            && own.live
            && !self.holds(state, node)
            && own.mirroring.is_none()
            && state.fetches() < fetches
        {
            for from in (0..NODES).filter(|&from| from != node) {
                if self.granted(state, node, from).is_some() {
                    steps.push(Step::AskMirror { node, from });
                }
            }
        }
        if evicts && own.entry.is_some() {
            steps.push(Step::Evict { node });
        }
        if own.minds_tag() && !own.forgot {
            steps.push(Step::Forget { node });
        }
        if own.minds_tag() && !own.swept {
            steps.push(Step::Sweep { node });
        }
        let mirrored =
            !self.holds(state, node) && own.grants != 0 && self.holds_rule(Rule::MirrorsEndBeforeConfirm);
        if own.confirmed < own.view && !mirrored {
            steps.push(Step::Confirm { node });
        }
        if own.live {
            // What it goes by until a ring lists its present life makes no difference.
            for to in (own.view + 1).max(own.born)..=state.epoch {
                steps.push(Step::Advance { node, to, keep: false });
                if self.may_keep(state, node, to) {
                    steps.push(Step::Advance { node, to, keep: true });
                }
            }
        }
    }

    pub(super) fn member_steps(&self, state: &State, node: usize, steps: &mut Vec<Step>) {
        let Configuration { epochs, joins, retires, ends, .. } = self.configuration;
        if state.epoch >= epochs {
            return;
        }
        let own = &state.nodes[node];
        let joined_at = || {
            let joining = |epoch: &u8| state.members(*epoch).get(node) == Some(Joining);
            (1..=state.epoch).rev().take_while(joining).last().unwrap_or(state.epoch)
        };
        match state.members_now().get(node) {
            None if joins && !own.live => steps.push(Step::Register { node }),
            Some(Joining) if joins && own.view >= joined_at() => steps.push(Step::Activate { node }),
            Some(Active) if retires => steps.push(Step::Retire { node }),
            _ => {}
        }
        if ends && state.members_now().get(node).is_some() {
            steps.push(Step::End { node });
        }
    }

    pub(super) fn sync_steps(&self, state: &State, change: usize, steps: &mut Vec<Step>) {
        if state.logged >> change & 1 == 0 {
            if change == 0 || state.logged >> (change - 1) & 1 == 1 {
                steps.push(Step::Log { change });
            }
            return;
        }
        if state.visible >> change & 1 == 0 {
            steps.push(Step::Show { change });
        }
        let uncommitted = state.committed >> change & 1 == 0;
        match state.changes[change] {
            Delivery::Open => {
                let oldest = if self.holds_rule(Rule::LinearizableRead) { state.epoch } else { 1 };
                for epoch in oldest..=state.epoch {
                    let confirmed = (0..NODES)
                        .filter(|&node| state.members(epoch).get(node).is_some())
                        .all(|node| state.nodes[node].confirmed >= epoch);
                    steps.push(Step::Plan { change, epoch, knows: false });
                    if confirmed {
                        steps.push(Step::Plan { change, epoch, knows: true });
                    }
                }
                if !self.holds_rule(Rule::CommitLast) && uncommitted {
                    steps.push(Step::CommitEarly { change });
                }
            }
            Delivery::Planned { epoch, waits } => {
                for node in (0..NODES).filter(|node| waits[0] >> node & 1 == 1) {
                    if state.gone_since(epoch, node) {
                        steps.push(Step::Miss { change, node });
                    } else if state.nodes[node].view >= epoch || !self.holds_rule(Rule::CatchUpFirst) {
                        steps.push(Step::Apply { change, node });
                        if self.removes_tag(change) && state.nodes[node].fill.is_some() {
                            steps.push(Step::ApplyWithin { change, node });
                        }
                    }
                }
            }
            Delivery::Done | Delivery::Skipped => {}
        }
    }
}
