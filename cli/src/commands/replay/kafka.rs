//! What Kafka has retained, read by partition: no consumer group is joined, nothing is committed.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use clap::Args;
use daemon::config::KafkaSource;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
    metadata::MetadataPartition,
    topic_partition_list::TopicPartitionListElem,
};
use sync_service::offsets::Partition;
use tokio::sync::mpsc;

use super::Fetched;
use crate::dev::state::State;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one poll waits.
const POLL: Duration = Duration::from_millis(200);

/// Which messages of Kafka.
#[derive(Debug, Args)]
#[command(next_help_heading = "From Kafka")]
pub(crate) struct Range {
    /// The brokers; without it those of [source.kafka], or of the running `freshline dev`
    #[arg(long, value_name = "HOST:PORT", requires = "from_kafka")]
    brokers: Option<String>,
    /// A topic, may be given more than once; without it those of [source.kafka], or of the running `freshline dev`
    #[arg(long = "topic", value_name = "TOPIC", requires = "from_kafka")]
    topics: Vec<String>,
    /// Only this partition
    #[arg(long, value_name = "N", requires = "from_kafka", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// The first offset of each partition
    #[arg(long, value_name = "OFFSET", requires = "from_kafka", value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
    /// The offset of each partition to stop before
    #[arg(long, value_name = "OFFSET", requires = "from_kafka", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// From this moment on: 2026-11-24T12:00:00Z, or how long ago, 1h
    #[arg(long, value_name = "TIME", requires = "from_kafka", conflicts_with = "from_offset", value_parser = moment)]
    since: Option<Moment>,
    /// Up to this moment, written alike
    #[arg(long, value_name = "TIME", requires = "from_kafka", conflicts_with = "to_offset", value_parser = moment)]
    until: Option<Moment>,
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Moment(i64);

fn moment(text: &str) -> Result<Moment, String> {
    let at = match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_) => humantime::parse_rfc3339_weak(text.trim_end_matches('Z')).ok(),
    };
    let at = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let at = at.ok_or("write a moment like 2026-11-24T12:00:00Z, or how long ago, like 1h")?;
    Ok(Moment(i64::try_from(at.as_millis()).unwrap_or(i64::MAX)))
}

/// Reads in a thread of its own; dropping the receiver ends it.
pub(super) fn read(
    source: KafkaSource,
    dev: Option<&State>,
    range: &Range,
    limit: u64,
) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Fetched>>> {
    let dev = dev.filter(|dev| !dev.brokers.is_empty());
    let brokers = range.brokers.clone().or_else(|| dev.map(|dev| dev.brokers.clone()));
    let brokers = brokers.unwrap_or(source.brokers);
    anyhow::ensure!(
        !brokers.trim().is_empty(),
        "find Kafka: the configuration has no [source.kafka] brokers; name them with --brokers"
    );
    let topics = match dev {
        _ if !range.topics.is_empty() => range.topics.clone(),
        Some(dev) => vec![dev.topic.clone()],
        None => source.topics,
    };
    anyhow::ensure!(!topics.is_empty(), "find the topic: name it with --topic");
    let mut settings = ClientConfig::new();
    for (name, value) in source.properties.iter() {
        settings.set(name, value);
    }
    settings
        .set("bootstrap.servers", &brokers)
        .set("client.id", "freshline-replay")
        // librdkafka wants a name; the group is never joined, since partitions are assigned by hand.
        .set("group.id", "freshline-replay")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = settings.create().context("use [source.kafka]")?;
    let wanted = Wanted {
        partition: range.partition,
        from: range.from_offset,
        to: range.to_offset,
        since: range.since.map(|moment| moment.0),
        until: range.until.map(|moment| moment.0),
        // The embedded broker keeps none.
        has_index: dev.is_none() || range.brokers.is_some(),
        limit,
    };
    let (messages, taken) = mpsc::channel(256);
    std::thread::Builder::new()
        .name("kafka".into())
        .spawn(move || {
            if let Err(error) = follow(&consumer, &topics, &wanted, &messages) {
                // Nobody to tell if the command is over.
                let _ = messages.blocking_send(Err(error.context(format!("read from Kafka at {brokers}"))));
            }
        })
        .context("start a thread")?;
    Ok(taken)
}

struct Wanted {
    partition: Option<i32>,
    from: Option<i64>,
    to: Option<i64>,
    since: Option<i64>,
    until: Option<i64>,
    /// Whether the broker can tell the first offset of a moment.
    has_index: bool,
    limit: u64,
}

