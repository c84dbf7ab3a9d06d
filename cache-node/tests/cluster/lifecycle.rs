//! Nodes that join, leave, lose their lease and stop.

use std::{sync::Arc, time::Duration};

use cache_node::{Hop, Node};
use client::{Client, Config};
use daemon::admin::Readiness;
use ring::MemberState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::{
    answers::http,
    changes::removal,
    handover::settled,
    stack::{Stack, row},
};

/// Waits until a node goes by a ring of `epoch` or later.
async fn reaches(node: &Arc<Node>, epoch: ring::Epoch) {
    while node.epoch() < epoch {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_comes_back_brings_nothing_old_back() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let keys: Vec<String> = (0..100).map(|id| format!("user:{id}")).collect();
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    a.node.get_many(&keys, Hop::First).await.unwrap();
    let b = stack.start("b").await;
    let moved = b.key();
    settled(&a, b.node.epoch()).await; // a has handed over and dropped what it lost
    stack.database.put(&moved, row(&moved, 2)); // delivered to b alone, which owns it
    b.node.apply(&removal(b.node.epoch(), &moved)).await.unwrap();
    b.stop().await;
    let epoch = stack.registry_epoch();
    reaches(&a.node, epoch).await;
    let answer = a.node.get(&moved, Hop::First).await.unwrap();
    assert_eq!(answer.value.as_deref(), Some(row(&moved, 2).as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_lease_ended_comes_back_with_an_empty_store() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    a.node.get(&key, Hop::First).await.unwrap();
    let before = a.node.stats().incarnation;
    stack.registry.expire(&a.member.id);
    stack.database.put(&key, row(&key, 2)); // nobody tells a, which is no member
    let answer = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!(answer.value.as_deref(), Some(row(&key, 2).as_bytes()), "not a member, so not from memory");
    stack.registry.revive(&a.member.id);
    let answer = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!(answer.value.as_deref(), Some(row(&key, 2).as_bytes()));
    while a.node.stats().slots == 0 {
        tokio::task::yield_now().await; // it takes its place again by itself
    }
    assert!(a.node.stats().incarnation > before);
    assert_eq!(a.node.get(&key, Hop::First).await.unwrap().value.as_deref(), Some(row(&key, 2).as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_the_ring_first_and_gives_the_lease_back_last() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    assert_eq!(http(b.http, "GET", "/readyz").await.0, 200);
    let (member, node) = (b.member.clone(), b.node.clone());
    b.stop().await;
    assert!(a.node.ring().member(&member.id).is_none());
    assert_eq!(node.stats().slots, 0);
    reaches(&a.node, stack.registry_epoch()).await;
    assert_eq!(a.node.stats().slots, 16384);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_under_load_fails_no_request() {
    let mut stack = Stack::new();
    stack.config.leave = Duration::from_millis(200);
    let (a, b, c) = (stack.start("a").await, stack.start("b").await, stack.start("c").await);
    let keys: Vec<String> = (0..500).map(|id| format!("user:{id}")).collect();
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    let client = Client::from_seeds(vec![a.member.grpc.clone()], Config::default()).await.unwrap();
    let (client, keys) = (Arc::new(client), Arc::new(keys));
    let stopped = CancellationToken::new();
    let load: Vec<_> = (0..8usize)
        .map(|worker| {
            let (client, keys, stopped) = (client.clone(), keys.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut asked = 0;
                while !stopped.is_cancelled() || asked < 2 {
                    let key = keys[(worker * 61 + asked) % keys.len()].clone();
                    let answer = client.get(&key).await.expect("every request is answered");
                    assert_eq!(answer.value.as_deref(), Some(row(&key, 1).as_bytes()));
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    b.stop().await;
    stopped.cancel();
    for worker in load {
        assert!(worker.await.unwrap() > 1);
    }
    assert_eq!(a.node.stats().slots + c.node.stats().slots, 16384);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_hangs_up_does_not_hold_the_stop() {
    let mut stack = Stack::new();
    stack.config.grace = Duration::from_secs(1);
    let a = stack.start("a").await;
    let _silent = tokio::net::TcpStream::connect(a.http).await.unwrap();
    let grpc = a.member.grpc.trim_start_matches("http://").to_owned();
    let _mute = tokio::net::TcpStream::connect(grpc).await.unwrap();
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_and_is_not_ready_until_it_is_in_the_ring() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    assert!(a.node.ring().members().iter().all(|member| member.state == MemberState::Active));
    let (_, _, metrics) = http(a.http, "GET", "/metrics").await;
    for name in ["freshline_node_slots", "freshline_node_fenced", "freshline_node_memory_bytes"] {
        assert!(metrics.contains(name), "{name}");
    }
    let b = stack.begin("b");
    b.node.get("user:1", Hop::First).await.unwrap();
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_its_database_says_so_and_stops_when_told() {
    let stack = Stack::new();
    let (server, parts) = stack.parts("a");
    let (http_addr, resp_addr) = (server.http_addr(), server.resp_addr().unwrap());
    let registry = daemon::metrics::shared();
    let node = Node::start(stack.config.clone(), parts, &mut registry.lock());
    let (readiness, stop) = (Readiness::new(), CancellationToken::new());
    readiness.wait("database", "waiting for mysql://db/shop");
    let prepared = std::future::pending::<anyhow::Result<()>>();
    let running = tokio::spawn(server.serve_when(prepared, node, registry, readiness, stop.clone()));
    let (status, _, body) = http(http_addr, "GET", "/readyz").await;
    assert!(status == 503 && body.contains("waiting for mysql://db/shop"), "{body}");
    assert_eq!(http(http_addr, "GET", "/healthz").await.0, 200);
    // *The catalog is not fit for the database; before that is found out, rows are served by it.*
    stack.database.put("user:1", "{}");
    let (status, _, body) = http(http_addr, "GET", "/v1/keys/user:1").await;
    assert!(status == 503 && body.contains("this node is starting"), "{body}");
    let mut redis = tokio::net::TcpStream::connect(resp_addr).await.unwrap();
    redis.write_all(b"GET user:1\r\n").await.unwrap();
    let mut reply = [0; 8];
    redis.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"-LOADING");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_outlives_a_database_and_an_etcd_that_are_down() {
    if !cache_node::Settings::HAS_ETCD {
        return eprintln!("skipped: this build has no etcd in it, as the whole workspace's has");
    }
    let config = format!(
        "{}\n[node]\nid = \"a\"\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nleave = \"0s\"\n\
         [database]\nurl = \"mysql://app:secret@127.0.0.1:1/shop\"\n\
         [cluster]\netcd = [\"http://127.0.0.1:1\"]\n",
        crate::stack::CATALOG
    );
    let layers = daemon::config::Layers::from_text("test.toml", &config, std::iter::empty()).unwrap();
    let stop = CancellationToken::new();
    let mut running = Box::pin(cache_node::run(&layers, stop.clone()));
    let waited = tokio::time::timeout(Duration::from_millis(500), &mut running).await;
    assert!(waited.is_err(), "it waits: {waited:?}");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("a stop is bounded").unwrap();
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    let config = "[node]\nmemory = \"lots\"\nweight = 0\nid = \"a b\"\n[cluster]\nreplicas = 0\n[[group]]\nname = \"user\"\n";
    let layers = daemon::config::Layers::from_text("test.toml", config, std::iter::empty()).unwrap();
    let problems = cache_node::Settings::load(&layers).unwrap_err().to_string();
    for place in ["node.memory", "node.weight", "node.id", "cluster.replicas", "database.url", "test.toml:7"]
    {
        assert!(problems.contains(place), "{place} in:\n{problems}");
    }
}
