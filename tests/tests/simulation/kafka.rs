//! What stands in for Kafka: partitions that are read by a consumer group, and the [`Source`] of its members.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use sync_service::{
    offsets::{NextOffset, Offsets, Partition},
    source::{BatchBuilder, Batching, Error, Event, Letter, Source, Survey},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{self, Millis, Party},
    network::Network,
    trace,
};

/// The one topic.
pub(crate) const TOPIC: &str = "shop";
/// After how long without a poll an instance loses its partitions.
const SESSION: Millis = 400;
/// The pause between polls that find nothing.
const POLL: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_millis(200);

/// The log, and the one consumer group that reads it.
pub(crate) struct Kafka {
    partitions: Vec<Vec<Record>>,
    committed: Vec<i64>,
    /// Partitions whose messages don't come out.
    stalled: Vec<bool>,
    group: BTreeMap<Party, Member>,
    owners: Vec<Option<Party>>,
    generation: u64,
    /// How far back a new owner begins.
    replay: i64,
}

struct Record {
    payload: String,
    /// From when on it can be read.
    at: Millis,
}

struct Member {
    polled: Millis,
    /// Tells one life of an instance from the next.
    life: u64,
}

/// What a poll finds.
struct Polled {
    generation: u64,
    /// What the instance owns, with the offset to begin at.
    owned: Vec<(usize, i64)>,
    records: Vec<(usize, i64, String)>,
}

impl Kafka {
    pub(crate) fn new(partitions: usize, replay: i64) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Vec::new()).collect(),
            committed: vec![0; partitions],
            stalled: vec![false; partitions],
            group: BTreeMap::new(),
            owners: vec![None; partitions],
            generation: 0,
            replay,
        }
    }

    /// Appends a message that can be read from `at` on; returns its offset.
    pub(crate) fn append(&mut self, partition: usize, at: Millis, payload: String) -> i64 {
        let log = &mut self.partitions[partition];
        log.push(Record { payload, at });
        log.len() as i64 - 1
    }

    /// Appends the last messages of a partition once more, as Canal does when it takes up its work again.
    pub(crate) fn repeat(&mut self, partition: usize, count: usize) {
        let log = &self.partitions[partition];
        let again: Vec<_> = log.iter().rev().take(count).map(|record| record.payload.clone()).collect();
        for payload in again.into_iter().rev() {
            self.append(partition, clock::now(), payload);
        }
    }

    pub(crate) fn stall(&mut self, partition: usize, stalled: bool) {
        self.stalled[partition] = stalled;
    }

    pub(crate) fn flow(&mut self) {
        self.stalled.fill(false);
    }

    pub(crate) fn count(&self) -> usize {
        self.partitions.len()
    }

    /// Whether all is committed.
    pub(crate) fn drained(&self) -> bool {
        self.partitions.iter().zip(&self.committed).all(|(log, committed)| *committed == log.len() as i64)
    }

    /// How far each partition is committed.
    pub(crate) fn committed(&self) -> Vec<i64> {
        self.committed.clone()
    }

    fn ends(&self) -> Vec<NextOffset> {
        let end = |(number, log): (usize, &Vec<Record>)| NextOffset {
            partition: partition(number),
            next: log.len() as i64,
        };
        self.partitions.iter().enumerate().map(end).collect()
    }

    /// Takes the partitions of instances that are silent away.
    pub(crate) fn step(&mut self) {
        let silent: Vec<_> = self
            .group
            .iter()
            .filter(|(_, member)| member.polled + SESSION <= clock::now())
            .map(|(party, _)| *party)
            .collect();
        for party in silent {
            self.group.remove(&party);
            trace::note(format_args!("kafka: {party} is silent"));
            self.rebalance();
        }
    }

    fn rebalance(&mut self) {
        self.generation += 1;
        let members: Vec<_> = self.group.keys().copied().collect();
        for (number, owner) in self.owners.iter_mut().enumerate() {
            *owner = (!members.is_empty()).then(|| members[number % members.len()]);
        }
        trace::note(format_args!("kafka: generation {}: {:?}", self.generation, self.owners));
    }

    fn join(&mut self, party: Party, life: u64) {
        match self.group.get_mut(&party) {
            Some(member) if member.life == life => member.polled = clock::now(),
            _ => {
                self.group.insert(party, Member { polled: clock::now(), life });
                self.rebalance();
            }
        }
    }

    fn poll(&mut self, party: Party, life: u64, positions: &BTreeMap<usize, i64>, most: usize) -> Polled {
        self.join(party, life);
        let mut owned = Vec::new();
        let mut records = Vec::new();
        for number in (0..self.partitions.len()).filter(|number| self.owners[*number] == Some(party)) {
            let begin = (self.committed[number] - self.replay).max(0);
            owned.push((number, begin));
            let from = positions.get(&number).copied().unwrap_or(begin);
            if self.stalled[number] {
                continue;
            }
            let log = &self.partitions[number];
            let ready = log
                .iter()
                .enumerate()
                .skip(from as usize)
                .take_while(|(_, record)| record.at <= clock::now());
            for (offset, record) in ready.take(most.saturating_sub(records.len())) {
                records.push((number, offset as i64, record.payload.clone()));
            }
        }
        Polled { generation: self.generation, owned, records }
    }

    fn commit(&mut self, party: Party, life: u64, offsets: &[(usize, i64)]) -> bool {
        if self.group.get(&party).is_none_or(|member| member.life != life) {
            return false;
        }
        let mine = offsets.iter().all(|(number, _)| self.owners[*number] == Some(party));
        if mine {
            for (number, next) in offsets {
                trace::note(format_args!("kafka: {party} commits {number}@{next}"));
                self.committed[*number] = self.committed[*number].max(*next);
            }
        }
        mine
    }

    fn leave(&mut self, party: Party, life: u64) {
        if self.group.get(&party).is_some_and(|member| member.life == life) {
            self.group.remove(&party);
            self.rebalance();
        }
    }
}

