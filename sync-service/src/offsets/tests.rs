use proptest::prelude::*;

use super::*;
use crate::source::BatchBuilder;

fn partition(number: i32) -> Partition {
    Partition::new("shop", number)
}

fn end(number: i32, next: i64) -> NextOffset {
    NextOffset { partition: partition(number), next }
}

#[test]
fn commit_waits_for_the_oldest_batch() {
    let offsets = Offsets::new();
    offsets.assign(&[partition(0)]);
    let first = offsets.begin(&[end(0, 10)]);
    let second = offsets.begin(&[end(0, 20)]);
    offsets.acknowledge(second);
    assert_eq!(offsets.committable(), []);
    offsets.acknowledge(first);
    assert_eq!(offsets.committable(), [end(0, 20)]);
    offsets.committed(&[end(0, 20)]);
    assert_eq!(offsets.committable(), []);
}

#[test]
fn acknowledgement_of_an_earlier_assignment_counts_for_nothing() {
    let offsets = Offsets::new();
    offsets.assign(&[partition(0)]);
    let old = offsets.begin(&[end(0, 10)]);
    assert_eq!(offsets.revoke(&[partition(0)]), []);
    offsets.assign(&[partition(0)]);
    let new = offsets.begin(&[end(0, 5)]);
    offsets.acknowledge(old);
    assert_eq!(offsets.committable(), []);
    offsets.acknowledge(new);
    assert_eq!(offsets.committable(), [end(0, 5)]);
}

#[test]
fn a_dropped_ticket_holds_back_later_commits() {
    let offsets = Offsets::new();
    offsets.assign(&[partition(0)]);
    drop(offsets.begin(&[end(0, 1)]));
    offsets.acknowledge(offsets.begin(&[end(0, 2)]));
    assert_eq!(offsets.committable(), []);
    assert_eq!(offsets.unacknowledged(), 1);
}

#[test]
fn revoke_hands_over_what_is_acknowledged() {
    let offsets = Offsets::new();
    offsets.assign(&[partition(0), partition(1)]);
    offsets.acknowledge(offsets.begin(&[end(0, 3), end(1, 7)]));
    let waiting = offsets.begin(&[end(1, 9)]);
    assert!(!offsets.wait_acknowledged(&[partition(1)], Duration::ZERO));
    assert!(offsets.wait_acknowledged(&[partition(0)], Duration::ZERO));
    assert_eq!(offsets.revoke(&[partition(1)]), [end(1, 7)]);
    offsets.acknowledge(waiting);
    assert_eq!(offsets.committable(), [end(0, 3)]);
    assert_eq!(offsets.unacknowledged(), 0);
}

#[test]
fn commits_go_on_where_offsets_begin_again() {
    let offsets = Offsets::new();
    offsets.assign(&[partition(0)]);
    offsets.acknowledge(offsets.begin(&[end(0, 1000)]));
    offsets.committed(&offsets.committable());
    // The topic was made anew: what is left committed at 1000 would pass over what comes until then.
    let flush = offsets.begin_flush(&[end(0, 5)]);
    assert_eq!(offsets.committable(), []);
    offsets.acknowledge(flush);
    assert_eq!(offsets.committable(), [end(0, 5)]);
    offsets.committed(&[end(0, 5)]);
    assert_eq!(offsets.committable(), []);
}

#[test]
fn what_was_read_under_an_earlier_assignment_claims_nothing() {
    let offsets = Offsets::new();
    let rebalance = || {
        offsets.revoke(&[partition(0)]);
        offsets.assign(&[partition(0)]);
    };
    rebalance();
    let mut builder = BatchBuilder::default();
    builder.push(&offsets, "shop", 0, 49, None, None, None);
    rebalance();
    offsets.acknowledge(builder.finish(&offsets).ticket);
    assert_eq!(offsets.committable(), [], "30 to 49 are read again and not applied yet");

    builder.push(&offsets, "shop", 0, 49, None, None, None);
    rebalance();
    builder.push(&offsets, "shop", 0, 30, None, None, None);
    offsets.acknowledge(builder.finish(&offsets).ticket);
    assert_eq!(offsets.committable(), [end(0, 31)]);
    assert_eq!(offsets.unacknowledged(), 0);
}

