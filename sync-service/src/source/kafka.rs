//! Kafka topics, through librdkafka.
//!
//! A thread of its own polls, so that nothing here waits for the runtime and rebalances are answered in time, also while
//! the pipeline is full: then the partitions are paused and polling goes on. Offsets are committed only by
//! [`Kafka::commit`] and when partitions are taken away; librdkafka commits and stores nothing by itself.

mod context;
mod health;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use daemon::config::KafkaSource;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::context::Context;
use super::{BatchBuilder, Batching, Error, Event, Gap, Letter, Source};
use crate::config::{OnFirstStart, OnOutOfRange, Sync};
use crate::metrics::SourceMetrics;
use crate::offsets::{NextOffset, Offsets, Partition};

type Consumer = BaseConsumer<Context>;

/// How long an idle poll waits; bounds how late a stop is seen.
const POLL: Duration = Duration::from_millis(100);
/// How long the pipeline may be full before the partitions are paused.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of values in one batch.
const BATCH_BYTES: usize = 4 << 20;

/// Topics read as a member of a consumer group.
pub struct Kafka {
    config: KafkaSource,
    consumer: Mutex<Option<Arc<Consumer>>>,
    producer: Mutex<Option<FutureProducer>>,
    shared: Arc<Shared>,
    closing: CancellationToken,
    closed: CancellationToken,
}

/// What the polling thread, librdkafka's callbacks and the service share.
pub(crate) struct Shared {
    on_first_start: OnFirstStart,
    on_out_of_range: OnOutOfRange,
    offsets: std::sync::OnceLock<Arc<Offsets>>,
    /// Gaps found while partitions were assigned, to be told before any message after them.
    gaps: Mutex<Vec<Missed>>,
    /// The next offset to read of each assigned partition, as far as it is known.
    positions: Mutex<HashMap<Partition, i64>>,
    ends: Mutex<HashMap<Partition, i64>>,
    halted: Mutex<Option<String>>,
    health: health::Health,
    metrics: Arc<SourceMetrics>,
}

struct Missed {
    next: NextOffset,
    reason: crate::decode::Reason,
    detail: String,
}

