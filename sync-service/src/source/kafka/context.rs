//! What librdkafka calls back for: rebalances, errors, statistics, logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

use super::gaps::{self, Known, Place};
use super::{Consumer, Shared, too_large};
use crate::config::OnCanalRestart;
use crate::offsets::{NextOffset, Partition};

/// How long a question to the brokers may take while partitions are assigned.
pub(super) const ASK: Duration = Duration::from_secs(5);
/// An offset that no log has: nothing is read of a partition before its place is known.
const NOWHERE: i64 = i64::MAX - 1;
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
            for (partition, place) in self.places(consumer, list, &partitions) {
                list.set_partition_offset(&partition.topic, partition.number, Offset::Offset(place))?;
            }
        }
        let assigned = &self.shared.metrics.assigned;
        if let RebalanceProtocol::Cooperative = consumer.rebalance_protocol() {
            consumer.incremental_assign(list)?;
            assigned.inc_by(count(list));
        } else {
            consumer.assign(list)?;
            assigned.set(count(list));
        }
        self.shared.look.store(true, Ordering::Relaxed);
        self.shared.health.assigned(!partitions.is_empty());
        Ok(())
    }

    /// Where to begin in each partition.
    fn places(
        &self,
        consumer: &Consumer,
        list: &TopicPartitionList,
        partitions: &[Partition],
    ) -> Vec<(Partition, i64)> {
        let mut known = BTreeMap::new();
        match consumer.committed_offsets(list.clone(), ASK) {
            Ok(committed) => {
                for element in committed.elements() {
                    if let Some(offset) = Known::of(&element) {
                        known.insert(Partition::new(element.topic(), element.partition()), offset);
                    }
                }
            }
            Err(error) => warn!(%error, "committed offsets can't be asked for yet, trying again"),
        }
        let mut places = Vec::new();
        for partition in partitions {
            self.shared.positions.lock().remove(partition);
            // Asked at once: not every broker reports an offset beyond the log's end.
            let found =
                known.get(partition).map(|known| gaps::find(consumer, &self.shared, partition, *known));
            let place = match (found, known.get(partition)) {
                (Some(Place::At(start)), _) => start,
                // If its log can't be asked now, the client reports an offset that is not there.
                (found, Some(Known::Next(next))) => {
                    gaps::goes_on(&self.shared, partition, *next);
                    // One message more, which harms nothing, tells whether Canal was restarted after it. *(the message that shows
                    // the restart makes all groups flush; the partition is taken away before that is acknowledged, with all before
                    // that message committed; its next owner begins with that message and sees no restart)*
                    let back = self.shared.on_canal_restart == OnCanalRestart::Flush
                        && matches!(found, Some(Place::Same(low)) if low < *next);
                    *next - i64::from(back)
                }
                _ => {
                    self.shared.stalled.lock().displaced(partition.clone());
                    NOWHERE
                }
            };
            places.push((partition.clone(), place));
        }
        places
    }

    fn revoke(&self, consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
        let partitions = partitions(list);
        if let Some(offsets) = self.shared.offsets.get() {
            let deprived = consumer.assignment_lost();
            // Whoever lost its partitions may not commit for them any more: another instance reads them already.
            if !deprived && !offsets.wait_acknowledged(&partitions, REVOKE) {
                warn!(waited = ?REVOKE, "partitions taken away with batches unacknowledged: their next owner delivers them again");
            }
            let owed: Vec<_> =
                partitions.iter().filter(|partition| offsets.owes(partition)).cloned().collect();
            let held = owed
                .iter()
                .filter_map(|one| Some(NextOffset { partition: one.clone(), next: offsets.applied(one)? }));
            let held: Vec<_> = held.collect();
            let mut acknowledged = offsets.revoke(&partitions);
            // Committed again where nothing is new: for the mark.
            acknowledged.extend(
                held.into_iter()
                    .filter(|held| !acknowledged.iter().any(|one| one.partition == held.partition))
                    .collect::<Vec<_>>(),
            );
            if !deprived && !acknowledged.is_empty() {
                let committed = gaps::list(&acknowledged, |partition| owed.contains(partition));
                match consumer.commit(&committed, CommitMode::Sync) {
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
            let mut stalled = self.shared.stalled.lock();
            for partition in &partitions {
                positions.remove(partition);
                stalled.forget(partition);
                ends.remove(partition);
            }
            // The next owner finds the same gap, or its mark.
            gaps.retain(|missed| !partitions.contains(&missed.partition));
        }
        if !partitions.is_empty() {
            let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
            info!(partitions = ?names, "partitions given up");
        }
        // From here on nothing may be asked of the consumer: if it is being closed, this was the last thing that its group waited for,
        // and a question to a group that is gone is never answered.
        let assigned = &self.shared.metrics.assigned;
        if let RebalanceProtocol::Cooperative = consumer.rebalance_protocol() {
            consumer.incremental_unassign(list)?;
            assigned.dec_by(count(list));
        } else {
            consumer.unassign()?;
            assigned.set(0);
        }
        Ok(())
    }
}

fn count(list: &TopicPartitionList) -> i64 {
    i64::try_from(list.count()).unwrap_or(i64::MAX)
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
        // All partitions share one queue, and each tells the whole of it.
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let queued = partitions.map(|partition| partition.fetchq_size).max().unwrap_or(0);
        self.shared.metrics.fetched.set(i64::try_from(queued).unwrap_or(i64::MAX));
        let mut ends = self.shared.ends.lock();
        let mut stalled = self.shared.stalled.lock();
        let mut idle = Vec::new();
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values().filter(|partition| partition.partition >= 0) {
                let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                let named = Partition::new(topic.topic.as_str(), partition.partition);
                if partition.fetch_state == "none" && stalled.possible() && self.shared.owns(&named) {
                    idle.push(named.clone());
                }
                if end >= 0 {
                    ends.insert(named, end);
                }
            }
        }
        stalled.seen(idle);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.metrics.errors.inc();
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.shared.health.brokers_down(reason),
            _ if too_large::is_answer(reason) => self.shared.too_large.seen(reason),
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
