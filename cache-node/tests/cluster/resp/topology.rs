//! Several nodes: MOVED, forwarding, CROSSSLOT, and the ring as a cluster.

use std::collections::BTreeMap;

use ring::slot_of;

use super::{Redis, Value, bulk};
use crate::stack::{Running, Stack, row};

async fn two(stack: &Stack) -> (Running, Running) {
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    while [&a, &b].iter().any(|running| running.node.epoch() < stack.registry_epoch()) {
        tokio::task::yield_now().await;
    }
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_is_answered_with_its_owner_or_fetched_if_asked_to() {
    let stack = Stack::new();
    let (a, b) = two(&stack).await;
    let (here, there) = (a.key(), b.key());
    stack.database.put(&there, row(&there, 1));
    let mut redis = Redis::to(&a).await;
    let moved = format!("MOVED {} {}", slot_of(&there), b.member.resp);
    for command in ["GET", "TTL", "DEL", "EXISTS"] {
        assert_eq!(redis.ask(&format!("{command} {there}")).await, Value::Error(moved.clone()), "{command}");
    }
    assert!(
        redis
            .ask(&format!("MGET {here} {there}"))
            .await
            .is_error("CROSSSLOT Keys in request don't hash to the same slot")
    );
    assert!(redis.ask(&format!("DEL {here} {there}")).await.is_error("CROSSSLOT"));
    assert_eq!(Redis::to(&b).await.ask(&format!("GET {there}")).await, bulk(row(&there, 1)));
    redis.ask("READONLY").await;
    assert_eq!(redis.ask(&format!("GET {there}")).await, bulk(row(&there, 1)));
    assert_eq!(
        redis.ask(&format!("MGET {here} {there}")).await,
        Value::Array(vec![Value::Null, bulk(row(&there, 1))])
    );
    redis.ask("READWRITE").await;
    assert!(redis.ask(&format!("GET {there}")).await.is_error("MOVED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_forwards_answers_every_key_of_every_connection() {
    let mut stack = Stack::new();
    stack.config.resp_forward = true;
    let (a, b) = two(&stack).await;
    let there = b.key();
    stack.database.put(&there, row(&there, 1));
    let mut redis = Redis::to(&a).await;
    assert_eq!(redis.ask(&format!("GET {there}")).await, bulk(row(&there, 1)));
    assert_eq!(redis.ask(&format!("DEL {there} {}", a.key())).await, Value::Int(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ring_is_told_as_a_cluster_whose_slots_are_all_served() {
    let stack = Stack::new();
    let (a, b) = two(&stack).await;
    let mut redis = Redis::to(&a).await;
    let Value::Array(ranges) = redis.ask("CLUSTER SLOTS").await else { panic!("slots are an array") };
    let mut owned = BTreeMap::<String, i64>::new();
    for range in ranges {
        let Value::Array(range) = range else { panic!("a range is an array") };
        let [Value::Int(first), Value::Int(last), Value::Array(node)] = &range[..] else {
            panic!("{range:?}")
        };
        let [Value::Bulk(host), Value::Int(port), Value::Bulk(_), _] = &node[..] else { panic!("{node:?}") };
        *owned.entry(format!("{host}:{port}")).or_default() += last - first + 1;
    }
    let ring = a.node.ring();
    let expected: BTreeMap<String, i64> = [&a, &b]
        .map(|running| {
            (running.member.resp.clone(), i64::try_from(ring.owned_by(&running.member.id)).unwrap())
        })
        .into();
    assert_eq!(owned, expected);
    let Value::Bulk(id) = redis.ask("CLUSTER MYID").await else { panic!("an id is text") };
    let Value::Bulk(nodes) = redis.ask("CLUSTER NODES").await else { panic!("nodes are text") };
    let mine = nodes.lines().find(|line| line.contains("myself,master")).unwrap();
    assert!(mine.starts_with(&format!("{id} {}@", a.member.resp)) && nodes.lines().count() == 2, "{nodes}");
    let Value::Array(shards) = redis.ask("CLUSTER SHARDS").await else { panic!("shards are an array") };
    assert_eq!(shards.len(), 2);
    assert_eq!(redis.ask("CLUSTER KEYSLOT foo{hash_tag}").await, Value::Int(2515));
    let Value::Bulk(info) = redis.ask("CLUSTER INFO").await else { panic!("info is text") };
    assert!(info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2"), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_knows_no_foreign_keys() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    assert_eq!(redis.ask("MGET user:1 user:2 user:3").await, Value::Array(vec![Value::Null; 3]));
    assert_eq!(redis.ask("DEL user:1 user:2").await, Value::Int(2), "negative entries are entries");
}
