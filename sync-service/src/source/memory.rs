//! A log in memory, for tests and simulations: partitions that can be appended to, taken away and given back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{BatchBuilder, Batching, Error, Event, Gap, Letter, Missed, Reaction, Source, Survey};
use crate::config::{Backlog, CatchUp, OnLag};
use crate::decode::Reason;
use crate::offsets::{NextOffset, Offsets, Partition};

/// A log in memory with one consumer group. Clones share it.
///
/// It outlives the services that read it: a second service on a clone goes on from the committed offsets, as after a
/// restart. A partition that was never committed is a first start at its end.
#[derive(Clone, Default)]
pub struct Memory {
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<Partition, Records>,
    committed: BTreeMap<Partition, i64>,
    letters: Vec<Letter>,
    failing: bool,
}

/// One partition's log.
#[derive(Default)]
struct Records {
    /// The offset of the oldest message that is left.
    low: i64,
    left: VecDeque<Record>,
}

impl Records {
    fn high(&self) -> i64 {
        self.low + i64::try_from(self.left.len()).expect("a test's log is short")
    }

    fn at(&self, offset: i64) -> Option<&Record> {
        self.left.get(usize::try_from(offset - self.low).ok()?)
    }
}

struct Record {
    timestamp_ms: i64,
    payload: Vec<u8>,
}

impl Memory {
    /// Makes a log with these partitions, read from their beginning on.
    pub fn new(partitions: impl IntoIterator<Item = Partition>) -> Self {
        let memory = Self::default();
        {
            let mut state = memory.log.state.lock();
            for partition in partitions {
                state.committed.insert(partition.clone(), 0);
                state.partitions.insert(partition, Records::default());
            }
        }
        memory
    }

    /// Appends a message and returns its offset.
    pub fn append(&self, partition: &Partition, timestamp_ms: i64, payload: impl Into<Vec<u8>>) -> i64 {
        let mut state = self.log.state.lock();
        let log = state.partitions.entry(partition.clone()).or_default();
        log.left.push_back(Record { timestamp_ms, payload: payload.into() });
        let offset = log.high() - 1;
        drop(state);
        self.log.changed.notify_waiters();
        offset
    }

    /// Drops the messages before an offset, as retention does. An offset beyond the end leaves an empty log that goes on there.
    pub fn trim(&self, partition: &Partition, low: i64) {
        let mut state = self.log.state.lock();
        let log = state.partitions.entry(partition.clone()).or_default();
        while log.low < low && log.left.pop_front().is_some() {
            log.low += 1;
        }
        log.low = log.low.max(low);
        drop(state);
        self.log.changed.notify_waiters();
    }

    /// Makes a partition anew, empty; what was committed of it stays.
    pub fn remake(&self, partition: &Partition) {
        self.log.state.lock().partitions.insert(partition.clone(), Records::default());
        self.log.changed.notify_waiters();
    }

    /// Returns the committed next offset of a partition.
    pub fn committed(&self, partition: &Partition) -> Option<i64> {
        self.log.state.lock().committed.get(partition).copied()
    }

    /// Forgets what was committed for a partition, as if it had never been read.
    pub fn forget(&self, partition: &Partition) {
        self.log.state.lock().committed.remove(partition);
    }

    /// Returns all dead letters so far.
    pub fn letters(&self) -> Vec<Letter> {
        self.log.state.lock().letters.clone()
    }

    /// Makes commits and dead letters fail, or work again.
    pub fn set_failing(&self, failing: bool) {
        self.log.state.lock().failing = failing;
        self.log.changed.notify_waiters();
    }

    /// Waits until a partition is committed up to `next`. Cancel safe.
    pub async fn wait_committed(&self, partition: &Partition, next: i64) {
        loop {
            let changed = self.log.changed.notified();
            if self.committed(partition).is_some_and(|committed| committed >= next) {
                return;
            }
            changed.await;
        }
    }

