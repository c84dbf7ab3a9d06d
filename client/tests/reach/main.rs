//! The client against small working nodes on loopback: who is asked, when again, and what comes back.
#![allow(missing_docs, reason = "tests")]

mod fake;
mod silence;
mod spread;

use std::{sync::Arc, time::Duration};

use client::{Client, Config, Error, Peers};
use fake::{Fake, ring_of};
use ring::{Epoch, NodeId, Ring, slot_of};
use tonic::Code;
use wire::{Apply, Outcome};

/// Bounds every wait on an event that a broken client would never bring about.
const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    Config {
        deadline: Duration::from_secs(10),
        backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(5),
        ..Config::default()
    }
}

async fn client(seed: &Fake, config: Config) -> Client {
    Client::from_seeds(vec![seed.address.clone()], config).await.unwrap()
}

/// A key that `id` owns.
fn key_of(ring: &Ring, id: &str) -> String {
    (0..100_000)
        .map(|i| format!("user:{i}"))
        .find(|key| ring.owner(slot_of(key)).unwrap().id.as_str() == id)
        .unwrap()
}

async fn wait_for(client: &Client, wanted: impl FnMut(&Arc<Ring>) -> bool) -> Arc<Ring> {
    let mut rings = client.watch();
    let ring = tokio::time::timeout(PATIENCE, rings.wait_for(wanted)).await;
    ring.expect("the ring changes in time").unwrap().clone()
}

#[tokio::test]
async fn each_key_goes_to_its_owner() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let client = client(&a, config()).await;
    for id in ["a", "b"] {
        let key = key_of(&ring, id);
        let answer = client.get(&key).await.unwrap();
        assert_eq!((answer.node.as_str(), answer.outcome), (id, Outcome::Hit));
        assert_eq!(answer.value.as_deref(), Some(format!("\"{key}\"").as_bytes()));
        assert_eq!(client.explain(&key).await.unwrap().node, id);
    }
    assert_eq!((a.seen().len(), b.seen().len()), (2, 2));
}

#[tokio::test]
async fn calls_may_be_spawned() {
    let a = Fake::start("a").await;
    ring_of(1, &[&a], 1);
    let client = client(&a, config()).await;
    let tasks = (0..8).map(|i| {
        let client = client.clone();
        tokio::spawn(async move {
            let key = format!("user:{i}");
            client.get_many(std::slice::from_ref(&key)).await.remove(0)?;
            client.remove(std::slice::from_ref(&key)).await?;
            client.flush(&["user"]).await?;
            client.get(&key).await
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_batch_is_one_request_per_owner_and_keeps_its_order() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    ring_of(1, &[&a, &b], 1);
    let client = client(&a, config()).await;
    a.bad_keys
        .lock()
        .unwrap()
        .insert("user:x".to_owned(), (Code::InvalidArgument, "`x` is not a u64".to_owned()));
    b.bad_keys
        .lock()
        .unwrap()
        .insert("user:x".to_owned(), (Code::InvalidArgument, "`x` is not a u64".to_owned()));
    let mut keys: Vec<String> = (0..50).map(|i| format!("user:{i}")).collect();
    keys.insert(20, "user:x".to_owned());
    keys.push("user:3".to_owned()); // asked for twice
    let results = client.get_many(&keys).await;
    for (key, result) in keys.iter().zip(&results) {
        match result {
            Ok(answer) => assert_eq!(answer.value.as_deref(), Some(format!("\"{key}\"").as_bytes())),
            Err(error) => {
                assert_eq!(
                    (key.as_str(), error),
                    ("user:x", &Error::InvalidKey { message: "`x` is not a u64".to_owned() })
                );
            }
        }
    }
    assert_eq!(results.len(), keys.len());
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
    assert!(client.get_many::<String>(&[]).await.is_empty());
}

#[tokio::test]
async fn long_batches_are_split() {
    let a = Fake::start("a").await;
    ring_of(1, &[&a], 1);
    let client = client(&a, Config { batch: 10, ..config() }).await;
    let keys: Vec<String> = (0..25).map(|i| format!("user:{i}")).collect();
    assert!(client.get_many(&keys).await.iter().all(Result::is_ok));
    assert_eq!(a.seen().len(), 3);
    assert_eq!(client.remove(&keys).await, Ok(25));
    assert_eq!(a.seen().len(), 6);
}

#[tokio::test]
async fn a_reply_from_a_newer_epoch_refreshes_the_ring() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    ring_of(1, &[&a], 1);
    let client = client(&a, config()).await;
    assert_eq!(client.ring().epoch(), Epoch(1));
    let ring = ring_of(2, &[&a, &b], 1);
    client.get("user:1").await.unwrap();
    assert_eq!(wait_for(&client, |ring| ring.epoch() == Epoch(2)).await.members().len(), 2);
    assert_eq!(client.get(&key_of(&ring, "b")).await.unwrap().node, "b");
}

#[tokio::test]
async fn the_newest_ring_is_asked_for_at_the_node_that_has_it() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let old = ring_of(1, &[&a, &b], 1);
    let client = client(&a, config()).await;
    // Only b knows of epoch 5; a keeps telling the old one.
    ring_of(5, &[&b], 1);
    client.get(&key_of(&old, "b")).await.unwrap();
    assert_eq!(wait_for(&client, |ring| ring.epoch() == Epoch(5)).await.members().len(), 1);
}

#[tokio::test]
async fn hints_that_come_together_share_one_refresh() {
    let a = Fake::start("a").await;
    ring_of(1, &[&a], 1);
    let client = client(&a, config()).await;
    ring_of(2, &[&a], 1);
    let keys: Vec<String> = (0..100).map(|i| format!("user:{i}")).collect();
    let gets = keys.iter().map(|key| client.get(key));
    for answer in futures_util::future::join_all(gets).await {
        answer.unwrap();
    }
    wait_for(&client, |ring| ring.epoch() == Epoch(2)).await;
    let told = a.rings_told.load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=4).contains(&told), "100 hints cost {told} requests");
}

