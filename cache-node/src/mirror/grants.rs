//! What an owner remembers of the mirrors that it has granted: which node may serve which key until when.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Release},
        },
    },
};

use memory::place::Place;
use parking_lot::Mutex;
use ring::NodeId;
use tokio::time::Instant;

/// Keys with mirrors at most; more are not granted.
const KEYS: usize = 4096;

/// Grants of one node, by key. A grant is noted *before* the value is read that it is for, and looked for *after* a removal has taken
/// effect: whoever got the old value is then found.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    /// Guards the state; never held across a wait.
    state: Mutex<State>,
    /// Keys with grants, so that removals on a node that has none pay nothing.
    keys: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    by_key: HashMap<Arc<str>, Key>,
    last: u64,
    /// Set when the node gives its lease back: nothing is granted any more.
    closed: bool,
}

#[derive(Debug)]
struct Key {
    place: Place,
    holders: Vec<Grant>,
}

#[derive(Debug, Clone)]
struct Grant {
    node: NodeId,
    id: u64,
    /// By this node's monotonic clock, from when it was asked: later than the mirror counts.
    until: Instant,
}

/// Mirrors of one node that have to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) node: NodeId,
    /// Each with the number of its grant.
    pub(crate) keys: Vec<(Arc<str>, u64)>,
    /// When the last of them ends by itself.
    pub(crate) until: Instant,
}

/// Which keys' mirrors are looked for.
#[derive(Clone, Copy)]
pub(crate) enum Of<'a> {
    Keys(&'a [String]),
    /// By the numbers of groups.
    Groups(&'a [u16]),
    /// Those of slots that this says yes to.
    Slots(&'a (dyn Fn(u16) -> bool + Sync)),
    All,
}

impl Grants {
    /// Notes that `node` may get a key's value and serve it until then; `None` if it must not.
    pub(crate) fn note(&self, key: &Arc<str>, place: Place, node: &NodeId, until: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        if state.closed || (state.by_key.len() >= KEYS && !state.by_key.contains_key(key)) {
            return None;
        }
        state.last += 1;
        let id = state.last;
        let found = state.by_key.entry(key.clone()).or_insert_with(|| Key { place, holders: Vec::new() });
        match found.holders.iter_mut().find(|grant| grant.node == *node) {
            // An earlier one's end may be the later of the two, if that one was for longer.
            Some(grant) => *grant = Grant { node: node.clone(), id, until: until.max(grant.until) },
            None => found.holders.push(Grant { node: node.clone(), id, until }),
        }
        self.keys.store(state.by_key.len(), Release);
        Some(id)
    }

    /// The mirrors that have to be ended, by node.
    pub(crate) fn due(&self, of: Of<'_>, now: Instant) -> Vec<Due> {
        if self.keys.load(Acquire) == 0 {
            return Vec::new();
        }
        let state = self.state.lock();
        let mut all: BTreeMap<NodeId, Due> = BTreeMap::new();
        let mut add = |key: &Arc<str>, found: &Key| {
            for grant in found.holders.iter().filter(|grant| grant.until > now) {
                let due = all.entry(grant.node.clone()).or_insert_with(|| Due {
                    node: grant.node.clone(),
                    keys: Vec::new(),
                    until: grant.until,
                });
                due.keys.push((key.clone(), grant.id));
                due.until = due.until.max(grant.until);
            }
        };
        let wanted = |key: &Key| match of {
            Of::Keys(_) | Of::All => true,
            Of::Groups(groups) => groups.contains(&key.place.group),
            Of::Slots(are) => are(key.place.slot),
        };
        if let Of::Keys(keys) = of {
            // A batch of removals has many keys, most of which nobody mirrors.
            let found = keys.iter().filter_map(|key| state.by_key.get_key_value(key.as_str()));
            found.for_each(|(key, found)| add(key, found));
        } else {
            state.by_key.iter().filter(|(_, found)| wanted(found)).for_each(|(key, found)| add(key, found));
        }
        all.into_values().collect()
    }

    /// Notes that mirrors are over; one that was granted anew since stays.
    pub(crate) fn ended(&self, due: &Due) {
        let mut state = self.state.lock();
        for (key, id) in &due.keys {
            if let Some(found) = state.by_key.get_mut(key) {
                found.holders.retain(|grant| grant.node != due.node || grant.id != *id);
                if found.holders.is_empty() {
                    state.by_key.remove(key);
                }
            }
        }
        self.keys.store(state.by_key.len(), Release);
    }

    /// Nothing is granted from here on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }

    /// Forgets what has ended by itself.
    pub(crate) fn tidy(&self, now: Instant) {
        if self.keys.load(Acquire) == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.by_key.retain(|_, key| {
            key.holders.retain(|grant| grant.until > now);
            !key.holders.is_empty()
        });
        self.keys.store(state.by_key.len(), Release);
    }

    /// How many nodes may have a mirror of a key.
    pub(crate) fn count(&self, key: &str, now: Instant) -> usize {
        if self.keys.load(Acquire) == 0 {
            return 0;
        }
        let state = self.state.lock();
        let found = state.by_key.get(key);
        found.map_or(0, |key| key.holders.iter().filter(|grant| grant.until > now).count())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn place(slot: u16) -> Place {
        Place { hash: u64::from(slot), group: slot % 2, slot }
    }

    #[test]
    fn who_may_have_a_key_is_found_until_it_has_acknowledged_or_its_time_is_over() {
        let (grants, now) = (Grants::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let keys: Vec<Arc<str>> = (0..4_u16).map(|n| Arc::from(format!("user:{n}"))).collect();
        for (n, key) in (0..).zip(&keys) {
            for node in ["b", "c"] {
                grants.note(key, place(n), &node.into(), later).unwrap();
            }
        }
        let named: Vec<String> = ["user:1", "user:9"].map(String::from).into();
        let due = grants.due(Of::Keys(&named), now);
        assert_eq!(due.len(), 2);
        assert!(due.iter().all(|due| due.keys.len() == 1 && &*due.keys[0].0 == "user:1"));
        assert_eq!(grants.due(Of::Groups(&[0]), now)[0].keys.len(), 2);
        assert_eq!(grants.due(Of::Slots(&|slot| slot == 3), now)[0].keys.len(), 1);
        grants.ended(&due[0]);
        assert_eq!(grants.due(Of::Keys(&named), now), due[1..]);
        assert!(grants.due(Of::All, later).is_empty(), "over by itself");
        grants.tidy(later);
        assert_eq!(grants.count("user:0", now), 0);
    }

    #[test]
    fn the_word_of_a_mirror_about_an_earlier_grant_does_not_end_a_later_one() {
        let (grants, now) = (Grants::default(), Instant::now());
        let (key, node) = (Arc::from("user:1"), NodeId::from("b"));
        grants.note(&key, place(1), &node, now + Duration::from_secs(1));
        let due = grants.due(Of::All, now);
        grants.note(&key, place(1), &node, now + Duration::from_secs(1));
        grants.ended(&due[0]);
        assert_eq!(grants.due(Of::All, now).len(), 1);
        grants.close();
        assert_eq!(grants.note(&key, place(1), &node, now + Duration::from_secs(1)), None);
    }
}