/// One life of an instance, as a member of the group.
#[derive(Clone)]
pub(crate) struct Consumer {
    pub(crate) party: Party,
    pub(crate) life: u64,
    pub(crate) network: Arc<Network>,
    pub(crate) kafka: Arc<Mutex<Kafka>>,
    /// Where the simulation sees what has been acknowledged.
    pub(crate) offsets: Arc<Mutex<Option<Arc<Offsets>>>>,
}

impl Consumer {
    async fn ask<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut Kafka) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let kafka = self.kafka.clone();
        timeout(PATIENCE, self.network.ask(self.party, Party::Kafka, move || answer(&mut kafka.lock())))
            .await
            .map_err(|_| Error::Unavailable("the log did not answer".to_owned()))
    }

    async fn read(
        self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) {
        let mut positions: BTreeMap<usize, i64> = BTreeMap::new();
        let mut generation = 0;
        while !stop.is_cancelled() {
            let (party, life, at) = (self.party, self.life, positions.clone());
            let polled = self.ask(move |kafka| kafka.poll(party, life, &at, batching.messages)).await;
            let Ok(polled) = polled else { continue };
            if polled.generation != generation {
                generation = polled.generation;
                take(&offsets, &polled.owned, &mut positions);
            }
            let mut batch = BatchBuilder::default();
            for (number, offset, payload) in polled.records {
                // An answer to a poll from before a rebalance may begin elsewhere.
                let Some(position) = positions.get_mut(&number).filter(|position| **position == offset)
                else {
                    continue;
                };
                batch.push(&offsets, TOPIC, number as i32, offset, Some(1), None, Some(payload.as_bytes()));
                *position = offset + 1;
            }
            if batch.is_empty() {
                sleep(POLL).await;
            } else if events.send(Event::Batch(batch.finish(&offsets))).await.is_err() {
                return;
            }
        }
    }
}

/// Gives up what is lost and begins with what is gained.
fn take(offsets: &Offsets, owned: &[(usize, i64)], positions: &mut BTreeMap<usize, i64>) {
    let lost: Vec<_> =
        positions.keys().copied().filter(|number| !owned.iter().any(|(kept, _)| kept == number)).collect();
    for number in lost {
        positions.remove(&number);
        offsets.revoke(&[partition(number)]);
    }
    for (number, begin) in owned {
        if !positions.contains_key(number) {
            positions.insert(*number, *begin);
            offsets.assign(&[partition(*number)]);
            offsets.begins_at(&partition(*number), *begin);
        }
    }
}

fn partition(number: usize) -> Partition {
    Partition::new(TOPIC, number as i32)
}

#[async_trait]
impl Source for Consumer {
    fn start(
        &self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        *self.offsets.lock() = Some(offsets.clone());
        tokio::spawn(self.clone().read(offsets, batching, events, stop));
        Ok(())
    }

    async fn commit(&self, offsets: &[NextOffset]) -> Result<(), Error> {
        let offsets: Vec<_> =
            offsets.iter().map(|offset| (offset.partition.number as usize, offset.next)).collect();
        let (party, life) = (self.party, self.life);
        if self.ask(move |kafka| kafka.commit(party, life, &offsets)).await? {
            Ok(())
        } else {
            Err(Error::Unavailable("another instance owns the partition now".to_owned()))
        }
    }

    async fn dead_letter(&self, letter: &Letter) -> Result<(), Error> {
        panic!("every message can be decoded: {letter:?}");
    }

    async fn close(&self) {
        let (party, life) = (self.party, self.life);
        let _ = self.ask(move |kafka| kafka.leave(party, life)).await;
    }

    fn waits_for(&self) -> Option<String> {
        None
    }

    fn ends(&self) -> Vec<NextOffset> {
        self.kafka.lock().ends()
    }

    async fn survey(&self, owned: Vec<Partition>) -> Result<Survey, Error> {
        let ends = self.ask(|kafka| kafka.ends()).await?;
        let all = ends.iter().map(|end| end.partition.clone()).collect();
        Ok(Survey { ends: ends.into_iter().filter(|end| owned.contains(&end.partition)).collect(), all })
    }
}
