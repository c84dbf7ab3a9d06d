//! The bounded log of removals of one gate.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::token::Logged;

/// Removals in the order in which they were applied, by key hash. Two keys with one hash cost a false refusal, no more.
#[derive(Debug)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    capacity: usize,
    seq: u64,
    forgotten: Option<Logged>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    at: Instant,
    /// `None` for the write of a plain key, which ends what is under way as a removal does.
    origin: Option<Arc<str>>,
}

impl Log {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity, seq: 0, forgotten: None }
    }

    /// The number of the last removal.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The newest removal that had to make room.
    pub(super) fn forgotten(&self) -> Option<Logged> {
        self.forgotten
    }

    /// Logs a removal; `at` must not be before that of the last one.
    pub(super) fn push(&mut self, hash: u64, at: Instant, origin: Arc<str>) {
        self.note(hash, at, Some(origin));
    }

    /// Logs the write of a plain key in the same way.
    pub(super) fn push_write(&mut self, hash: u64, at: Instant) {
        self.note(hash, at, None);
    }

    fn note(&mut self, hash: u64, at: Instant, origin: Option<Arc<str>>) {
        if self.entries.len() == self.capacity {
            let seq = self.seq - self.entries.len() as u64 + 1;
            if let Some(oldest) = self.entries.pop_front() {
                self.forgotten = Some(Logged { seq, at: oldest.at });
            }
        }
        self.seq += 1;
        self.entries.push_back(Entry { hash, at, origin });
    }

    /// The last removal of a key that can matter to a token of `since_seq` and `since_time`: one that has a later
    /// number, or that is not older. Cost: the removals since then, not the whole log.
    pub(super) fn last(&self, hash: u64, since_seq: u64, since_time: Instant) -> Option<Logged> {
        let mut seq = self.seq;
        for entry in self.entries.iter().rev() {
            if seq <= since_seq && entry.at < since_time {
                return None;
            }
            if entry.hash == hash {
                return Some(Logged { seq, at: entry.at });
            }
            seq -= 1;
        }
        None
    }

    /// All removals of a key in the whole log, newest first; no writes.
    pub(super) fn removals(&self, hash: u64) -> Vec<(Instant, Arc<str>)> {
        let of_key = self.entries.iter().rev().filter(|entry| entry.hash == hash);
        of_key.filter_map(|entry| Some((entry.at, entry.origin.clone()?))).collect()
    }

    /// The last removal of a key in the whole log, with its origin.
    pub(super) fn recall(&self, hash: u64) -> Option<(Instant, Arc<str>)> {
        self.entries
            .iter()
            .rev()
            .filter(|entry| entry.hash == hash)
            .find_map(|entry| Some((entry.at, entry.origin.clone()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_removal_is_found_and_the_oldest_make_room() {
        let mut log = Log::new(3);
        let zero = Instant::now();
        let at = |n: u64| zero + Duration::from_millis(n);
        for n in 1..=5 {
            log.push(n % 2, at(n), "t/0@1".into());
        }
        assert_eq!(log.seq(), 5);
        assert_eq!(log.forgotten(), Some(Logged { seq: 2, at: at(2) }));
        assert_eq!(log.last(1, 0, zero), Some(Logged { seq: 5, at: at(5) }));
        assert_eq!(log.last(0, 0, zero), Some(Logged { seq: 4, at: at(4) }));
        assert_eq!(log.last(0, 4, at(5)), None, "older than the token");
        assert_eq!(log.last(0, 5, at(4)), Some(Logged { seq: 4, at: at(4) }), "still in quarantine");
        assert_eq!(log.last(0, 5, at(5)), None);
        assert_eq!(log.last(2, 0, zero), None);
        assert_eq!(log.recall(0).map(|(at, _)| at), Some(at(4)));
    }
}
