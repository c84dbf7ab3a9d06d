//! Nodes that hang, and nodes that are only slow.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use client::{Client, Config, Error, Peers};
use tokio::time::timeout;
use wire::ReadOptions;

use super::{PATIENCE, client, config, key_of};
use crate::fake::{Fake, ring_of};

fn impatient() -> Config {
    Config { deadline: PATIENCE * 2, silence: Duration::from_millis(100), ..config() }
}

#[tokio::test]
async fn a_node_that_hangs_is_given_up_for_another_long_before_the_deadline() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let client = client(&a, impatient()).await;
    let (of_a, of_b) = (key_of(&ring, "a"), key_of(&ring, "b"));
    b.frozen.store(true, SeqCst);
    let answer = timeout(PATIENCE, client.get(&of_b)).await.expect("half the deadline is left").unwrap();
    assert_eq!(answer.node, "a");
    let many = timeout(PATIENCE, client.get_many(&[&of_a, &of_b])).await.expect("half the deadline is left");
    assert!(many.iter().all(|result| result.as_ref().is_ok_and(|answer| answer.node == "a")), "{many:?}");
}

#[tokio::test]
async fn a_node_that_hangs_is_left_alone_after_some_calls() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let config = Config { breaker_failures: 2, breaker_cool_down: Duration::from_hours(1), ..impatient() };
    let metrics = config.metrics.clone();
    let client = client(&a, config).await;
    b.frozen.store(true, SeqCst);
    for _ in 0..10 {
        assert_eq!(client.get(&key_of(&ring, "b")).await.unwrap().node, "a");
    }
    assert_eq!(metrics.breaker_opens.get(), 1);
    // The ring may be asked for there as well.
    assert!(metrics.failures.get() < 6, "ten calls, and {} waited for it", metrics.failures.get());
}

#[tokio::test]
async fn a_node_whose_database_is_slow_is_waited_for_and_nobody_else_is_asked() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let ring = ring_of(1, &[&a, &b], 1);
    let client: Client = client(&a, impatient()).await;
    let key = key_of(&ring, "b");
    b.hangs.store(1, SeqCst);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (client, key) = (client.clone(), key.clone());
            tokio::spawn(async move { client.get(&key).await })
        })
        .collect();
    let mut asked = b.heartbeats.subscribe();
    timeout(PATIENCE, asked.wait_for(|count| *count >= 5))
        .await
        .expect("it is asked for signs of life")
        .unwrap();
    assert!(calls.iter().all(|call| !call.is_finished()));
    b.hangs.store(0, SeqCst);
    b.release.notify_waiters();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().node, "b");
    }
    assert!(a.seen().is_empty(), "{:?}", a.seen());
    assert!(*b.heartbeats.borrow() < 20, "twenty calls that wait ask once for all");
}

#[tokio::test]
async fn a_forward_to_a_node_that_hangs_fails_as_unavailable() {
    let a = Fake::start("a").await;
    let peers = Peers::new(impatient());
    a.frozen.store(true, SeqCst);
    let member = a.member();
    let get = peers.get(&member, "user:1", ReadOptions::default());
    let error = timeout(PATIENCE, get).await.expect("half the deadline is left").unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable { .. }) && error.to_string().contains("no sign of life"),
        "{error}"
    );
}