#[tokio::test]
async fn an_unavailable_owner_is_not_asked_twice_while_another_node_forwards() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let config = config();
    let metrics = config.metrics.clone();
    let client = client(&a, config).await;
    b.fail_with(Code::Unavailable, "stopping");
    let key = key_of(&ring, "b");
    assert_eq!(client.get(&key).await.unwrap().node, "a");
    assert_eq!((b.seen().len(), metrics.retries.get()), (1, 1));
    assert_eq!(client.remove(&[key.as_str()]).await, Ok(1));
    assert!(client.get_many(&[key]).await[0].is_ok());
    assert_eq!((b.seen().len(), metrics.retries.get()), (3, 3));
}

#[tokio::test]
async fn a_key_that_fails_inside_a_batch_is_asked_again_alone() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let client = client(&a, config()).await;
    let (of_a, of_b) = (key_of(&ring, "a"), key_of(&ring, "b"));
    b.bad_keys.lock().unwrap().insert(of_b.clone(), (Code::Unavailable, "database is down".to_owned()));
    let results = client.get_many(&[of_a.clone(), of_b.clone()]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(a.seen(), [format!("many {of_a}"), format!("many {of_b}")]);
}

#[tokio::test]
async fn a_dead_node_is_passed_by_and_its_breaker_opens_and_closes() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let key = key_of(&ring, "b");
    let config = Config { breaker_failures: 2, breaker_cool_down: Duration::from_millis(200), ..config() };
    let metrics = config.metrics.clone();
    let client = client(&a, config).await;
    let address = b.address.trim_start_matches("http://").to_owned();
    b.kill().await;
    for _ in 0..10 {
        assert_eq!(client.get(&key).await.unwrap().node, "a");
    }
    assert_eq!(metrics.breaker_opens.get(), 1);
    assert!(
        metrics.failures.get() < 10,
        "an open breaker spares the node: {} failures",
        metrics.failures.get()
    );
    let b = Fake::start_at("b", &address).await;
    *b.ring.lock().unwrap() = ring.clone();
    let back = async {
        while client.get(&key).await.unwrap().node != "b" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("a probe finds the node alive again");
}

#[tokio::test]
async fn a_breaker_never_closes_the_only_way() {
    let a = Fake::start("a").await;
    ring_of(1, &[&a], 1);
    let config =
        Config { breaker_failures: 1, breaker_cool_down: Duration::from_hours(1), retries: 0, ..config() };
    let client = client(&a, config).await;
    let address = a.address.trim_start_matches("http://").to_owned();
    a.kill().await;
    let error = client.get("user:1").await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("node a is unavailable"), "{error}");
    let a = Fake::start_at("a", &address).await;
    let answered = async { while client.get("user:1").await.is_err() {} };
    tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("the only node is asked although its breaker is open");
    assert!(!a.seen().is_empty());
}

#[tokio::test]
async fn wrong_keys_and_overload_are_not_tried_again() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let client = client(&a, config()).await;
    let key = key_of(&ring, "a");
    a.fail_with(Code::InvalidArgument, "`007` is not canonical, write 7");
    let error = client.get(&key).await.unwrap_err();
    assert_eq!(error, Error::InvalidKey { message: "`007` is not canonical, write 7".to_owned() });
    a.fail_with(Code::ResourceExhausted, "10000 keys wait already");
    let error = client.get(&key).await.unwrap_err();
    assert_eq!(error.to_string(), "node a is overloaded: 10000 keys wait already; send less, or later");
    assert_eq!((a.seen().len(), b.seen().len()), (2, 0));
    a.heal();
    client.get(&key).await.unwrap();
}

