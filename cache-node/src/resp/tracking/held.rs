//! The table: which clients hold which keys.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::gate::Place;

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

/// Keys with their clients, bounded. Clients that are gone stay listed until their keys go.
#[derive(Debug)]
pub(super) struct Held {
    parts: Box<[Mutex<Part>]>,
    len: AtomicU64,
    most: u64,
}

impl Held {
    pub(super) fn new(most: usize) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            len: AtomicU64::new(0),
            most: most as u64,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Relaxed)
    }

    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Adds a client to a key. Returns another key with its clients, taken out at random, if there are too many.
    pub(super) fn add(
        &self,
        key: &Arc<str>,
        place: Place,
        client: u64,
        until: Option<Instant>,
    ) -> Option<(Arc<str>, Vec<u64>)> {
        let mut part = self.part(place.hash).lock();
        if let Some(tracked) = part.get_mut(&**key) {
            tracked.until = until.or(tracked.until);
            if let Err(at) = tracked.ids.binary_search(&client) {
                tracked.ids.insert(at, client);
            }
            return None;
        }
        part.insert(key.clone(), Tracked { place, until, ids: vec![client] });
        if self.len.fetch_add(1, Relaxed) < self.most {
            return None;
        }
        if part.len() > 1 {
            // All but the last one, which has just come.
            let at = rand::random_range(0..part.len() - 1);
            let (key, tracked) = part.swap_remove_index(at)?;
            self.len.fetch_sub(1, Relaxed);
            return Some((key, tracked.ids));
        }
        drop(part); // one lock at a time
        let other = self.parts.iter().find_map(|part| {
            let mut part = part.lock();
            let at = part.iter().position(|(other, _)| other != key)?;
            part.swap_remove_index(at)
        });
        other.map(|(key, tracked)| {
            self.len.fetch_sub(1, Relaxed);
            (key, tracked.ids)
        })
    }

    pub(super) fn take(&self, key: &str, hash: u64) -> Option<(Arc<str>, Vec<u64>)> {
        let (key, tracked) = self.part(hash).lock().swap_remove_entry(key)?;
        self.len.fetch_sub(1, Relaxed);
        Some((key, tracked.ids))
    }

    pub(super) fn take_where(&self, wanted: impl Fn(&Tracked) -> bool) -> Vec<(Arc<str>, Vec<u64>)> {
        let mut taken = Vec::new();
        for part in &self.parts {
            self.take_from(part, &wanted, &mut taken);
        }
        taken
    }

    pub(super) fn expire(&self, part: usize, now: Instant) -> Vec<(Arc<str>, Vec<u64>)> {
        let mut taken = Vec::new();
        self.take_from(
            &self.parts[part % PARTS],
            &|tracked| tracked.until.is_some_and(|until| until <= now),
            &mut taken,
        );
        taken
    }

    pub(super) fn clear(&self) {
        for part in &self.parts {
            let mut part = part.lock();
            self.len.fetch_sub(part.len() as u64, Relaxed);
            part.clear();
        }
    }

    fn take_from(
        &self,
        part: &Mutex<Part>,
        wanted: &impl Fn(&Tracked) -> bool,
        taken: &mut Vec<(Arc<str>, Vec<u64>)>,
    ) {
        let before = taken.len();
        let mut part = part.lock();
        if !part.values().any(wanted) {
            return;
        }
        part.retain(|key, tracked| {
            let take = wanted(tracked);
            if take {
                taken.push((key.clone(), std::mem::take(&mut tracked.ids)));
            }
            !take
        });
        self.len.fetch_sub((taken.len() - before) as u64, Relaxed);
    }

    fn part(&self, hash: u64) -> &Mutex<Part> {
        &self.parts[(hash >> 48) as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn add(held: &Held, key: &str, client: u64, until: Option<Instant>) -> Option<(Arc<str>, Vec<u64>)> {
        held.add(&key.into(), Place { hash: crate::gate::hash(key), group: 0, slot: 1 }, client, until)
    }

    #[test]
    fn keys_are_taken_once_with_all_their_clients() {
        let held = Held::new(100);
        for client in [3, 1, 3] {
            assert_eq!(add(&held, "a", client, None), None);
        }
        let hash = crate::gate::hash("a");
        assert_eq!(held.take("a", hash), Some(("a".into(), vec![1, 3])));
        assert_eq!((held.take("a", hash), held.len()), (None, 0));
    }

    #[test]
    fn beyond_the_bound_another_key_makes_room() {
        let held = Held::new(3);
        let mut evicted = 0;
        for n in 0..50 {
            let key = format!("k:{n}");
            if let Some((other, ids)) = add(&held, &key, n, None) {
                assert!(*other != *key && ids.len() == 1);
                evicted += 1;
            }
            assert!(held.len() <= 3);
        }
        assert_eq!(evicted, 47);
    }

    #[test]
    fn what_has_expired_is_taken() {
        let (held, now) = (Held::new(100), Instant::now());
        add(&held, "a", 1, Some(now));
        add(&held, "b", 1, Some(now + Duration::from_secs(1)));
        let taken: Vec<_> = (0..held.parts()).flat_map(|part| held.expire(part, now)).collect();
        assert_eq!((taken, held.len()), (vec![("a".into(), vec![1])], 1));
    }
}
