//! A bare consumer of the same topic: how late a change is for anybody who reads Kafka.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde::Deserialize;

use crate::kafka;

/// The running consumer.
#[derive(Debug)]
pub(super) struct Bare {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<HashMap<u64, Instant>>>>,
}

/// What is looked at of a message.
#[derive(Debug, Deserialize)]
struct Change {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Option<Vec<Row>>,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: String,
}

impl Bare {
    /// Reads all partitions of a topic from their ends on.
    pub(super) fn start(brokers: String, topic: String, expected: u64) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("bare".to_owned())
            .spawn(move || read(&brokers, &topic, expected, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it, and returns when the update of each row was received.
    pub(super) async fn finish(mut self) -> anyhow::Result<HashMap<u64, Instant>> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("end the bare consumer a second time")?;
        let received = tokio::task::spawn_blocking(move || thread.join()).await?;
        received.map_err(|_| anyhow::anyhow!("read with the bare consumer: it panicked"))?
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn read(
    brokers: &str,
    topic: &str,
    expected: u64,
    stop: &AtomicBool,
) -> anyhow::Result<HashMap<u64, Instant>> {
    let mut config = kafka::client(brokers);
    config.set("group.id", "bare").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().context("connect to kafka")?;
    let mut all = TopicPartitionList::new();
    for (partition, end) in kafka::ends(&consumer, topic)? {
        all.add_partition_offset(topic, partition, Offset::Offset(end)).context("name a partition")?;
    }
    consumer.assign(&all).context("take all partitions")?;
    let mut received = HashMap::new();
    while !stop.load(Ordering::Acquire) && (received.len() as u64) < expected {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let now = Instant::now();
        let message = message.context("read the topic")?;
        let Ok(change) = serde_json::from_slice::<Change>(message.payload().unwrap_or_default()) else {
            continue;
        };
        if change.kind == "UPDATE" {
            let ids = change.data.iter().flatten().filter_map(|row| row.id.parse().ok());
            for id in ids {
                received.entry(id).or_insert(now);
            }
        }
    }
    Ok(received)
}
