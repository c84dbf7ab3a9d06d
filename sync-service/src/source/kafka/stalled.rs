//! Partitions that librdkafka has stopped to fetch.
//!
//! When an offset is not in the log it says so once, without naming the partition, and fetches it no more. Whatever that one
//! report led to, a partition that stays idle is looked into until it is read again.

use std::collections::{BTreeMap, BTreeSet};

use crate::offsets::Partition;

/// How often in a row a partition must be seen idle: right after an assignment it may be so for a moment.
const TIMES: u32 = 2;

/// What statistics tell of idle partitions, once there is a reason to look.
#[derive(Default)]
pub(crate) struct Stalled {
    reported: bool,
    idle: BTreeMap<Partition, u32>,
    /// Partitions that were assigned without a place to begin at.
    displaced: BTreeSet<Partition>,
}

impl Stalled {
    /// An offset was not in some partition's log.
    pub(super) fn report(&mut self) {
        self.reported = true;
    }

    /// Whether there is a reason to look.
    pub(super) fn possible(&self) -> bool {
        self.reported
    }

    /// All owned partitions that are not fetched at the moment.
    pub(super) fn seen(&mut self, idle: Vec<Partition>) {
        let mut before = std::mem::take(&mut self.idle);
        if idle.is_empty() && before.is_empty() {
            self.reported = false;
        }
        for partition in idle {
            let times = before.remove(&partition).unwrap_or(0) + 1;
            self.idle.insert(partition, times);
        }
    }

    /// It isn't known where to begin in a partition.
    pub(super) fn displaced(&mut self, partition: Partition) {
        self.displaced.insert(partition);
    }

    /// A partition is read again, or given up.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.displaced.remove(partition);
        self.idle.remove(partition);
    }

    /// The partitions that a place must be found for.
    pub(super) fn due(&self) -> Vec<Partition> {
        let idle = self.idle.iter().filter(|(_, times)| **times >= TIMES).map(|(partition, _)| partition);
        idle.chain(&self.displaced).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_stalled_when_it_stays_idle_after_a_report() {
        let partition = Partition::new("shop", 0);
        let mut stalled = Stalled::default();
        assert!(!stalled.possible());
        stalled.report();
        stalled.seen(vec![partition.clone()]);
        assert_eq!(stalled.due(), []);
        stalled.seen(Vec::new());
        stalled.seen(vec![partition.clone()]);
        assert_eq!(stalled.due(), [], "it was fetched in between");
        stalled.seen(vec![partition.clone()]);
        assert_eq!(stalled.due(), std::slice::from_ref(&partition));
        stalled.forget(&partition);
        assert_eq!(stalled.due(), []);
        stalled.seen(Vec::new());
        assert!(!stalled.possible());
    }
}
