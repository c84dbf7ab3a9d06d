//! `stale_if_error`: what may be served when the database can't answer, and what never.

use std::{sync::Arc, time::Duration};

use cache_node::{Error, Hop};
use catalog::Catalog;
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};
use wire::{Outcome, ReadOptions};

use crate::stack::{Running, Stack, row};

const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"
ttl   = "50ms"
ttl_jitter = 0.0
stale_if_error = "1h"

[[group]]
name  = "price"
key   = "price:{id:u64}"
query = "SELECT id, price FROM shop.products WHERE id = {id}"
max_staleness = "50ms"
stale_if_error = "1h"

[[group]]
name  = "brief"
key   = "brief:{id:u64}"
query = "SELECT id, price FROM shop.products WHERE id = {id}"
ttl   = "50ms"
ttl_jitter = 0.0
stale_if_error = "50ms"

[[group]]
name  = "old"
key   = "old:{id:u64}"
query = "SELECT id, price FROM shop.products WHERE id = {id}"
max_staleness = "20ms"
stale_if_error = "50ms"

[[group]]
name  = "strict"
key   = "strict:{id:u64}"
query = "SELECT id, price FROM shop.products WHERE id = {id}"
ttl   = "50ms"
ttl_jitter = 0.0
"#;

#[expect(clippy::unnecessary_wraps, reason = "what the database is told to fail with")]
fn down() -> Option<loader::Error> {
    Some(loader::Error::Unavailable("the database is down".into()))
}

