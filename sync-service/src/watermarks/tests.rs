use proptest::prelude::*;

use super::*;
use crate::offsets::NextOffset;

fn partition(number: i32) -> Partition {
    Partition::new("shop", number)
}

fn end(number: i32, next: i64) -> [NextOffset; 1] {
    [NextOffset { partition: partition(number), next }]
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What would be told, in milliseconds since `zero`.
fn told(watermarks: &Watermarks, zero: Instant) -> Vec<(i32, i64, u64)> {
    let snapshot = watermarks.snapshot();
    let since = |at: Instant| u64::try_from((at - zero).as_millis()).expect("small");
    let known = snapshot.partitions.iter();
    known.map(|(partition, reached)| (partition.number, reached.next, since(reached.at))).collect()
}

#[test]
fn a_sample_becomes_the_watermark_when_all_before_its_end_is_acknowledged() {
    let (offsets, watermarks, zero) = (Offsets::new(), Watermarks::default(), Instant::now());
    offsets.assign(&[partition(0)]);
    let first = offsets.begin(&end(0, 10));
    let second = offsets.begin(&end(0, 20));
    watermarks.sample(&partition(0), zero + ms(5), 20);
    offsets.acknowledge(second);
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero), [], "the first batch is still under way");
    offsets.acknowledge(first);
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero), [(0, 20, 5)]);
    // A quiet partition: its end has been reached long ago.
    watermarks.sample(&partition(0), zero + ms(500), 20);
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero), [(0, 20, 500)]);
    assert!(!watermarks.is_waiting());
}

#[test]
fn a_partition_where_reading_begins_counts_as_applied_up_to_there_but_not_across_a_gap() {
    let (offsets, watermarks, zero) = (Offsets::new(), Watermarks::default(), Instant::now());
    offsets.assign(&[partition(0), partition(1)]);
    offsets.begins_at(&partition(0), 7);
    let flush = offsets.begin(&end(1, 7)); // a first start: all is flushed before anything counts
    for number in [0, 1] {
        watermarks.sample(&partition(number), zero, 7);
    }
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero), [(0, 7, 0)]);
    offsets.acknowledge(flush);
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero), [(0, 7, 0), (1, 7, 0)]);
}

#[test]
fn a_partition_that_is_given_up_is_not_told_any_more() {
    let (offsets, watermarks, zero) = (Offsets::new(), Watermarks::default(), Instant::now());
    offsets.assign(&[partition(0)]);
    offsets.begins_at(&partition(0), 0);
    watermarks.sample(&partition(0), zero, 0);
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero).len(), 1);
    offsets.revoke(&[partition(0)]);
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero), []);
}

#[test]
fn samples_are_bounded_and_a_backlog_keeps_its_oldest() {
    let (offsets, watermarks, zero) = (Offsets::new(), Watermarks::default(), Instant::now());
    offsets.assign(&[partition(0)]);
    let slow = offsets.begin(&end(0, 1));
    for second in 0..1000 {
        let at = zero + Duration::from_secs(second);
        watermarks.sample(&partition(0), at, i64::try_from(second).expect("small"));
    }
    assert_eq!(watermarks.state.lock().partitions[&partition(0)].samples.len(), SAMPLES);
    offsets.acknowledge(slow);
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero), [(0, 1, 1000)]);
    offsets.acknowledge(offsets.begin(&end(0, 999)));
    watermarks.advance(&offsets);
    assert_eq!(told(&watermarks, zero), [(0, 999, 999_000)], "the newest was kept too");
}

#[test]
fn a_snapshot_is_new_only_if_something_changed() {
    let (offsets, watermarks, zero) = (Offsets::new(), Watermarks::default(), Instant::now());
    offsets.assign(&[partition(0)]);
    offsets.begins_at(&partition(0), 0);
    watermarks.advance(&offsets);
    assert_eq!(watermarks.snapshot().version, 0);
    watermarks.list(zero, &[partition(0), partition(1)]);
    watermarks.sample(&partition(0), zero, 0);
    watermarks.advance(&offsets);
    watermarks.advance(&offsets);
    let snapshot = watermarks.snapshot();
    assert_eq!(snapshot.version, 1);
    let reading = Reading { clock: Clock { id: 3, micros: 5_000_000 }, at: zero };
    let told = snapshot.told(&reading);
    assert_eq!((told.clock, told.all.len(), told.listed), (3, 2, 5_000_000));
    assert_eq!((told.partitions.len(), told.partitions[0].at), (1, 5_000_000));
}

proptest! {
    // A node's clock runs beside ours, by any offset and a little faster or slower. A reading is under way for any time in
    // both directions. What is told of an instant, before or after, is never later than the node's clock was then; and when
    // nothing is slow it is hardly earlier.
    #[test]
    fn what_is_told_is_never_younger_than_the_truth(
        offset in 0_i64..1_000_000_000,
        rate in -500_i64..=500,
        request in 0_u64..5_000_000,
        reply in 0_u64..5_000_000,
        instant in 0_u64..60_000_000,
    ) {
        let zero = Instant::now();
        // The node's clock at a moment of ours; `rate` is in millionths.
        let truth = |micros: u64| {
            let micros = i64::try_from(micros).expect("small");
            offset + micros + (micros * rate).div_euclid(1_000_000)
        };
        let read = 20_000_000 + request;
        let received = read + reply;
        let reading = Reading {
            clock: Clock { id: 1, micros: u64::try_from(truth(read)).expect("positive") },
            at: zero + Duration::from_micros(received),
        };
        let told = reading.told(zero + Duration::from_micros(instant));
        prop_assert!(told <= truth(instant), "told {told}, true is {}", truth(instant));
        let distance = i64::try_from(instant.abs_diff(received)).expect("small");
        let late = i64::try_from(reply + reply / 1000).expect("small");
        prop_assert!(told >= truth(instant) - late - distance / 500 - 10);
    }
}
