//! Ends of a log that no message leads to.
//!
//! The marker of a transaction has an offset and is no message; compaction takes messages away. A quiet partition whose log
//! ends with such a thing would look unread for ever: nothing would be committed up to its end, and no watermark would
//! pass it. So when a partition has stood still before its end for a while, a consumer of its own looks whether there is a
//! message in between. If there is none, the poller goes on to the end by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use super::{Position, Shared};
use crate::offsets::{NextOffset, Offsets, Partition};

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(5);
/// After how long the same place is looked at again.
const AGAIN: Duration = Duration::from_secs(10);

/// A stretch without messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    from: i64,
    to: i64,
}

/// Looks at partitions that stand still. Used by one survey at a time.
pub(super) struct Probe {
    settings: ClientConfig,
    /// Where each partition stood at the last survey, and when that was looked at.
    still: BTreeMap<Partition, (Stretch, Option<Instant>)>,
}

impl Probe {
    /// `settings` are those of the consumer.
    pub(super) fn new(mut settings: ClientConfig, group: &str) -> Self {
        settings
            .set("client.id", "freshline-sync-probe")
            .set("group.id", format!("{group}-probe"))
            .set("statistics.interval.ms", "0")
            .set("enable.partition.eof", "true");
        Self { settings, still: BTreeMap::new() }
    }

    /// Looks at the partitions that stood before the same end at the last survey already, and notes the empty stretches. Waits
    /// on the calling thread.
    pub(super) fn look(&mut self, shared: &Shared, offsets: &Offsets, ends: &[NextOffset]) {
        let mut still = BTreeMap::new();
        for end in ends {
            let position = shared.positions.lock().get(&end.partition).copied();
            let from = position.map(|position| position.next);
            let Some(from) = from.filter(|from| *from < end.next) else { continue };
            let stretch = Stretch { from, to: end.next };
            let known = self.still.get(&end.partition).filter(|(known, _)| *known == stretch);
            let mut looked = known.and_then(|(_, looked)| *looked);
            // While batches are under way there is no telling whether it stands still.
            let due = looked.is_none_or(|looked| looked.elapsed() >= AGAIN);
            if known.is_some() && due && offsets.unacknowledged() == 0 {
                looked = Some(Instant::now());
                match self.is_empty(&end.partition, from) {
                    Ok(true) => {
                        debug!(partition = %end.partition, from, to = end.next, "no message up to the log's end");
                        shared.empty.lock().insert(end.partition.clone(), stretch);
                    }
                    Ok(false) => {}
                    Err(error) => debug!(partition = %end.partition, %error, "can't look for messages"),
                }
            }
            still.insert(end.partition.clone(), (stretch, looked));
        }
        self.still = still;
    }

    /// Whether no message stands between `from` and the log's end of now.
    fn is_empty(&self, partition: &Partition, from: i64) -> KafkaResult<bool> {
        let consumer: BaseConsumer = self.settings.create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(from))?;
        consumer.assign(&list)?;
        let until = Instant::now() + LOOK;
        while Instant::now() < until {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(true),
                Some(Ok(_)) => return Ok(false),
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        Ok(false)
    }
}

/// Goes past the empty stretches that the partitions stand before. To be called by whoever begins batches, when all that was
/// read is begun: then all before `from` is, and between there and `to` is nothing.
pub(super) fn pass(
    empty: BTreeMap<Partition, Stretch>,
    positions: &mut BTreeMap<Partition, Position>,
    offsets: &Offsets,
) {
    for (partition, Stretch { from, to }) in empty {
        let Some(position) = positions.get_mut(&partition).filter(|position| position.next == from) else {
            continue;
        };
        position.next = to;
        offsets.acknowledge(offsets.begin(&[NextOffset { partition, next: to }]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_stretch_is_passed_only_from_where_it_begins_and_after_all_before_it() {
        let (offsets, partition) = (Offsets::new(), Partition::new("shop", 0));
        offsets.assign(std::slice::from_ref(&partition));
        let mut positions = BTreeMap::from([(partition.clone(), Position { next: 7, timestamp_ms: None })]);
        let batch = offsets.begin(&[NextOffset { partition: partition.clone(), next: 7 }]);
        let found = |from, to| BTreeMap::from([(partition.clone(), Stretch { from, to })]);
        pass(found(5, 6), &mut positions, &offsets); // messages have come since it was looked at
        assert_eq!(positions[&partition].next, 7);
        pass(found(7, 9), &mut positions, &offsets);
        assert_eq!(positions[&partition].next, 9);
        assert_eq!(offsets.committable(), [], "the batch before is still under way");
        offsets.acknowledge(batch);
        assert_eq!(offsets.committable(), [NextOffset { partition, next: 9 }]);
    }
}
