//! What an operator asks of the sync service, in figures.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use catalog::FlushReason;
use daemon::config::KafkaFormat;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::decode::{Idle, Reason};
use crate::offsets::Partition;

/// Names a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct NodeLabel {
    node: String,
}

impl NodeLabel {
    pub(crate) fn new(node: &str) -> Self {
        Self { node: node.to_owned() }
    }
}

/// Names a reason, from a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// Names a format of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct FormatLabel {
    format: &'static str,
}

/// Names a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PartitionLabel {
    topic: String,
    partition: i32,
}

impl From<&Partition> for PartitionLabel {
    fn from(partition: &Partition) -> Self {
        Self { topic: partition.topic.to_string(), partition: partition.number }
    }
}

/// What is measured on the way from a message to its acknowledgement.
#[derive(Clone)]
pub(crate) struct PipelineMetrics {
    pub(crate) messages: Counter,
    pub(crate) bytes: Counter,
    pub(crate) rows: Counter,
    pub(crate) ignored: Family<ReasonLabel, Counter>,
    undecodable: Family<FormatLabel, Counter>,
    pub(crate) dead_letters: Counter,
    pub(crate) dead_letter_failures: Counter,
    pub(crate) flushes: Family<ReasonLabel, Counter>,
    pub(crate) gaps: Family<ReasonLabel, Counter>,
    pub(crate) batch_messages: Histogram,
    pub(crate) batch_keys: Histogram,
    pub(crate) commit_delay: Histogram,
    pub(crate) log_delay: Histogram,
    pub(crate) own_delay: Histogram,
    pub(crate) unacknowledged: Gauge,
    pub(crate) lag: Family<PartitionLabel, Gauge>,
    pub(crate) watermark_lag: Family<PartitionLabel, Gauge<f64, AtomicU64>>,
    pub(crate) survey_failures: Counter,
    pub(crate) beats: Counter,
    pub(crate) beat_failures: Counter,
    pub(crate) without_beats: Gauge,
    pub(crate) commits: Counter,
    pub(crate) commit_failures: Counter,
}

