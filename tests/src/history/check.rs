//! The rules of a history, applied to one read.

use super::{Moment, Read, Seen, Write};

/// What a read breaks. More than one may be set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// No write explains what it returned.
    pub unexplained: bool,
    /// What it returned was over before the time that it claims.
    pub outside_claim: Option<Finding>,
    /// A later write had been delivered before it began.
    pub stale: Option<Finding>,
}

/// The later write that the read should have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// The write that the read shows.
    pub shown: usize,
    /// The write that it had to show, or a later one.
    pub due: usize,
    /// Since when it had to: the end of the write, or its delivery.
    pub since: Moment,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        !self.unexplained && self.outside_claim.is_none() && self.stale.is_none()
    }
}

/// Judges a read by all writes of its row, in their order.
pub fn check(writes: &[Write], read: &Read) -> Verdict {
    let Some(shown) = shown(writes, read) else {
        return Verdict { unexplained: true, ..Verdict::default() };
    };
    let window = read.ended.before(read.claim);
    // Writes of a row end in their order, so the last that had ended is the one due; deliveries may be seen in any order.
    let ended = writes.partition_point(|write| write.ended < window);
    let outside_claim = ended.checked_sub(1).filter(|due| *due > shown).map(|due| Finding {
        shown,
        due,
        since: writes[due].ended,
    });
    let stale = (shown + 1..writes.len()).rev().find_map(|due| {
        let since = writes[due].delivered.filter(|delivered| *delivered < read.began)?;
        Some(Finding { shown, due, since })
    });
    Verdict { unexplained: false, outside_claim, stale }
}

/// The newest write that can have left what the read shows.
fn shown(writes: &[Write], read: &Read) -> Option<usize> {
    match read.seen {
        Seen::Version(version) => {
            let number = version as usize;
            writes.get(number).filter(|write| write.present && write.began <= read.ended).map(|_| number)
        }
        Seen::Absent => {
            let begun = writes.partition_point(|write| write.began <= read.ended);
            writes[..begun].iter().rposition(|write| !write.present)
        }
        Seen::Damaged => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Writes 0 to 3, in milliseconds: 0 from the beginning, 1 at 100-110, the deletion 2 at 200-210, 3 at 300-310, each delivered 40 later.
    fn writes() -> Vec<Write> {
        let write = |present, began: u64, ended: u64| Write {
            present,
            began: at(began),
            ended: at(ended),
            delivered: Some(at(ended + 40)),
        };
        vec![write(true, 0, 0), write(true, 100, 110), write(false, 200, 210), write(true, 300, 310)]
    }

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    fn read(seen: Seen, began: u64, ended: u64, claim: u64) -> Read {
        let claim = Duration::from_millis(claim);
        Read { row: 0, seen, began: at(began), ended: at(ended), claim, node: 0, memory: true }
    }

    fn verdict(seen: Seen, began: u64, ended: u64, claim: u64) -> Verdict {
        check(&writes(), &read(seen, began, ended, claim))
    }

    #[test]
    fn what_was_current_within_the_claim_is_clean() {
        for (seen, began, ended, claim) in [
            (Seen::Version(0), 50, 60, 0),
            (Seen::Version(0), 102, 109, 0),  // write 1 may still be to come
            (Seen::Version(1), 102, 109, 0),  // or be there
            (Seen::Version(0), 120, 130, 20), // it was current at 110 at the latest, which the claim reaches
            (Seen::Absent, 215, 220, 0),
            (Seen::Version(1), 215, 220, 11),
            (Seen::Absent, 305, 306, 0),
            (Seen::Version(3), 900, 901, 0),
            (Seen::Version(3), 299, 301, 0),
        ] {
            let found = verdict(seen, began, ended, claim);
            assert!(found.is_clean(), "{seen:?} {began}-{ended} claim {claim}: {found:?}");
        }
    }

    #[test]
    fn a_value_older_than_its_claim_is_caught() {
        let found = verdict(Seen::Version(0), 120, 130, 19);
        assert_eq!(found.outside_claim, Some(Finding { shown: 0, due: 1, since: at(110) }));
        assert_eq!(found.stale, None, "write 1 is delivered at 150");
        assert!(verdict(Seen::Version(1), 312, 314, 50).outside_claim.is_some(), "two writes behind");
        assert!(verdict(Seen::Absent, 312, 314, 3).outside_claim.is_some(), "an absence is over as well");
    }

    #[test]
    fn an_older_value_after_delivery_is_caught_whatever_it_claims() {
        let found = verdict(Seen::Version(0), 151, 152, 60_000);
        assert_eq!(
            found,
            Verdict { stale: Some(Finding { shown: 0, due: 1, since: at(150) }), ..Verdict::default() }
        );
        assert!(
            verdict(Seen::Version(0), 150, 152, 60_000).is_clean(),
            "it began before the delivery was seen"
        );
        assert!(verdict(Seen::Version(1), 251, 260, 60_000).stale.is_some(), "a delivered deletion counts");
        assert!(
            verdict(Seen::Absent, 351, 360, 60_000).stale.is_some(),
            "a delivered insert ends an absence"
        );
    }

    #[test]
    fn an_undelivered_change_may_be_missing_as_long_as_the_claim_says_so() {
        let mut writes = writes();
        for write in &mut writes[1..] {
            write.delivered = None;
        }
        assert!(check(&writes, &read(Seen::Version(0), 800, 801, 60_000)).is_clean());
        assert!(check(&writes, &read(Seen::Version(0), 800, 801, 100)).outside_claim.is_some());
        // A later change of the row that is delivered counts for the earlier ones too.
        writes[3].delivered = Some(at(400));
        assert_eq!(
            check(&writes, &read(Seen::Version(0), 800, 801, 60_000)).stale.map(|found| found.due),
            Some(3)
        );
    }

    #[test]
    fn what_no_write_left_is_caught() {
        for (seen, began, ended) in [
            (Seen::Version(1), 90, 99),   // from the future
            (Seen::Version(2), 220, 230), // write 2 deleted the row
            (Seen::Version(4), 900, 901), // never written
            (Seen::Absent, 120, 190),     // not deleted yet
            (Seen::Damaged, 120, 130),
        ] {
            assert!(verdict(seen, began, ended, 60_000).unexplained, "{seen:?} {began}-{ended}");
        }
    }
}
