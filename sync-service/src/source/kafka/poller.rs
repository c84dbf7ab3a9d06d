//! The thread that polls, and hands over what it reads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message as _};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::gaps::{self, Known, Place};
use super::memory::Memory;
use super::{Consumer, Position, Shared, context, probe, too_large};
use crate::offsets::{NextOffset, Offsets, Partition};
use crate::source::{BatchBuilder, Batching, Error, Event, Gap};

/// How often backlogs and stalled partitions are looked at.
const LOOK: Duration = Duration::from_secs(1);
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
    /// Room for batches that wait to be decoded.
    pub(super) memory: Memory,
    pub(super) runtime: Handle,
    pub(super) paused: bool,
    /// Gaps that have begun and are to be told.
    pub(super) begun: RefCell<VecDeque<Gap>>,
    /// When backlogs and stalled partitions were looked at.
    pub(super) looked: Instant,
    /// Partitions whose backlog is too long and is read, as was said.
    pub(super) told: Vec<Partition>,
}

/// Room for what is handed over next.
struct Room {
    event: mpsc::OwnedPermit<Event>,
    bytes: OwnedSemaphorePermit,
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
            // Right after an assignment too: else much of a long backlog is read until it is noticed.
            let look = self.shared.look.swap(false, Ordering::Relaxed) || self.shared.too_large.is_seen();
            if look || self.looked.elapsed() >= LOOK {
                self.looked = Instant::now();
                self.place();
                let starts = too_large::pass(&self.consumer, &self.shared)?;
                self.go_on(&starts);
                let told = &mut self.told;
                let starts = gaps::skip(&self.consumer, &self.shared, &self.batching.catch_up, told)?;
                self.go_on(&starts);
                self.begin_gaps(&mut builder);
            }
            loop {
                let Some(gap) = self.begun.borrow_mut().pop_front() else { break };
                let Some(room) = self.room(&mut builder)? else { return Ok(()) };
                room.event.send(Event::Gap(gap));
            }
            let empty = std::mem::take(&mut *self.shared.empty.lock());
            probe::pass(empty, &mut self.shared.positions.lock(), &self.offsets);
            self.collect(&mut builder)?;
            if !builder.is_empty() {
                let Some(room) = self.room(&mut builder)? else { return Ok(()) };
                self.note_positions(&builder);
                let batch = builder.finish(&self.offsets).holding(room.bytes);
                room.event.send(Event::Batch(batch));
            }
        }
        Ok(())
    }

    /// Notes how far was read, of what is not claimed yet.
    fn note_positions(&self, builder: &BatchBuilder) {
        let mut positions = self.shared.positions.lock();
        for read in builder.unclaimed() {
            // What was read under an earlier assignment says nothing about this one.
            if read.assignment.is_some() && read.assignment == self.offsets.assignment(&read.end.partition) {
                let position = Position { next: read.end.next, timestamp_ms: read.timestamp_ms };
                let before = positions.insert(read.end.partition.clone(), position);
                // Only now it can be told what the backlog spans.
                if before.is_none_or(|before| before.timestamp_ms.is_none()) {
                    self.shared.look.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Begins the gaps that were noted: after all that was read before, and before anything is read after them. *(a gap is found
    /// while partitions are assigned; the same poll returns the first message after it; that message is claimed, acknowledged and
    /// committed, and the gap, begun after it, holds nothing back)*
    fn begin_gaps(&self, builder: &mut BatchBuilder) {
        let missed = std::mem::take(&mut *self.shared.gaps.lock());
        if missed.is_empty() {
            return;
        }
        let places: Vec<_> = {
            let positions = self.shared.positions.lock();
            missed.iter().map(|one| (one.partition.clone(), positions.get(&one.partition).copied())).collect()
        };
        self.note_positions(builder);
        for (partition, place) in places {
            // The gap's place is newer than what was read before it.
            if let Some(place) = place {
                self.shared.positions.lock().insert(partition, place);
            }
        }
        builder.claim(&self.offsets);
        self.begun.borrow_mut().push_back(Gap::begin(missed, &self.offsets));
        gaps::mark(&self.consumer, &self.shared);
    }

    /// Fills a batch with what is there; waits for more only while earlier batches keep the pipeline busy.
    fn collect(&mut self, builder: &mut BatchBuilder) -> Result<(), Error> {
        self.poll(POLL, builder)?;
        let begun = Instant::now();
        while builder.len() < self.batching.messages && builder.bytes() < BATCH_BYTES && !builder.is_empty() {
            if !self.begun.borrow().is_empty() {
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
        let polled = self.consumer.poll(wait);
        self.begin_gaps(builder);
        match polled {
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
                for header in message.headers().iter().flat_map(|headers| headers.iter()) {
                    builder.header(header.key, header.value.unwrap_or_default());
                }
                Ok(true)
            }
            Some(Err(error)) => {
                self.shared.metrics.errors.inc();
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset) => {
                        self.mend(builder);
                        self.begin_gaps(builder);
                    }
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
                    Some(RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::MessageSizeTooLarge) => {
                        self.shared.too_large.seen(&error.to_string());
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

    /// Waits as long as the pipeline is full, and keeps polling meanwhile. `None`: the pipeline is gone, or stopping.
    fn room(&mut self, builder: &mut BatchBuilder) -> Result<Option<Room>, Error> {
        loop {
            let (events, bytes) = (self.events.clone().reserve_owned(), self.memory.take(builder.bytes()));
            let room = async { Some(Room { event: events.await.ok()?, bytes: bytes.await? }) };
            let reserved = self.runtime.block_on(async {
                tokio::time::timeout(if self.paused { POLL } else { PATIENCE }, room).await
            });
            match reserved {
                Ok(Some(room)) => {
                    if std::mem::take(&mut self.paused) {
                        debug!("pipeline has room again");
                        self.assigned(Consumer::resume);
                    }
                    return Ok(Some(room));
                }
                Ok(None) => return Ok(None),
                Err(_) if self.stop.is_cancelled() => return Ok(None),
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

    /// After an offset that is not in the log: finds the partitions concerned and goes on as declared. Those that can't be told
    /// from their offsets stay idle, and [`place`](Self::place) finds them.
    fn mend(&self, builder: &BatchBuilder) {
        self.shared.stalled.lock().report();
        self.note_positions(builder);
        let positions = self.shared.positions.lock().clone();
        for (partition, position) in
            positions.into_iter().filter(|(partition, _)| self.shared.owns(partition))
        {
            let known = Known::Read(position.next);
            if let Place::At(next) = gaps::find(&self.consumer, &self.shared, &partition, known) {
                self.go_on(&[NextOffset { partition, next }]);
            }
        }
    }

    /// Finds a place for partitions that are owned and not read.
    fn place(&self) {
        let due = self.shared.stalled.lock().due();
        for partition in due.into_iter().filter(|partition| self.shared.owns(partition)) {
            let position = self.shared.positions.lock().get(&partition).copied();
            let Some(known) = position.map(|at| Known::Cut(at.next)).or_else(|| self.committed(&partition))
            else {
                continue;
            };
            let next = match (gaps::find(&self.consumer, &self.shared, &partition, known), known) {
                (Place::At(next), _) => next,
                (Place::Same(_), Known::Next(next)) => {
                    gaps::goes_on(&self.shared, &partition, next);
                    next
                }
                _ => continue,
            };
            self.go_on(&[NextOffset { partition, next }]);
        }
    }

    fn committed(&self, partition: &Partition) -> Option<Known> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.number);
        match self.consumer.committed_offsets(list, context::ASK) {
            Ok(committed) => committed.elements().first().and_then(Known::of),
            Err(error) => {
                self.shared.health.trouble(&format!("{partition}: can't ask what is committed: {error}"));
                None
            }
        }
    }

    /// Reads partitions from other offsets on.
    fn go_on(&self, starts: &[NextOffset]) {
        if starts.is_empty() {
            return;
        }
        match gaps::reassign(&self.consumer, starts) {
            Ok(()) => {
                let mut stalled = self.shared.stalled.lock();
                for start in starts {
                    stalled.forget(&start.partition);
                }
            }
            Err(error) => {
                let named: Vec<_> =
                    starts.iter().map(|start| format!("{}@{}", start.partition, start.next)).collect();
                let named = named.join(", ");
                self.shared.health.trouble(&format!("can't go on at {named}: {error}"));
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
