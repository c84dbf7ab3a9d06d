//! Answers from this node's memory: it looks, and asks afterwards whether what it saw may be served (R6).

use std::time::Duration;

use catalog::Key;
use memory::{
    place::Place,
    store::{Keep, Take},
    watermarks::{Fresh, Look},
};
use tokio::time::Instant;
use wire::{Answer, Outcome};

use crate::{fill::Read, hot, node::Node};

/// One request's look into memory, for any number of keys: the lease is asked for once, and so is the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance {
    /// That the memory belonged to before the first entry was read.
    incarnation: u64,
    now: Instant,
}

impl Node {
    /// Begins a look into memory.
    pub(crate) fn glance(&self) -> Glance {
        Glance { incarnation: self.life.incarnation(), now: Instant::now() }
    }

    /// The entry of a key, if this node holds its slot, has it, and can prove that it is fresh enough; `take` says what becomes of its
    /// value, and may be given one that is not returned.
    ///
    /// What is found is neither served nor counted before [`vouches`](Self::vouches), asked after the last look, has said yes.
    pub(crate) fn look(
        &self,
        glance: Glance,
        key: &Key,
        place: Place,
        bound: Option<Duration>,
        take: &mut impl Take,
    ) -> Option<Fresh> {
        match self.watermarks.look(&self.gate, place, &key.text, bound, glance.now, take) {
            Look::Fresh(fresh) => {
                self.hot.read(place, key, hot::Read::Answered);
                if self.hot.is_due(place, &fresh.entry, glance.now) {
                    self.refresh(key, place);
                }
                Some(fresh)
            }
            Look::TooOld => {
                self.metrics.too_old.inc();
                None
            }
            Look::Absent => None,
        }
    }

    /// Whether this node may speak for its memory, as it was since the look began.
    pub(crate) fn vouches(&self, glance: Glance) -> bool {
        self.life.vouches_for(glance.incarnation)
    }

    /// Answers one key from memory, if it may.
    pub(crate) fn hit(&self, key: &Key, place: Place, bound: Option<Duration>) -> Option<Answer> {
        let glance = self.glance();
        let fresh = self.look(glance, key, place, bound, &mut Keep)?;
        self.vouches(glance).then(|| self.answer_from_memory(fresh, Instant::now()))
    }

    /// The answer that an entry of this node's memory is, or of a mirror, told at `now`; counts it.
    pub(crate) fn answer_from_memory(&self, fresh: Fresh, now: Instant) -> Answer {
        let outcome = self.count_hit(&fresh);
        let Fresh { entry, as_of } = fresh;
        let expires = Some(entry.expires);
        let read = Read { value: entry.value, started: entry.filled, expires, elsewhere: None };
        Answer { freshness: now.saturating_duration_since(as_of), ..self.answer_at(read, outcome, now) }
    }

    /// Counts a hit that is served.
    pub(crate) fn count_hit(&self, fresh: &Fresh) -> Outcome {
        let group = self.metrics.group(catalog::GroupId(fresh.entry.stamp.group));
        if fresh.entry.value.is_some() {
            group.hits.inc();
            Outcome::Hit
        } else {
            group.negative_hits.inc();
            Outcome::NegativeHit
        }
    }

    pub(crate) fn answer(&self, read: Read, outcome: Outcome) -> Answer {
        self.answer_at(read, outcome, Instant::now())
    }

    pub(crate) fn answer_at(&self, read: Read, outcome: Outcome, now: Instant) -> Answer {
        let age = now.saturating_duration_since(read.started);
        Answer {
            value: read.value,
            outcome,
            age,
            ttl: read.expires.map(|expires| expires.saturating_duration_since(now)),
            node: self.id.to_string(),
            epoch: self.slots.epoch().0,
            // What was committed before the read began is in it.
            freshness: age,
            token: None,
        }
    }
}
