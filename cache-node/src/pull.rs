//! Giving: answers pulls of nodes that hold now what this node has lost or owns (R10).

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use catalog::{Group, Key};
use memory::{
    gate::{Source, tag_hashes},
    protocol::{self, PullRefused, Standing},
    store::{Cursor, Entry, Stamp},
};
use ring::{SLOTS, terms::PROTOCOL};
use tokio::time::Instant;
use wire::{Held, MAX_MESSAGE, Of, Pull, Pulled, Wanted};

use crate::{
    copies,
    error::Error,
    node::{Node, place},
};

/// Bytes of a page if the asker does not say, and at most.
const PAGE: u64 = 1 << 20;
const LARGEST_PAGE: u64 = 8 << 20;
/// What an entry takes on the wire beside key and value, about.
const FRAME: usize = 32;
/// Places of the store that are looked at in one step, and at most for one page: one that finds little must end too.
const STEP: usize = 1024;
const MOST_STEPS: usize = 256;

impl Node {
    /// Answers a pull: from memory alone, if this node can prove its membership and is at the asker's epoch or a later one.
    /// Gives values of slots that depart, and of slots that it owns.
    ///
    /// # Errors
    ///
    /// [`Error::Pull`] and [`Error::Behind`] if it may not answer now; [`Error::TooManyKeys`].
    pub async fn pull(&self, request: &Pull) -> Result<Pulled, Error> {
        let answered = self.answer_pull(request).await;
        let count = answered.as_ref().map_or(0, |pulled| pulled.entries.len());
        self.metrics.pulls.gave(answered.as_ref().err(), count);
        answered
    }

    async fn answer_pull(&self, request: &Pull) -> Result<Pulled, Error> {
        if let Wanted::Keys(keys) = &request.wanted {
            // Nodes ask for as many at once whatever this one grants its clients.
            let limit = self.config.max_keys.max(copies::BATCH);
            if keys.len() > limit {
                return Err(Error::TooManyKeys { count: keys.len(), limit });
            }
        }
        if request.protocol != PROTOCOL {
            return Err(PullRefused::OtherProtocol { asked: request.protocol }.into());
        }
        self.catch_up(request.epoch).await?;
        let incarnation = self.life.incarnation();
        let standing = self.standing();
        protocol::may_answer_pull(standing, request.epoch)?;
        let (mut entries, cursor) = match &request.wanted {
            Wanted::Keys(keys) => (self.give_keys(keys, request.max_bytes), 0),
            Wanted::Slots { slots, cursor, of } => {
                self.give_slots(slots, *cursor, *of, request.max_bytes).await
            }
            Wanted::Done => {
                tracing::debug!(node = %self.id, taker = %request.node, epoch = request.epoch.0, "taker is done");
                // Not while a ring is being taken over: its epoch may be told already, and who waits not yet be written down.
                let _no_new_ring = self.turns.lock();
                self.departures.done(&request.node, request.epoch);
                (Vec::new(), 0)
            }
        };
        // After the reading: the lease is alive now and the memory is of the same life, so both held in between.
        if !self.life.vouches_for(incarnation) {
            return Err(PullRefused::Fenced.into());
        }
        // What lingers is for who goes by this node's ring, which it went by all the while if it does now.
        if self.slots.epoch() != request.epoch {
            entries.retain(|entry| entry.lost_at.is_none());
        }
        let groups = self.digests(&request.wanted, entries.is_empty());
        Ok(Pulled { node: self.id.clone(), incarnation, epoch: standing.epoch, entries, cursor, groups })
    }

    /// How this node declares the groups of what was asked for: those of named keys, or all of a page of slots; none if nothing is given.
    fn digests(&self, wanted: &Wanted, nothing: bool) -> HashMap<String, u64> {
        let told = |group: &Arc<Group>| (group.name.to_string(), group.digest);
        match wanted {
            _ if nothing => HashMap::new(),
            Wanted::Keys(keys) => keys
                .iter()
                .filter_map(|key| self.catalog.resolve(key).ok())
                .map(|key| told(&key.group))
                .collect(),
            Wanted::Slots { .. } | Wanted::Done => self.catalog.groups().iter().map(told).collect(),
        }
    }

