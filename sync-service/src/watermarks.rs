//! How far each owned partition is applied, as instants: what nodes are told as watermarks (R9).
//!
//! A *sample* says: at this instant the partition's log ended here, or a heartbeat row that was written from this instant on
//! lies before this offset. Once everything before that offset is acknowledged by all who had to, all changes that were made
//! before the instant are applied, and it becomes the partition's watermark. That is what makes a watermark true for every
//! node, pulls and newcomers included: an acknowledgement counts all phases, and only the contiguous prefix counts.
//!
//! A partition that was added after the list of partitions was made may hold changes that nobody has read. So the list
//! carries the instant at which it was asked for, and nodes believe no watermark beyond it.
//!
//! All instants are this process's own; `told` converts them into the clock of the node that is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::{Clock, PartitionName, Watermark};

use crate::offsets::{Offsets, Partition};

/// Samples of one partition that wait to be reached. Beyond it, the newest one gives way to the next.
const SAMPLES: usize = 64;
/// How much two clocks may run apart: a thousandth. NTP slews a clock by half of that at most.
const DRIFT: i64 = 1000;

/// The watermarks of the partitions that this instance owns.
pub struct Watermarks {
    /// Guards the samples.
    state: Mutex<State>,
    snapshot: watch::Sender<Arc<Snapshot>>,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<Partition, Progress>,
    listed: Option<(Instant, Arc<[PartitionName]>)>,
}

#[derive(Default)]
struct Progress {
    /// In the order of their instants, and so of their ends.
    samples: VecDeque<Sample>,
    reached: Option<Reached>,
}

#[derive(Clone, Copy)]
struct Sample {
    taken: Instant,
    end: i64,
}

/// A partition's watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reached {
    at: Instant,
    next: i64,
}

/// What is known at one moment; shared by all that tell it.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    partitions: Vec<(PartitionName, Reached)>,
    listed: Option<(Instant, Arc<[PartitionName]>)>,
}

/// A reading of a node's clock.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What the node said.
    pub clock: Clock,
    /// When that was *received* here, or later: the node's clock had come at least this far then.
    pub at: Instant,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self { state: Mutex::default(), snapshot: watch::Sender::new(Arc::default()) }
    }
}

impl Watermarks {
    /// Notes that once everything before `end` is acknowledged, all changes that were made before `taken` are applied.
    pub fn sample(&self, partition: &Partition, taken: Instant, end: i64) {
        let mut state = self.state.lock();
        let progress = state.partitions.entry(partition.clone()).or_default();
        // An earlier end at a later instant says more: the log is of another making, or beats came in another order.
        while progress.samples.back().is_some_and(|last| last.taken <= taken && last.end >= end) {
            progress.samples.pop_back();
        }
        // What says no more than the last one is left out.
        if progress.samples.back().is_some_and(|last| last.taken >= taken) {
            return;
        }
        if progress.samples.len() >= SAMPLES {
            progress.samples.pop_back();
        }
        progress.samples.push_back(Sample { taken, end });
    }

    /// Notes all partitions of the subscribed topics, as they were asked for at `at`.
    pub fn list(&self, at: Instant, all: &[Partition]) {
        let mut state = self.state.lock();
        let same = |(_, known): &(Instant, Arc<[PartitionName]>)| {
            known.len() == all.len() && known.iter().zip(all).all(|(known, one)| *known == name(one))
        };
        let known = state.listed.take().filter(same);
        let all = known.map_or_else(|| all.iter().map(name).collect(), |(_, known)| known);
        state.listed = Some((at, all));
    }

    /// Goes by what is acknowledged now, and forgets partitions that are not owned any more.
    pub fn advance(&self, offsets: &Offsets) {
        let acknowledged = offsets.acknowledged();
        let mut state = self.state.lock();
        state.partitions.retain(|partition, _| offsets.owns(partition));
        for (partition, next) in acknowledged {
            if let (Some(progress), Some(next)) = (state.partitions.get_mut(&partition), next) {
                progress.reach(next);
            }
        }
        let partitions: Vec<_> = state
            .partitions
            .iter()
            .filter_map(|(partition, progress)| Some((name(partition), progress.reached?)))
            .collect();
        let listed = state.listed.clone();
        drop(state);
        self.snapshot.send_if_modified(|known| {
            let when = |listed: &Option<(Instant, _)>| listed.as_ref().map(|(at, _)| *at);
            if known.partitions == partitions && when(&known.listed) == when(&listed) {
                return false;
            }
            *known = Arc::new(Snapshot { version: known.version + 1, partitions, listed });
            true
        });
    }

    /// Whether samples wait to be reached.
    pub fn is_waiting(&self) -> bool {
        self.state.lock().partitions.values().any(|progress| !progress.samples.is_empty())
    }

    /// How long ago each owned partition's watermark is.
    pub fn lags(&self) -> Vec<(Partition, Duration)> {
        let (state, now) = (self.state.lock(), Instant::now());
        let lag = |reached: Reached| now.saturating_duration_since(reached.at);
        let known = state.partitions.iter();
        known.filter_map(|(partition, progress)| Some((partition.clone(), lag(progress.reached?)))).collect()
    }

    /// Follows the snapshots.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }
}

impl Progress {
    fn reach(&mut self, next: i64) {
        while let Some(sample) = self.samples.front().copied().filter(|sample| sample.end <= next) {
            self.samples.pop_front();
            if self.reached.is_none_or(|reached| reached.at < sample.taken) {
                self.reached = Some(Reached { at: sample.taken, next });
            }
        }
    }
}

impl Snapshot {
    /// The same in a node's clock.
    pub fn told(&self, reading: &Reading) -> wire::Watermarks {
        let one = |(partition, reached): &(PartitionName, Reached)| Watermark {
            partition: partition.clone(),
            next: reached.next,
            at: reading.told(reached.at),
        };
        let (listed, all) = match &self.listed {
            Some((at, all)) => (reading.told(*at), all.to_vec()),
            None => (0, Vec::new()),
        };
        wire::Watermarks {
            clock: reading.clock.id,
            partitions: self.partitions.iter().map(one).collect(),
            all,
            listed,
        }
    }
}

impl Reading {
    /// What the node's clock showed at `instant`, or less: never more, however long the reading was under way and whether
    /// `instant` came before or after it.
    ///
    /// When the reading was received the node's clock had come *at least* as far as it says; the rest is the distance to
    /// `instant` by this process's clock, less what the two may have run apart.
    pub fn told(&self, instant: Instant) -> i64 {
        let micros = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(i64::MAX / 4);
        let clock = i64::try_from(self.clock.micros).unwrap_or(i64::MAX / 4);
        if let Some(after) = instant.checked_duration_since(self.at) {
            let after = micros(after);
            clock.saturating_add(after).saturating_sub(after / DRIFT + i64::from(after > 0))
        } else {
            let before = micros(self.at.saturating_duration_since(instant));
            clock.saturating_sub(before).saturating_sub(before / DRIFT + 1)
        }
    }
}

fn name(partition: &Partition) -> PartitionName {
    PartitionName { topic: partition.topic.clone(), number: partition.number }
}

#[cfg(test)]
mod tests;
