//! Kafka topics, through librdkafka.
//!
//! A thread of its own polls, so that nothing here waits for the runtime and rebalances are answered in time, also while
//! the pipeline is full: then the partitions are paused and polling goes on. Offsets are committed only by
//! [`Kafka::commit`] and when partitions are taken away; librdkafka commits and stores nothing by itself.

mod context;
mod gaps;
mod health;
mod letters;
mod memory;
mod poller;
mod probe;
mod stalled;
mod survey;
mod too_large;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use async_trait::async_trait;
use daemon::config::KafkaSource;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::context::Context;
use self::letters::Letters;
use self::memory::Memory;
use self::poller::Poller;
use self::stalled::Stalled;
use super::{Batching, Error, Event, Letter, Missed, Source, Survey};
use crate::config::{OnCanalRestart, OnFirstStart, OnOutOfRange, Sync};
use crate::metrics::SourceMetrics;
use crate::offsets::{NextOffset, Offsets, Partition};

type Consumer = BaseConsumer<Context>;

/// Topics read as a member of a consumer group.
pub struct Kafka {
    config: KafkaSource,
    letters: Letters,
    topics: Arc<survey::Topics>,
    probe: Arc<Mutex<probe::Probe>>,
    consumer: Mutex<Option<Arc<Consumer>>>,
    shared: Arc<Shared>,
    closing: CancellationToken,
    closed: CancellationToken,
}

/// What the polling thread, librdkafka's callbacks and the service share.
pub(crate) struct Shared {
    on_first_start: OnFirstStart,
    on_out_of_range: OnOutOfRange,
    on_canal_restart: OnCanalRestart,
    too_large: too_large::TooLarge,
    offsets: std::sync::OnceLock<Arc<Offsets>>,
    /// Gaps found while partitions were assigned, to be told before any message after them.
    gaps: Mutex<Vec<Missed>>,
    /// Committed offsets that are to be marked: a flush is owed.
    marks: Mutex<Vec<NextOffset>>,
    /// The next offset to read of each assigned partition, as far as it is known.
    positions: Mutex<BTreeMap<Partition, Position>>,
    ends: Mutex<BTreeMap<Partition, i64>>,
    stalled: Mutex<Stalled>,
    /// Set when backlogs must be looked at: partitions were assigned, or their first messages read.
    look: AtomicBool,
    /// Stretches without messages that a partition stands before.
    empty: Mutex<BTreeMap<Partition, probe::Stretch>>,
    halted: Mutex<Option<String>>,
    health: health::Health,
    metrics: Arc<SourceMetrics>,
}

/// How far a partition has been handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    next: i64,
    /// When the message before was logged, if that is known.
    timestamp_ms: Option<i64>,
}

impl Shared {
    fn owns(&self, partition: &Partition) -> bool {
        self.offsets.get().is_some_and(|offsets| offsets.owns(partition))
    }
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
            on_canal_restart: sync.on_canal_restart,
            too_large: too_large::TooLarge::new(config.max_batch, sync.on_undecodable),
            offsets: std::sync::OnceLock::new(),
            gaps: Mutex::default(),
            marks: Mutex::default(),
            stalled: Mutex::default(),
            look: AtomicBool::new(false),
            positions: Mutex::default(),
            ends: Mutex::default(),
            empty: Mutex::default(),
            halted: Mutex::default(),
            health: health::Health::new(config.brokers.clone(), &config.topics, config.group.clone()),
            metrics,
        });
        let mut settings = ClientConfig::new();
        // Values that a person may override come first.
        let defaults = [
            ("client.id", "freshline-sync"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "3000"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.queue.backoff.ms", "10"),
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("reconnect.backoff.max.ms", "2000"),
        ];
        for (name, value) in defaults.into_iter().chain(config.properties.iter()) {
            settings.set(name, value);
        }
        for (name, value) in config.bounds() {
            settings.set(name, value);
        }
        settings
            .set("bootstrap.servers", &config.brokers)
            .set("group.id", &config.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            // A missing offset is this service's decision, not the client's.
            .set("auto.offset.reset", "error")
            // Ends of logs, stalled partitions and lost brokers are told by them.
            .set("statistics.interval.ms", "1000");
        let probe = probe::Probe::new(settings.clone(), &config.group);
        let consumer: Consumer =
            settings.create_with_context(Context::new(shared.clone())).map_err(|error| refused(&error))?;
        Ok(Self {
            config: config.clone(),
            letters: Letters::new(config.clone()),
            probe: Arc::new(Mutex::new(probe)),
            topics: Arc::new(survey::Topics::new(&config.topics)),
            consumer: Mutex::new(Some(Arc::new(consumer))),
            shared,
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        })
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
            memory: Memory::new(self.config.batch_memory()),
            runtime: Handle::current(),
            paused: false,
            begun: RefCell::default(),
            looked: Instant::now(),
            told: Vec::new(),
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
        let book = self.shared.offsets.get();
        let list = gaps::list(offsets, |partition| book.is_some_and(|book| book.owes(partition)));
        // Waits for the group's coordinator; a thread of the blocking pool may.
        let committed = tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync)).await;
        match committed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Unavailable(error.to_string())),
            Err(error) => Err(Error::Unavailable(error.to_string())),
        }
    }

    async fn dead_letter(&self, letter: &Letter) -> Result<(), Error> {
        self.letters.send(letter).await
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

    async fn survey(&self, owned: Vec<Partition>) -> Result<Survey, Error> {
        let Some(consumer) = self.consumer.lock().clone() else {
            return Err(Error::Unavailable("the consumer is closed".to_owned()));
        };
        let topics = self.topics.clone();
        // Waits for brokers; a thread of the blocking pool may.
        let asked = tokio::task::spawn_blocking(move || topics.survey(&consumer, &owned)).await;
        let survey = asked.unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))?;
        let (probe, shared, ends) = (self.probe.clone(), self.shared.clone(), survey.ends.clone());
        // Apart, since it may take long; one at a time.
        tokio::task::spawn_blocking(move || {
            if let (Some(mut probe), Some(offsets)) = (probe.try_lock(), shared.offsets.get()) {
                probe.look(&shared, offsets, &ends);
            }
        });
        Ok(survey)
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
