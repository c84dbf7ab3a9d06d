//! What librdkafka calls back for: rebalances, errors, statistics, logs.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::{Consumer, Missed, Shared};
use crate::config::{OnFirstStart, OnOutOfRange};
use crate::decode::Reason;
use crate::offsets::{NextOffset, Partition};

/// How long a question to the brokers may take while partitions are assigned.
const ASK: Duration = Duration::from_secs(5);
/// How long partitions that are taken away wait for their batches.
const REVOKE: Duration = Duration::from_secs(5);

/// The consumer's callbacks, on the polling thread.
pub(crate) struct Context {
    shared: Arc<Shared>,
}

impl Context {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn assign(&self, consumer: &Consumer, list: &mut TopicPartitionList) -> KafkaResult<()> {
        let partitions = partitions(list);
        if let Some(offsets) = self.shared.offsets.get() {
            offsets.assign(&partitions);
        }
        if !partitions.is_empty() {
            let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
            info!(partitions = ?names, "partitions assigned");
            match consumer.committed_offsets(list.clone(), ASK) {
                Ok(committed) => {
                    for element in committed.elements() {
                        let partition = Partition::new(element.topic(), element.partition());
                        let start = match element.offset() {
                            // Asked at once: not every broker reports an offset beyond the log's end.
                            Offset::Offset(next) => {
                                let start = missed(consumer, &self.shared, &partition, Some(next));
                                // Across a gap nothing counts as applied before its flush is acknowledged.
                                if let (None, Some(offsets)) = (start, self.shared.offsets.get()) {
                                    offsets.begins_at(&partition, next);
                                }
                                Some(start.unwrap_or(next))
                            }
                            _ => missed(consumer, &self.shared, &partition, None),
                        };
                        if let Some(start) = start {
                            list.set_partition_offset(
                                element.topic(),
                                element.partition(),
                                Offset::Offset(start),
                            )?;
                            self.shared.positions.lock().insert(partition, start);
                        }
                    }
                }
                // The client asks again by itself, and reports a missing offset as an error of the partition.
                Err(error) => warn!(%error, "committed offsets can't be asked for yet"),
            }
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            _ => consumer.assign(list)?,
        }
        self.count(consumer);
        self.shared.health.assigned(!partitions.is_empty());
        Ok(())
    }

    fn revoke(&self, consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
        let partitions = partitions(list);
        if let Some(offsets) = self.shared.offsets.get() {
            let deprived = consumer.assignment_lost();
            // Whoever lost its partitions may not commit for them any more: another instance reads them already.
            if !deprived && !offsets.wait_acknowledged(&partitions, REVOKE) {
                warn!(waited = ?REVOKE, "partitions taken away with batches unacknowledged: their next owner delivers them again");
            }
            let acknowledged = offsets.revoke(&partitions);
            if !deprived && !acknowledged.is_empty() {
                match consumer.commit(&super::list(&acknowledged), CommitMode::Sync) {
                    Ok(()) => {
                        debug!(partitions = acknowledged.len(), "committed before giving partitions up");
                    }
                    Err(error) => {
                        warn!(%error, "last commit of partitions taken away failed: their next owner delivers some messages again");
                    }
                }
            }
        }
        {
            let (mut positions, mut ends, mut gaps) =
                (self.shared.positions.lock(), self.shared.ends.lock(), self.shared.gaps.lock());
            for partition in &partitions {
                positions.remove(partition);
                ends.remove(partition);
            }
            // The next owner of a partition that was never committed finds the same gap.
            gaps.retain(|missed| !partitions.contains(&missed.next.partition));
        }
        if !partitions.is_empty() {
            let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
            info!(partitions = ?names, "partitions given up");
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list)?,
            _ => consumer.unassign()?,
        }
        self.count(consumer);
        Ok(())
    }

    fn count(&self, consumer: &Consumer) {
        let assigned = consumer.assignment().map_or(0, |assigned| assigned.count());
        self.shared.metrics.assigned.set(i64::try_from(assigned).unwrap_or(i64::MAX));
    }
}

/// Decides where to go on in a partition whose next offset is unknown or not in the log, and notes the gap.
///
/// The place is fixed before the flush is even planned: what is older is flushed, what is newer is read. `None` if the
/// offset is fine after all, or the log can't be asked now (the client will report it again).
pub(super) fn missed(
    consumer: &Consumer,
    shared: &Shared,
    partition: &Partition,
    next: Option<i64>,
) -> Option<i64> {
    let (low, high) = match consumer.fetch_watermarks(&partition.topic, partition.number, ASK) {
        Ok(marks) => marks,
        Err(error) => {
            shared.health.trouble(&format!("{partition}: its log can't be asked for its ends: {error}"));
            return None;
        }
    };
    let (start, reason, detail) = match next {
        Some(next) if (low..=high).contains(&next) => return None,
        Some(next) => {
            let start = match shared.on_out_of_range {
                OnOutOfRange::Latest => high,
                OnOutOfRange::Earliest => low,
                OnOutOfRange::Halt => {
                    let text = format!(
                        "halt: {partition} has the offsets {low} to {high}, and {next} is next; set sync.on_out_of_range to flush and go on"
                    );
                    shared.halted.lock().get_or_insert(text);
                    return None;
                }
            };
            let detail = format!("offset {next} is next, the log has {low} to {high}; going on at {start}");
            (start, Reason::OutOfRange, detail)
        }
        None => {
            let start = match shared.on_first_start {
                OnFirstStart::Flush => high,
                OnFirstStart::Replay => low,
                OnFirstStart::Halt => {
                    let text = format!(
                        "halt: {partition} has no committed offset; set sync.on_first_start to flush and go on"
                    );
                    shared.halted.lock().get_or_insert(text);
                    return None;
                }
            };
            let detail = format!("no committed offset, the log has {low} to {high}; starting at {start}");
            (start, Reason::FirstStart, detail)
        }
    };
    shared.gaps.lock().push(Missed {
        next: NextOffset { partition: partition.clone(), next: start },
        reason,
        detail,
    });
    shared.positions.lock().insert(partition.clone(), start);
    Some(start)
}

/// Reads partitions that are assigned already from other offsets on.
pub(super) fn reassign(consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
    if let RebalanceProtocol::Cooperative = consumer.rebalance_protocol() {
        consumer.incremental_unassign(list)?;
        return consumer.incremental_assign(list);
    }
    let mut all = consumer.position()?;
    for element in list.elements() {
        all.set_partition_offset(element.topic(), element.partition(), element.offset())?;
    }
    consumer.assign(&all)
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition::new(element.topic(), element.partition())).collect()
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                warn!(facility, message, "librdkafka");
            }
            _ if facility == "CONFWARN" => warn!(message, "librdkafka"),
            // Errors come again through `error`, once per state and not once per attempt.
            _ => debug!(facility, message, "librdkafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let up = statistics.brokers.values().any(|broker| broker.state == "UP");
        self.shared.health.brokers(up);
        let mut ends = self.shared.ends.lock();
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values().filter(|partition| partition.partition >= 0) {
                let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                if end >= 0 {
                    ends.insert(Partition::new(topic.topic.as_str(), partition.partition), end);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.metrics.errors.inc();
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.shared.health.brokers_down(reason),
            _ => self.shared.health.trouble(reason),
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.shared.metrics.rebalances.inc();
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list),
            other => {
                let code: RDKafkaErrorCode = other.into();
                self.shared.health.trouble(&format!("rebalance failed: {code}"));
                consumer.unassign()
            }
        };
        if let Err(error) = done {
            self.shared.health.trouble(&format!("rebalance failed: {error}"));
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(100))
    }
}