impl PipelineMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let delay = |from: f64| Histogram::new(exponential_buckets(from, 2.0, 20));
        let metrics = Self {
            messages: Counter::default(),
            bytes: Counter::default(),
            rows: Counter::default(),
            ignored: Family::default(),
            undecodable: Family::default(),
            dead_letters: Counter::default(),
            dead_letter_failures: Counter::default(),
            flushes: Family::default(),
            gaps: Family::default(),
            batch_messages: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            batch_keys: Histogram::new(exponential_buckets(1.0, 2.0, 18)),
            commit_delay: delay(0.001),
            log_delay: delay(0.001),
            own_delay: delay(0.000_1),
            unacknowledged: Gauge::default(),
            lag: Family::default(),
            watermark_lag: Family::default(),
            survey_failures: Counter::default(),
            beats: Counter::default(),
            beat_failures: Counter::default(),
            without_beats: Gauge::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
        };
        let all = metrics.clone();
        registry.register("messages", "Messages read", all.messages);
        registry.register_with_unit("message", "Bytes of message values read", Unit::Bytes, all.bytes);
        registry.register("rows", "Row changes of tables that have rules", all.rows);
        registry.register("ignored", "Messages that change nothing that is cached, by why", all.ignored);
        registry.register(
            "undecodable",
            "Messages that could not be decoded, by the format that is set for their topic",
            all.undecodable,
        );
        registry.register("dead_letters", "Messages sent to the dead-letter topic", all.dead_letters);
        registry.register(
            "dead_letter_failures",
            "Attempts to send a dead letter that failed",
            all.dead_letter_failures,
        );
        registry.register(
            "flushes",
            "Groups flushed because single keys could not be told, by why",
            all.flushes,
        );
        registry.register("gaps", "Partitions of which changes were missed, by why", all.gaps);
        registry.register("batch_messages", "Messages of a batch", all.batch_messages);
        registry.register("batch_keys", "Distinct keys of a batch", all.batch_keys);
        registry.register_with_unit(
            "commit_to_remove_delay",
            "From a change's statement (Canal's `es`, known to the second) to its acknowledgement by all nodes",
            Unit::Seconds,
            all.commit_delay,
        );
        registry.register_with_unit(
            "log_to_remove_delay",
            "From the timestamp of a change's record in the log to its acknowledgement by all nodes",
            Unit::Seconds,
            all.log_delay,
        );
        registry.register_with_unit(
            "own_delay",
            "From the fetch of a batch to its acknowledgement by all nodes: this service's own part of the delay",
            Unit::Seconds,
            all.own_delay,
        );
        registry.register(
            "unacknowledged",
            "Claims of batches on partitions that wait for acknowledgements",
            all.unacknowledged,
        );
        registry.register("lag", "Messages of a partition that are not acknowledged yet", all.lag);
        registry.register_with_unit(
            "watermark_lag",
            "How long ago a partition's watermark is: all changes before it are applied on all nodes",
            Unit::Seconds,
            all.watermark_lag,
        );
        registry.register(
            "survey_failures",
            "Questions to the log for its ends and partitions that failed; freshness grows meanwhile",
            all.survey_failures,
        );
        registry.register(
            "heartbeat_rows",
            "Heartbeats written to the database, all rows of one counted once",
            all.beats,
        );
        registry.register(
            "heartbeat_row_failures",
            "Heartbeats that could not be written to the database; freshness grows meanwhile",
            all.beat_failures,
        );
        registry.register(
            "partitions_without_heartbeat",
            "Owned partitions in which no heartbeat row has come for ten intervals: nobody knows how fresh they are",
            all.without_beats,
        );
        registry.register("commits", "Commits of offsets", all.commits);
        registry.register("commit_failures", "Commits of offsets that failed", all.commit_failures);
        metrics.show();
        metrics
    }

    /// Has every series of a closed set begin at 0: whoever asks how much one has grown misses its first step otherwise.
    fn show(&self) {
        for reason in Reason::ALL.iter().filter(|reason| reason.is_gap()) {
            drop(self.gaps.get_or_create(&ReasonLabel { reason: reason.label() }));
        }
        let flushing = Reason::ALL.iter().filter(|reason| **reason != Reason::NewPartition);
        for reason in flushing.map(|reason| reason.label()).chain(FlushReason::LABELS) {
            self.flushed(reason, 0);
        }
        for idle in Idle::ALL {
            drop(self.ignored.get_or_create(&ReasonLabel { reason: idle.label() }));
        }
        for format in KafkaFormat::ALL {
            drop(self.undecodable.get_or_create(&FormatLabel { format: format.name() }));
        }
    }

    /// Counts a message that could not be decoded by this format, or because no format is set for its topic.
    pub(crate) fn undecodable(&self, format: Option<KafkaFormat>) {
        let format = format.map_or("none", KafkaFormat::name);
        self.undecodable.get_or_create(&FormatLabel { format }).inc();
    }

    pub(crate) fn flushed(&self, reason: &'static str, groups: usize) {
        self.flushes.get_or_create(&ReasonLabel { reason }).inc_by(groups as u64);
    }
}

/// What is measured towards the nodes.
#[derive(Clone)]
pub(crate) struct DeliverMetrics {
    pub(crate) requests: Counter,
    pub(crate) request_keys: Histogram,
    pub(crate) removes_sent: Counter,
    pub(crate) removes_hit: Counter,
    pub(crate) flushes_sent: Counter,
    pub(crate) retries: Counter,
    pub(crate) replans: Counter,
    pub(crate) heartbeats: Counter,
    pub(crate) heartbeat_failures: Counter,
    pub(crate) collapsed: Counter,
    pub(crate) backlog: Family<NodeLabel, Gauge>,
    pub(crate) slow: Family<NodeLabel, Gauge>,
    pub(crate) membership_failures: Counter,
    pub(crate) membership_down: Gauge,
    pub(crate) members: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) standing: Gauge,
    pub(crate) strangers: Gauge,
    pub(crate) differences: Family<DifferenceLabel, Gauge>,
}

/// A setting on which members must agree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DifferenceLabel {
    pub(crate) what: &'static str,
}

