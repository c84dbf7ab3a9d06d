//! How fresh the nodes are told to be, over the whole service on a log in memory.

mod common;

use std::time::Duration;

use common::{Running, insert};
use sync_service::config::Sync;
use sync_service::offsets::Partition;
use sync_service::source::memory::Memory;

const INTERVAL: Duration = Duration::from_millis(500);

fn partition(number: i32) -> Partition {
    Partition::new("shop", number)
}

/// Within two intervals: one since the last sample, one since it was told.
fn is_fresh(running: &Running) -> bool {
    running.node.freshness().is_some_and(|freshness| freshness <= 2 * INTERVAL)
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_keeps_nodes_fresh() {
    let log = Memory::new([partition(0), partition(1)]);
    let running = Running::start(Sync::default(), |_| log.clone());
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(is_fresh(&running), "{:?}", running.node.freshness());
    }
    let told = running.node.state.lock().told.clone().expect("watermarks");
    assert_eq!((told.partitions.len(), told.all.len()), (2, 2));
    let lag = running.metric("sync_watermark_lag_seconds{topic=\"shop\",partition=\"1\"}");
    assert!(lag.is_some_and(|lag| lag <= 0.5), "{lag:?}");
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_not_acknowledged_holds_the_watermark_back() {
    let log = Memory::new([partition(0)]);
    let running = Running::start(Sync::default(), |_| log.clone());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(is_fresh(&running));
    running.node.set_down(true);
    log.append(&partition(0), 1, insert(1));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = running.node.freshness().expect("known");
    assert!(before >= Duration::from_secs(30), "{before:?}");
    let lag = running.metric("sync_watermark_lag_seconds{topic=\"shop\",partition=\"0\"}");
    assert!(lag.is_some_and(|lag| lag > 29.0), "{lag:?}");
    running.node.set_down(false);
    running.node.wait(|state| state.removed.contains("user:1")).await;
    tokio::time::sleep(2 * INTERVAL).await;
    assert!(is_fresh(&running), "{:?}", running.node.freshness());
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_can_not_be_asked_lets_freshness_grow() {
    let log = Memory::new([partition(0)]);
    let running = Running::start(Sync::default(), |_| log.clone());
    tokio::time::sleep(Duration::from_secs(2)).await;
    log.set_failing(true);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(running.node.freshness().expect("known") >= Duration::from_secs(9));
    assert!(running.metric("sync_survey_failures_total").is_some_and(|failures| failures >= 15.0));
    log.set_failing(false);
    tokio::time::sleep(2 * INTERVAL).await;
    assert!(is_fresh(&running));
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_first_start_is_fresh_only_after_its_flush() {
    let log = Memory::new([partition(0)]);
    log.append(&partition(0), 1, insert(1));
    log.forget(&partition(0));
    let running = Running::start(Sync::default(), |_| log.clone());
    running.node.state.lock().stuck = true;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(running.node.state.lock().told.is_some(), "the node is told all that is known");
    assert_eq!(running.node.freshness(), None, "what it holds may be of any age");
    running.node.state.lock().stuck = false;
    running.node.wait(|state| state.flushes > 0).await;
    tokio::time::sleep(3 * INTERVAL).await;
    assert!(is_fresh(&running));
    running.stop().await.expect("a clean end");
}
