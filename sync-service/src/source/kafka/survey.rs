//! Where the log ends now, and which partitions there are.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use regex::Regex;
use tracing::warn;

use super::Consumer;
use crate::offsets::{NextOffset, Partition};
use crate::source::{Error, Survey};

/// How long the brokers may take to answer.
const ASK: Duration = Duration::from_secs(5);

/// The subscribed topics: names, and patterns that begin with `^`.
pub(super) struct Topics {
    names: Vec<String>,
    patterns: Vec<Regex>,
    /// A pattern that only librdkafka understands: then nobody can tell which partitions there are.
    obscure: bool,
}

impl Topics {
    pub(super) fn new(topics: &[String]) -> Self {
        let (patterns, names): (Vec<_>, Vec<_>) =
            topics.iter().cloned().partition(|topic| topic.starts_with('^'));
        let mut known = Vec::new();
        let mut obscure = false;
        for pattern in patterns {
            match Regex::new(&pattern) {
                Ok(pattern) => known.push(pattern),
                Err(error) => {
                    obscure = true;
                    warn!(
                        pattern,
                        %error,
                        "this pattern of source.kafka.topics can't be understood here, so which partitions there are is not known and freshness stays unknown: write a plainer one, or name the topics"
                    );
                }
            }
        }
        Self { names, patterns: known, obscure }
    }

    /// Asks the brokers; waits on the calling thread.
    pub(super) fn survey(&self, consumer: &Consumer, owned: &[Partition]) -> Result<Survey, Error> {
        Ok(Survey { ends: ends(consumer, owned)?, all: self.all(consumer)? })
    }

    /// All partitions of all topics; empty if a topic is not there (yet).
    fn all(&self, consumer: &Consumer) -> Result<Vec<Partition>, Error> {
        let mut all = Vec::new();
        if self.obscure {
            return Ok(all);
        }
        let failed = |error| Error::Unavailable(format!("partitions of the topics: {error}"));
        for name in &self.names {
            let metadata = consumer.fetch_metadata(Some(name), ASK).map_err(failed)?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            match topic.filter(|topic| topic.error().is_none()) {
                Some(topic) => add(topic, &mut all),
                None => return Ok(Vec::new()),
            }
        }
        if !self.patterns.is_empty() {
            let metadata = consumer.fetch_metadata(None, ASK).map_err(failed)?;
            let matches = |topic: &&MetadataTopic| {
                topic.error().is_none() && self.patterns.iter().any(|pattern| pattern.is_match(topic.name()))
            };
            metadata.topics().iter().filter(matches).for_each(|topic| add(topic, &mut all));
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

fn add(topic: &MetadataTopic, all: &mut Vec<Partition>) {
    let partitions = topic.partitions().iter();
    all.extend(partitions.map(|partition| Partition::new(topic.name(), partition.id())));
}

/// One question to each leader for the ends of all of its partitions.
fn ends(consumer: &Consumer, owned: &[Partition]) -> Result<Vec<NextOffset>, Error> {
    if owned.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error| Error::Unavailable(format!("ends of the partitions: {error}"));
    let mut list = TopicPartitionList::with_capacity(owned.len());
    for partition in owned {
        // In the place of a time it asks for the end.
        list.add_partition_offset(&partition.topic, partition.number, Offset::End).map_err(failed)?;
    }
    let list = consumer.offsets_for_times(list, ASK).map_err(failed)?;
    let mut ends = Vec::with_capacity(owned.len());
    for element in list.elements() {
        if let (Ok(()), Offset::Offset(next)) = (element.error(), element.offset()) {
            let partition = Partition::new(element.topic(), element.partition());
            ends.push(NextOffset { partition, next });
        }
    }
    Ok(ends)
}