impl DeliverMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Counter::default(),
            request_keys: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            removes_sent: Counter::default(),
            removes_hit: Counter::default(),
            flushes_sent: Counter::default(),
            retries: Counter::default(),
            replans: Counter::default(),
            heartbeats: Counter::default(),
            heartbeat_failures: Counter::default(),
            collapsed: Counter::default(),
            backlog: Family::default(),
            slow: Family::default(),
            membership_failures: Counter::default(),
            membership_down: Gauge::default(),
            members: Gauge::default(),
            epoch: Gauge::default(),
            standing: Gauge::default(),
            strangers: Gauge::default(),
            differences: Family::default(),
        };
        let all = metrics.clone();
        registry.register("requests", "Requests that nodes acknowledged", all.requests);
        registry.register("request_keys", "Keys of an acknowledged request", all.request_keys);
        registry.register(
            "removes_sent",
            "Removals that nodes acknowledged, counted per node",
            all.removes_sent,
        );
        registry.register("removes_hit", "Removals whose key was in a node's memory", all.removes_hit);
        registry.register(
            "flushes_sent",
            "Group flushes that nodes acknowledged, counted per node",
            all.flushes_sent,
        );
        registry.register("retries", "Requests that failed and were repeated", all.retries);
        registry.register("heartbeats", "Heartbeats that nodes answered", all.heartbeats);
        registry.register(
            "heartbeat_failures",
            "Heartbeats that a node did not answer in time",
            all.heartbeat_failures,
        );
        registry.register("replans", "Paths planned again because the membership had changed", all.replans);
        registry.register(
            "backlog_collapsed",
            "Groups flushed because a slow node's backlog was full",
            all.collapsed,
        );
        registry.register("backlog_keys", "Keys that wait for a node", all.backlog);
        registry.register("node_slow", "1 while a node does not keep up", all.slow);
        registry.register(
            "membership_failures",
            "Reads of the membership that failed",
            all.membership_failures,
        );
        registry.register("members", "Nodes that changes are delivered to", all.members);
        registry.register("membership_down", "1 while the membership can't be read", all.membership_down);
        registry.register("ring_epoch", "Epoch of the ring that is known", all.epoch);
        registry.register(
            "standing_batches",
            "Batches that are planned again and again and not acknowledged",
            all.standing,
        );
        registry.register(
            "strange_nodes",
            "Nodes that go by another list of members and acknowledge nothing",
            all.strangers,
        );
        for what in crate::deliver::DIFFERENCES {
            drop(all.differences.get_or_create(&DifferenceLabel { what }));
        }
        registry.register(
            "differences",
            "1 while a member goes by another value of a setting on which members must agree, by setting",
            all.differences,
        );
        metrics
    }
}

/// What sources measure.
#[derive(Clone, Default)]
pub(crate) struct SourceMetrics {
    pub(crate) rebalances: Counter,
    pub(crate) assigned: Gauge,
    pub(crate) errors: Counter,
    pub(crate) fetched: Gauge,
}

impl SourceMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self::default();
        registry.register(
            "rebalances",
            "Changes of the partitions that this instance owns",
            metrics.rebalances.clone(),
        );
        registry.register(
            "assigned_partitions",
            "Partitions that this instance owns",
            metrics.assigned.clone(),
        );
        registry.register("source_errors", "Errors of the client of the log", metrics.errors.clone());
        registry.register_with_unit(
            "fetched",
            "Messages that are fetched from Kafka, unpacked, and wait to be read (half of source.kafka.memory bounds them)",
            Unit::Bytes,
            metrics.fetched.clone(),
        );
        Arc::new(metrics)
    }
}

/// Where in the binlog: as far as it was read, or its end as the server last told it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BinlogLabel {
    at: &'static str,
}

/// How far the binlog is read, and how long it is.
#[derive(Clone, Debug)]
pub(crate) struct BinlogMetrics {
    /// As far as it was read.
    pub(crate) read: BinlogPlace,
    /// Its end.
    pub(crate) end: BinlogPlace,
}

/// A file's number, and a place in the file.
#[derive(Clone, Debug)]
pub(crate) struct BinlogPlace {
    file: Gauge,
    offset: Gauge,
}

impl BinlogMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let (files, offsets) =
            (Family::<BinlogLabel, Gauge>::default(), Family::<BinlogLabel, Gauge>::default());
        registry.register(
            "binlog_file",
            "Number of the binlog's file that was read last (read), or is written now (end)",
            files.clone(),
        );
        registry.register_with_unit("binlog_position", "Place in that file", Unit::Bytes, offsets.clone());
        let place = |at| BinlogPlace {
            file: files.get_or_create(&BinlogLabel { at }).clone(),
            offset: offsets.get_or_create(&BinlogLabel { at }).clone(),
        };
        Self { read: place("read"), end: place("end") }
    }
}

impl BinlogPlace {
    pub(crate) fn set(&self, file: u64, offset: u64) {
        self.file.set(i64::try_from(file).unwrap_or(i64::MAX));
        self.offset.set(i64::try_from(offset).unwrap_or(i64::MAX));
    }
}
