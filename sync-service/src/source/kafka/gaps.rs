//! Where reading goes on after changes were missed, or may have been.
//!
//! The place is fixed before the flush is even planned: what is older is flushed, what is newer is read.

use std::collections::BTreeMap;

use rdkafka::consumer::{CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::context::ASK;
use super::{Consumer, Position, Shared};
use crate::config::{Backlog, CatchUp, OnFirstStart, OnLag, OnOutOfRange};
use crate::decode::Reason;
use crate::offsets::{NextOffset, Partition};
use crate::source::{Error, Missed, Reaction};

/// What is committed beside an offset while a flush is owed: whoever takes the partition over must flush again. *(the log was cut
/// and written anew; the partition is taken away before the flush is acknowledged; its next owner finds the committed offset in the
/// log again, and what was cut never made anybody flush)*
const OWED: &str = "freshline: flush owed";

/// What is known of the offset to read next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    /// Nothing was ever committed.
    Nothing,
    /// This one is committed.
    Next(i64),
    /// This one is committed, and the instance before was to flush.
    Owed(i64),
    /// This one comes after what was read here; not all of that may be applied.
    Read(i64),
    /// As `Read`, and the log doesn't have what followed.
    Cut(i64),
}

impl Known {
    /// Reads an answer about committed offsets. `None`: the brokers could not tell.
    pub(super) fn of(element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> Option<Self> {
        element.error().ok()?;
        Some(match element.offset() {
            Offset::Offset(next) if element.metadata() == OWED => Self::Owed(next),
            Offset::Offset(next) => Self::Next(next),
            _ => Self::Nothing,
        })
    }
}

/// Where to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Where it was known to be; nothing is missing. The log has this oldest offset.
    Same(i64),
    /// Here. A gap has been noted.
    At(i64),
    /// It can't be told now, or must not go on.
    Unknown,
}

/// Decides where to go on in a partition, and notes the gap if there is one.
pub(super) fn find(consumer: &Consumer, shared: &Shared, partition: &Partition, known: Known) -> Place {
    let (low, high) = match consumer.fetch_watermarks(&partition.topic, partition.number, ASK) {
        Ok(marks) => marks,
        Err(error) => {
            shared.health.trouble(&format!("{partition}: its log can't be asked for its ends: {error}"));
            return Place::Unknown;
        }
    };
    shared.ends.lock().insert(partition.clone(), high);
    let halt = |text: String| {
        shared.halted.lock().get_or_insert(format!("halt: {partition} {text}"));
        Place::Unknown
    };
    let lost = |next: i64, reason: Reason, what: &str| {
        let start = match shared.on_out_of_range {
            OnOutOfRange::Latest => high,
            OnOutOfRange::Earliest => low,
            OnOutOfRange::Halt => {
                return halt(format!(
                    "has the offsets {low} to {high}, and {next} is next; {what}; set sync.on_out_of_range to flush and go on"
                ));
            }
        };
        let detail =
            format!("{what}: offset {next} is next, the log has {low} to {high}; going on at {start}");
        note(shared, partition, reason, start, detail, Reaction::Flush);
        // What is committed stays so, but marked, until the flush is acknowledged.
        let held = match known {
            Known::Next(next) | Known::Owed(next) => Some(next),
            _ => shared.offsets.get().and_then(|offsets| offsets.applied(partition)),
        };
        if let Some(next) = held {
            shared.marks.lock().push(NextOffset { partition: partition.clone(), next });
        }
        Place::At(start)
    };
    match known {
        Known::Next(next) | Known::Read(next) if (low..=high).contains(&next) => Place::Same(low),
        Known::Next(next) | Known::Read(next) | Known::Cut(next) if next < low => {
            lost(next, Reason::OutOfRange, "the log has been shortened beyond what was read")
        }
        Known::Next(next) | Known::Cut(next) if next > high => lost(
            next,
            Reason::OutOfRange,
            "the log ends before what was read: it was cut, or the topic made anew",
        ),
        Known::Next(next) | Known::Read(next) | Known::Cut(next) => {
            lost(next, Reason::Truncated, "the log was cut and written anew where it was read")
        }
        Known::Owed(next) => {
            lost(next, Reason::Owed, "the instance before was to flush and may not have done so")
        }
        Known::Nothing if low == 0 && followed(consumer, partition) => {
            let detail = "the partition was added to a topic that is followed; its log is whole".to_owned();
            note(shared, partition, Reason::NewPartition, low, detail, Reaction::Read);
            Place::At(low)
        }
        Known::Nothing => {
            let start = match shared.on_first_start {
                OnFirstStart::Flush => high,
                OnFirstStart::Replay => low,
                OnFirstStart::Halt => {
                    return halt(
                        "has no committed offset; set sync.on_first_start to flush and go on".to_owned(),
                    );
                }
            };
            let detail = format!("no committed offset, the log has {low} to {high}; starting at {start}");
            note(shared, partition, Reason::FirstStart, start, detail, Reaction::Flush);
            Place::At(start)
        }
    }
}

