//! What one observer knows of the members: a pure state machine, fed with range reads and watch events in any mix.

use std::collections::BTreeMap;
use std::sync::Arc;

use etcd_client::{Event, EventType, KeyValue};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::link::unsigned;
use crate::{Epoch, Member, MemberState, NodeId, Ring, Terms};

/// A member's key at one revision.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    id: NodeId,
    /// The revision that created the key: the member's incarnation.
    created: u64,
    /// The revision of its last change.
    modified: u64,
    /// JSON; `None` where the key was deleted.
    value: Option<Vec<u8>>,
}

impl Entry {
    /// The entry of a stored key; `None` if the key is no member's.
    pub(super) fn new(prefix: &str, kv: &KeyValue) -> Option<Self> {
        Some(Self {
            id: node_id(prefix, kv.key())?,
            created: unsigned(kv.create_revision()),
            modified: unsigned(kv.mod_revision()),
            value: Some(kv.value().to_vec()),
        })
    }

    /// The entry of a change that was watched.
    pub(super) fn of_event(prefix: &str, event: &Event) -> Option<Self> {
        let mut entry = Self::new(prefix, event.kv()?)?;
        if event.event_type() == EventType::Delete {
            entry.value = None;
        }
        Some(entry)
    }

    fn member(&self) -> Option<Member> {
        let value = self.value.as_ref()?;
        match decode(&self.id, self.created, value) {
            Ok(member) => Some(member),
            Err(error) => {
                warn!(node = %self.id, %error, "skipping a member whose value in etcd can't be read; is another program using its key?");
                None
            }
        }
    }
}

fn node_id(prefix: &str, key: &[u8]) -> Option<NodeId> {
    let id =
        std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(prefix)).filter(|id| !id.is_empty());
    if id.is_none() {
        warn!(key = %String::from_utf8_lossy(key), "skipping a key among the members that is no node's");
    }
    id.map(NodeId::from)
}

/// A member as it is stored. The id is in the key, the incarnation is the key's first revision.
#[derive(Serialize, Deserialize)]
struct Stored {
    grpc: String,
    http: String,
    #[serde(default)]
    resp: String,
    #[serde(default = "one")]
    weight: u32,
    state: String,
    #[serde(default = "Terms::untold")]
    terms: Terms,
}

fn one() -> u32 {
    1
}

/// The value to store for `member`.
pub(super) fn encode(member: &Member) -> Vec<u8> {
    let Member { grpc, http, resp, weight, state, terms, .. } = member.clone();
    serde_json::to_vec(&Stored { grpc, http, resp, weight, state: state.to_string(), terms })
        .expect("a struct of strings and numbers has a JSON form")
}

fn decode(id: &NodeId, incarnation: u64, value: &[u8]) -> Result<Member, serde_json::Error> {
    let Stored { grpc, http, resp, weight, state, terms } = serde_json::from_slice(value)?;
    // A state of a later version: the node is live, so removals go to it; that it holds slots is said by `active` alone.
    let state = state.parse().unwrap_or(MemberState::Leaving);
    Ok(Member { id: id.clone(), incarnation, grpc, http, resp, weight, state, terms })
}

/// The members as far as this observer knows them.
///
/// Invariant: `ring` has exactly the members that etcd had at the ring's epoch, and also those that it had at revision `known`. It need not have
/// been so all the time between: a member that came and went unseen by a read left no trace.
pub(super) struct View {
    known: u64,
    /// The last change of each member's key, with the member if it could be read.
    entries: BTreeMap<NodeId, (u64, Option<Member>)>,
    ring: Arc<Ring>,
}

impl View {
    pub(super) fn new(ring: Arc<Ring>) -> Self {
        Self { known: 0, entries: BTreeMap::new(), ring }
    }

    /// The revision up to which the members are known; 0 before the first read.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    pub(super) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Takes in all entries as of `revision`. Of no use, and ignored, if more is known already.
    pub(super) fn read(&mut self, revision: u64, entries: Vec<Entry>) {
        if revision <= self.known {
            return;
        }
        let first = self.known == 0;
        self.known = revision;
        let unchanged = self.has(&entries);
        if unchanged && !first {
            return;
        }
        let mut before = std::mem::take(&mut self.entries);
        for entry in entries {
            let same = before.remove(&entry.id).filter(|(modified, _)| *modified == entry.modified);
            let (modified, member) = same.unwrap_or_else(|| (entry.modified, entry.member()));
            self.entries.insert(entry.id, (modified, member));
        }
        self.show(revision);
    }