impl Wanted {
    /// Whether a message was logged in the time that is asked for, as far as it says when.
    fn spans(&self, timestamp_ms: Option<i64>) -> bool {
        let after = |since: i64| timestamp_ms.is_none_or(|at| at >= since);
        let before = |until: i64| timestamp_ms.is_none_or(|at| at < until);
        self.since.is_none_or(after) && self.until.is_none_or(before)
    }
}

type Messages = mpsc::Sender<anyhow::Result<Fetched>>;

fn follow(
    consumer: &BaseConsumer,
    topics: &[String],
    wanted: &Wanted,
    messages: &Messages,
) -> anyhow::Result<()> {
    let mut read = 0;
    // One topic after the other: the sign of a partition's end has its number alone.
    for topic in named(consumer, topics)? {
        let mut open = ranges(consumer, &topic, wanted)?;
        let mut list = TopicPartitionList::new();
        for (partition, range) in &open {
            list.add_partition_offset(&topic, *partition, Offset::Offset(range.start))?;
        }
        consumer.assign(&list)?;
        // One more than the limit tells that there are more.
        while !open.is_empty() && read <= wanted.limit && !messages.is_closed() {
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let Some(range) = open.get(&message.partition()) else { continue };
                    let end = range.end;
                    if message.offset() < end && wanted.spans(message.timestamp().to_millis()) {
                        read += 1;
                        let fetched = Fetched {
                            partition: Partition::new(message.topic(), message.partition()),
                            offset: message.offset(),
                            timestamp_ms: message.timestamp().to_millis(),
                            key: message.key().map(<[u8]>::to_vec),
                            payload: message.payload().map(<[u8]>::to_vec),
                            headers: headers_of(&message),
                        };
                        if messages.blocking_send(Ok(fetched)).is_err() {
                            return Ok(());
                        }
                    }
                    if message.offset() + 1 >= end {
                        open.remove(&message.partition());
                    }
                }
                // The end as of now is not before the one that was noted, whatever the last offsets were.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// The topics, with a `^regex` made into the names that it means.
fn named(consumer: &BaseConsumer, topics: &[String]) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for topic in topics {
        if !topic.starts_with('^') {
            names.push(topic.clone());
            continue;
        }
        let pattern = regex::Regex::new(topic).with_context(|| format!("read the topic {topic}"))?;
        let all = consumer.fetch_metadata(None, PATIENCE).context("ask for the topics")?;
        names.extend(all.topics().iter().map(|t| t.name().to_owned()).filter(|name| pattern.is_match(name)));
    }
    anyhow::ensure!(!names.is_empty(), "no topic is like {}", topics.join(", "));
    Ok(names)
}

type Ranges = BTreeMap<i32, std::ops::Range<i64>>;

/// What to read of each partition of a topic; those without anything are left out.
fn ranges(consumer: &BaseConsumer, topic: &str, wanted: &Wanted) -> anyhow::Result<Ranges> {
    let metadata =
        consumer.fetch_metadata(Some(topic), PATIENCE).with_context(|| format!("ask for {topic}"))?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .filter(|found| found.name() == topic && found.error().is_none())
        .flat_map(|found| found.partitions().iter().map(MetadataPartition::id))
        .filter(|id| wanted.partition.is_none_or(|wanted| wanted == *id))
        .collect();
    anyhow::ensure!(!partitions.is_empty(), "there is no topic {topic}, or no such partition");
    let mut ranges = Ranges::new();
    for partition in partitions {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .with_context(|| format!("ask for the ends of {topic}/{partition}"))?;
        let at = |moment: Option<i64>| -> anyhow::Result<Option<i64>> {
            let Some(moment) = moment.filter(|_| wanted.has_index) else { return Ok(None) };
            let mut asked = TopicPartitionList::new();
            asked.add_partition_offset(topic, partition, Offset::Offset(moment))?;
            let found = consumer.offsets_for_times(asked, PATIENCE)?;
            Ok(Some(match found.elements().first().map(TopicPartitionListElem::offset) {
                Some(Offset::Offset(offset)) => offset,
                // No message is as late as that: the end.
                _ => high,
            }))
        };
        let start = at(wanted.since)?.or(wanted.from).unwrap_or(low).max(low);
        let end = at(wanted.until)?.or(wanted.to).unwrap_or(high).min(high);
        if start < end {
            ranges.insert(partition, start..end);
        }
    }
    Ok(ranges)
}

fn headers_of(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_a_time_or_as_how_long_ago() {
        assert_eq!(moment("1970-01-01T00:00:01Z").unwrap().0, 1000);
        assert_eq!(moment("1970-01-01T00:00:01").unwrap().0, 1000);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!((now - 3_600_000 - moment("1h").unwrap().0).abs() < 60_000);
        assert!(moment("yesterday").is_err());
    }
}