/// Notes that reading goes on where it had stopped.
pub(super) fn goes_on(shared: &Shared, partition: &Partition, next: i64) {
    if let Some(offsets) = shared.offsets.get() {
        offsets.begins_at(partition, next);
    }
    shared.positions.lock().insert(partition.clone(), Position { next, timestamp_ms: None });
}

fn note(
    shared: &Shared,
    partition: &Partition,
    reason: Reason,
    next: i64,
    detail: String,
    reaction: Reaction,
) {
    let missed = Missed { partition: partition.clone(), reason, next, detail, reaction };
    shared.gaps.lock().push(missed);
    shared.positions.lock().insert(partition.clone(), Position { next, timestamp_ms: None });
}

/// Whether the group has committed another partition of the topic: then it followed the topic before this partition was there.
fn followed(consumer: &Consumer, partition: &Partition) -> bool {
    let ask = || {
        let metadata = consumer.fetch_metadata(Some(&partition.topic), ASK)?;
        let mut list = TopicPartitionList::new();
        for other in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
            if other.id() != partition.number {
                list.add_partition(&partition.topic, other.id());
            }
        }
        if list.count() == 0 {
            return Ok(false);
        }
        let committed = consumer.committed_offsets(list, ASK)?;
        KafkaResult::Ok(committed.elements().iter().any(|one| matches!(one.offset(), Offset::Offset(_))))
    };
    ask().unwrap_or_else(|error| {
        debug!(%error, %partition, "can't tell whether the partition is new: it counts as a first start");
        false
    })
}

/// Skips backlogs that are too long, and says which partitions go on where; the gaps are noted.
pub(super) fn skip(
    consumer: &Consumer,
    shared: &Shared,
    limits: &CatchUp,
    told: &mut Vec<Partition>,
) -> Result<Vec<NextOffset>, Error> {
    let ends = shared.ends.lock().clone();
    let positions = shared.positions.lock().clone();
    let mut behind = BTreeMap::new();
    let mut spans = TopicPartitionList::new();
    let mut long = None;
    for (partition, position) in positions {
        let Some(end) = ends.get(&partition).filter(|_| shared.owns(&partition)) else { continue };
        let messages = end - position.next;
        match limits.judge(messages) {
            Backlog::Short => {
                told.retain(|told| *told != partition);
                continue;
            }
            Backlog::Long => long = long.or(Some(partition.clone())),
            Backlog::BySpan => {
                if let Some(last) = position.timestamp_ms {
                    let limit = i64::try_from(limits.max_lag.as_millis()).unwrap_or(i64::MAX);
                    let time = Offset::Offset(last.saturating_add(limit).saturating_add(1));
                    if let Err(error) = spans.add_partition_offset(&partition.topic, partition.number, time) {
                        debug!(%error, %partition, "can't ask what its backlog spans");
                    }
                }
            }
        }
        behind.insert(partition, (position, messages));
    }
    if long.is_none() && spans.count() > 0 {
        // A message that is later than the limit allows, if there is one.
        let found = consumer.offsets_for_times(spans, ASK);
        match found {
            Ok(found) => {
                // Wherever it stands: where clocks of producers differ, it may come before messages that are older.
                let late = found.elements().into_iter().find_map(|element| {
                    let partition = Partition::new(element.topic(), element.partition());
                    let found = element.error().is_ok() && matches!(element.offset(), Offset::Offset(_));
                    (found && behind.contains_key(&partition)).then_some(partition)
                });
                long = late;
            }
            Err(error) => {
                shared.health.trouble(&format!("the log can't be asked what a backlog spans: {error}"));
            }
        }
    }
    let Some(long) = long else { return Ok(Vec::new()) };
    let what = |messages: i64| {
        format!(
            "{messages} messages are left to read, more than sync.catch_up allows ({:?} or {} messages)",
            limits.max_lag, limits.max_messages
        )
    };
    match limits.on_lag {
        OnLag::Halt => {
            let messages = behind[&long].1;
            return Err(Error::Halted(format!(
                "halt: {long}: {}; set sync.catch_up.on_lag to flush or replay",
                what(messages)
            )));
        }
        OnLag::Replay => {
            for (partition, (position, messages)) in behind {
                if !told.contains(&partition) {
                    let detail = format!("{}; all are read", what(messages));
                    note(shared, &partition, Reason::Lag, position.next, detail, Reaction::Read);
                    shared.positions.lock().insert(partition.clone(), position);
                    told.push(partition);
                }
            }
            return Ok(Vec::new());
        }
        OnLag::Flush => {}
    }
    let behind =
        behind.into_iter().map(|(partition, (position, messages))| (partition, position, what(messages)));
    Ok(to_ends(consumer, shared, Reason::Lag, behind).0)
}

