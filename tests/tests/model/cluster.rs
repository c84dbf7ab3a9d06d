//! The protocol as a state machine for the checker.

use std::sync::Arc;

use cache_node::protocol::PullRefused;
use ring::MemberState::{Active, Joining, Leaving};
use stateright::{Model, Property};

use super::configurations::Configuration;
use super::coverage::{Coverage, Seen};
use super::decisions;
use super::rings::{EPOCHS, Members, NODES, Rings, Set};
use super::rules::Rule;
use super::state::{Delivery, Entry, Fetch, Mirror, Node, State};
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

    fn serves(&self, state: &State, node: usize) -> Option<Entry> {
        let holds = self.holds(state, node);
        state.nodes[node].entry.filter(|&entry| {
            if matches!(self.out, Some(Rule::LostSlotsEnd | Rule::DepartingNotServed)) {
                let entry = Entry { departing: false, ..entry };
                return decisions::serves(&state.nodes[node], true, entry);
            }
            decisions::serves(&state.nodes[node], holds, entry)
        })
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

    /// The value that `from` grants a mirror of if `node` asks it now.
    fn granted(&self, state: &State, node: usize, from: usize) -> Option<Set> {
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

    /// Ends the mirror that `owner` granted to `node`, on both sides.
    fn end_mirror(state: &mut State, owner: usize, node: usize) {
        let own = &mut state.nodes[node];
        own.mirror = own.mirror.filter(|mirror| mirror.from != owner);
        own.mirroring = own.mirroring.filter(|mirror| mirror.from != owner);
        let granted = &mut state.nodes[owner];
        granted.grants &= !(1 << node);
        for owed in granted.owed.iter_mut().flatten() {
            *owed &= !(1 << node);
        }
    }

    /// Whether requests that come now would share the fetch though the database shows them more.
    fn is_shared(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let Node { live, removed_with, acquired_with, .. } = state.nodes[node];
        let quarantine = (removed_with | acquired_with) & !state.visible != 0;
        let unsettled = fetch.after_removal || fetch.after_acquisition;
        let shared_when_over = !unsettled || !self.holds_rule(Rule::SharingOfUnsettledEnds);
        live && fetch.shared && !fetch.lost && !(unsettled && quarantine) && shared_when_over
    }

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

    /// The gate's verdict on a fill.
    fn may_store_fill(&self, state: &State, node: usize, fetch: Fetch) -> bool {
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
    fn may_store_pull(&self, state: &State, node: usize, fetch: Fetch) -> Result<(), Option<PullRefused>> {
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

    /// What `from` answers if `node` asks it now.
    fn answer(&self, state: &State, node: usize, from: usize) -> Option<Answer> {
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
        let gives = decisions::gives(owns, entry) || (self.out == Some(Rule::OneWay) && serves);
        gives.then_some(Answer { value: entry.value, shared: false })
    }

    /// The key leaves a node's memory; its gate and its fills under way know.
    fn remove(&self, state: &mut State, node: usize) {
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

    fn advance(&self, state: &mut State, node: usize, to: u8, keep: bool) {
        let (held, holds) = (self.holds(state, node), self.holds_at(state, to, node));
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
        let departs = node.entry.is_some_and(|entry| entry.departing);
        if departs {
            self.coverage.see(Seen::Departed);
        }
        let mirrored = !holds && node.grants != 0 && self.holds_rule(Rule::MirrorsEndBeforeConfirm);
        if mirrored {
            self.coverage.see(Seen::ConfirmAwaited);
        }
        let at_once = !departs && !mirrored;
        if at_once || matches!(self.out, Some(Rule::DropBeforeConfirm | Rule::LostSlotsEnd)) {
            node.confirmed = to;
        }
    }

    /// Whether a node that goes by the ring of `to` has the choice to keep what it has lost.
    fn may_keep(&self, state: &State, node: usize, to: u8) -> bool {
        // A slot that comes back drops what departed, unless takers need not be confirmed.
        let back = self.holds_at(state, to, node);
        let was_held = self.holds(state, node);
        let wanted = !self.rings.holders(state.members(to)).is_empty();
        let lost = if back { !was_held && self.out == Some(Rule::TakerConfirmed) } else { wanted };
        self.configuration.pulls && lost && state.nodes[node].entry.is_some()
    }

    fn change_members(state: &mut State, node: usize, to: Option<ring::MemberState>) {
        let members = state.members_now().with(node, to);
        state.epoch += 1;
        state.history[usize::from(state.epoch)] = members;
    }

    fn register(&self, state: &mut State, node: usize) {
        Self::change_members(state, node, Some(Joining));
        let (epoch, unseen) = (state.epoch, state.logged & !state.visible);
        let own = &mut state.nodes[node];
        own.live = true;
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

    fn end(&self, state: &mut State, node: usize) {
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

    fn acknowledge(&self, state: &mut State, change: usize, node: usize, again: bool) {
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

    fn plan(&self, state: &mut State, change: usize, epoch: u8, knows: bool) {
        for node in &mut state.nodes {
            node.owed[change] = None; // asked again, it removes again
        }
        let members = state.members(epoch);
        let confirmed = |node: usize| {
            let learnt = knows.then_some(state.nodes[node].confirmed);
            if self.holds_rule(Rule::EverybodyIfUnconfirmed) { learnt } else { Some(u8::MAX) }
        };
        let mut waits = self.rings.phases(epoch, members, confirmed);
        if !self.holds_rule(Rule::Phases) {
            waits = [waits[0] | waits[1] | waits[2], 0, 0];
        }
        if waits[0].count_ones() == NODES as u32 {
            self.coverage.see(Seen::DeliveredToEverybody);
        }
        state.changes[change] =
            if waits == [0; 3] { Delivery::Done } else { Delivery::Planned { epoch, waits } };
    }

    /// Brings states that can't be told apart from here on to one form.
    fn settle(&self, mut state: State) -> State {
        let all = self.all();
        for node in 0..NODES {
            let gone = state.members_now().get(node).is_none();
            let own = &mut state.nodes[node];
            own.removed_with &= !state.visible;
            own.acquired_with &= !state.visible;
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

    /// Whether a fill can still be stored or shared. What the gate refuses once it refuses for ever, but for the rules that are out.
    fn fill_matters(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let next_life = self.out == Some(Rule::FencedStoresNothing) && !state.nodes[node].live;
        let regained = self.out == Some(Rule::TokenKnowsLostSlots) && fetch.lost && !fetch.removed;
        self.out == Some(Rule::TokenBeforeRead)
            || next_life
            || regained
            || self.may_store_fill(state, node, fetch)
            || self.is_shared(state, node, fetch)
            || (self.out == Some(Rule::SharingOfUnsettledEnds) && fetch.shared && !fetch.lost)
    }

    fn pull_matters(&self, state: &State, node: usize, fetch: Fetch) -> bool {
        let hopeful = match self.may_store_pull(state, node, fetch) {
            Ok(()) | Err(Some(PullRefused::Unconfirmed)) => true,
            Err(_) => self.out == Some(Rule::PullTokenFirst) && state.nodes[node].view == fetch.asked,
        };
        hopeful || self.is_shared(state, node, fetch)
    }

    /// Whether nothing can go wrong any more: all changes are visible, and no value anywhere lacks one.
    fn is_over(&self, state: &State) -> bool {
        state.visible == self.all()
            && state.nodes.iter().all(|node| {
                node.entry.is_none()
                    && node.fill.is_none()
                    && node.pull.is_none()
                    && node.mirror.is_none()
                    && node.mirroring.is_none()
            })
    }

    fn node_steps(&self, state: &State, node: usize, steps: &mut Vec<Step>) {
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

    fn member_steps(&self, state: &State, node: usize, steps: &mut Vec<Step>) {
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

    fn sync_steps(&self, state: &State, change: usize, steps: &mut Vec<Step>) {
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
                    }
                }
            }
            Delivery::Done | Delivery::Skipped => {}
        }
    }
}

/// What a node that is asked has.
struct Answer {
    value: Set,
    /// Whether requests at the asker share it, stored or not.
    shared: bool,
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
                    state.nodes[node].entry = Some(Entry { value: fetch.value, departing: false });
                } else {
                    see(Seen::FillRefused);
                }
            }
            Step::StorePull { node } => {
                let fetch = state.nodes[node].pull.take()?;
                if self.serves(&state, node).is_none() && self.may_store_pull(&state, node, fetch).is_ok() {
                    see(if fetch.shared { Seen::OwnersPullStored } else { Seen::DepartingPullStored });
                    state.nodes[node].entry = Some(Entry { value: fetch.value, departing: false });
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
            Step::Advance { node, to, keep } => self.advance(&mut state, node, to, keep),
            Step::Confirm { node } => {
                let own = &mut state.nodes[node];
                own.entry = own.entry.filter(|entry| !entry.departing);
                own.confirmed = own.view;
            }
            Step::Register { node } => {
                see(Seen::CameBack);
                self.register(&mut state, node);
            }
            Step::Activate { node } => Self::change_members(&mut state, node, Some(Active)),
            Step::Retire { node } => Self::change_members(&mut state, node, Some(Leaving)),
            Step::End { node } => self.end(&mut state, node),
            Step::Plan { change, epoch, knows } => self.plan(&mut state, change, epoch, knows),
            Step::Apply { change, node } => {
                let Delivery::Planned { epoch, .. } = state.changes[change] else { return None };
                let due = if let Some(left) = state.nodes[node].owed[change] {
                    left
                } else {
                    self.remove(&mut state, node);
                    let grants = state.nodes[node].grants;
                    if self.holds_rule(Rule::MirrorsAcknowledge) { grants } else { 0 }
                };
                if due != 0 {
                    see(Seen::MirrorAwaited);
                    state.nodes[node].owed[change] = Some(due);
                    return Some(self.settle(state));
                }
                state.nodes[node].owed[change] = None;
                let acknowledged_at = state.nodes[node].view;
                let again = acknowledged_at > epoch && self.holds_rule(Rule::ReplanOnNewerEpoch);
                self.acknowledge(&mut state, change, node, again);
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
