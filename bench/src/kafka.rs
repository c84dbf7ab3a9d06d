//! A Kafka broker in a container, a topic full of messages, and the bare consumer that reads it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use testcontainers::ImageExt as _;
use tests::{images, server::Server};

use crate::{core, messages};

/// Partitions of a topic.
pub(crate) const PARTITIONS: i32 = 3;
/// How long one answer of the broker may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The broker.
#[derive(Debug)]
pub(crate) struct Kafka {
    server: Server,
    container: String,
}

/// What a bare consumer has read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// From the first message to the last.
    pub(crate) took: Duration,
    /// Processor time of the core meanwhile.
    pub(crate) used: Duration,
}

impl Kafka {
    /// Starts a broker.
    pub(crate) async fn start() -> Self {
        let network = format!("freshline-bench-{}", std::process::id());
        let server = Server::start(images::image(images::KAFKA), &network, "kafka", 9094, |request, port| {
            request.with_env_var(
                "KAFKA_ADVERTISED_LISTENERS",
                format!("PLAINTEXT://{network}-kafka:9092,EXTERNAL://127.0.0.1:{port}"),
            )
        })
        .await;
        Self { server, container: format!("{network}-kafka") }
    }

    /// Keeps the broker away from the measured core; `false` where that can't be.
    pub(crate) fn keep_off(&self) -> bool {
        core::keep_container_to(core::OTHERS, &self.container)
    }

    /// Its bootstrap address.
    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// Makes `topic` and puts `count` messages into it.
    pub(crate) async fn fill(&self, topic: &str, count: u64) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            client(&self.brokers()).create().context("connect to kafka")?;
        let begun = Instant::now();
        loop {
            let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
            let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
            match admin.create_topics([&new], &options).await {
                Ok(results) if results.iter().all(Result::is_ok) => break,
                other if begun.elapsed() > PATIENCE => bail!("make topic {topic}: {other:?}"),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        let (brokers, topic) = (self.brokers(), topic.to_owned());
        tokio::task::spawn_blocking(move || fill(&brokers, &topic, count)).await.context("fill a topic")?
    }

    /// Makes `group` start at the topic's beginning, as one that has committed that.
    pub(crate) async fn rewind(&self, topic: &str, group: &str) -> anyhow::Result<()> {
        let mut config = client(&self.brokers());
        config.set("group.id", group);
        let topic = topic.to_owned();
        let rewind = move || {
            let consumer: BaseConsumer = config.create()?;
            let mut offsets = TopicPartitionList::new();
            for partition in 0..PARTITIONS {
                offsets.add_partition_offset(&topic, partition, Offset::Offset(0))?;
            }
            let begun = Instant::now();
            // The first commits may meet a group coordinator that is still coming up.
            loop {
                match consumer.commit(&offsets, CommitMode::Sync) {
                    Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(200)),
                    Ok(()) => return Ok::<_, KafkaError>(()),
                }
            }
        };
        tokio::task::spawn_blocking(rewind).await?.context("commit offset 0 for a new consumer group")
    }
}

/// Settings of any client of `brokers`.
pub(crate) fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

fn fill(brokers: &str, topic: &str, count: u64) -> anyhow::Result<()> {
    let mut config = client(brokers);
    config.set("linger.ms", "20").set("batch.size", "1000000").set("acks", "1");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().context("connect to kafka")?;
    let mut text = String::new();
    for number in 0..count {
        messages::write(number, &mut text);
        let partition = (messages::order_of(number) % PARTITIONS as u64) as i32;
        let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(&text);
        let begun = Instant::now();
        while let Err((error, refused)) = producer.send(record) {
            let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            ensure!(full && begun.elapsed() < PATIENCE, "put a message into {topic}: {error}");
            std::thread::sleep(Duration::from_millis(2));
            record = refused;
        }
    }
    producer.flush(PATIENCE).context("put all messages into the topic")?;
    let ends = ends(&client(brokers).create().context("connect to kafka")?, topic)?;
    let stored = ends.iter().map(|(_, end)| end).sum::<i64>().cast_unsigned();
    ensure!(stored == count, "put {count} messages into {topic}: it holds {stored}");
    Ok(())
}

/// The partitions and their ends.
pub(crate) fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<(i32, i64)>> {
    (0..PARTITIONS)
        .map(|partition| {
            let (_, end) =
                consumer.fetch_watermarks(topic, partition, PATIENCE).context("ask for a partition's end")?;
            Ok((partition, end))
        })
        .collect()
}

/// Reads `count` messages of a topic with a bare consumer on the calling thread, and looks at nothing but their lengths.
pub(crate) fn read(brokers: &str, topic: &str, count: u64, core: usize) -> anyhow::Result<Reading> {
    let mut config = client(brokers);
    config.set("group.id", "bare").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().context("connect to kafka")?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning).context("name a partition")?;
    }
    consumer.assign(&all).context("take all partitions")?;
    let (mut messages, mut bytes) = (0, 0);
    let mut begun = None;
    while messages < count {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => {
                begun.get_or_insert_with(|| (Instant::now(), core::used(core)));
                messages += 1;
                bytes += message.payload_len() as u64;
            }
            Some(Err(error)) => return Err(error).context("read the topic"),
            None => {
                bail!("read the topic: nothing came for {PATIENCE:?} after {messages} of {count} messages")
            }
        }
    }
    let (begun, used) = begun.context("read the topic: it is empty")?;
    Ok(Reading { messages, bytes, took: begun.elapsed(), used: core::used(core).saturating_sub(used) })
}