impl Kafka {
    /// Makes a consumer; connects to nothing yet. Metrics are registered under `sync`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the property that librdkafka refuses.
    pub fn new(config: &KafkaSource, sync: &Sync, registry: &mut Registry) -> Result<Self, Error> {
        let metrics = SourceMetrics::register(registry.sub_registry_with_prefix("sync"));
        let shared = Arc::new(Shared {
            on_first_start: sync.on_first_start,
            on_out_of_range: sync.on_out_of_range,
            offsets: std::sync::OnceLock::new(),
            gaps: Mutex::default(),
            positions: Mutex::default(),
            ends: Mutex::default(),
            halted: Mutex::default(),
            health: health::Health::new(config.brokers.clone(), &config.topics, config.group.clone()),
            metrics,
        });
        let mut settings = ClientConfig::new();
        // Values that a person may override come first.
        let defaults = [
            ("client.id", "freshline-sync"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("statistics.interval.ms", "1000"),
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "3000"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.queue.backoff.ms", "10"),
            ("queued.max.messages.kbytes", "32768"),
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("reconnect.backoff.max.ms", "2000"),
        ];
        for (name, value) in defaults.into_iter().chain(config.properties.iter()) {
            settings.set(name, value);
        }
        settings
            .set("bootstrap.servers", &config.brokers)
            .set("group.id", &config.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            // A missing offset is this service's decision, not the client's.
            .set("auto.offset.reset", "error");
        let consumer: Consumer =
            settings.create_with_context(Context::new(shared.clone())).map_err(|error| refused(&error))?;
        Ok(Self {
            config: config.clone(),
            consumer: Mutex::new(Some(Arc::new(consumer))),
            producer: Mutex::new(None),
            shared,
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        })
    }

    fn producer(&self) -> Result<FutureProducer, Error> {
        let mut producer = self.producer.lock();
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let mut settings = ClientConfig::new();
        settings.set("client.id", "freshline-sync-dead-letters");
        let connection = [
            "security.",
            "sasl.",
            "ssl.",
            "socket.",
            "broker.",
            "metadata.",
            "client.",
            "reconnect.",
            "api.",
        ];
        for (name, value) in self.config.properties.iter() {
            if connection.iter().any(|prefix| name.starts_with(prefix)) {
                settings.set(name, value);
            }
        }
        settings
            .set("bootstrap.servers", &self.config.brokers)
            .set("acks", "all")
            .set("message.timeout.ms", "10000");
        let made: FutureProducer<DefaultClientContext> =
            settings.create().map_err(|error| refused(&error))?;
        Ok(producer.insert(made).clone())
    }
}

fn refused(error: &KafkaError) -> Error {
    Error::Config(match error {
        KafkaError::ClientConfig(_, why, name, value) => {
            format!("source.kafka.properties: librdkafka refuses {name} = {value:?}: {why}")
        }
        error => format!("source.kafka: librdkafka refuses this configuration: {error}"),
    })
}

#[async_trait]
impl Source for Kafka {
    fn start(
        &self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let consumer = self
            .consumer
            .lock()
            .clone()
            .ok_or_else(|| Error::Config("the source has been closed".to_owned()))?;
        if self.shared.offsets.set(offsets.clone()).is_err() {
            return Err(Error::Config("the source has been started before".to_owned()));
        }
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| {
            Error::Config(format!("source.kafka.topics: can't subscribe to {topics:?}: {error}"))
        })?;
        info!(brokers = self.config.brokers, ?topics, group = self.config.group, "reading from kafka");
        let poller = Poller {
            consumer,
            shared: self.shared.clone(),
            offsets,
            batching,
            events,
            stop,
            runtime: Handle::current(),
            paused: false,
        };
        let (closing, closed) = (self.closing.clone(), self.closed.clone().drop_guard());
        thread::Builder::new()
            .name("kafka".to_owned())
            .spawn(move || {
                poller.run(&closing);
                drop(closed);
            })
            .map_err(|error| Error::Config(format!("can't start the kafka thread: {error}")))?;
        Ok(())
    }

    async fn commit(&self, offsets: &[NextOffset]) -> Result<(), Error> {
        let Some(consumer) = self.consumer.lock().clone() else {
            return Err(Error::Unavailable("the consumer is closed".to_owned()));
        };
        let list = list(offsets);
        // Waits for the group's coordinator; a thread of the blocking pool may.
        let committed = tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync)).await;
        match committed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Unavailable(error.to_string())),
            Err(error) => Err(Error::Unavailable(error.to_string())),
        }
    }

    async fn dead_letter(&self, letter: &Letter) -> Result<(), Error> {
        let producer = self.producer()?;
        let place = letter.partition.number.to_string();
        let offset = letter.offset.to_string();
        let timestamp = letter.timestamp_ms.map(|ms| ms.to_string());
        let mut headers = OwnedHeaders::new();
        let told = [
            ("freshline.reason", Some(letter.reason.as_str())),
            ("freshline.topic", Some(&*letter.partition.topic)),
            ("freshline.partition", Some(place.as_str())),
            ("freshline.offset", Some(offset.as_str())),
            ("freshline.timestamp", timestamp.as_deref()),
            ("freshline.table", letter.table.as_deref()),
        ];
        for (key, value) in told {
            if value.is_some() {
                headers = headers.insert(Header { key, value });
            }
        }
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.config.dead_letter_topic).headers(headers);
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        if let Some(payload) = &letter.payload {
            record = record.payload(payload);
        }
        let sent = producer.send(record, Duration::from_secs(5)).await;
        sent.map(|_| ()).map_err(|(error, _)| {
            Error::Unavailable(format!("topic {}: {error}", self.config.dead_letter_topic))
        })
    }

    async fn close(&self) {
        self.consumer.lock().take();
        self.closing.cancel();
        if self.shared.offsets.get().is_some() {
            self.closed.cancelled().await;
        }
    }

    fn waits_for(&self) -> Option<String> {
        self.shared.health.waits_for()
    }

    fn ends(&self) -> Vec<NextOffset> {
        let Some(offsets) = self.shared.offsets.get() else { return Vec::new() };
        let ends = self.shared.ends.lock();
        ends.iter()
            .filter(|(partition, _)| offsets.owns(partition))
            .map(|(partition, next)| NextOffset { partition: partition.clone(), next: *next })
            .collect()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// The thread that polls.
struct Poller {
    consumer: Arc<Consumer>,
    shared: Arc<Shared>,
    offsets: Arc<Offsets>,
    batching: Batching,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    runtime: Handle,
    paused: bool,
}

impl Poller {
    fn run(mut self, closing: &CancellationToken) {
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

fn list(offsets: &[NextOffset]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for offset in offsets {
        let added = list.add_partition_offset(
            &offset.partition.topic,
            offset.partition.number,
            Offset::Offset(offset.next),
        );
        if let Err(error) = added {
            warn!(%error, partition = %offset.partition, "offset can't be committed");
        }
    }
    list
}