    async fn read(
        self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) {
        let mut positions = BTreeMap::new();
        loop {
            let changed = self.log.changed.notified();
            let missed = self.missed(&offsets, &batching.catch_up, &mut positions);
            let missed = match missed {
                Ok(missed) => missed,
                Err(error) => {
                    // Whoever does not listen any more has ended already.
                    let _ = events.send(Event::Failed(error)).await;
                    return;
                }
            };
            if !missed.is_empty() {
                let gap = Gap::begin(missed, &offsets);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    sent = events.send(Event::Gap(gap)) => if sent.is_err() { return },
                }
            }
            let mut builder = BatchBuilder::default();
            {
                let state = self.log.state.lock();
                for (partition, next) in &mut positions {
                    while builder.len() < batching.messages
                        && let Some(record) = state.partitions.get(partition).and_then(|log| log.at(*next))
                    {
                        builder.push(
                            &offsets,
                            &partition.topic,
                            partition.number,
                            *next,
                            Some(record.timestamp_ms),
                            None,
                            Some(&record.payload),
                        );
                        *next += 1;
                    }
                }
            }
            // Dropping either future loses nothing: messages that were not sent are read again by the next start.
            if builder.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = changed => {}
                }
                continue;
            }
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                permit = events.reserve() => permit,
            };
            let Ok(permit) = permit else { return };
            permit.send(Event::Batch(builder.finish(&offsets)));
        }
    }

    /// Takes over partitions that are new, and finds what can't be read as it should be; all is flushed then, but for a partition that
    /// was added to a topic that is followed.
    fn missed(
        &self,
        offsets: &Offsets,
        limits: &CatchUp,
        positions: &mut BTreeMap<Partition, i64>,
    ) -> Result<Vec<Missed>, Error> {
        let state = self.log.state.lock();
        let mut missed = Vec::new();
        let mut note = |partition: &Partition, reason, next, reaction, detail: String| {
            missed.push(Missed { partition: partition.clone(), reason, next, detail, reaction });
            next
        };
        for (partition, log) in &state.partitions {
            let next = if let Some(next) = positions.get(partition) {
                *next
            } else {
                offsets.assign(std::slice::from_ref(partition));
                let followed = state.committed.keys().any(|other| other.topic == partition.topic);
                match state.committed.get(partition) {
                    Some(next) => {
                        if (log.low..=log.high()).contains(next) {
                            offsets.begins_at(partition, *next);
                        }
                        *next
                    }
                    None if followed && log.low == 0 => {
                        let detail = "added to a topic that is followed".to_owned();
                        note(partition, Reason::NewPartition, 0, Reaction::Read, detail)
                    }
                    None => {
                        let detail = "no committed offset".to_owned();
                        note(partition, Reason::FirstStart, log.high(), Reaction::Flush, detail)
                    }
                }
            };
            let next = if (log.low..=log.high()).contains(&next) {
                next
            } else {
                let detail = format!("offset {next} is next, the log has {} to {}", log.low, log.high());
                note(partition, Reason::OutOfRange, log.high(), Reaction::Flush, detail)
            };
            let time = |offset: i64| log.at(offset).map_or(0, |record| record.timestamp_ms);
            let span = Duration::from_millis(u64::try_from(time(log.high() - 1) - time(next)).unwrap_or(0));
            let long = match limits.judge(log.high() - next) {
                Backlog::Short => false,
                Backlog::BySpan => span > limits.max_lag,
                Backlog::Long => true,
            };
            let detail = format!("the backlog from {next} to {} spans {span:?}", log.high());
            let next = match limits.on_lag {
                OnLag::Flush if long => note(partition, Reason::Lag, log.high(), Reaction::Flush, detail),
                OnLag::Halt if long => return Err(Error::Halted(format!("halt: {partition}: {detail}"))),
                _ => next,
            };
            positions.insert(partition.clone(), next);
        }
        Ok(missed)
    }
}

#[async_trait]
impl Source for Memory {
    fn start(
        &self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        tokio::spawn(self.clone().read(offsets, batching, events, stop));
        Ok(())
    }

    async fn commit(&self, offsets: &[NextOffset]) -> Result<(), Error> {
        let mut state = self.log.state.lock();
        if state.failing {
            return Err(Error::Unavailable("the log in memory was told to fail".to_owned()));
        }
        for offset in offsets {
            state.committed.insert(offset.partition.clone(), offset.next);
        }
        drop(state);
        self.log.changed.notify_waiters();
        Ok(())
    }

    async fn dead_letter(&self, letter: &Letter) -> Result<(), Error> {
        {
            let mut state = self.log.state.lock();
            if !state.failing {
                state.letters.push(letter.clone());
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        Err(Error::Unavailable("the log in memory was told to fail".to_owned()))
    }

    async fn close(&self) {}

    fn waits_for(&self) -> Option<String> {
        None
    }

    fn ends(&self) -> Vec<NextOffset> {
        let state = self.log.state.lock();
        state
            .partitions
            .iter()
            .map(|(partition, log)| NextOffset { partition: partition.clone(), next: log.high() })
            .collect()
    }

    async fn survey(&self, _: Vec<Partition>) -> Result<Survey, Error> {
        let state = self.log.state.lock();
        if state.failing {
            return Err(Error::Unavailable("the log in memory was told to fail".to_owned()));
        }
        let all = state.partitions.keys().cloned().collect::<std::collections::BTreeSet<_>>();
        drop(state);
        Ok(Survey { ends: self.ends(), all: all.into_iter().collect() })
    }
}
