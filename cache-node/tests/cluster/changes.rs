//! What changes do: to fills under way, to negative entries, across nodes.

use std::time::Duration;

use cache_node::{Error, Hop};
use client::{Config, Peers};
use ring::{Epoch, Member};
use wire::{Apply, Outcome};

use crate::stack::{Stack, row};

pub(crate) fn removal(epoch: Epoch, key: &str) -> Apply {
    Apply {
        epoch,
        remove: vec![key.to_owned()],
        remove_tags: Vec::new(),
        flush: Vec::new(),
        origin: "shop/0@42".into(),
        watermarks: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_during_a_fill_leaves_no_stale_entry_and_its_waiters_get_their_answer() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    stack.database.hold(true);
    let fill = tokio::spawn({
        let (node, key) = (a.node.clone(), key.clone());
        async move { node.get(&key, Hop::First).await }
    });
    stack.database.reached.notified().await; // the read has begun ...
    stack.database.put(&key, row(&key, 2)); // ... the row changes under it ...
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
    stack.database.hold(false);
    stack.database.release.notify_one(); // ... and the old row arrives
    let answer = fill.await.unwrap().unwrap();
    assert_eq!(
        (answer.outcome, answer.value.as_deref()),
        (Outcome::ReadThrough, Some(row(&key, 1).as_bytes()))
    );
    let next = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((next.outcome, next.value.as_deref()), (Outcome::Miss, Some(row(&key, 2).as_bytes())));
    assert_eq!(a.node.stats().fills_refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_after_a_removal_does_not_share_a_fill_that_began_before() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    stack.database.hold(true);
    let ask = || {
        let (node, key) = (a.node.clone(), key.clone());
        tokio::spawn(async move { node.get(&key, Hop::First).await.unwrap() })
    };
    let first = ask();
    stack.database.reached.notified().await;
    stack.database.put(&key, row(&key, 2));
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
    let after = ask();
    stack.database.reached.notified().await; // a second read: the third request shares nothing
    stack.database.hold(false);
    stack.database.release.notify_one();
    let old = first.await.unwrap(); // held loads go on in the order in which they were held
    assert_eq!(old.value.as_deref(), Some(row(&key, 1).as_bytes()));
    stack.database.release.notify_one();
    assert_eq!(after.await.unwrap().value.as_deref(), Some(row(&key, 2).as_bytes()));
    assert_eq!(stack.database.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_does_not_end_the_fill_for_others() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    stack.database.hold(true);
    let impatient = tokio::spawn({
        let (node, key) = (a.node.clone(), key.clone());
        async move { node.get(&key, Hop::First).await }
    });
    stack.database.reached.notified().await;
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    let patient = tokio::spawn({
        let (node, key) = (a.node.clone(), key.clone());
        async move { node.get(&key, Hop::First).await.unwrap() }
    });
    stack.database.hold(false);
    stack.database.release.notify_one();
    assert_eq!(patient.await.unwrap().value.as_deref(), Some(row(&key, 1).as_bytes()));
    assert_eq!(stack.database.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_ends_all_entries_of_its_group_on_all_nodes_and_of_no_other() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let keys: Vec<String> = a.keys(50).into_iter().chain(b.keys(50)).collect();
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    stack.database.put("product:1", row("product:1", 1));
    a.node.get_many(&keys, Hop::First).await.unwrap();
    a.node.get("product:1", Hop::First).await.unwrap();
    b.node.flush(&["user".into()], Hop::First).await.unwrap();
    for answer in a.node.get_many(&keys, Hop::First).await.unwrap() {
        assert_eq!(answer.unwrap().outcome, Outcome::Miss);
    }
    assert_eq!(a.node.get("product:1", Hop::First).await.unwrap().outcome, Outcome::Hit);
    let error = b.node.flush(&["users".into()], Hop::First).await.unwrap_err();
    assert!(
        matches!(error, Error::UnknownGroup { .. }) && error.to_string().contains("user, product"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negative_entry_is_served_until_an_insert_removes_it() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = b.key();
    assert_eq!(a.node.get(&key, Hop::First).await.unwrap().value, None);
    let again = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((again.outcome, again.value), (Outcome::NegativeHit, None));
    stack.database.put(&key, row(&key, 1));
    let peers = Peers::new(Config::default());
    let ack = peers.apply(&b.member, removal(b.node.epoch(), &key), Duration::from_secs(5)).await.unwrap();
    assert_eq!((ack.node.as_str(), ack.removed, ack.epoch), ("b", 1, b.node.epoch()));
    assert_eq!(ack.confirmed_epoch, ack.epoch);
    assert!(a.node.get(&key, Hop::First).await.unwrap().value.is_some());
    let origin = a.node.explain(&key, Hop::First).await.unwrap().last_removal.unwrap().origin;
    assert_eq!(origin, "shop/0@42");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applications_removal_reaches_all_nodes_or_names_those_it_did_not_reach() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let keys: Vec<String> = a.keys(2).into_iter().chain(b.keys(2)).collect();
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    a.node.get_many(&keys, Hop::First).await.unwrap();
    assert_eq!(a.node.remove(&keys, Hop::First).await.unwrap(), 4);
    assert!(matches!(a.node.remove(&["user:x".into()], Hop::First).await, Err(Error::Key(_))));
    let gone = Member { id: "gone".into(), grpc: "http://127.0.0.1:1".into(), ..b.member.clone() };
    stack.registry.register(gone); // a member that can't be reached
    match a.node.remove(&keys, Hop::First).await {
        Err(Error::Unacknowledged { nodes }) => {
            assert!(nodes.len() == 1 && nodes[0].starts_with("gone "), "{nodes:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_under_a_newer_epoch_is_applied_only_after_catching_up_with_it() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let ahead = Epoch(a.node.epoch().0 + 100);
    match a.node.apply(&removal(ahead, "user:1")).await {
        Err(Error::Behind { asked, own, .. }) => assert!(asked == ahead && own < ahead),
        other => panic!("{other:?}"),
    }
    let b = stack.start("b").await;
    let ack = a.node.apply(&removal(b.node.epoch(), "user:1")).await.unwrap();
    assert!(ack.epoch >= b.node.epoch());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_of_a_group_that_this_node_does_not_know_is_acknowledged() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let apply = Apply { epoch: a.node.epoch(), flush: vec!["newer".into()], ..Apply::default() };
    a.node.apply(&apply).await.unwrap();
    assert_eq!(a.node.stats().flushes, 0);
}
