//! The whole service on a log in memory.

mod common;

use std::time::Duration;

use common::{Running, insert};
use sync_service::config::{CatchUp, OnLag, OnUndecodable, Sync};
use sync_service::offsets::Partition;
use sync_service::source::Source as _;
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

const TAGGED: &str = r#"
[[group]]
name = "orders"
key = "orders:{user_id:u64}"
query = "SELECT o.id, p.name FROM shop.orders o LEFT JOIN shop.users p ON p.id = o.sold_by WHERE o.user_id = {user_id}"
rows = "many"
"#;

#[tokio::test(start_paused = true)]
async fn removed_tags_are_announced_as_removed_keys_are() {
    let log = Memory::new([partition()]);
    let mut running = Running::over(TAGGED, config(), |_| log.clone(), |service| service);
    log.append(&partition(), 1, insert(7));
    let delivered = running.delivered.recv().await.expect("an announcement");
    assert!(delivered.keys.is_empty() && delivered.flushed.is_empty(), "{delivered:?}");
    assert_eq!(delivered.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["shop.users.id=7"]);
    assert!(running.node.state.lock().removed_tags.contains("shop.users.id=7"));
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
async fn retention_that_overtakes_a_running_reader_flushes_everything_and_goes_on_at_the_end() {
    let log = Memory::new([partition()]);
    let config = Sync { in_flight: 1, max_unacknowledged: 1, batch_messages: 1, ..config() };
    let running = Running::start(config, |_| log.clone());
    running.node.set_down(true);
    for id in 0..100 {
        log.append(&partition(), 1, insert(id));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    log.trim(&partition(), 90);
    running.node.set_down(false);
    log.wait_committed(&partition(), 100).await;
    {
        let state = running.node.state.lock();
        assert_eq!(state.flushed.iter().map(String::as_str).collect::<Vec<_>>(), ["orders", "user"]);
        assert!(!state.removed.contains("user:95"), "a cache needs no replay");
    }
    assert_eq!(running.metric("sync_gaps_total{reason=\"out_of_range\"}"), Some(1.0));
    log.append(&partition(), 1, insert(100));
    running.node.wait(|state| state.removed.contains("user:100")).await;
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn retention_while_the_service_was_stopped_flushes_everything() {
    let log = Memory::new([partition()]);
    for id in 0..10 {
        log.append(&partition(), 1, insert(id));
    }
    log.trim(&partition(), 5);
    let running = Running::start(config(), |_| log.clone());
    log.wait_committed(&partition(), 10).await;
    assert_eq!(running.node.state.lock().flushed.len(), 2);
    assert_eq!(running.metric("sync_gaps_total{reason=\"out_of_range\"}"), Some(1.0));
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_anew_flushes_everything_and_commits_from_its_beginning() {
    let log = Memory::new([partition()]);
    let running = Running::start(config(), |_| log.clone());
    for id in 0..10 {
        log.append(&partition(), 1, insert(id));
    }
    log.wait_committed(&partition(), 10).await;
    log.remake(&partition());
    running.node.wait(|state| state.flushed.len() == 2).await;
    log.append(&partition(), 1, insert(77));
    running.node.wait(|state| state.removed.contains("user:77")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(log.committed(&partition()), Some(1));
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_added_is_read_from_its_beginning_without_a_flush() {
    let log = Memory::new([partition()]);
    let running = Running::start(config(), |_| log.clone());
    log.append(&partition(), 1, insert(1));
    log.wait_committed(&partition(), 1).await;
    let added = Partition::new("shop", 1);
    for id in 10..13 {
        log.append(&added, 1, insert(id));
    }
    log.wait_committed(&added, 3).await;
    {
        let state = running.node.state.lock();
        assert!((10..13).all(|id| state.removed.contains(&format!("user:{id}"))));
        assert_eq!(state.flushes, 0);
    }
    assert_eq!(running.metric("sync_gaps_total{reason=\"new_partition\"}"), Some(1.0));
    running.stop().await.expect("a clean end");
}

fn catch_up(on_lag: OnLag) -> Sync {
    let limits = CatchUp { max_lag: Duration::from_mins(10), min_messages: 10, max_messages: 100, on_lag };
    Sync { catch_up: limits, ..config() }
}

/// Messages of which the last comes so much later than the others.
fn backlog(messages: u64, span: Duration) -> Memory {
    let log = Memory::new([partition()]);
    for id in 0..messages {
        let late = if id + 1 == messages { i64::try_from(span.as_millis()).expect("short") } else { 0 };
        log.append(&partition(), 1_795_210_057_115 + late, insert(id));
    }
    log
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_spans_too_long_is_skipped_by_a_flush() {
    let log = backlog(50, Duration::from_mins(11));
    let running = Running::start(catch_up(OnLag::Flush), |_| log.clone());
    log.wait_committed(&partition(), 50).await;
    {
        let state = running.node.state.lock();
        assert!(state.removed.is_empty());
        assert_eq!(state.flushed.len(), 2);
    }
    assert_eq!(running.metric("sync_gaps_total{reason=\"lag\"}"), Some(1.0));
    assert_eq!(running.metric("sync_flushes_total{reason=\"lag\"}"), Some(2.0));
    log.append(&partition(), 1_795_210_057_115, insert(1000));
    running.node.wait(|state| state.removed.contains("user:1000")).await;
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn nothing_past_a_skipped_backlog_is_committed_before_its_flush_is_acknowledged() {
    let log = backlog(50, Duration::from_mins(11));
    let running = Running::start(catch_up(OnLag::Flush), |_| log.clone());
    running.node.set_down(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    for id in 100..105 {
        log.append(&partition(), 1_795_210_057_115 + 3_600_000, insert(id));
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(log.committed(&partition()), Some(0));
    running.stop().await.expect("a bounded end");

    // Whoever comes next finds the same backlog, and flushes.
    let running = Running::start(catch_up(OnLag::Flush), |_| log.clone());
    log.wait_committed(&partition(), 55).await;
    assert_eq!(running.node.state.lock().flushed.len(), 2);
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_grows_while_running_is_skipped_too() {
    let log = Memory::new([partition()]);
    let config = Sync { in_flight: 1, max_unacknowledged: 1, batch_messages: 1, ..catch_up(OnLag::Flush) };
    let running = Running::start(config, |_| log.clone());
    running.node.set_down(true);
    for id in 0..200 {
        log.append(&partition(), 1, insert(id));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.node.set_down(false);
    log.wait_committed(&partition(), 200).await;
    let removed = running.node.state.lock().removed.len();
    assert!(removed < 100, "{removed} were read");
    assert_eq!(running.node.state.lock().flushed.len(), 2);
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn short_backlogs_are_read_whatever_they_span_and_long_ones_where_it_is_declared() {
    for (log, config) in [
        (backlog(10, Duration::from_hours(5)), catch_up(OnLag::Flush)),
        (backlog(50, Duration::from_mins(10)), catch_up(OnLag::Flush)),
        (backlog(50, Duration::from_mins(11)), catch_up(OnLag::Replay)),
    ] {
        let all = log.ends()[0].next;
        let running = Running::start(config, |_| log.clone());
        log.wait_committed(&partition(), all).await;
        assert_eq!(running.node.state.lock().removed.len(), usize::try_from(all).expect("few"));
        assert_eq!(running.node.state.lock().flushes, 0);
        running.stop().await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn halt_on_a_long_backlog_ends_with_an_error() {
    let log = backlog(50, Duration::from_mins(11));
    let running = Running::start(catch_up(OnLag::Halt), |_| log.clone());
    let error = running.ended().await.expect_err("an error").to_string();
    assert!(error.contains("shop/0") && error.contains("11m") || error.contains("660s"), "{error}");
    assert_eq!(log.committed(&partition()), Some(0));
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
