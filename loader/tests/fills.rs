//! The promises of the loader: budget, batching, deadline, and a database read that begins after its caller asked.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use catalog::{Catalog, Key};
use loader::{BreakerLimits, Error, Limits, Loader, Metrics, memory::Memory};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

const CATALOG: &str = r#"
[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"
ttl = "10m"

[[group]]
name = "order"
key = "order:{id:u64}"
query = "SELECT id, total FROM shop.orders WHERE id = {id}"
ttl = "10m"
max_value = 16
"#;

fn keys() -> impl Fn(&str) -> Key {
    let catalog = Catalog::parse("test.toml", CATALOG).unwrap();
    move |key| catalog.resolve(key).unwrap()
}

fn spawn(loader: &Arc<Loader>, key: Key) -> JoinHandle<Result<Option<Bytes>, Error>> {
    let loader = Arc::clone(loader);
    tokio::spawn(async move { loader.load(key).await })
}

async fn reached(memory: &Memory) {
    timeout(Duration::from_mins(1), memory.reached.notified()).await.expect("a load reaches the database");
}

fn one_at_a_time() -> Limits {
    Limits { max_fills: 1, ..Limits::default() }
}

#[tokio::test]
async fn a_row_is_its_json_and_no_row_is_none() {
    let (memory, key) = (Memory::new(), keys());
    let loader = Loader::new(Arc::new(memory.clone()), Limits::default(), Metrics::default());
    memory.put("user:1", "{\"id\":1}");
    assert_eq!(loader.load(key("user:1")).await.unwrap().as_deref(), Some(&b"{\"id\":1}"[..]));
    assert_eq!(loader.load(key("user:2")).await.unwrap(), None);
}

#[tokio::test]
async fn misses_of_one_turn_are_loaded_together() {
    let (memory, key) = (Memory::new(), keys());
    let loader = Loader::new(Arc::new(memory.clone()), Limits::default(), Metrics::default());
    let loads: Vec<_> = (0..10).map(|id| loader.load(key(&format!("user:{id}")))).collect();
    futures_util::future::join_all(loads).await;
    assert_eq!(memory.calls().len(), 1);
    assert_eq!(memory.calls()[0].len(), 10);
}

#[tokio::test]
async fn misses_that_wait_for_the_budget_are_loaded_together_and_never_join_what_was_sent() {
    let (memory, key) = (Memory::new(), keys());
    let loader = Loader::new(Arc::new(memory.clone()), one_at_a_time(), Metrics::default());
    memory.put("user:1", "old");
    memory.hold(true);
    let first = spawn(&loader, key("user:1"));
    reached(&memory).await;

    // The row changes after the first read: whoever asks from now on must see it.
    memory.put("user:1", "new");
    memory.hold(false);
    let later: Vec<_> = ["user:1", "user:2", "user:1"].map(|text| spawn(&loader, key(text))).into();
    tokio::task::yield_now().await;
    memory.release.notify_one();

    assert_eq!(first.await.unwrap().unwrap().as_deref(), Some(&b"old"[..]));
    let mut answers = Vec::new();
    for load in later {
        answers.push(load.await.unwrap().unwrap());
    }
    assert_eq!(answers, [Some("new".into()), None, Some("new".into())]);
    assert_eq!(memory.calls(), [vec!["user:1"], vec!["user:1", "user:2"]]);
}

#[tokio::test]
async fn the_budget_and_the_size_of_a_batch_are_kept() {
    let (memory, key) = (Memory::new(), keys());
    let limits = Limits { max_fills: 3, batch: 4, ..Limits::default() };
    let loader = Loader::new(Arc::new(memory.clone()), limits, Metrics::default());
    memory.hold(true);
    let loads: Vec<_> = (0..40).map(|id| spawn(&loader, key(&format!("user:{id}")))).collect();
    for _ in 0..3 {
        reached(&memory).await;
    }
    assert_eq!(memory.calls().len(), 3);
    memory.hold(false);
    for _ in 0..3 {
        memory.release.notify_one();
        tokio::task::yield_now().await;
    }
    for load in loads {
        load.await.unwrap().unwrap();
    }
    assert_eq!(memory.most_running(), 3);
    assert!(memory.calls().iter().all(|call| call.len() <= 4), "{:?}", memory.calls());
    assert_eq!(memory.calls().iter().map(Vec::len).sum::<usize>(), 40);
}

#[tokio::test]
async fn groups_take_turns_however_long_their_lanes_are() {
    let (memory, key) = (Memory::new(), keys());
    let limits = Limits { max_fills: 1, batch: 1, ..Limits::default() };
    let loader = Loader::new(Arc::new(memory.clone()), limits, Metrics::default());
    memory.hold(true);
    let mut loads: Vec<_> = (0..20).map(|id| spawn(&loader, key(&format!("user:{id}")))).collect();
    reached(&memory).await;
    loads.push(spawn(&loader, key("order:1")));
    tokio::task::yield_now().await;
    memory.hold(false);
    memory.release.notify_one();
    for load in loads {
        load.await.unwrap().unwrap();
    }
    let turn = memory.calls().iter().position(|call| call[0] == "order:1").unwrap();
    assert!(turn <= 3, "order:1 came as number {turn}");
}

#[tokio::test]
async fn a_group_without_a_batched_query_is_loaded_key_by_key() {
    let (memory, key) = (Memory::new(), keys());
    memory.load_singly();
    let loader = Loader::new(Arc::new(memory.clone()), one_at_a_time(), Metrics::default());
    let loads: Vec<_> = (0..5).map(|id| spawn(&loader, key(&format!("user:{id}")))).collect();
    for load in loads {
        load.await.unwrap().unwrap();
    }
    assert_eq!(memory.calls().len(), 5);
}

#[tokio::test]
async fn the_deadline_counts_waiting_and_frees_the_budget() {
    let (memory, key) = (Memory::new(), keys());
    let limits = Limits { deadline: Duration::from_millis(200), ..one_at_a_time() };
    let loader = Loader::new(Arc::new(memory.clone()), limits, Metrics::default());
    memory.hold(true);
    let started = Instant::now();
    let first = spawn(&loader, key("user:1"));
    reached(&memory).await;
    let waiting = spawn(&loader, key("user:2"));
    for load in [first, waiting] {
        assert!(matches!(load.await.unwrap(), Err(Error::Deadline { .. })));
    }
    assert!(started.elapsed() >= Duration::from_millis(200));
    memory.hold(false);
    assert!(loader.load(key("user:3")).await.is_ok());
}

#[tokio::test]
async fn too_many_waiting_keys_are_refused_at_once_and_room_comes_back() {
    let (memory, key) = (Memory::new(), keys());
    let limits = Limits { max_waiting: 2, ..one_at_a_time() };
    let loader = Loader::new(Arc::new(memory.clone()), limits, Metrics::default());
    memory.hold(true);
    let running = spawn(&loader, key("user:1"));
    reached(&memory).await;
    let waiting = [spawn(&loader, key("user:2")), spawn(&loader, key("user:3"))];
    tokio::task::yield_now().await;
    let refused = loader.load(key("user:4")).await;
    assert!(matches!(refused, Err(Error::Overloaded { waiting: 2, limit: 2 })), "{refused:?}");

    // A caller that gives up leaves its place to another.
    waiting[0].abort();
    tokio::task::yield_now().await;
    let another = spawn(&loader, key("user:4"));
    tokio::task::yield_now().await;
    memory.hold(false);
    memory.release.notify_one();
    assert!(running.await.unwrap().is_ok());
    assert!(another.await.unwrap().is_ok());
    assert!(!memory.calls().iter().flatten().any(|key| key == "user:2"));
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_end_the_batch_of_the_others() {
    let (memory, key) = (Memory::new(), keys());
    let loader = Loader::new(Arc::new(memory.clone()), Limits::default(), Metrics::default());
    memory.put("user:2", "two");
    memory.hold(true);
    let loads = [spawn(&loader, key("user:1")), spawn(&loader, key("user:2"))];
    reached(&memory).await;
    assert_eq!(memory.calls(), [vec!["user:1", "user:2"]]);
    let [gone, stays] = loads;
    gone.abort();
    let _ = gone.await;
    memory.release.notify_one();
    assert_eq!(stays.await.unwrap().unwrap().as_deref(), Some(&b"two"[..]));
}

#[tokio::test]
async fn one_bad_key_fails_alone() {
    let (memory, key) = (Memory::new(), keys());
    let loader = Loader::new(Arc::new(memory.clone()), Limits::default(), Metrics::default());
    memory.put("order:1", "short");
    memory.put("order:2", "far longer than sixteen bytes");
    let (short, long) = tokio::join!(loader.load(key("order:1")), loader.load(key("order:2")));
    assert_eq!(short.unwrap().as_deref(), Some(&b"short"[..]));
    assert!(matches!(long, Err(Error::TooLarge { size: 29, limit: 16, .. })), "{long:?}");
}

#[tokio::test]
async fn a_database_that_is_down_fails_everyone_once() {
    let (memory, key) = (Memory::new(), keys());
    let loader = Loader::new(Arc::new(memory.clone()), Limits::default(), Metrics::default());
    memory.fail(Some(Error::Unavailable("database db is unavailable".into())));
    let (one, two) = tokio::join!(loader.load(key("user:1")), loader.load(key("user:2")));
    assert!(matches!(one, Err(Error::Unavailable(_))));
    assert!(matches!(two, Err(Error::Unavailable(_))));
    assert_eq!(memory.calls().len(), 1);
    memory.fail(None);
    assert!(loader.load(key("user:1")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_one_group_leaves_room_for_others() {
    let (memory, key) = (Memory::new(), keys());
    let limits = Limits { max_waiting: 4, ..one_at_a_time() };
    let loader = Loader::new(Arc::new(memory.clone()), limits, Metrics::default());
    memory.hold(true);
    let mut storm = vec![spawn(&loader, key("user:0"))];
    reached(&memory).await;
    for id in 1..=4 {
        storm.push(spawn(&loader, key(&format!("user:{id}"))));
        tokio::task::yield_now().await;
    }
    let order = spawn(&loader, key("order:1"));
    tokio::task::yield_now().await;
    assert!(matches!(loader.load(key("user:5")).await, Err(Error::Overloaded { waiting: 4, limit: 4 })));
    memory.hold(false);
    memory.release.notify_one();
    assert!(order.await.unwrap().is_ok(), "it took the place of the newest of the storm");
    let mut refused = Vec::new();
    for (id, load) in storm.into_iter().enumerate() {
        if matches!(load.await.unwrap(), Err(Error::Overloaded { .. })) {
            refused.push(id);
        }
    }
    assert_eq!(refused, [4]);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_is_left_alone_and_then_tried() {
    let (memory, key) = (Memory::new(), keys());
    let loader = Loader::new(Arc::new(memory.clone()), Limits::default(), Metrics::default());
    memory.fail(Some(Error::Unavailable("the database is down".into())));
    for _ in 0..20 {
        assert!(matches!(loader.load(key("user:1")).await, Err(Error::Unavailable(_))));
    }
    let asked = memory.calls().len();
    let error = loader.load(key("user:1")).await.unwrap_err();
    assert!(matches!(error, Error::BreakerOpen { .. }), "{error}");
    assert!(error.to_string().contains("the database is down"), "it says why: {error}");
    assert_eq!(memory.calls().len(), asked, "it was not asked");

    memory.fail(None);
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..3 {
        assert!(loader.load(key("user:1")).await.is_ok());
    }
    memory.fail(Some(Error::Query { group: "user".into(), reason: "no such column".into() }));
    for _ in 0..50 {
        assert!(
            matches!(loader.load(key("user:1")).await, Err(Error::Query { .. })),
            "a bad query is no outage"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn reads_that_are_cut_off_open_the_breaker_only_if_they_had_time() {
    let (memory, key) = (Memory::new(), keys());
    let breaker = BreakerLimits { least: 4, ..BreakerLimits::default() };
    let limits = Limits { deadline: Duration::from_secs(2), batch: 1, breaker, ..one_at_a_time() };
    let loader = Loader::new(Arc::new(memory.clone()), limits, Metrics::default());
    memory.hold(true);
    for _ in 0..8 {
        // The second waits for most of its time and is cut off soon after its read has begun.
        let (first, second) = (spawn(&loader, key("user:1")), spawn(&loader, key("user:2")));
        reached(&memory).await;
        tokio::time::advance(Duration::from_millis(1500)).await;
        memory.release.notify_one();
        assert!(first.await.unwrap().is_ok());
        reached(&memory).await;
        assert!(matches!(second.await.unwrap(), Err(Error::Deadline { .. })));
    }
    memory.hold(false);
    assert!(
        loader.load(key("user:1")).await.is_ok(),
        "waiting for the budget says nothing about the database"
    );
}
