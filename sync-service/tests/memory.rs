//! The whole service on a log in memory.

mod common;

use std::time::Duration;

use common::{Running, insert};
use sync_service::config::{OnUndecodable, Sync};
use sync_service::offsets::Partition;
use sync_service::source::memory::Memory;

fn partition() -> Partition {
    Partition::new("shop", 0)
}

fn config() -> Sync {
    Sync { commit_interval: Duration::from_millis(10), ..Sync::default() }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_removed_announced_and_then_committed() {
    let log = Memory::new([partition()]);
    let mut running = Running::start(config(), |_| log.clone());
    log.append(&partition(), 1_795_210_057_115, insert(7));
    let delivered = running.delivered.recv().await.expect("an announcement");
    assert_eq!(delivered.keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["user:7"]);
    assert_eq!(&*delivered.origin, "shop/0@0");
    assert_eq!(delivered.logged_ms, Some(1_795_210_057_115));
    log.wait_committed(&partition(), 1).await;
    assert!(running.node.state.lock().removed.contains("user:7"));
    assert_eq!(running.metric("sync_messages_total"), Some(1.0));
    // Once, or twice if the node had not confirmed the epoch yet.
    assert!(running.metric("sync_removes_hit_total").is_some_and(|hit| hit >= 1.0));
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_while_a_node_does_not_acknowledge() {
    let log = Memory::new([partition()]);
    let running = Running::start(config(), |_| log.clone());
    running.node.set_down(true);
    for id in 0..2000 {
        log.append(&partition(), 1, insert(id));
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(log.committed(&partition()), Some(0));
    assert_eq!(running.metric("sync_lag{topic=\"shop\",partition=\"0\"}"), Some(2000.0));
    running.node.set_down(false);
    log.wait_committed(&partition(), 2000).await;
    assert_eq!(running.node.state.lock().removed.len(), 2000);
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_committed_is_delivered_again_after_a_restart() {
    let log = Memory::new([partition()]);
    let running = Running::start(Sync { drain: Duration::from_secs(1), ..config() }, |_| log.clone());
    running.node.set_down(true);
    log.append(&partition(), 1, insert(1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.stop().await.expect("a bounded end");
    assert_eq!(log.committed(&partition()), Some(0));
    let running = Running::start(config(), |_| log.clone());
    log.wait_committed(&partition(), 1).await;
    assert!(running.node.state.lock().removed.contains("user:1"));
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_finishes_and_commits_what_was_read() {
    let log = Memory::new([partition()]);
    let config = Sync { commit_interval: Duration::from_hours(1), ..Sync::default() };
    let mut running = Running::start(config, |_| log.clone());
    // The first tick of the commits is over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    log.append(&partition(), 1, insert(1));
    running.delivered.recv().await.expect("an announcement");
    assert_eq!(log.committed(&partition()), Some(0));
    running.stop().await.expect("a clean end");
    assert_eq!(log.committed(&partition()), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_first_start_flushes_all_groups_and_begins_at_the_end() {
    let log = Memory::new([partition()]);
    for id in 0..3 {
        log.append(&partition(), 1, insert(id));
    }
    log.forget(&partition());
    let running = Running::start(config(), |_| log.clone());
    log.wait_committed(&partition(), 3).await;
    {
        let state = running.node.state.lock();
        assert!(state.removed.is_empty());
        assert_eq!(state.flushed.iter().map(String::as_str).collect::<Vec<_>>(), ["orders", "user"]);
    }
    assert_eq!(running.metric("sync_gaps_total{reason=\"first_start\"}"), Some(1.0));
    assert_eq!(running.metric("sync_flushes_total{reason=\"first_start\"}"), Some(2.0));
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_poison_message_is_kept_flushed_for_and_passed() {
    let log = Memory::new([partition()]);
    let running = Running::start(config(), |_| log.clone());
    log.append(&partition(), 1, insert(1));
    log.append(&partition(), 2, "poison");
    log.append(&partition(), 3, insert(2));
    log.wait_committed(&partition(), 3).await;
    let letters = log.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].offset, letters[0].payload.as_deref()), (1, Some(&b"poison"[..])));
    assert_eq!(running.node.state.lock().flushed.len(), 2);
    assert_eq!(running.metric("sync_dead_letters_total"), Some(1.0));
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_past_a_dead_letter_that_is_not_safe() {
    let log = Memory::new([partition()]);
    let running = Running::start(config(), |_| log.clone());
    log.set_failing(true);
    log.append(&partition(), 1, "poison");
    running.node.wait(|state| state.flushes > 0).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(log.committed(&partition()), Some(0));
    log.set_failing(false);
    log.wait_committed(&partition(), 1).await;
    assert_eq!(log.letters().len(), 1);
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn halt_on_an_undecodable_message_ends_with_an_error_and_commits_nothing() {
    let log = Memory::new([partition()]);
    let running = Running::start(Sync { on_undecodable: OnUndecodable::Halt, ..config() }, |_| log.clone());
    log.append(&partition(), 1, "poison");
    let error = running.ended().await.expect_err("an error").to_string();
    assert!(error.contains("shop/0@0") && error.contains("on_undecodable"), "{error}");
    assert_eq!(log.committed(&partition()), Some(0));
    assert_eq!(log.letters(), []);
}

#[tokio::test(start_paused = true)]
async fn reading_pauses_when_too_much_is_unacknowledged() {
    let log = Memory::new([partition()]);
    let config = Sync { in_flight: 2, max_unacknowledged: 3, batch_messages: 1, ..config() };
    let running = Running::start(config, |_| log.clone());
    running.node.set_down(true);
    for id in 0..100 {
        log.append(&partition(), 1, insert(id));
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    let unacknowledged = running.metric("sync_unacknowledged").expect("a gauge");
    // Three are delivered; a few more stand in the queues between the stages.
    assert!((3.0..=15.0).contains(&unacknowledged), "{unacknowledged}");
    running.node.set_down(false);
    log.wait_committed(&partition(), 100).await;
    running.stop().await.expect("a clean end");
}
