//! Slots with an owner and a replica: who asks whom, and what may be kept.

use cache_node::Hop;
use ring::slot_of;
use wire::Outcome;

use crate::{
    changes::removal,
    stack::{Stack, row},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_gets_what_it_misses_from_the_owner_and_keeps_it() {
    let stack = Stack::with_replicas(2);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    let first = b.node.get(&key, Hop::First).await.unwrap();
    assert_eq!(
        (first.outcome, &*first.node),
        (Outcome::Miss, "b"),
        "the owner read it, the replica keeps it"
    );
    assert!(first.ttl.is_some());
    let again = b.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((again.outcome, &*again.node), (Outcome::Hit, "b"));
    assert_eq!(a.node.get(&key, Hop::First).await.unwrap().outcome, Outcome::Hit);
    assert_eq!(stack.database.calls().len(), 1, "one read for both");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_keeps_nothing_that_the_owner_did_not() {
    let stack = Stack::with_replicas(2);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    stack.database.hold(true);
    let asked = tokio::spawn({
        let (node, key) = (b.node.clone(), key.clone());
        async move { node.get(&key, Hop::First).await.unwrap() }
    });
    stack.database.reached.notified().await; // the owner has read the old row ...
    stack.database.put(&key, row(&key, 2));
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap(); // ... and the removal is in its second phase
    stack.database.hold(false);
    stack.database.release.notify_one();
    let old = asked.await.unwrap();
    assert_eq!(
        (old.value.as_deref(), old.ttl),
        (Some(row(&key, 1).as_bytes()), None),
        "served, and not kept"
    );
    let next = b.node.get(&key, Hop::First).await.unwrap();
    assert_eq!(next.value.as_deref(), Some(row(&key, 2).as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_at_a_replica_asks_the_database_and_not_the_owner() {
    let stack = Stack::with_replicas(2);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    let answer = b.node.get(&key, Hop::Forwarded).await.unwrap();
    assert_eq!((answer.outcome, &*answer.node), (Outcome::Miss, "b"));
    assert_eq!(a.node.stats().fills, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_fills_by_itself_while_its_owner_is_gone_and_others_ask_it_then() {
    let stack = Stack::with_replicas(2);
    let (mut a, _b, c) = (stack.start("a").await, stack.start("b").await, stack.start("c").await);
    let ring = c.node.ring();
    let key = (0..10_000).map(|id| format!("user:{id}")).find(|key| {
        let mut holders = ring.holders(slot_of(key)).map(|member| member.id.as_str());
        (holders.next(), holders.next()) == (Some("a"), Some("b"))
    });
    let key = key.unwrap();
    stack.database.put(&key, row(&key, 1));
    a.crash().await;
    let first = c.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((first.outcome, &*first.node), (Outcome::Miss, "b"));
    let again = c.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((again.outcome, &*again.node), (Outcome::Hit, "b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applications_removal_goes_round_once_more_for_each_step_that_a_value_can_travel() {
    for (replicas, rounds) in [(1, 2), (2, 3), (3, 3)] {
        let mut stack = Stack::with_replicas(replicas);
        stack.config.warm_rate = daemon::config::ByteSize(0); // b, which has just come, is not to take the value by itself
        let (a, b) = (stack.start("a").await, stack.start("b").await);
        let key = a.key();
        stack.database.put(&key, row(&key, 1));
        a.node.get(&key, Hop::First).await.unwrap();
        assert_eq!(b.node.remove(std::slice::from_ref(&key), Hop::First).await.unwrap(), 1);
        assert_eq!((a.node.stats().removes, b.node.stats().removes), (rounds, rounds));
        b.node.flush(&[], Hop::First).await.unwrap();
        assert_eq!(a.node.stats().flushes, rounds * 2, "of two groups");
    }
}
