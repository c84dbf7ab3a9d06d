use std::sync::{Arc, atomic::AtomicBool};

use tokio::time::advance;
use wire::{Watermark, Watermarks as Told};

use super::*;
use crate::{
    gate::Filled,
    place::hash,
    slots::Slots,
    store::{Bounds, Eviction, Keep, Store},
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn partition(number: i32) -> PartitionName {
    PartitionName { topic: Arc::from("shop"), number }
}

/// What a sync service tells: watermarks and, with the instant at which it was made, the list; all in milliseconds.
fn told(of: &Watermarks, at: &[(i32, i64)], all: &[i32], listed: i64) -> Told {
    Told {
        clock: of.id,
        partitions: at
            .iter()
            .map(|(number, at)| Watermark { partition: partition(*number), next: 0, at: at * 1000 })
            .collect(),
        all: all.iter().copied().map(partition).collect(),
        listed: listed * 1000,
    }
}

/// A clock at which a second has passed.
async fn clock() -> (Instant, Watermarks) {
    let watermarks = Watermarks::register(&mut Registry::default());
    let begun = watermarks.base;
    advance(ms(1000)).await;
    (begun, watermarks)
}

#[tokio::test(start_paused = true)]
async fn freshness_is_known_once_every_partition_was_told_by_whomever() {
    let (begun, node) = clock().await;
    assert_eq!(node.lowest(), None);
    node.note(&told(&node, &[(0, 900)], &[0, 1], 950));
    assert_eq!(node.lowest(), None, "of partition 1 nothing is known");
    node.note(&told(&node, &[(1, 700)], &[], 0));
    assert_eq!(node.lowest(), Some(begun + ms(700)));
    node.note(&told(&node, &[(1, 980)], &[], 0));
    assert_eq!(node.lowest(), Some(begun + ms(900)));
}

#[tokio::test(start_paused = true)]
async fn watermarks_never_go_back_and_never_beyond_the_newest_list() {
    let (begun, node) = clock().await;
    node.note(&told(&node, &[(0, 800)], &[0], 850));
    node.note(&told(&node, &[(0, 300)], &[0], 300));
    assert_eq!(node.lowest(), Some(begun + ms(800)), "older news change nothing");
    node.note(&told(&node, &[(0, 990)], &[], 0));
    assert_eq!(
        node.lowest(),
        Some(begun + ms(850)),
        "a partition may have been added since the list was made"
    );
    node.note(&told(&node, &[], &[0], 970));
    assert_eq!(node.lowest(), Some(begun + ms(970)));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_added_begins_where_the_list_without_it_was_made() {
    let (begun, node) = clock().await;
    node.note(&told(&node, &[(0, 800)], &[0], 850));
    node.note(&told(&node, &[(0, 990)], &[0, 1], 990));
    assert_eq!(node.lowest(), Some(begun + ms(850)), "it had no messages before");
    node.note(&told(&node, &[(1, 985)], &[], 0));
    assert_eq!(node.lowest(), Some(begun + ms(985)));
    // A list of an instance that has not seen it yet does not take it away.
    node.note(&told(&node, &[(0, 995)], &[0], 980));
    node.note(&told(&node, &[], &[0, 1], 999));
    assert_eq!(node.lowest(), Some(begun + ms(985)));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_gone_holds_nothing_back() {
    let (begun, node) = clock().await;
    node.note(&told(&node, &[(0, 100), (1, 900)], &[0, 1], 950));
    node.note(&told(&node, &[], &[1], 960));
    assert_eq!(node.lowest(), Some(begun + ms(900)));
}

#[tokio::test(start_paused = true)]
async fn what_is_told_in_another_clock_or_of_the_future_is_ignored() {
    let (_, node) = clock().await;
    let mut of_another = told(&node, &[(0, 900)], &[0], 900);
    of_another.clock ^= 1;
    node.note(&of_another);
    assert_eq!(node.lowest(), None);
    node.note(&told(&node, &[(0, 1001)], &[], 0));
    assert_eq!((node.lowest(), node.refused.get()), (None, 1));
    node.note(&told(&node, &[(0, 900)], &[0], 1001));
    assert_eq!(node.lowest(), None, "the list is of the future");
}

#[tokio::test(start_paused = true)]
async fn a_watermark_from_before_this_clock_began_makes_nothing_fresher() {
    let (begun, node) = clock().await;
    node.note(&told(&node, &[(0, -1)], &[0], 900));
    assert!(node.lowest().is_none_or(|lowest| lowest < begun));
}

#[tokio::test(start_paused = true)]
async fn the_gauge_tells_the_age_of_the_lowest_watermark() {
    let (_, node) = clock().await;
    node.publish();
    assert!(node.freshness.get().is_infinite());
    node.note(&told(&node, &[(0, 750)], &[0], 900));
    node.publish();
    assert!((node.freshness.get() - 0.25).abs() < 1e-9, "{}", node.freshness.get());
}

/// A change is made, removed and told as applied, again and again, while others read: nobody ever claims that a change is in an
/// entry that was read from the database before it.
#[test]
fn a_reader_never_claims_a_change_for_an_entry_that_lacks_it() {
    const CHANGES: u64 = 20_000;
    let slots = Arc::new(Slots::new("a".into()));
    slots.set(7, true);
    let bounds = Bounds { memory: 1 << 20, negative_share: 0.1, eviction: Eviction::default() };
    let store = Store::new(bounds, &mut Registry::default());
    let gate = Gate::new(store, slots, 1, Duration::ZERO, 4096);
    let node = Watermarks::register(&mut Registry::default());
    let place = Place { hash: hash("user:1"), group: 0, slot: 7 };
    // When the change that ended a version was made, in microseconds of the node's clock; 0 while it is the latest.
    let ended: Vec<AtomicI64> = (0..=CHANGES).map(|_| AtomicI64::new(0)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !done.load(Acquire) {
                    let Look::Fresh(fresh) =
                        node.look(&gate, place, "user:1", None, Instant::now(), &mut Keep)
                    else {
                        continue;
                    };
                    let value = fresh.entry.value.expect("a value");
                    let version = u64::from_le_bytes(value[..].try_into().expect("eight bytes"));
                    let ended = ended[usize::try_from(version).expect("small")].load(Acquire);
                    let claimed = i64::try_from((fresh.as_of - node.base).as_micros()).expect("small");
                    assert!(
                        ended == 0 || claimed <= ended,
                        "{version} ended at {ended}, claimed to be of {claimed}"
                    );
                }
            });
        }
        for version in 0..CHANGES {
            let (token, _) = gate.token(place).expect("the slot is held");
            let value = Some(bytes::Bytes::copy_from_slice(&version.to_le_bytes()));
            let filled =
                Filled { key: "user:1".into(), value, ttl: Duration::from_mins(10), tags: Box::default() };
            assert!(gate.store_filled(&token, place, filled, || true).is_ok());
            std::thread::yield_now();
            let changed = node.now() + 1;
            while node.now() <= changed {} // so that what is applied later is told later
            ended[usize::try_from(version).expect("small")].store(changed, Release);
            gate.remove("user:1", &Arc::from("shop/0@1"));
            let applied = node.now();
            node.note(&Told {
                clock: node.id,
                partitions: vec![Watermark { partition: partition(0), next: 0, at: applied }],
                all: vec![partition(0)],
                listed: applied,
            });
        }
        done.store(true, Release);
    });
}

/// *Two heartbeats of 300 000 partitions keep a lock for a minute, and all reads wait for it.*
#[tokio::test(start_paused = true)]
async fn as_many_partitions_as_there_may_be_are_listed_at_once_and_others_are_not_remembered() {
    let (begun, node) = clock().await;
    let most = i32::try_from(MOST_PARTITIONS).unwrap();
    let all: Vec<i32> = (0..most).collect();
    let at: Vec<(i32, i64)> = all.iter().map(|number| (*number, 800)).collect();
    let work = std::time::Instant::now();
    node.note(&told(&node, &at, &all, 850));
    let others: Vec<i32> = all.iter().map(|number| number + 1).collect();
    node.note(&told(&node, &[], &others, 900));
    assert_eq!(node.lowest(), Some(begun + ms(800)));
    assert!(work.elapsed() < Duration::from_secs(20), "linear, where it was a minute: {:?}", work.elapsed());
    node.note(&told(&node, &[(-1, 900), (-2, 900)], &[], 0));
    assert_eq!((node.state.lock().at.len(), node.refused.get()), (MOST_PARTITIONS, 2));
}