/// A node alone that has read all of `keys`, whose times are over, and whose database is down.
async fn outage(stack: &mut Stack, keys: &[&str]) -> Running {
    stack.catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
    let a = stack.start("a").await;
    for key in keys {
        stack.database.put(key, row(key, 1));
        assert_eq!(a.node.get(key, Hop::First).await.unwrap().outcome, Outcome::Miss);
    }
    stack.database.fail(down());
    sleep(Duration::from_millis(150)).await; // their times are over
    a
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_ran_out_of_time_is_served_and_marked() {
    let mut stack = Stack::new();
    let a = outage(&mut stack, &["user:1", "price:1", "brief:1", "old:1", "strict:1"]).await;
    for key in ["user:1", "price:1"] {
        let answer = a.node.get(key, Hop::First).await.unwrap();
        assert_eq!((answer.outcome, answer.value.as_deref()), (Outcome::Stale, Some(row(key, 1).as_bytes())));
        assert!(answer.age >= Duration::from_millis(150) && answer.freshness >= Duration::from_millis(50));
        assert_eq!(answer.ttl, None);
    }
    for key in ["brief:1", "old:1", "strict:1", "user:2"] {
        let error = a.node.get(key, Hop::First).await.unwrap_err();
        assert!(error.to_string().contains("is down"), "{key} is beyond its bound: {error}");
    }
    let strict = ReadOptions { max_staleness: Some(Duration::from_millis(50)), ..ReadOptions::default() };
    assert!(a.node.get_with("user:1", Hop::First, strict).await.is_err(), "the reader's own demand is kept");
    let lax = ReadOptions { max_staleness: Some(Duration::from_hours(1)), ..ReadOptions::default() };
    assert_eq!(a.node.get_with("user:1", Hop::First, lax).await.unwrap().outcome, Outcome::Stale);

    stack.database.fail(None);
    stack.database.put("user:1", row("user:1", 2));
    let answer = a.node.get("user:1", Hop::First).await.unwrap();
    assert_eq!((answer.outcome, answer.value.as_deref()), (Outcome::Miss, Some(row("user:1", 2).as_bytes())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_only_is_not_liked_is_no_outage() {
    let mut stack = Stack::new();
    let a = outage(&mut stack, &["user:1"]).await;
    stack.database.fail(Some(loader::Error::TooLarge { group: "user".into(), size: 2, limit: 1 }));
    assert!(matches!(
        a.node.get("user:1", Hop::First).await,
        Err(Error::Fill(loader::Error::TooLarge { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_removed_is_never_served_stale() {
    let mut stack = Stack::new();
    let a = outage(&mut stack, &["user:1", "user:2", "user:3", "user:4"]).await;
    let is_stale = async |key: &str| {
        a.node.get(key, Hop::First).await.is_ok_and(|answer| answer.outcome == Outcome::Stale)
    };
    for key in ["user:1", "user:2", "user:3", "user:4"] {
        assert!(is_stale(key).await);
    }
    a.node.remove(&["user:1".to_owned()], Hop::First).await.unwrap();
    assert!(!is_stale("user:1").await, "removed");
    assert!(is_stale("user:2").await);

    // Removed while the fill is under way that then fails.
    stack.database.hold(true);
    let node = a.node.clone();
    let reader = tokio::spawn(async move { node.get("user:2", Hop::First).await });
    timeout(Duration::from_secs(10), stack.database.reached.notified()).await.unwrap();
    a.node.remove(&["user:2".to_owned()], Hop::First).await.unwrap();
    stack.database.hold(false);
    stack.database.release.notify_one();
    assert!(reader.await.unwrap().is_err());

    stack.registry.fence(&a.member.id);
    assert!(!is_stale("user:3").await, "a fenced node serves nothing from memory");
    stack.registry.unfence(&a.member.id);
    assert!(is_stale("user:3").await);
    a.node.flush(&["user".to_owned()], Hop::First).await.unwrap();
    assert!(!is_stale("user:3").await, "flushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_while_a_fill_fails_leaves_nothing_to_be_served_stale() {
    let mut stack = Stack::new();
    let a = outage(&mut stack, &["user:1"]).await;
    for fences in [true, false] {
        stack.database.hold(true);
        let node = a.node.clone();
        let reader = tokio::spawn(async move { node.get("user:1", Hop::First).await });
        // The node was a member when it looked whether it may speak for its memory ...
        timeout(Duration::from_secs(10), stack.database.reached.notified()).await.unwrap();
        if fences {
            stack.registry.fence(&a.member.id);
        }
        stack.database.hold(false);
        stack.database.release.notify_one(); // ... and the database can't answer
        let answer = reader.await.unwrap();
        if fences {
            assert!(matches!(answer, Err(Error::Fill(_))), "{answer:?}");
            stack.registry.unfence(&a.member.id);
        } else {
            assert_eq!(answer.unwrap().outcome, Outcome::Stale, "the entry was there all the time");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_through_another_node_is_told_too() {
    let mut stack = Stack::new();
    stack.catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = b.key();
    stack.database.put(&key, row(&key, 1));
    a.node.get(&key, Hop::First).await.unwrap();
    stack.database.fail(down());
    let until = Instant::now() + Duration::from_secs(10);
    let answer = loop {
        let answer = a.node.get(&key, Hop::First).await.unwrap();
        if answer.outcome != Outcome::Hit {
            break answer;
        }
        assert!(Instant::now() < until);
    };
    assert_eq!((answer.outcome, &*answer.node), (Outcome::Stale, "b"));
    let (status, head, _) = crate::answers::http(a.http, "GET", &format!("/v1/keys/{key}")).await;
    assert_eq!(status, 200);
    for header in [
        "warning: 110 freshline \"response is stale\"",
        "x-freshline-stale: true",
        "x-freshline-outcome: stale",
    ] {
        assert!(head.contains(header), "{header} in {head}");
    }
    let (_, _, metrics) = crate::answers::http(b.http, "GET", "/metrics").await;
    assert!(metrics.contains("freshline_node_gets_total{group=\"user\",outcome=\"stale\"} 2"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_fill_that_ends_stale_is_told_too() {
    let mut stack = Stack::with_replicas(2);
    stack.catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = a.key(); // so that b, the replica, asks a
    stack.database.put(&key, row(&key, 1));
    assert_eq!(b.node.get(&key, Hop::First).await.unwrap().outcome, Outcome::Miss);
    sleep(Duration::from_millis(150)).await; // its time is over
    stack.database.fail(down());
    stack.database.hold(true);
    let node = b.node.clone();
    let first = tokio::spawn({
        let key = key.clone();
        async move { node.get(&key, Hop::First).await }
    });
    timeout(Duration::from_secs(10), stack.database.reached.notified()).await.unwrap();
    let mut second = Box::pin(b.node.get(&key, Hop::First));
    assert!((&mut second).now_or_never().is_none(), "it shares the asking that is under way");
    stack.database.hold(false);
    stack.database.release.notify_one();
    assert_eq!(first.await.unwrap().unwrap().outcome, Outcome::Stale);
    assert_eq!(second.await.unwrap().outcome, Outcome::Stale);
}
