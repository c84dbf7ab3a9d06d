//! What the order of beats tells: whether the stream has left out a piece of the database's log, or gone back.
//!
//! A row of a heartbeat table always falls into the same partition, and each beat is written to it once. So its beats come one
//! after the other there. One that is missing, though it was committed, was not in what the stream read: whoever follows the
//! database came back at a later position than it had left at (R8).

use std::collections::BTreeMap;

use super::{Beats, Row};
use crate::offsets::Partition;

/// The last beat of each row in each partition.
#[derive(Debug, Default)]
pub struct Order {
    last: BTreeMap<(Partition, usize, i64), Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    /// What came between two assignments of a partition was another instance's to see.
    assignment: u64,
    beat: i64,
}

/// Beats that came otherwise than they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Irregular {
    /// Beats that were committed never came: changes beside them are missing too, and all that is cached may be stale.
    Skipped {
        /// Where.
        partition: Partition,
        /// The beat that came last.
        last: i64,
        /// The beat that came instead of the one after it.
        next: i64,
    },
    /// An earlier beat came again: the stream has gone back, which does no harm.
    Replayed {
        /// Where.
        partition: Partition,
        /// The latest beat that came.
        last: i64,
        /// The one that came now.
        again: i64,
    },
}

impl Order {
    /// Notes a row that came in a partition as owned by this assignment; says if that is out of order.
    pub fn see(
        &mut self,
        beats: &Beats,
        partition: &Partition,
        assignment: u64,
        row: Row,
    ) -> Option<Irregular> {
        let known = self
            .last
            .entry((partition.clone(), row.table, row.n))
            .or_insert(Last { assignment, beat: row.beat - 1 });
        if known.assignment != assignment {
            *known = Last { assignment, beat: row.beat };
            return None;
        }
        let last = known.beat;
        if row.beat <= last {
            // The same one twice is a duplicate, as is normal.
            return (row.beat < last).then(|| Irregular::Replayed {
                partition: partition.clone(),
                last,
                again: row.beat,
            });
        }
        known.beat = row.beat;
        let skipped = (last + 1..row.beat).any(|beat| beats.is_committed(beat));
        skipped.then(|| Irregular::Skipped { partition: partition.clone(), last, next: row.beat })
    }

    /// Forgets a partition in which a gap is known already.
    pub fn forget(&mut self, partition: &Partition) {
        self.last.retain(|(of, ..), _| of != partition);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_committed_beat_that_never_came_is_a_gap_and_one_that_failed_is_none() {
        let (mut order, partition) = (Order::default(), Partition::new("shop", 0));
        let beats = Beats::new("me".to_owned(), &["shop.beat".to_owned()], Duration::from_secs(1));
        for beat in 1..=9 {
            assert_eq!(beats.begin(), beat);
            if beat != 3 {
                beats.committed(beat); // the third one was not written
            }
        }
        let mut see = |n, beat| order.see(&beats, &partition, 1, Row { table: 0, n, beat });
        assert_eq!(see(0, 2), None, "the first one seen");
        assert_eq!(see(0, 4), None, "the one between was never committed");
        assert_eq!(see(0, 4), None, "a duplicate");
        assert_eq!(see(0, 3), Some(Irregular::Replayed { partition: partition.clone(), last: 4, again: 3 }));
        assert_eq!(see(1, 7), None, "another row");
        assert_eq!(see(0, 6), Some(Irregular::Skipped { partition: partition.clone(), last: 4, next: 6 }));
        assert_eq!(see(0, 7), None);
        // Another instance read it meanwhile.
        assert_eq!(order.see(&beats, &partition, 2, Row { table: 0, n: 0, beat: 9 }), None);
        order.forget(&partition);
        assert_eq!(order.see(&beats, &partition, 2, Row { table: 0, n: 0, beat: 11 }), None);
    }
}
