//! How fresh the nodes are told to be, over the whole service on a log in memory.

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{Running, insert};
use parking_lot::Mutex;
use sync_service::beats::{BeatWriter, Beats};
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

const TABLE: &str = "shop.freshline_heartbeat";

/// A database whose heartbeat rows a change stream carries into the log, a row for each partition.
struct Rows {
    log: Memory,
    state: Mutex<Database>,
}

#[derive(Default)]
struct Database {
    /// Partitions that a row falls into.
    reached: Vec<i32>,
    /// Nobody follows the database: what is committed does not come out.
    unfollowed: bool,
    down: bool,
    left: bool,
}

impl Rows {
    fn new(log: &Memory, reached: &[i32]) -> Arc<Self> {
        let state = Database { reached: reached.to_vec(), ..Database::default() };
        Arc::new(Self { log: log.clone(), state: Mutex::new(state) })
    }
}

#[async_trait]
impl BeatWriter for Rows {
    async fn prepare(&self) -> Result<(), loader::Error> {
        Ok(())
    }

    async fn write(&self, beat: i64) -> Result<(), loader::Error> {
        let state = self.state.lock();
        if state.down {
            return Err(loader::Error::Unavailable("told to be".into()));
        }
        if !state.unfollowed {
            for number in &state.reached {
                let message = format!(
                    r#"{{"data":[{{"writer":"me","n":"{number}","beat":"{beat}"}}],"database":"shop","table":"freshline_heartbeat","type":"UPDATE"}}"#
                );
                self.log.append(&partition(*number), 1, message);
            }
        }
        Ok(())
    }

    async fn clean(&self) -> Result<(), loader::Error> {
        Ok(())
    }

    async fn leave(&self) -> Result<(), loader::Error> {
        self.state.lock().left = true;
        Ok(())
    }
}

fn start(log: &Memory, rows: &Arc<Rows>) -> Running {
    let beats = Beats::new("me".to_owned(), &[TABLE.to_owned()], Duration::from_secs(1));
    let rows = rows.clone();
    Running::start_with(Sync::default(), |_| log.clone(), |service| service.with_beats(beats, rows))
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn with_heartbeat_rows_a_database_that_nobody_follows_is_noticed_while_the_log_is_idle() {
    let log = Memory::new([partition(0), partition(1)]);
    let rows = Rows::new(&log, &[0, 1]);
    let running = start(&log, &rows);
    for _ in 0..10 {
        tokio::time::sleep(SECOND).await;
        assert!(running.node.freshness().is_some_and(|freshness| freshness <= 2 * SECOND));
    }
    assert_eq!(running.node.state.lock().flushes, 0, "heartbeat rows flush nothing");
    // Canal has died: the log can be asked, all of it is applied, and still nobody knows what the database does.
    rows.state.lock().unfollowed = true;
    tokio::time::sleep(30 * SECOND).await;
    let freshness = running.node.freshness().expect("known");
    assert!(freshness >= 29 * SECOND && freshness <= 33 * SECOND, "{freshness:?}");
    assert_eq!(running.metric("sync_partitions_without_heartbeat"), Some(2.0));
    // It is back, at a later place: what was committed meanwhile is lost, so everything goes.
    rows.state.lock().unfollowed = false;
    running.node.wait(|state| state.flushed.len() == 2).await;
    tokio::time::sleep(2 * SECOND).await;
    assert!(running.node.freshness().is_some_and(|freshness| freshness <= 2 * SECOND));
    assert!(running.metric("sync_gaps_total{reason=\"skipped\"}").is_some_and(|gaps| gaps >= 1.0));
    assert_eq!(running.metric("sync_partitions_without_heartbeat"), Some(0.0));
    running.stop().await.expect("a clean end");
    assert!(rows.state.lock().left, "own rows are taken away");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_down_lets_freshness_grow_and_is_no_gap() {
    let log = Memory::new([partition(0)]);
    let rows = Rows::new(&log, &[0]);
    let running = start(&log, &rows);
    tokio::time::sleep(5 * SECOND).await;
    rows.state.lock().down = true;
    tokio::time::sleep(20 * SECOND).await;
    assert!(running.node.freshness().is_some_and(|freshness| freshness >= 19 * SECOND));
    assert!(running.metric("sync_heartbeat_row_failures_total").is_some_and(|failures| failures >= 15.0));
    rows.state.lock().down = false;
    tokio::time::sleep(3 * SECOND).await;
    assert!(running.node.freshness().is_some_and(|freshness| freshness <= 2 * SECOND));
    assert_eq!(running.node.state.lock().flushes, 0);
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_no_heartbeat_row_reaches_has_no_watermark() {
    let log = Memory::new([partition(0), partition(1)]);
    let rows = Rows::new(&log, &[0]);
    let running = start(&log, &rows);
    tokio::time::sleep(15 * SECOND).await;
    assert_eq!(running.node.freshness(), None);
    assert_eq!(running.metric("sync_partitions_without_heartbeat"), Some(1.0));
    rows.state.lock().reached.push(1);
    tokio::time::sleep(3 * SECOND).await;
    assert!(running.node.freshness().is_some_and(|freshness| freshness <= 2 * SECOND));
    running.stop().await.expect("a clean end");
}