    /// What this node knows about itself now.
    pub(crate) fn standing(&self) -> Standing {
        Standing { live: self.life.live(), epoch: self.slots.epoch(), confirmed: self.slots.confirmed() }
    }

    fn give_keys(&self, keys: &[String], max_bytes: u64) -> Vec<Held> {
        let (now, mut left) = (Instant::now(), bytes_of_page(max_bytes));
        let mut entries = Vec::new();
        for key in keys {
            // A key that this node's catalog does not have is one that it has no value of.
            let Ok(key) = self.catalog.resolve(key) else { continue };
            let Key { text, .. } = &key;
            let Some(entry) = self.gate.given(place(&key), text, now) else { continue };
            let size = size_of(text, &entry);
            if size > LARGEST || (size > left && !entries.is_empty()) {
                continue;
            }
            left = left.saturating_sub(size);
            entries.extend(self.held(text, &entry, now));
        }
        entries
    }

    async fn give_slots(&self, slots: &[u16], cursor: u64, of: Of, max_bytes: u64) -> (Vec<Held>, u64) {
        let mut wanted = vec![false; usize::from(SLOTS)];
        for slot in slots {
            if let Some(wanted) = wanted.get_mut(usize::from(*slot)) {
                *wanted = true;
            }
        }
        let (mut entries, mut left) = (Vec::new(), bytes_of_page(max_bytes));
        let mut from = Cursor::from(cursor);
        for _ in 0..MOST_STEPS {
            let now = Instant::now();
            let mut full = false;
            let of_slots = |stamp: &Stamp| {
                let asked = of == Of::AllGroups || self.gate.is_plain(stamp.group);
                asked && wanted.get(usize::from(stamp.slot)).is_some_and(|wanted| *wanted)
            };
            let next = self.gate.given_page(from, STEP, now, of_slots, |key, entry| {
                let size = size_of(key, entry);
                if size > LARGEST {
                    return true;
                }
                full = size > left && !entries.is_empty();
                if !full {
                    left = left.saturating_sub(size);
                    entries.extend(self.held(key, entry, now));
                }
                !full
            });
            let Some(next) = next else { return (entries, 0) };
            from = next;
            if full {
                break;
            }
            tokio::task::yield_now().await;
        }
        (entries, u64::from(from))
    }

    /// An entry as it is given; `None` if it may not be any more.
    fn held(&self, key: &Arc<str>, entry: &Entry, now: Instant) -> Option<Held> {
        // Asked again after the entry was read: it says how much the entry is worth.
        let lost_at = match self.gate.giving(&entry.stamp)? {
            Source::Lost(epoch) => Some(epoch),
            Source::Owner | Source::Holder => None,
        };
        Some(Held {
            key: key.to_string(),
            value: entry.value.clone(),
            age: now.saturating_duration_since(entry.filled),
            ttl: entry.expires.saturating_duration_since(now),
            tags: Some(tag_hashes(entry.tags.as_ref()).to_vec()),
            lost_at,
        })
    }
}

/// An entry that alone would be too large for a message stays where it is.
const LARGEST: usize = MAX_MESSAGE - (LARGEST_PAGE as usize) - (1 << 20);

fn bytes_of_page(asked: u64) -> usize {
    (if asked == 0 { PAGE } else { asked.min(LARGEST_PAGE) }) as usize
}

fn size_of(key: &str, entry: &Entry) -> usize {
    let tags = 8 * tag_hashes(entry.tags.as_ref()).len();
    key.len() + entry.value.as_ref().map_or(0, Bytes::len) + tags + FRAME
}