#[test]
fn a_flush_is_owed_until_it_is_acknowledged() {
    let offsets = Offsets::new();
    offsets.assign(&[partition(0)]);
    let before = offsets.begin(&[end(0, 10)]);
    let flush = offsets.begin_flush(&[end(0, 90)]);
    assert!(offsets.owes(&partition(0)) && !offsets.owes(&partition(1)));
    offsets.acknowledge(flush);
    assert!(!offsets.owes(&partition(0)));
    assert_eq!(offsets.committable(), [], "what was read before the gap is not applied yet");
    offsets.acknowledge(before);
    assert_eq!(offsets.committable(), [end(0, 90)]);
}

#[test]
fn a_batch_that_turns_out_to_flush_has_what_is_committed_marked() {
    let offsets = Offsets::new();
    offsets.assign(&[partition(0)]);
    offsets.acknowledge(offsets.begin(&[end(0, 10)]));
    offsets.committed(&offsets.committable());
    let batch = offsets.begin(&[end(0, 20)]);
    assert_eq!(offsets.committable(), []);
    offsets.owe(&batch);
    assert!(offsets.owes(&partition(0)));
    assert_eq!(offsets.committable(), [end(0, 10)], "to be committed once more, with the mark");
    offsets.committed(&[end(0, 10)]);
    offsets.acknowledge(batch);
    assert!(!offsets.owes(&partition(0)));
    assert_eq!(offsets.committable(), [end(0, 20)]);
}

#[tokio::test]
async fn drained_wakes_when_the_last_batch_is_acknowledged() {
    let offsets = Offsets::new();
    offsets.assign(&[partition(0)]);
    let ticket = offsets.begin(&[end(0, 1)]);
    let waiting = tokio::spawn({
        let offsets = offsets.clone();
        async move { offsets.drained().await }
    });
    tokio::task::yield_now().await;
    offsets.acknowledge(ticket);
    waiting.await.expect("the waiter must wake");
}

#[derive(Clone, Debug)]
enum Step {
    Begin(i32),
    Acknowledge(usize),
    Commit,
    Rebalance(i32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3).prop_map(Step::Begin),
        3 => (0..64_usize).prop_map(Step::Acknowledge),
        1 => Just(Step::Commit),
        1 => (0..3).prop_map(Step::Rebalance),
    ]
}

proptest! {
    // Against a naive list of everything that was read: a commit never passes a message of the current assignment
    // that is not acknowledged, and reaches the last one once all are.
    #[test]
    fn commit_never_passes_an_unacknowledged_batch(steps in proptest::collection::vec(step(), 1..200)) {
        let offsets = Offsets::new();
        let all: Vec<_> = (0..3).map(partition).collect();
        offsets.assign(&all);
        let mut next = [0_i64; 3];
        let mut committed = [0_i64; 3];
        let mut assignment = [0_u32; 3];
        let mut open: Vec<(i32, u32, i64, Ticket)> = Vec::new();
        for step in steps {
            match step {
                Step::Begin(one) => {
                    let index = usize::try_from(one).expect("small");
                    next[index] += 1;
                    let ticket = offsets.begin(&[end(one, next[index])]);
                    open.push((one, assignment[index], next[index], ticket));
                }
                Step::Acknowledge(which) if !open.is_empty() => {
                    let (.., ticket) = open.swap_remove(which % open.len());
                    offsets.acknowledge(ticket);
                }
                Step::Acknowledge(_) => {}
                Step::Commit => {
                    let due = offsets.committable();
                    for offset in &due {
                        committed[usize::try_from(offset.partition.number).expect("small")] = offset.next;
                    }
                    offsets.committed(&due);
                }
                Step::Rebalance(one) => {
                    let index = usize::try_from(one).expect("small");
                    for last in offsets.revoke(&[partition(one)]) {
                        committed[index] = last.next;
                    }
                    offsets.assign(&[partition(one)]);
                    assignment[index] += 1;
                    next[index] = committed[index];
                }
            }
            for index in 0..3 {
                let oldest = open.iter()
                    .filter(|(one, of, ..)| usize::try_from(*one) == Ok(index) && *of == assignment[index])
                    .map(|(_, _, next, _)| *next)
                    .min();
                if let Some(oldest) = oldest {
                    prop_assert!(committed[index] < oldest);
                }
            }
        }
        for (.., ticket) in open {
            offsets.acknowledge(ticket);
        }
        prop_assert_eq!(offsets.unacknowledged(), 0);
        for offset in offsets.committable() {
            committed[usize::try_from(offset.partition.number).expect("small")] = offset.next;
        }
        prop_assert_eq!(committed, next);
    }
}