#[tokio::test]
async fn a_node_that_never_answers_costs_the_deadline_and_no_more() {
    let a = Fake::start("a").await;
    ring_of(1, &[&a], 1);
    let client = client(&a, Config { deadline: Duration::from_millis(300), ..config() }).await;
    a.hangs.store(1, std::sync::atomic::Ordering::SeqCst);
    let begun = std::time::Instant::now();
    let error = client.get("user:1").await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(error.to_string().contains("node a"), "{error}");
    let told = a.timeouts.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "the node is told the deadline: {told:?}");
}

#[tokio::test]
async fn no_seed_that_answers_is_an_error_that_names_them() {
    let a = Fake::start("a").await;
    a.kill().await;
    let config = Config { deadline: Duration::from_millis(300), ..config() };
    let error = Client::from_seeds(vec![a.address.clone()], config.clone()).await.unwrap_err().to_string();
    assert!(error.contains(&a.address), "{error}");
    let error = Client::from_seeds(vec!["http://not a url".to_owned()], config.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a url"), "{error}");
    assert!(matches!(Client::from_seeds(Vec::new(), config).await, Err(Error::NoNodes { .. })));
}

#[tokio::test]
async fn stats_show_every_node_and_why_one_is_missing() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    ring_of(1, &[&a, &b], 1);
    let client = client(&a, config()).await;
    b.kill().await;
    let stats = client.stats().await;
    assert_eq!(stats[0].1.as_ref().map(|stats| stats.hits), Ok(3));
    assert!(stats[1].0 == "b" && stats[1].1.is_err(), "{stats:?}");
}

#[tokio::test]
async fn peers_bring_the_acknowledgement_back() {
    let a = Fake::start("a").await;
    ring_of(3, &[&a], 1);
    let peers = Peers::new(config());
    let apply = Apply {
        epoch: Epoch(4),
        remove: vec!["user:1".to_owned(), "user:2".to_owned()],
        remove_tags: Vec::new(),
        flush: vec![],
        origin: "shop/0@17".to_owned(),
        watermarks: None,
    };
    let ack = peers.apply(&a.member(), apply.clone(), PATIENCE).await.unwrap();
    assert_eq!(
        (ack.node, ack.epoch, ack.confirmed_epoch, ack.removed),
        (NodeId::from("a"), Epoch(4), Epoch(3), 2)
    );

    a.fail_with(Code::Unavailable, "catching up");
    let error = peers.apply(&a.member(), apply.clone(), PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "node a is unavailable: catching up");
    assert_eq!(a.seen().len(), 2, "peers try once");

    let mut other = a.member();
    other.id = NodeId::from("b");
    a.heal();
    let error = peers.apply(&other, apply, PATIENCE).await.unwrap_err();
    assert!(
        error.to_string().contains("node a answers at its address"),
        "another node's ack counts for nothing: {error}"
    );
}

#[tokio::test]
async fn peers_fail_fast_while_a_breaker_is_open_and_apply_still_tries() {
    let a = Fake::start("a").await;
    let member = a.member();
    let config = Config { breaker_failures: 2, breaker_cool_down: Duration::from_hours(1), ..config() };
    let metrics = config.metrics.clone();
    let peers = Peers::new(config);
    assert!(peers.is_reachable(&member));
    a.kill().await;
    for _ in 0..5 {
        assert!(peers.get(&member, "user:1", wire::ReadOptions::default()).await.is_err());
    }
    assert_eq!(metrics.requests.get(), 2);
    assert!(!peers.is_reachable(&member));
    assert!(peers.apply(&member, Apply::default(), PATIENCE).await.is_err());
    assert_eq!(metrics.requests.get(), 3);
    peers.retain(&Ring::empty(1));
    assert!(peers.is_reachable(&member), "a member that comes back starts afresh");
}

#[tokio::test]
async fn a_client_follows_a_membership() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let membership = ring::fixed::Fixed::new(ring.members().to_vec(), 1);
    let client = Client::from_membership(Arc::new(membership), config());
    for id in ["a", "b"] {
        assert_eq!(client.get(&key_of(&ring, id)).await.unwrap().node, id);
    }
}

#[tokio::test]
async fn an_answer_ages_while_it_waits_for_the_slowest_of_its_batch() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let deadline = Duration::from_millis(400);
    let client = client(&b, Config { deadline, ..config() }).await;
    a.hangs.store(1, std::sync::atomic::Ordering::SeqCst);
    let answers = client.get_many(&[key_of(&ring, "a"), key_of(&ring, "b")]).await;
    let quick = answers[1].as_ref().expect("b answers at once");
    assert!(quick.freshness > deadline / 2, "it is as old as it is when it is handed over: {quick:?}");
}
