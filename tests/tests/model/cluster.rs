//! The protocol as a state machine for the checker.

mod answers;
mod choices;
mod delivery;
mod members;
mod settle;
mod stores;

use std::sync::Arc;

use ring::MemberState::{Active, Leaving};
use stateright::{Model, Property};

use self::answers::Answer;
use super::configurations::Configuration;
use super::coverage::{Coverage, Seen};
use super::decisions;
use super::rings::{EPOCHS, Members, NODES, Rings, Set};
use super::rules::Rule;
use super::state::{Delivery, Fetch, Mirror, Node, State};
use super::steps::Step;

/// The property that the protocol is for.
pub(crate) const PROMISE: &str = "no node serves a value that lacks a delivered change";

/// A cluster to be searched, with one rule out or none.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) configuration: Configuration,
    pub(crate) out: Option<Rule>,
    pub(crate) rings: Arc<Rings>,
    pub(crate) coverage: Arc<Coverage>,
}

impl Cluster {
    pub(crate) fn new(configuration: Configuration, out: Option<Rule>) -> Self {
        let rings = Arc::new(Rings::new(configuration.replicas));
        Self { configuration, out, rings, coverage: Arc::default() }
    }

    fn holds_rule(&self, rule: Rule) -> bool {
        self.out != Some(rule)
    }

    fn all(&self) -> Set {
        (1 << self.configuration.changes) - 1
    }

    /// Whether the node holds the slot by the ring of `epoch`: only by one that lists its present life.
    fn holds_at(&self, state: &State, epoch: u8, node: usize) -> bool {
        epoch >= state.nodes[node].born && self.rings.holders(state.members(epoch)).contains(&node)
    }

    fn holds(&self, state: &State, node: usize) -> bool {
        self.holds_at(state, state.nodes[node].view, node)
    }

