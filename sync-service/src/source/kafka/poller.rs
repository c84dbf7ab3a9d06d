//! The thread that polls, and hands over what it reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Consumer, Shared, context, probe};
use crate::offsets::{Offsets, Partition};
use crate::source::{BatchBuilder, Batching, Error, Event, Gap};

/// How long an idle poll waits; bounds how late a stop is seen.
const POLL: Duration = Duration::from_millis(100);
/// How long the pipeline may be full before the partitions are paused.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of values in one batch.
const BATCH_BYTES: usize = 4 << 20;

/// The thread that polls.
pub(super) struct Poller {
    pub(super) consumer: Arc<Consumer>,
    pub(super) shared: Arc<Shared>,
    pub(super) offsets: Arc<Offsets>,
    pub(super) batching: Batching,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) stop: CancellationToken,
    pub(super) runtime: Handle,
    pub(super) paused: bool,
}

impl Poller {
    pub(super) fn run(mut self, closing: &CancellationToken) {
        if let Err(error) = self.read()
            && self.runtime.block_on(self.events.send(Event::Failed(error))).is_err()
        {
            debug!("the pipeline has ended before the source");
        }
        let Self { consumer, events, shared, .. } = self;
        drop(events);
        // Stays in the group until what was read is committed.
        while !closing.is_cancelled() {
            if let Some(Ok(_)) = consumer.poll(POLL) {
                pause(&consumer);
            }
        }
        consumer.unsubscribe();
        drop(consumer);
        shared.health.closed();
    }

    /// Reads until told to stop.
    fn read(&mut self) -> Result<(), Error> {
        let mut builder = BatchBuilder::default();
        while !self.stop.is_cancelled() {
            if let Some(halted) = self.shared.halted.lock().take() {
                return Err(Error::Halted(halted));
            }
            let gaps = std::mem::take(&mut *self.shared.gaps.lock());
            for missed in gaps {
                let ticket = self.offsets.begin(std::slice::from_ref(&missed.next));
                let gap = Gap {
                    partition: missed.next.partition,
                    reason: missed.reason,
                    detail: missed.detail,
                    ticket,
                };
                if self.runtime.block_on(self.events.send(Event::Gap(gap))).is_err() {
                    return Ok(());
                }
            }
            let empty = std::mem::take(&mut *self.shared.empty.lock());
            probe::pass(empty, &mut self.shared.positions.lock(), &self.offsets);
            self.collect(&mut builder)?;
            if !builder.is_empty() && !self.send(&mut builder)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Fills a batch with what is there; waits for more only while earlier batches keep the pipeline busy.
    fn collect(&mut self, builder: &mut BatchBuilder) -> Result<(), Error> {
        self.poll(POLL, builder)?;
        let begun = Instant::now();
        while builder.len() < self.batching.messages && builder.bytes() < BATCH_BYTES && !builder.is_empty() {
            // A message after a gap must not be begun before the gap is.
            if !self.shared.gaps.lock().is_empty() {
                break;
            }
            if self.poll(Duration::ZERO, builder)? {
                continue;
            }
            let left = self.batching.wait.saturating_sub(begun.elapsed());
            let busy = self.offsets.unacknowledged() > 0;
            if !busy || left.is_zero() || !self.poll(left, builder)? {
                break;
            }
        }
        Ok(())
    }

    /// Polls once; says whether a message came.
    fn poll(&self, wait: Duration, builder: &mut BatchBuilder) -> Result<bool, Error> {
        match self.consumer.poll(wait) {
            None => Ok(false),
            Some(Ok(message)) => {
                let timestamp = message.timestamp().to_millis();
                builder.push(
                    &self.offsets,
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    timestamp,
                    message.key(),
                    message.payload(),
                );
                Ok(true)
            }
            Some(Err(error)) => {
                self.shared.metrics.errors.inc();
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset) => self.mend(builder),
                    _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                        return Err(Error::Unavailable(format!("kafka: {error}")));
                    }
                    Some(
                        code @ (RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownTopic
                        | RDKafkaErrorCode::TopicAuthorizationFailed),
                    ) => {
                        self.shared.health.topic_missing(&code.to_string());
                    }
                    Some(RDKafkaErrorCode::AllBrokersDown) => {
                        self.shared.health.brokers_down("all brokers are down");
                    }
                    _ => self.shared.health.trouble(&error.to_string()),
                }
                Ok(false)
            }
        }
    }

    /// Hands a batch over; waits as long as the pipeline is full, and keeps polling meanwhile. `false`: the pipeline is gone.
    fn send(&mut self, builder: &mut BatchBuilder) -> Result<bool, Error> {
        let events = self.events.clone();
        loop {
            let reserved = self.runtime.block_on(async {
                tokio::time::timeout(if self.paused { POLL } else { PATIENCE }, events.reserve()).await
            });
            match reserved {
                Ok(Ok(permit)) => {
                    {
                        let mut positions = self.shared.positions.lock();
                        for (partition, next) in builder.ends() {
                            positions.insert(partition.clone(), next);
                        }
                    }
                    permit.send(Event::Batch(builder.finish(&self.offsets)));
                    if std::mem::take(&mut self.paused) {
                        debug!("pipeline has room again");
                        self.assigned(Consumer::resume);
                    }
                    return Ok(true);
                }
                Ok(Err(_)) => return Ok(false),
                Err(_) if self.stop.is_cancelled() => return Ok(true),
                Err(_) => {
                    if !std::mem::replace(&mut self.paused, true) {
                        info!("pipeline is full: reading pauses");
                    }
                    pause(&self.consumer);
                    self.poll(Duration::ZERO, builder)?;
                }
            }
        }
    }

    fn assigned(&self, act: impl FnOnce(&Consumer, &TopicPartitionList) -> rdkafka::error::KafkaResult<()>) {
        let done = self.consumer.assignment().and_then(|assigned| act(&self.consumer, &assigned));
        if let Err(error) = done {
            warn!(%error, "partitions can't be resumed");
        }
    }

    /// After an offset that is not in the log: finds the partitions concerned and goes on as declared.
    fn mend(&self, builder: &BatchBuilder) {
        let assigned = match self.consumer.assignment() {
            Ok(assigned) => assigned,
            Err(error) => return self.shared.health.trouble(&error.to_string()),
        };
        let mut expected: HashMap<Partition, i64> = self.shared.positions.lock().clone();
        for (partition, next) in builder.ends() {
            expected.insert(partition.clone(), next);
        }
        for element in assigned.elements() {
            let partition = Partition::new(element.topic(), element.partition());
            let next = expected.get(&partition).copied();
            let Some(start) = context::missed(&self.consumer, &self.shared, &partition, next) else {
                continue;
            };
            let mut list = TopicPartitionList::new();
            let set = list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(start));
            let again = set.and_then(|()| context::reassign(&self.consumer, &list));
            if let Err(error) = again {
                self.shared
                    .health
                    .trouble(&format!("{partition} can't be read from offset {start}: {error}"));
            }
        }
    }
}

fn pause(consumer: &Consumer) {
    let paused = consumer.assignment().and_then(|assigned| consumer.pause(&assigned));
    if let Err(error) = paused {
        debug!(%error, "partitions can't be paused");
    }
}
