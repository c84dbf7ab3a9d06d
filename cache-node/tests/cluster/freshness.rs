//! How fresh an answer is, and what becomes of one that is not fresh enough.

use std::{sync::Arc, time::Duration};

use cache_node::{Hop, Node};
use catalog::Catalog;
use client::Peers;
use prometheus_client::registry::Registry;
use ring::Epoch;
use tokio::time::advance;
use wire::{Answer, Clock, Heartbeat, Outcome, PartitionName, ReadOptions, Watermark, Watermarks};

use crate::{
    answers::http,
    stack::{CATALOG, Stack, row},
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at_most(bound: Duration) -> ReadOptions {
    ReadOptions { max_staleness: Some(bound), ..ReadOptions::default() }
}

fn partition() -> PartitionName {
    PartitionName { topic: "shop".into(), number: 0 }
}

/// All changes until now are applied on the node whose clock this is.
fn up_to(clock: Clock) -> Watermarks {
    let at = i64::try_from(clock.micros).unwrap();
    let watermark = Watermark { partition: partition(), next: 7, at };
    Watermarks { clock: clock.id, partitions: vec![watermark], all: vec![partition()], listed: at }
}

/// A node alone, without ports, in time that stands still.
async fn alone(stack: &Stack) -> Arc<Node> {
    let (_, parts) = stack.parts("a");
    let node = Node::start(stack.config.clone(), parts, &mut Registry::default());
    node.join().await;
    node
}

fn clock(node: &Arc<Node>) -> Clock {
    node.heartbeat(&Heartbeat::default()).clock.expect("a node tells its clock")
}

/// The sync service tells that everything until now is applied.
fn beat(node: &Arc<Node>) {
    let watermarks = Some(up_to(clock(node)));
    node.heartbeat(&Heartbeat { epoch: Epoch(0), watermarks });
}

async fn read(node: &Arc<Node>, options: ReadOptions) -> Answer {
    node.get_with("user:1", Hop::First, options).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_value_is_as_fresh_as_its_read_or_the_lowest_watermark_whichever_is_later() {
    let stack = Stack::new();
    stack.database.put("user:1", row("user:1", 1));
    let node = alone(&stack).await;
    let filled = read(&node, ReadOptions::default()).await;
    assert_eq!((filled.outcome, filled.freshness), (Outcome::Miss, Duration::ZERO));
    advance(ms(5000)).await;
    let unknown = read(&node, ReadOptions::default()).await;
    assert_eq!((unknown.outcome, unknown.age, unknown.freshness), (Outcome::Hit, ms(5000), ms(5000)));
    beat(&node);
    advance(ms(300)).await;
    let known = read(&node, ReadOptions::default()).await;
    assert_eq!((known.outcome, known.age, known.freshness), (Outcome::Hit, ms(5300), ms(300)));
    assert_eq!(node.explain("user:1", Hop::First).await.unwrap().freshness, ms(300));
    // A fill after the watermark is fresher than it.
    node.remove(&["user:1".into()], Hop::First).await.unwrap();
    read(&node, ReadOptions::default()).await;
    advance(ms(10)).await;
    assert_eq!(read(&node, ReadOptions::default()).await.freshness, ms(10));
}

#[tokio::test(start_paused = true)]
async fn a_dead_sync_service_costs_one_read_of_the_database_per_key_and_bound() {
    let stack = Stack::new();
    stack.database.put("user:1", row("user:1", 1));
    let node = alone(&stack).await;
    beat(&node);
    read(&node, ReadOptions::default()).await;
    let mut reads = 0;
    for _ in 0..100 {
        advance(ms(100)).await; // and nobody tells anything
        let answer = read(&node, at_most(ms(2000))).await;
        assert!(answer.freshness <= ms(2000), "{answer:?}");
        reads += u32::from(answer.outcome == Outcome::Miss);
    }
    assert_eq!(reads, 4, "in ten seconds, with a bound of two");
    assert_eq!(stack.database.calls().len(), 5);
    // Who does not care gets what is there.
    assert_eq!(read(&node, ReadOptions::default()).await.outcome, Outcome::Hit);
    // The sync service is back: the same entry is fresh again.
    advance(ms(60_000)).await;
    beat(&node);
    assert_eq!(read(&node, at_most(ms(2000))).await.outcome, Outcome::Hit);
}

#[tokio::test(start_paused = true)]
async fn the_stricter_of_the_readers_and_the_groups_bound_holds() {
    let mut stack = Stack::new();
    let catalog = CATALOG.replacen("ttl   =", "max_staleness = \"1s\"\nttl   =", 1);
    stack.catalog = Arc::new(Catalog::parse("test.toml", &catalog).unwrap());
    stack.database.put("user:1", row("user:1", 1));
    let node = alone(&stack).await;
    read(&node, ReadOptions::default()).await;
    advance(ms(900)).await;
    assert_eq!(read(&node, ReadOptions::default()).await.outcome, Outcome::Hit);
    assert_eq!(read(&node, at_most(ms(5000))).await.outcome, Outcome::Hit);
    advance(ms(200)).await;
    assert_eq!(read(&node, at_most(ms(5000))).await.outcome, Outcome::Miss, "the group's");
    advance(ms(500)).await;
    assert_eq!(read(&node, at_most(ms(400))).await.outcome, Outcome::Miss, "the reader's");
    let many = node.get_many_with(&["user:1".into()], Hop::First, at_most(ms(400))).await.unwrap();
    assert_eq!(many[0].as_ref().unwrap().outcome, Outcome::Hit);
    advance(ms(401)).await;
    let many = node.get_many_with(&["user:1".into()], Hop::First, at_most(ms(400))).await.unwrap();
    assert_eq!(many[0].as_ref().unwrap().outcome, Outcome::Miss);
}

#[tokio::test(start_paused = true)]
async fn a_fill_is_shared_only_by_those_for_whom_it_began_recently_enough() {
    let stack = Stack::new();
    stack.database.put("user:1", row("user:1", 1));
    let node = alone(&stack).await;
    stack.database.hold(true);
    let ask = |options| {
        let node = node.clone();
        tokio::spawn(async move { read(&node, options).await })
    };
    let first = ask(ReadOptions::default());
    stack.database.reached.notified().await;
    advance(ms(300)).await;
    stack.database.put("user:1", row("user:1", 2));
    let content = ask(at_most(ms(500)));
    let strict = ask(at_most(ms(200)));
    stack.database.reached.notified().await; // a second read, for the strict one
    stack.database.hold(false);
    stack.database.release.notify_one();
    stack.database.release.notify_one();
    let (first, content, strict) = (first.await.unwrap(), content.await.unwrap(), strict.await.unwrap());
    assert_eq!(
        (first.outcome, content.outcome, strict.outcome),
        (Outcome::Miss, Outcome::Shared, Outcome::Miss)
    );
    assert_eq!(content.value.as_deref(), Some(row("user:1", 1).as_bytes()));
    assert_eq!(strict.value.as_deref(), Some(row("user:1", 2).as_bytes()));
    assert_eq!(stack.database.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_has_a_node_that_is_behind_catch_up_without_waiting_for_it() {
    let stack = Stack::new();
    let node = alone(&stack).await;
    let behind = node.heartbeat(&Heartbeat::default());
    assert_eq!((&behind.node, behind.epoch), (node.id(), node.epoch()));
    let (_, parts) = stack.parts("b"); // a member more, of which the node has not heard yet
    let epoch = stack.registry_epoch();
    assert!(epoch > behind.epoch);
    node.heartbeat(&Heartbeat { epoch, watermarks: None });
    tokio::time::timeout(ms(1000), async {
        while node.heartbeat(&Heartbeat::default()).confirmed_epoch < epoch {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it catches up and confirms");
    drop(parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readers_bound_travels_to_the_owner_and_freshness_back() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = b.key();
    stack.database.put(&key, row(&key, 1));
    let get = |options| {
        let (node, key) = (a.node.clone(), key.clone());
        async move { node.get_with(&key, Hop::First, options).await.unwrap() }
    };
    assert_eq!(get(ReadOptions::default()).await.outcome, Outcome::Miss);
    assert_eq!(get(at_most(Duration::from_hours(1))).await.outcome, Outcome::Hit);
    assert_eq!(get(at_most(Duration::ZERO)).await.outcome, Outcome::Miss, "nothing is that fresh");
    // Over the wire, as the sync service does it.
    let peers = Peers::new(client::Config::default());
    let alive = peers.heartbeat(&b.member, Heartbeat::default(), ms(5000)).await.unwrap();
    assert_eq!((alive.node.as_str(), alive.confirmed_epoch), ("b", b.node.epoch()));
    let told = std::time::Instant::now();
    let watermarks = Some(up_to(alive.clock.unwrap()));
    peers.heartbeat(&b.member, Heartbeat { epoch: Epoch(0), watermarks }, ms(5000)).await.unwrap();
    let hit = get(ReadOptions::default()).await;
    assert_eq!(hit.outcome, Outcome::Hit);
    assert!(hit.freshness < hit.age + told.elapsed(), "{hit:?}");
    let other = ring::Member { id: "c".into(), ..b.member.clone() };
    let wrong = peers.heartbeat(&other, Heartbeat::default(), ms(5000)).await;
    assert!(wrong.unwrap_err().to_string().contains("node b answers at its address"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_tells_the_freshness_and_takes_a_bound() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    let path = format!("/v1/keys/{key}");
    let (status, head, _) = http(a.http, "GET", &path).await;
    assert_eq!(status, 200);
    assert!(head.contains("x-freshline-freshness-ms: "), "{head}");
    let (_, head, _) = http(a.http, "GET", &format!("{path}?max_staleness=1h")).await;
    assert!(head.contains("x-freshline-outcome: hit"), "{head}");
    let (_, head, _) = http(a.http, "GET", &format!("{path}?max_staleness=0s")).await;
    assert!(head.contains("x-freshline-outcome: miss"), "{head}");
    for bad in ["max_staleness=2", "max_staleness=soon", "staleness=2s"] {
        let (status, _, body) = http(a.http, "GET", &format!("{path}?{bad}")).await;
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("?max_staleness=2s"), "{body}");
    }
    let (_, _, metrics) = http(a.http, "GET", "/metrics").await;
    assert!(metrics.contains("freshline_freshness_seconds"), "{metrics}");
    assert!(metrics.contains("freshline_node_too_old_total 1"), "{metrics}");
}
