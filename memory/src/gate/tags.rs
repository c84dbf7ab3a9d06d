//! Removals by tag, in constant time whatever carries the tag.
//!
//! Which tags a value has is known only after its load. So a removal of a tag takes nothing out: it notes the tag, under the next
//! number, and an entry is valid only while none of its tags has a number above that of the entry's own token. Like a flush, it
//! needs no lock of a key: an entry that slips in under the old number is never served.
//!
//! The notes are bounded. Of what is forgotten the newest number is kept, and every entry that is older than that is invalid,
//! unless a sweep has looked at it since: a false refusal costs a later miss. The sweep takes out what is invalid, and then
//! says up to which number all that is left has been looked at; so what it has seen can be forgotten at no cost.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
};

use parking_lot::RwLock;
use tokio::{sync::Notify, time::Instant};

use super::token::{Logged, not_ended};

/// The removals of tags that a gate remembers.
#[derive(Debug)]
pub(super) struct Tags {
    table: RwLock<Table>,
    /// The number of the last removal; written under the table's lock, after the table.
    seq: AtomicU64,
    /// Up to which number a sweep has looked at all entries.
    swept: AtomicU64,
    /// Told when half of the table came since the last sweep.
    pressed: Notify,
}

#[derive(Debug)]
struct Table {
    /// The last removal of each tag, by the tag's hash.
    removals: HashMap<u64, Removal>,
    /// In their order; one that a later removal of the same tag has replaced is still there.
    order: VecDeque<(u64, u64)>,
    capacity: usize,
    forgotten: Option<Logged>,
}

/// A remembered removal.
#[derive(Debug, Clone)]
pub(super) struct Removal {
    pub(super) logged: Logged,
    tag: Arc<str>,
    origin: Arc<str>,
}

impl Removal {
    /// Where it came from, for whoever asks about a key.
    pub(super) fn origin(&self) -> Arc<str> {
        if self.tag.is_empty() {
            return self.origin.clone();
        }
        format!("{} by tag {}", self.origin, self.tag).into()
    }
}

/// The tags of an entry, as it carries them: the number of its token, then their hashes.
pub(super) fn stamped(seq: u64, hashes: &[u64]) -> Option<Arc<[u64]>> {
    (!hashes.is_empty()).then(|| std::iter::once(seq).chain(hashes.iter().copied()).collect())
}

/// The hashes of the tags that an entry carries.
pub fn hashes(tags: Option<&Arc<[u64]>>) -> &[u64] {
    tags.and_then(|tags| tags.get(1..)).unwrap_or_default()
}

impl Tags {
    pub(super) fn new(capacity: usize) -> Self {
        let (removals, order) = (HashMap::new(), VecDeque::new());
        Self {
            table: RwLock::new(Table { removals, order, capacity: capacity.max(1), forgotten: None }),
            seq: AtomicU64::new(0),
            swept: AtomicU64::new(0),
            pressed: Notify::new(),
        }
    }

    /// The number of the last removal.
    pub(super) fn seq(&self) -> u64 {
        self.seq.load(Acquire)
    }

    /// Notes a removal. `note` is told its number and time before any token can know of it.
    pub(super) fn remove(&self, hash: u64, tag: &str, origin: &Arc<str>, note: impl FnOnce(Logged)) {
        let mut table = self.table.write();
        let logged = Logged { seq: self.seq.load(Acquire) + 1, at: Instant::now() };
        if table.order.len() >= table.capacity
            && let Some((seq, oldest)) = table.order.pop_front()
            && table.removals.get(&oldest).is_some_and(|removal| removal.logged.seq == seq)
        {
            table.forgotten = table.removals.remove(&oldest).map(|removal| removal.logged);
        }
        table.order.push_back((logged.seq, hash));
        table.removals.insert(hash, Removal { logged, tag: tag.into(), origin: origin.clone() });
        note(logged);
        self.seq.store(logged.seq, Release);
        let since = logged.seq.saturating_sub(self.swept.load(Acquire));
        if since >= (table.capacity as u64).div_ceil(2) {
            self.pressed.notify_one();
        }
    }