    /// Takes in watched changes, in their order. Those that the view has already are ignored.
    pub(super) fn events(&mut self, events: Vec<Entry>) {
        let known = self.known;
        for event in events.into_iter().filter(|event| event.modified > known) {
            let member = event.member();
            self.known = self.known.max(event.modified);
            if event.value.is_some() {
                self.entries.insert(event.id, (event.modified, member));
            } else {
                self.entries.remove(&event.id);
            }
        }
        if self.known > known {
            self.show(self.known);
        }
    }

    /// Takes in that the watch has delivered everything up to `revision`.
    pub(super) fn progress(&mut self, revision: u64) {
        self.known = self.known.max(revision);
    }

    /// Takes in all entries as of `epoch`, which may be before what is known, and raises the ring's epoch to it or beyond.
    ///
    /// That the members are the same at the ring's epoch and at a later `known` does not tell that they were so at an epoch between: *B joins at
    /// 11 and is gone at 12; we read at 10 and at 12; somebody at 11 asks for 11. If we called our list 11, two lists would have one epoch, and
    /// our acknowledgement would not tell the other that its plan is outdated.* So this needs the entries of that very revision.
    pub(super) fn reach(&mut self, epoch: Epoch, entries: Vec<Entry>) {
        let same = self.has(&entries);
        self.read(epoch.0, entries);
        if self.ring.epoch() < epoch {
            self.show(if same { epoch.0 } else { self.known });
        }
    }

    /// Raises the ring's epoch to the revision up to which the members are known.
    pub(super) fn reach_known(&mut self) {
        if self.ring.epoch().0 < self.known {
            self.show(self.known);
        }
    }

    /// Whether `entries` are all there are, each at the same revision.
    fn has(&self, entries: &[Entry]) -> bool {
        let known = |entry: &Entry| {
            self.entries.get(&entry.id).is_some_and(|(modified, _)| *modified == entry.modified)
        };
        entries.len() == self.entries.len() && entries.iter().all(known)
    }

