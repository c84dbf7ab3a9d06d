//! Fills that no reader waits for: keys that a change took out of memory, of groups that reload, and hot keys near their end.
//!
//! They go through the gate like every other fill, with a token of their own, and through the loader's budget. A reload begins when the
//! quarantine of its removal is over; until then, and until it is stored, readers miss as they would without it: the old value is served
//! to nobody. A refresh leaves the old entry where it is until the new one takes its place, or a removal takes it out.
//!
//! Both wait in one bounded queue, each key once. What finds it full is dropped and counted: the next reader fills.

use std::{collections::HashSet, sync::Arc, time::Duration};

use catalog::{Key, OnChange};
use memory::place::Place;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until},
};

use crate::{
    fill::Miss,
    node::{Node, place},
    warm::Reach,
};

/// Keys that wait at most.
const QUEUE: usize = 4096;
/// How often a reload is tried whose key is removed again and again.
const TRIES: u8 = 4;
/// How long a key is left alone after a refresh that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a key is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// A change took it out of memory.
    Reload,
    /// It is hot and near its end.
    Refresh,
}

impl Why {
    pub(super) const ALL: [Self; 2] = [Self::Reload, Self::Refresh];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Refresh => "refresh",
        }
    }
}

/// How that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stored,
    /// A reader was faster, or nothing was left to refresh.
    NotNeeded,
    /// The gate refused it.
    Refused,
    /// The database did not answer well.
    Failed,
    /// The node does not own the key any more, or can't prove it.
    NotOwned,
    /// The queue was full.
    Dropped,
}

impl Ended {
    pub(super) const ALL: [Self; 6] =
        [Self::Stored, Self::NotNeeded, Self::Refused, Self::Failed, Self::NotOwned, Self::Dropped];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::NotNeeded => "not_needed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::NotOwned => "not_owned",
            Self::Dropped => "dropped",
        }
    }
}

/// A key that waits for its fill.
#[derive(Debug)]
struct Job {
    key: Key,
    why: Why,
    not_before: Instant,
    tries: u8,
}

/// The queue of one node.
#[derive(Debug)]
pub(crate) struct Background {
    queue: mpsc::Sender<Job>,
    /// Taken by the task that works the queue.
    jobs: Mutex<Option<mpsc::Receiver<Job>>>,
    /// Keys that wait or are being filled. Guards nothing else.
    pending: Mutex<HashSet<(u64, Why)>>,
}

impl Background {
    pub(crate) fn new() -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        Self { queue, jobs: Mutex::new(Some(jobs)), pending: Mutex::default() }
    }

    /// Has a key filled, unless it waits for that already; false if there is no room.
    fn offer(&self, key: Key, hash: u64, why: Why, not_before: Instant) -> bool {
        if !self.pending.lock().insert((hash, why)) {
            return true;
        }
        let taken = self.queue.try_send(Job { key, why, not_before, tries: TRIES }).is_ok();
        if !taken {
            self.pending.lock().remove(&(hash, why));
        }
        taken
    }
}

impl Node {
    /// After a removal that took `key` out of memory: has it filled again, if its group wants that and this node is its owner.
    pub(crate) fn reload(&self, key: &str) {
        if !self.reloads {
            return;
        }
        let Ok(key) = self.catalog.resolve(key) else { return };
        if key.group.on_change != OnChange::Reload {
            return;
        }
        let place = place(&key);
        if self.slots.owned(place.slot).is_some() {
            self.fill_later(key, place, Why::Reload, Instant::now() + self.gate.quarantine());
        }
    }

    /// Has a hot key that is near its end filled again.
    pub(crate) fn refresh(&self, key: &Key, place: Place) {
        if self.slots.owned(place.slot).is_some() {
            self.fill_later(key.clone(), place, Why::Refresh, Instant::now());
        }
    }

    fn fill_later(&self, key: Key, place: Place, why: Why, not_before: Instant) {
        if !self.background.offer(key, place.hash, why, not_before) {
            self.hot.metrics.filled(why, Ended::Dropped);
        }
    }

    /// Works the queue. A task of its own; ends with the node.
    pub(crate) async fn fill_in_background(self: Arc<Self>) {
        let Some(mut jobs) = self.background.jobs.lock().take() else { return };
        let places = Arc::new(Semaphore::new(self.config.background_fills.max(1)));
        loop {
            // Dropping the waits loses nothing that matters: the node stops.
            let next = async {
                let job = jobs.recv().await?;
                // Those behind it wait too: their removals are not older, and quarantines are of one length.
                sleep_until(job.not_before).await;
                let place = places.clone().acquire_owned().await.ok()?;
                Some((job, place))
            };
            let Some(Some((job, room))) = self.stop.run_until_cancelled(next).await else { return };
            let node = self.clone();
            self.tasks.spawn(async move {
                node.work(job).await;
                drop(room);
            });
        }
    }

    async fn work(&self, mut job: Job) {
        let place = place(&job.key);
        let done = |ended: Ended| {
            self.background.pending.lock().remove(&(place.hash, job.why));
            self.hot.metrics.filled(job.why, ended);
        };
        if self.slots.owned(place.slot).is_none() || !self.life.live() {
            return done(Ended::NotOwned);
        }
        let bound = match job.why {
            Why::Reload => None,
            Why::Refresh => {
                let now = Instant::now();
                let entry = self.gate.peek(place, &job.key.text, now);
                if !entry.is_some_and(|entry| self.hot.is_due(place, &entry, now)) {
                    return done(Ended::NotNeeded);
                }
                // What is in memory does not count.
                Some(Duration::ZERO)
            }
        };
        let settled = match self.gate.token(place) {
            None => return done(Ended::NotOwned),
            Some((_, settled)) => settled,
        };
        let again = match settled {
            // Removed once more meanwhile: a fill of now would not be stored.
            Some(settled) => Some(settled),
            None => match self.fills.get(&job.key, place, bound, Reach::Database).await {
                Ok(Miss::Hit(_)) => return done(Ended::NotNeeded),
                Ok(Miss::Own(read) | Miss::Shared(read)) if read.expires.is_some() => {
                    return done(Ended::Stored);
                }
                Ok(Miss::Own(_) | Miss::Shared(_)) => self.gate.token(place).and_then(|(_, settled)| settled),
                Ok(Miss::NotHeld) => return done(Ended::NotOwned),
                Err(error) => {
                    tracing::debug!(node = %self.id, key = &*job.key.text, %error, "background fill failed");
                    if job.why == Why::Refresh {
                        // The entry is served meanwhile, and each hit would ask for it again.
                        self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                    }
                    return done(Ended::Failed);
                }
            },
        };
        match again {
            Some(settled) if job.why == Why::Reload && job.tries > 0 => {
                let (why, hash) = (job.why, place.hash);
                job.tries -= 1;
                job.not_before = settled;
                if self.background.queue.try_send(job).is_err() {
                    self.background.pending.lock().remove(&(hash, why));
                    self.hot.metrics.filled(why, Ended::Dropped);
                }
            }
            _ => done(Ended::Refused),
        }
    }
}