    /// Whether an entry with these tags is still valid, or what made it invalid.
    pub(super) fn check(&self, tags: Option<&Arc<[u64]>>) -> Result<(), Removal> {
        let Some([stamp, hashes @ ..]) = tags.map(|tags| &**tags) else { return Ok(()) };
        if self.seq() <= *stamp {
            return Ok(());
        }
        let table = self.table.read();
        let last = table.last(hashes);
        let tagged = last.map(|removal| removal.logged);
        let ended = not_ended(*stamp, tagged, table.forgotten, self.swept.load(Acquire));
        ended.map_err(|logged| match last {
            Some(removal) if removal.logged == logged => removal.clone(),
            _ => Removal {
                logged,
                tag: "".into(),
                origin: "more tags were removed than the node remembers".into(),
            },
        })
    }

    /// The last removal of any of these tags, and the newest that was forgotten, for a value that comes in.
    pub(super) fn view(&self, hashes: &[u64]) -> (Option<Logged>, Option<Logged>) {
        if hashes.is_empty() {
            return (None, None);
        }
        let table = self.table.read();
        (table.last(hashes).map(|removal| removal.logged), table.forgotten)
    }

    /// The number up to which a sweep that begins now can answer for all entries; `None` if nothing came since the last.
    pub(super) fn to_sweep(&self) -> Option<u64> {
        let seq = self.seq();
        (seq > self.swept.load(Acquire)).then_some(seq)
    }

    /// Says that all entries have been looked at since the removal of that number.
    pub(super) fn swept(&self, seq: u64) {
        self.swept.fetch_max(seq, AcqRel);
    }

    /// Ends when a sweep would be good.
    pub(super) async fn pressed(&self) {
        self.pressed.notified().await;
    }
}

impl Table {
    fn last(&self, hashes: &[u64]) -> Option<&Removal> {
        hashes.iter().filter_map(|hash| self.removals.get(hash)).max_by_key(|removal| removal.logged.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(tags: &Tags, hash: u64) {
        tags.remove(hash, &format!("tag:{hash}"), &"shop/0@1".into(), |_| ());
    }

    fn valid(tags: &Tags, seq: u64, hashes: &[u64]) -> bool {
        tags.check(stamped(seq, hashes).as_ref()).is_ok()
    }

    #[test]
    fn an_entry_is_valid_while_none_of_its_tags_was_removed_since_its_token() {
        let tags = Tags::new(10);
        remove(&tags, 1);
        assert!(valid(&tags, 1, &[1, 2]) && !valid(&tags, 0, &[1, 2]) && valid(&tags, 0, &[2]));
        remove(&tags, 2);
        assert!(!valid(&tags, 1, &[1, 2]) && valid(&tags, 1, &[1]) && valid(&tags, 2, &[1, 2]));
        assert!(valid(&tags, 0, &[]), "without tags no removal concerns it");
        let why = tags.check(stamped(1, &[1, 2]).as_ref()).unwrap_err();
        assert_eq!(&*why.origin(), "shop/0@1 by tag tag:2");
        assert_eq!(tags.view(&[1, 2]).0.unwrap().seq, 2);
    }

    #[test]
    fn what_is_forgotten_ends_every_entry_that_is_older_but_for_what_a_sweep_has_looked_at() {
        let tags = Tags::new(3);
        for hash in 1..=4 {
            remove(&tags, hash);
        }
        assert!(!valid(&tags, 0, &[9]), "number 1 was forgotten: it could have been 9");
        assert!(valid(&tags, 1, &[9]));
        assert_eq!(tags.view(&[9]), (None, Some(tags.table.read().forgotten.unwrap())));
        let seq = tags.to_sweep().unwrap();
        tags.swept(seq);
        assert_eq!(tags.to_sweep(), None);
        assert!(valid(&tags, 0, &[9]) && !valid(&tags, 0, &[4]));
        for hash in 5..=8 {
            remove(&tags, hash);
        }
        assert!(!valid(&tags, 0, &[9]), "number 5 came after the sweep");
        assert!(tags.table.read().order.len() == 3 && tags.table.read().removals.len() == 3);
    }

    #[test]
    fn a_tag_that_is_removed_again_and_again_makes_room_for_itself() {
        let tags = Tags::new(3);
        remove(&tags, 1);
        for _ in 0..100 {
            remove(&tags, 2);
        }
        assert!(tags.table.read().order.len() == 3 && tags.table.read().removals.len() == 1);
        assert!(!valid(&tags, 0, &[9]) && valid(&tags, 1, &[9]), "only number 1 was forgotten");
    }
}