    fn show(&mut self, revision: u64) {
        let members = self.entries.values().filter_map(|(_, member)| member.clone()).collect();
        self.ring = Arc::new(self.ring.advance(Epoch(revision), members));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// etcd's history of three nodes' keys: at revision `n + 2`, node `history[n].0` is put (`Some`) or deleted.
    type History = Vec<(u8, Option<u8>)>;

    fn entry(at: usize, created: u64, (node, state): (u8, Option<u8>)) -> Entry {
        let id = NodeId::from(format!("n{node}"));
        let state = state.map(|state| {
            [MemberState::Joining, MemberState::Active, MemberState::Leaving][usize::from(state)]
        });
        let value = state.map(|state| {
            encode(&Member {
                id: id.clone(),
                incarnation: 0,
                grpc: "g".into(),
                http: "h".into(),
                resp: "r:6379".into(),
                weight: 1,
                state,
                terms: crate::Terms::default(),
            })
        });
        Entry { id, created, modified: at as u64 + 2, value }
    }

    /// Every change with its revision, and the keys after each of them.
    fn play(history: &History) -> (Vec<Entry>, Vec<Vec<Entry>>) {
        let (mut now, mut events, mut states) =
            (BTreeMap::<NodeId, Entry>::new(), Vec::new(), vec![Vec::new()]);
        for (at, &change) in history.iter().enumerate() {
            let id = NodeId::from(format!("n{}", change.0));
            let created = now.get(&id).map_or(at as u64 + 2, |entry| entry.created);
            let entry = entry(at, created, change);
            if entry.value.is_some() {
                now.insert(id, entry.clone());
            } else {
                now.remove(&id);
            }
            events.push(entry);
            states.push(now.values().cloned().collect());
        }
        (events, states)
    }

    fn members(entries: &[Entry]) -> Vec<Member> {
        entries.iter().filter_map(Entry::member).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Read(prop::sample::Index),
        Watch(usize),
        Reach(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            any::<prop::sample::Index>().prop_map(Step::Read),
            (1_usize..4).prop_map(Step::Watch),
            any::<prop::sample::Index>().prop_map(Step::Reach),
        ];
        proptest::collection::vec(step, 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever mix of late reads, late events and raised epochs an observer gets: its view is the truth at its epoch, and epochs rise.
        #[test]
        fn every_view_is_the_membership_at_its_epoch(
            history in proptest::collection::vec((0_u8..3, proptest::option::of(0_u8..3)), 1..12),
            steps in steps(),
        ) {
            let (events, states) = play(&history);
            let mut view = View::new(Arc::new(Ring::empty(1)));
            let mut watched = None;
            for step in steps {
                let epoch = view.ring().epoch();
                match step {
                    Step::Read(at) => {
                        let at = at.index(states.len());
                        view.read(at as u64 + 1, states[at].clone());
                        watched.get_or_insert(at);
                    }
                    Step::Watch(count) => {
                        let Some(from) = watched else { continue }; // No watch begins before the first read.
                        let to = (from + count).min(events.len());
                        view.events(events[from..to].to_vec());
                        watched = Some(to);
                    }
                    Step::Reach(at) => {
                        let at = at.index(states.len());
                        if view.known() > 0 {
                            view.reach(Epoch(at as u64 + 1), states[at].clone());
                            prop_assert!(view.ring().epoch().0 > at as u64);
                        }
                    }
                }
                let ring = view.ring();
                prop_assert!(ring.epoch() >= epoch);
                if view.known() > 0 {
                    let at_epoch = members(&states[ring.epoch().0 as usize - 1]);
                    prop_assert_eq!(ring.members(), at_epoch.as_slice());
                    let at_known = members(&states[view.known() as usize - 1]);
                    prop_assert_eq!(ring.members(), at_known.as_slice());
                }
            }
        }
    }

    #[test]
    fn events_that_a_read_has_overtaken_bring_nobody_back() {
        let (events, states) = play(&vec![(0, Some(1)), (1, Some(1)), (1, None), (0, Some(2))]);
        let mut view = View::new(Arc::new(Ring::empty(1)));
        view.read(2, states[1].clone());
        view.read(4, states[3].clone());
        assert_eq!(
            view.ring().epoch(),
            Epoch(2),
            "node 1 came and went, so the list is the same, and so is the epoch"
        );
        view.events(events[1..2].to_vec());
        assert_eq!((view.ring().members().len(), view.ring().epoch()), (1, Epoch(2)));
        view.reach(Epoch(4), states[3].clone());
        assert_eq!((view.ring().members().len(), view.ring().epoch()), (1, Epoch(4)));
        view.events(events[3..].to_vec());
        assert_eq!(view.ring().epoch(), Epoch(5));
    }

    #[test]
    fn an_epoch_that_had_another_list_is_not_given_to_ours() {
        let (_, states) = play(&vec![(0, Some(1)), (1, Some(1)), (1, None)]);
        let mut view = View::new(Arc::new(Ring::empty(1)));
        view.read(2, states[1].clone());
        view.read(4, states[3].clone());
        view.reach(Epoch(3), states[2].clone());
        assert_eq!((view.ring().members().len(), view.ring().epoch()), (1, Epoch(4)));
    }

    #[test]
    fn a_value_that_cannot_be_read_hides_only_its_own_member() {
        let mut view = View::new(Arc::new(Ring::empty(1)));
        let garbage =
            Entry { id: "x".into(), created: 2, modified: 2, value: Some(b"{\"grpc\":1}".to_vec()) };
        view.read(3, vec![entry(1, 3, (0, Some(1))), garbage]);
        assert_eq!(view.ring().members().len(), 1);
    }

    #[test]
    fn a_member_in_a_state_of_a_later_version_is_live_and_holds_nothing() {
        let value = br#"{"grpc":"g","http":"h","state":"draining","zone":"z"}"#;
        let member = decode(&"a".into(), 7, value).unwrap();
        assert_eq!((member.state, member.weight, member.incarnation), (MemberState::Leaving, 1, 7));
    }
}