/// Skips what is left of partitions, as one flush serves all: says which go on where, and how many could not be asked for their ends. The gaps
/// are noted.
pub(super) fn to_ends(
    consumer: &Consumer,
    shared: &Shared,
    reason: Reason,
    behind: impl Iterator<Item = (Partition, Position, String)>,
) -> (Vec<NextOffset>, usize) {
    let (mut starts, mut unknown) = (Vec::new(), 0);
    for (partition, position, what) in behind {
        match consumer.fetch_watermarks(&partition.topic, partition.number, ASK) {
            Ok((_, high)) if high > position.next => {
                let detail = format!("{what}; going on at {high}, not at {}", position.next);
                note(shared, &partition, reason, high, detail, Reaction::Flush);
                starts.push(NextOffset { partition, next: high });
            }
            Ok(_) => {}
            Err(error) => {
                unknown += 1;
                shared.health.trouble(&format!("{partition}: its log can't be asked for its end: {error}"));
            }
        }
    }
    (starts, unknown)
}

/// Reads partitions that are assigned already from other offsets on.
pub(super) fn reassign(consumer: &Consumer, starts: &[NextOffset]) -> KafkaResult<()> {
    let list = list(starts, |_| false);
    if let RebalanceProtocol::Cooperative = consumer.rebalance_protocol() {
        consumer.incremental_unassign(&list)?;
        return consumer.incremental_assign(&list);
    }
    let mut all = consumer.position()?;
    for element in list.elements() {
        all.set_partition_offset(element.topic(), element.partition(), element.offset())?;
    }
    consumer.assign(&all)
}

/// Marks what is committed of partitions that a flush is owed for.
pub(super) fn mark(consumer: &Consumer, shared: &Shared) {
    let marks = std::mem::take(&mut *shared.marks.lock());
    if marks.is_empty() {
        return;
    }
    if let Err(error) = consumer.commit(&list(&marks, |_| true), CommitMode::Async) {
        warn!(%error, "the committed offset can't be marked: if this instance ends before its flush is acknowledged, the next one may not know of the gap");
    }
}

/// Offsets to commit, those marked that a flush is owed for.
pub(super) fn list(offsets: &[NextOffset], owed: impl Fn(&Partition) -> bool) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for offset in offsets {
        let partition = &offset.partition;
        let mut element = list.add_partition(&partition.topic, partition.number);
        if let Err(error) = element.set_offset(Offset::Offset(offset.next)) {
            warn!(%error, %partition, next = offset.next, "no offset to commit");
        }
        if owed(partition) {
            element.set_metadata(OWED);
        }
    }
    list
}
