//! Nodes that can't prove their membership (R6): whatever they are asked, and by whomever, it does not come from their memory.

use cache_node::{Error, Fenced, Hop, Node};
use client::{Client, Config, ReadFrom};
use ring::memory::Registry;
use wire::{Apply, Outcome};

use crate::{
    resp::{Redis, Value, bulk},
    stack::{Running, Stack, row},
};

/// Two nodes, `a` with keys in its memory whose rows have changed since, which nobody has told it; fenced.
async fn fenced(stack: &Stack) -> (Running, Running, Vec<String>) {
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    while a.node.epoch() < stack.registry_epoch() {
        tokio::task::yield_now().await;
    }
    let keys = a.keys(5);
    for key in &keys[..4] {
        stack.database.put(key, row(key, 1)); // the last one has no row yet
    }
    for node in [&a.node, &b.node] {
        node.get_many(&keys, Hop::Forwarded).await.unwrap();
    }
    for answer in a.node.get_many(&keys, Hop::Forwarded).await.unwrap() {
        assert!(matches!(answer.unwrap().outcome, Outcome::Hit | Outcome::NegativeHit));
    }
    for key in &keys {
        stack.database.put(key, row(key, 2));
    }
    stack.registry.fence(&a.member.id);
    (a, b, keys)
}

/// What each way of asking `node` answers.
async fn every_way(node: &Node, keys: &[String]) -> Vec<(String, Result<wire::Answer, Error>)> {
    let mut answers = Vec::new();
    for hop in [Hop::First, Hop::Forwarded] {
        for key in keys {
            answers.push((key.clone(), node.get(key, hop).await));
        }
        answers.extend(keys.iter().cloned().zip(node.get_many(keys, hop).await.unwrap()));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_reads_through_whichever_way_it_is_asked() {
    let stack = Stack::new();
    let (a, b, keys) = fenced(&stack).await;
    let others = b.node.get_many(&keys, Hop::First).await.unwrap();
    let forwarded = keys.iter().cloned().zip(others);
    for (key, answer) in every_way(&a.node, &keys).await.into_iter().chain(forwarded) {
        let answer = answer.unwrap();
        assert_eq!((answer.outcome, answer.ttl), (Outcome::ReadThrough, None), "{key}");
        assert_eq!(answer.value.as_deref(), Some(row(&key, 2).as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_reads_through_for_redis_clients_too_and_writes_nothing_from_its_memory() {
    let stack = Stack::new();
    let (a, _b, keys) = fenced(&stack).await;
    let mut redis = Redis::to(&a).await;
    redis.ask("READONLY").await; // keys of several slots in one request
    for key in &keys {
        assert_eq!(redis.ask(&format!("GET {key}")).await, bulk(row(key, 2)));
        assert_eq!(redis.ask(&format!("EXISTS {key}")).await, Value::Int(1));
    }
    let rows = Value::Array(keys.iter().map(|key| bulk(row(key, 2))).collect());
    assert_eq!(redis.ask(&format!("MGET {}", keys.join(" "))).await, rows);
    let stats = a.node.stats();
    assert_eq!(stats.hits, 4, "those before it was fenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_that_may_not_read_through_answers_nothing_and_others_read_past_it() {
    let mut stack = Stack::new();
    stack.config.fenced = Fenced::Unavailable;
    let (a, b, keys) = fenced(&stack).await;
    for (key, answer) in every_way(&a.node, &keys).await {
        assert!(matches!(answer, Err(Error::Fenced)), "{key}: {answer:?}");
    }
    let client = Client::from_seeds(vec![a.member.grpc.clone()], Config::default()).await.unwrap();
    let (of_b, of_client) = (b.node.get_many(&keys, Hop::First).await.unwrap(), client.get_many(&keys).await);
    for (key, answer) in keys.iter().zip(of_b) {
        assert_eq!(answer.unwrap().value.as_deref(), Some(row(key, 2).as_bytes()));
    }
    for (key, answer) in keys.iter().zip(of_client) {
        assert_eq!(answer.unwrap().value.as_deref(), Some(row(key, 2).as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_replica_serves_nothing_from_memory_either() {
    let mut stack = Stack::new();
    stack.registry = Registry::new(2);
    let (a, b, keys) = fenced(&stack).await;
    let of_b: Vec<String> =
        (0..).map(|id| format!("user:{id}")).filter(|key| b.keys(20).contains(key)).take(2).collect();
    for key in &of_b {
        stack.database.put(key, row(key, 2));
    }
    let keys = [keys, of_b].concat();
    for (key, answer) in every_way(&a.node, &keys).await {
        let answer = answer.unwrap();
        assert_eq!(answer.outcome, Outcome::ReadThrough, "{key}");
        assert_eq!(answer.value.as_deref(), Some(row(&key, 2).as_bytes()));
    }
    // A client that reads from any holder gets what any reader may get: b was not told either, and is no worse than that.
    let config = Config { read_from: ReadFrom::Any, ..Config::default() };
    let client = Client::from_seeds(vec![b.member.grpc.clone()], config).await.unwrap();
    for _ in 0..20 {
        let answer = client.get(&keys[0]).await.unwrap();
        assert!(answer.node == "b" || answer.outcome == Outcome::ReadThrough, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_applies_and_acknowledges_and_remembers_what_it_was_told() {
    let stack = Stack::new();
    let (a, _b, keys) = fenced(&stack).await;
    let apply = Apply { epoch: stack.registry_epoch(), remove: keys[..2].to_vec(), ..Apply::default() };
    let ack = a.node.apply(&apply).await.unwrap();
    assert_eq!((ack.removed, ack.epoch), (2, stack.registry_epoch()));
    // etcd answers in time: the lease was alive all along, and whoever changed a row has waited for this node.
    stack.registry.unfence(&a.member.id);
    let answers = a.node.get_many(&keys, Hop::First).await.unwrap();
    for (at, (key, answer)) in keys.iter().zip(answers).enumerate() {
        let answer = answer.unwrap();
        let (outcome, version) = match at {
            0 | 1 => (Outcome::Miss, Some(2)),
            4 => (Outcome::NegativeHit, None),
            _ => (Outcome::Hit, Some(1)),
        };
        assert_eq!(answer.outcome, outcome, "{key}");
        assert_eq!(
            answer.value.as_deref(),
            version.map(|version| row(key, version)).as_ref().map(String::as_bytes)
        );
    }
}