    fn owner(&self, state: &State, epoch: u8) -> Option<usize> {
        self.rings.holders(state.members(epoch)).first().copied()
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut history = [Members::default(); EPOCHS];
        history[1] = Members::new(self.configuration.start);
        let nodes = self.configuration.start.map(|state| match state {
            Some(_) => Node { live: true, born: 1, view: 1, confirmed: 1, ..Node::default() },
            None => Node::default(),
        });
        let changes = [Delivery::Open; 2];
        let (logged, visible, committed) = (0, 0, 0);
        vec![State { epoch: 1, history, nodes, changes, logged, visible, committed, taken_over: false }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if self.is_over(state) {
            return;
        }
        for node in 0..NODES {
            self.node_steps(state, node, steps);
            self.member_steps(state, node, steps);
        }
        for change in 0..self.configuration.changes {
            self.sync_steps(state, change, steps);
        }
        let planned = state.changes.iter().any(|delivery| matches!(delivery, Delivery::Planned { .. }));
        if self.configuration.takes_over && !state.taken_over && (planned || state.committed != 0) {
            steps.push(Step::TakeOver);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = *last;
        let see = |seen| self.coverage.see(seen);
        match step {
            Step::Log { change } => state.logged |= 1 << change,
            Step::Show { change } => state.visible |= 1 << change,
            Step::Fill { node } => {
                let own = &mut state.nodes[node];
                own.fill = Some(Fetch {
                    value: state.visible,
                    after_removal: own.removed_with != 0,
                    after_acquisition: own.acquired_with != 0,
                    after_tag: own.tagged_with != 0,
                    shared: true,
                    ..Fetch::default()
                });
            }
            Step::Pull { node, from } => {
                let Answer { value, shared } = self.answer(&state, node, from)?;
                let asked = state.nodes[node].view;
                state.nodes[node].pull = Some(Fetch { value, asked, shared, ..Fetch::default() });
            }
            Step::StoreFill { node } => {
                let fetch = state.nodes[node].fill.take()?;
                if self.may_store_fill(&state, node, fetch) {
                    see(Seen::FillStored);
                    state.nodes[node].entry = Some(self.stored(fetch));
                } else {
                    see(Seen::FillRefused);
                }
            }
            Step::StorePull { node } => {
                let fetch = state.nodes[node].pull.take()?;
                if self.serves(&state, node).is_none() && self.may_store_pull(&state, node, fetch).is_ok() {
                    see(if fetch.shared { Seen::OwnersPullStored } else { Seen::DepartingPullStored });
                    state.nodes[node].entry = Some(self.stored(fetch));
                }
            }
            Step::AskMirror { node, from } => {
                let value = self.granted(&state, node, from)?;
                let life = state.nodes[from].born;
                state.nodes[node].mirroring = Some(Mirror { value, from, life, removed: false });
                state.nodes[from].grants |= 1 << node;
            }
            Step::StoreMirror { node } => {
                let own = &mut state.nodes[node];
                let mirror = own.mirroring.take()?;
                if own.live && (!mirror.removed || !self.holds_rule(Rule::MirrorToken)) {
                    see(Seen::MirrorKept);
                    own.mirror = Some(mirror);
                } else {
                    see(Seen::MirrorRefused);
                }
            }
            Step::EndMirror { owner, node } => {
                if self.holds_rule(Rule::MirrorToken) {
                    Self::end_mirror(&mut state, owner, node);
                } else {
                    // Acknowledged, and what is under way comes in after it.
                    let under_way = state.nodes[node].mirroring.filter(|mirror| mirror.from == owner);
                    Self::end_mirror(&mut state, owner, node);
                    state.nodes[node].mirroring = state.nodes[node]
                        .mirroring
                        .or(under_way.map(|mirror| Mirror { removed: true, ..mirror }));
                }
            }
            Step::Evict { node } => state.nodes[node].entry = None,
            Step::Forget { node } => {
                see(Seen::ForgottenTag);
                state.nodes[node].forgot = true;
            }
            Step::Sweep { node } => {
                let own = &mut state.nodes[node];
                let valid = own.entry.is_none_or(|entry| decisions::stands(own, entry));
                if !valid && self.holds_rule(Rule::SweepLooks) {
                    see(Seen::SweptByTag);
                    own.entry = None;
                }
                own.swept = true;
            }
            Step::Advance { node, to, keep } => self.advance(&mut state, node, to, keep),
            Step::Confirm { node } => {
                let own = &mut state.nodes[node];
                own.entry = own.entry.filter(|entry| !entry.departing);
                own.confirmed = own.view;
                own.giving = false;
            }
            Step::Register { node } => {
                see(Seen::CameBack);
                self.register(&mut state, node);
            }
            Step::Activate { node } => Self::change_members(&mut state, node, Some(Active)),
            Step::Retire { node } => Self::change_members(&mut state, node, Some(Leaving)),
            Step::End { node } => self.end(&mut state, node),
            Step::Plan { change, epoch, knows } => self.plan(&mut state, change, epoch, knows),
            Step::Apply { change, node } => self.apply(&mut state, change, node),
            Step::ApplyWithin { change, node } => {
                let fetch = state.nodes[node].fill.take()?;
                let stored = self.may_store_fill(&state, node, fetch);
                self.apply(&mut state, change, node);
                if stored {
                    let own = &mut state.nodes[node];
                    let late = !self.holds_rule(Rule::StampOfToken);
                    own.entry = Some(self.stored(Fetch { tagged: !late, ..fetch }));
                    own.swept = !self.holds_rule(Rule::SweepWaits);
                }
            }
            Step::Miss { change, node } => {
                see(Seen::TargetLeft);
                let again = self.holds_rule(Rule::ReplanOnLostTarget);
                self.acknowledge(&mut state, change, node, again);
            }
            Step::CommitEarly { change } => state.committed |= 1 << change,
            Step::TakeOver => {
                see(Seen::TookOver);
                state.taken_over = true;
                for change in 0..self.configuration.changes {
                    let committed = state.committed >> change & 1 == 1;
                    match &mut state.changes[change] {
                        delivery @ (Delivery::Planned { .. } | Delivery::Open) if committed => {
                            *delivery = Delivery::Skipped;
                        }
                        delivery @ Delivery::Planned { .. } => *delivery = Delivery::Open,
                        _ => {}
                    }
                }
            }
        }
        Some(self.settle(state))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(PROMISE, |cluster: &Self, state: &State| cluster.stale(state).next().is_none()),
            Property::sometimes("an old value is in memory", |_, state: &State| {
                state
                    .nodes
                    .iter()
                    .any(|node| node.entry.is_some_and(|entry| state.visible & !entry.value != 0))
            }),
            Property::sometimes("all changes are delivered", |cluster: &Self, state: &State| {
                state.delivered() == cluster.all()
            }),
        ]
    }
}
