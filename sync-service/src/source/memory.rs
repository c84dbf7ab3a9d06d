//! A log in memory, for tests and simulations: partitions that can be appended to, taken away and given back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{BatchBuilder, Batching, Error, Event, Gap, Letter, Source, Survey};
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
    partitions: HashMap<Partition, Vec<Record>>,
    committed: HashMap<Partition, i64>,
    letters: Vec<Letter>,
    failing: bool,
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
                state.partitions.insert(partition, Vec::new());
            }
        }
        memory
    }

    /// Appends a message and returns its offset.
    pub fn append(&self, partition: &Partition, timestamp_ms: i64, payload: impl Into<Vec<u8>>) -> i64 {
        let mut state = self.log.state.lock();
        let log = state.partitions.entry(partition.clone()).or_default();
        log.push(Record { timestamp_ms, payload: payload.into() });
        let offset = log.len() - 1;
        drop(state);
        self.log.changed.notify_waiters();
        i64::try_from(offset).expect("a test's log is short")
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
        let mut positions: HashMap<Partition, i64> = HashMap::new();
        let mut gaps = Vec::new();
        {
            let state = self.log.state.lock();
            let all: Vec<_> = state.partitions.keys().cloned().collect();
            offsets.assign(&all);
            for partition in all {
                let end = i64::try_from(state.partitions[&partition].len()).expect("a test's log is short");
                let committed = state.committed.get(&partition).copied();
                let next = committed.unwrap_or(end);
                match committed {
                    Some(next) => offsets.begins_at(&partition, next),
                    None => gaps.push(NextOffset { partition: partition.clone(), next: end }),
                }
                positions.insert(partition, next);
            }
        }
        for gap in gaps {
            let ticket = offsets.begin(std::slice::from_ref(&gap));
            let detail = "no committed offset".to_owned();
            let gap = Gap { partition: gap.partition, reason: Reason::FirstStart, detail, ticket };
            if events.send(Event::Gap(gap)).await.is_err() {
                return;
            }
        }
        loop {
            let changed = self.log.changed.notified();
            let mut builder = BatchBuilder::default();
            {
                let state = self.log.state.lock();
                for (partition, next) in &mut positions {
                    let log = &state.partitions[partition];
                    while builder.len() < batching.messages
                        && let Some(record) = usize::try_from(*next).ok().and_then(|at| log.get(at))
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
        let end = |log: &Vec<Record>| i64::try_from(log.len()).expect("a test's log is short");
        state
            .partitions
            .iter()
            .map(|(partition, log)| NextOffset { partition: partition.clone(), next: end(log) })
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
