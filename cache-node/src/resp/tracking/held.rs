//! The table: which clients hold which keys.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use indexmap::IndexMap;
use memory::place::Place;
use parking_lot::Mutex;
use tokio::time::Instant;

const PARTS: usize = 64;

/// One key that clients hold.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) place: Place,
    /// When the entry expires that was read last.
    until: Option<Instant>,
    /// In order.
    ids: Vec<u64>,
}

type Part = IndexMap<Arc<str>, Tracked>;

/// Keys with their clients, bounded by their number: a key that three clients hold counts as three.
///
/// Every registration ends: when its key is taken, when its entry has expired, when nothing was found for it
/// ([`withdraw`](Self::withdraw)), or soon after its client is gone ([`purge`](Self::purge)).
#[derive(Debug)]
pub(super) struct Held {
    parts: Box<[Mutex<Part>]>,
    keys: AtomicU64,
    registrations: AtomicU64,
    most: u64,
}

/// A key with the clients that hold it.
pub(super) type Taken = (Arc<str>, Vec<u64>);

/// What came of an addition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// Whether the client was not registered for the key yet.
    pub(super) new: bool,
    /// Another key, taken out at random because there were too many.
    pub(super) evicted: Option<Taken>,
}

impl Held {
    /// For so many registrations.
    pub(super) fn new(most: usize) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            keys: AtomicU64::new(0),
            registrations: AtomicU64::new(0),
            most: most as u64,
        }
    }

    /// How many keys there are.
    pub(super) fn keys(&self) -> u64 {
        self.keys.load(Relaxed)
    }

    /// How many clients they are held by, each key's counted by itself.
    pub(super) fn registrations(&self) -> u64 {
        self.registrations.load(Relaxed)
    }

    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Adds a client to a key.
    pub(super) fn add(&self, key: &Arc<str>, place: Place, client: u64) -> Added {
        let mut part = self.part(place.hash).lock();
        if let Some(tracked) = part.get_mut(&**key) {
            let Err(at) = tracked.ids.binary_search(&client) else {
                return Added { new: false, evicted: None };
            };
            tracked.ids.insert(at, client);
        } else {
            part.insert(key.clone(), Tracked { place, until: None, ids: vec![client] });
            self.keys.fetch_add(1, Relaxed);
        }
        if self.registrations.fetch_add(1, Relaxed) < self.most {
            return Added { new: true, evicted: None };
        }
        let mut evicted = None;
        if part.len() > 1 {
            let at = rand::random_range(0..part.len());
            // Not the key that has just come.
            let at = if part.get_index(at).is_some_and(|(other, _)| other == key) {
                (at + 1) % part.len()
            } else {
                at
            };
            evicted = part.swap_remove_index(at);
        }
        drop(part); // one lock at a time
        if evicted.is_none() {
            evicted = self.parts.iter().find_map(|part| {
                let mut part = part.lock();
                let at = part.iter().position(|(other, _)| other != key)?;
                part.swap_remove_index(at)
            });
        }
        Added { new: true, evicted: evicted.map(|taken| self.out(taken)) }
    }

    /// Notes until when the entry of a key may be held, if the key is still there.
    pub(super) fn hold_until(&self, key: &str, hash: u64, until: Instant) {
        if let Some(tracked) = self.part(hash).lock().get_mut(key) {
            tracked.until = Some(until);
        }
    }

    /// Takes a client from a key: it holds nothing of it.
    pub(super) fn withdraw(&self, key: &str, hash: u64, client: u64) {
        let mut part = self.part(hash).lock();
        let Some(tracked) = part.get_mut(key) else { return };
        let Ok(at) = tracked.ids.binary_search(&client) else { return };
        tracked.ids.remove(at);
        self.registrations.fetch_sub(1, Relaxed);
        if tracked.ids.is_empty() {
            part.swap_remove(key);
            self.keys.fetch_sub(1, Relaxed);
        }
    }

    /// Whether a client is registered for a key.
    pub(super) fn has(&self, key: &str, hash: u64, client: u64) -> bool {
        self.part(hash).lock().get(key).is_some_and(|tracked| tracked.ids.binary_search(&client).is_ok())
    }

    pub(super) fn take(&self, key: &str, hash: u64) -> Option<Taken> {
        let taken = self.part(hash).lock().swap_remove_entry(key)?;
        Some(self.out(taken))
    }

    pub(super) fn take_where(&self, wanted: impl Fn(&Tracked) -> bool) -> Vec<Taken> {
        let mut taken = Vec::new();
        for part in &self.parts {
            self.take_from(part, &wanted, &mut taken);
        }
        taken
    }

    pub(super) fn expire(&self, part: usize, now: Instant) -> Vec<Taken> {
        let mut taken = Vec::new();
        self.take_from(
            &self.parts[part % PARTS],
            &|tracked| tracked.until.is_some_and(|until| until <= now),
            &mut taken,
        );
        taken
    }

    /// Takes clients that are not `there` any more from the keys of one part. `there` is asked under the part's lock, so that who has
    /// registered a key is.
    pub(super) fn purge(&self, part: usize, there: impl Fn(u64) -> bool) {
        let mut part = self.parts[part % PARTS].lock();
        let (keys, mut gone) = (part.len(), 0);
        part.retain(|_, tracked| {
            let before = tracked.ids.len();
            tracked.ids.retain(|id| there(*id));
            gone += before - tracked.ids.len();
            !tracked.ids.is_empty()
        });
        self.registrations.fetch_sub(gone as u64, Relaxed);
        self.keys.fetch_sub((keys - part.len()) as u64, Relaxed);
    }

    pub(super) fn clear(&self) {
        let mut all = Vec::new();
        for part in &self.parts {
            self.take_from(part, &|_| true, &mut all);
            all.clear();
        }
    }

    fn take_from(&self, part: &Mutex<Part>, wanted: &impl Fn(&Tracked) -> bool, taken: &mut Vec<Taken>) {
        let mut part = part.lock();
        if !part.values().any(wanted) {
            return;
        }
        part.retain(|key, tracked| {
            let take = wanted(tracked);
            if take {
                self.keys.fetch_sub(1, Relaxed);
                self.registrations.fetch_sub(tracked.ids.len() as u64, Relaxed);
                taken.push((key.clone(), std::mem::take(&mut tracked.ids)));
            }
            !take
        });
    }

    /// Counts a key out.
    fn out(&self, (key, tracked): (Arc<str>, Tracked)) -> Taken {
        self.keys.fetch_sub(1, Relaxed);
        self.registrations.fetch_sub(tracked.ids.len() as u64, Relaxed);
        (key, tracked.ids)
    }

    fn part(&self, hash: u64) -> &Mutex<Part> {
        &self.parts[(hash >> 48) as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hash(key: &str) -> u64 {
        memory::place::hash(key)
    }

    fn add(held: &Held, key: &str, client: u64) -> Added {
        held.add(&key.into(), Place { hash: hash(key), group: 0, slot: 1 }, client)
    }

    fn size(held: &Held) -> (u64, u64) {
        let parts = || held.parts.iter().map(|part| part.lock());
        let registrations = parts().map(|part| part.values().map(|tracked| tracked.ids.len()).sum::<usize>());
        assert_eq!(held.keys(), parts().map(|part| part.len()).sum::<usize>() as u64);
        assert_eq!(held.registrations(), registrations.sum::<usize>() as u64);
        (held.keys(), held.registrations())
    }

    #[test]
    fn keys_are_taken_once_with_all_their_clients() {
        let held = Held::new(100);
        for (client, new) in [(3, true), (1, true), (3, false)] {
            assert_eq!(add(&held, "a", client), Added { new, evicted: None });
        }
        assert_eq!(size(&held), (1, 2));
        assert_eq!(held.take("a", hash("a")), Some(("a".into(), vec![1, 3])));
        assert_eq!((held.take("a", hash("a")), size(&held)), (None, (0, 0)));
    }

    #[test]
    fn beyond_the_bound_another_key_makes_room() {
        let held = Held::new(3);
        let mut evicted = 0;
        for n in 0..50 {
            let key = format!("k:{n}");
            if let Some((other, ids)) = add(&held, &key, n).evicted {
                assert!(*other != *key && ids.len() == 1);
                evicted += 1;
            }
            assert!(size(&held).1 <= 3);
        }
        assert_eq!(evicted, 47);
    }

    #[test]
    fn many_clients_of_one_key_make_room_too() {
        let held = Held::new(5);
        for key in ["a", "b", "c"] {
            add(&held, key, 1);
        }
        let evicted: Vec<_> = (2..6).filter_map(|client| add(&held, "a", client).evicted).collect();
        assert_eq!((evicted.len(), size(&held)), (2, (1, 5)), "{evicted:?}");
    }

    #[test]
    fn what_has_expired_is_taken() {
        let (held, now) = (Held::new(100), Instant::now());
        for (key, until) in [("a", now), ("b", now + Duration::from_secs(1))] {
            add(&held, key, 1);
            held.hold_until(key, hash(key), until);
        }
        let taken: Vec<_> = (0..held.parts()).flat_map(|part| held.expire(part, now)).collect();
        assert_eq!((taken, size(&held)), (vec![("a".into(), vec![1])], (1, 1)));
    }

    #[test]
    fn who_is_gone_or_holds_nothing_is_in_no_key() {
        let held = Held::new(100);
        for (key, client) in [("a", 1), ("a", 2), ("b", 1), ("c", 2)] {
            add(&held, key, client);
        }
        held.withdraw("a", hash("a"), 2);
        held.withdraw("a", hash("a"), 2);
        held.withdraw("c", hash("c"), 2);
        assert_eq!(size(&held), (2, 2));
        (0..held.parts()).for_each(|part| held.purge(part, |client| client != 1));
        assert_eq!(size(&held), (0, 0));
    }
}
