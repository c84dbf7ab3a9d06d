//! Plain groups: what is written without a token is at all holders, in one order, and gone when it is removed.

mod faces;
mod moves;
mod races;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cache_node::{Error, Hop, Node};
use catalog::Catalog;
use ring::slot_of;
use wire::{Lifetime, Only, Outcome, Put, Scan, Write};

use crate::stack::{CATALOG, Running, Stack, row};

const PLAIN: &str = r#"
[[group]]
name  = "session"
kind  = "plain"
key   = "session:{user:u64}:{id:u64}"
ttl   = "10m"
tags  = ["user:{user:u64}"]
max_value = "1KiB"

[[group]]
name = "note"
kind = "plain"
key  = "note:{id:u64}"

[[rule]]
table = "shop.bans"
tags  = ["user:{user_id}"]
"#;

pub(crate) fn stack(replicas: usize) -> Stack {
    let mut stack = Stack::with_replicas(replicas);
    // Who does not hear of a value in time takes it that there is none, and this machine may be busy.
    stack.config.pull_wait = Duration::from_secs(10);
    (stack.calls.deadline, stack.calls.silence) = (Duration::from_secs(10), Duration::from_secs(10));
    stack.catalog = Arc::new(Catalog::parse("test.toml", &format!("{CATALOG}{PLAIN}")).unwrap());
    stack
}

/// Starts nodes of these names, all of which go by the same ring when this returns.
pub(crate) async fn start<const N: usize>(stack: &Stack, names: [&str; N]) -> [Running; N] {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(stack.start(name).await);
    }
    agreed(stack, &nodes.iter().collect::<Vec<_>>()).await;
    nodes.try_into().unwrap_or_else(|_| unreachable!())
}

/// Waits until nodes go by the newest ring.
pub(crate) async fn agreed(stack: &Stack, nodes: &[&Running]) {
    while nodes.iter().any(|running| running.node.epoch() < stack.registry_epoch()) {
        tokio::task::yield_now().await;
    }
}

/// Keys that a node owns now.
pub(crate) fn owned(of: &Running, count: usize) -> Vec<String> {
    let ring = of.node.ring();
    let all = (0u64..).map(|id| format!("session:{}:{id}", id % 7));
    all.filter(|key| ring.owner(slot_of(key)).is_some_and(|owner| owner.id == of.member.id))
        .take(count)
        .collect()
}

pub(crate) async fn put(node: &Node, key: &str, value: &str) -> Result<Option<String>, Error> {
    node.put(key, Bytes::from(value.to_owned()), None, Hop::First).await.map(|written| written.refused)
}

pub(crate) async fn remove(node: &Node, key: &str) -> u64 {
    node.remove(&[key.to_owned()], Hop::First).await.unwrap()
}

/// Writes many keys, a few at a time.
pub(crate) async fn put_all(node: &Node, keys: &[String]) {
    for keys in keys.chunks(64) {
        let writes = keys.iter().map(|key| put(node, key, key));
        for written in futures_util::future::join_all(writes).await {
            assert_eq!(written.unwrap(), None);
        }
    }
}

/// What a reader gets.
pub(crate) async fn got(node: &Node, key: &str) -> Option<String> {
    let answer = node.get(key, Hop::First).await.unwrap();
    assert!(matches!(answer.outcome, Outcome::Hit | Outcome::Absent), "{answer:?}");
    answer.value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// What is in a node's own memory.
pub(crate) fn held(node: &Node, key: &str) -> Option<String> {
    let scan = Scan { keys: vec![key.to_owned()], values: true, ..Scan::default() };
    let entry = node.scan(&scan).unwrap().entries.pop()?;
    Some(String::from_utf8(entry.value.unwrap().to_vec()).unwrap())
}

fn is_holder(of: &Running, key: &str) -> bool {
    of.node.ring().holds(&of.member.id, slot_of(key))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_write_is_at_all_holders_whoever_was_asked() {
    for replicas in [1, 2, 3] {
        let stack = stack(replicas);
        let nodes = start(&stack, ["a", "b", "c"]).await;
        for (at, asked) in nodes.iter().enumerate() {
            for key in owned(&nodes[0], 5) {
                let value = format!("v{at}");
                assert_eq!(put(&asked.node, &key, &value).await.unwrap(), None);
                let holders: Vec<_> = nodes.iter().filter(|running| is_holder(running, &key)).collect();
                assert_eq!(holders.len(), replicas);
                for running in holders {
                    assert_eq!(
                        held(&running.node, &key).as_ref(),
                        Some(&value),
                        "{key} at {}",
                        running.member.id
                    );
                }
                for running in &nodes {
                    assert_eq!(got(&running.node, &key).await.as_ref(), Some(&value));
                }
            }
        }
        for key in owned(&nodes[0], 5) {
            assert_eq!(remove(&nodes[1].node, &key).await, 1);
            for running in &nodes {
                assert_eq!((held(&running.node, &key), got(&running.node, &key).await), (None, None));
            }
            assert_eq!(remove(&nodes[2].node, &key).await, 0, "there is none any more");
            // At once, with no quarantine.
            assert_eq!(put(&nodes[2].node, &key, "again").await.unwrap(), None);
            assert_eq!(got(&nodes[1].node, &key).await.as_deref(), Some("again"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_a_condition_is_decided_by_the_owner() {
    let stack = stack(2);
    let nodes = start(&stack, ["a", "b", "c"]).await;
    let key = &owned(&nodes[0], 1)[0];
    let write = async |at: usize, value: &'static str, only, lifetime| {
        let put = Put { value: Bytes::from_static(value.as_bytes()), only, lifetime };
        nodes[at].node.write(key, Write::Put(put), Hop::First).await.unwrap().refused
    };
    assert_eq!(write(1, "one", Only::IfPresent, Lifetime::Group).await.as_deref(), Some("absent"));
    let attempts = [0, 1, 2].map(|at| write(at, "one", Only::IfAbsent, Lifetime::Group));
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_none()).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().flatten().filter(|why| *why == "exists").count(), 2);
    let short = Lifetime::For(Duration::from_mins(1));
    assert_eq!(write(2, "two", Only::IfPresent, short).await, None);
    assert_eq!(write(1, "three", Only::Always, Lifetime::Keep).await, None);
    for running in &nodes {
        let answer = running.node.get(key, Hop::First).await.unwrap();
        assert_eq!(answer.value.as_deref(), Some(&b"three"[..]));
        assert!(answer.ttl.unwrap() <= Duration::from_mins(1), "it was kept: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifetime_is_the_groups_at_most_and_can_be_changed() {
    let stack = stack(2);
    let nodes = start(&stack, ["a", "b"]).await;
    let key = &owned(&nodes[0], 1)[0];
    let ttl = async |at: usize| nodes[at].node.get(key, Hop::First).await.unwrap().ttl.unwrap();
    let day = Duration::from_hours(24);
    nodes[1].node.put(key, "v".into(), Some(day), Hop::First).await.unwrap();
    assert!(ttl(0).await <= Duration::from_mins(10) && ttl(0).await > Duration::from_mins(9));
    let expire = async |at: usize, ttl| {
        nodes[at].node.write(key, Write::Expire(ttl), Hop::First).await.unwrap().is_done()
    };
    assert!(expire(1, Duration::from_secs(30)).await);
    assert!(ttl(0).await <= Duration::from_secs(30) && ttl(1).await <= Duration::from_secs(30));
    assert!(expire(0, day).await);
    assert!(ttl(1).await > Duration::from_mins(9) && ttl(1).await <= Duration::from_mins(10));
    assert!(expire(1, Duration::from_millis(1)).await);
    for running in &nodes {
        while got(&running.node, key).await.is_some() {
            tokio::task::yield_now().await;
        }
    }
    assert!(!expire(0, day).await, "what is gone stays so");
    let written = nodes[0].node.put(key, "v".into(), Some(Duration::ZERO), Hop::First).await.unwrap();
    assert_eq!(written.refused.as_deref(), Some("not_kept"));
}

/// *A key's story began with "removed by set, was not in memory".*
#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_a_key_tells_writes_as_writes() {
    let stack = stack(2);
    let nodes = start(&stack, ["a", "b"]).await;
    let key = &owned(&nodes[0], 1)[0];
    let told = async |node: &Node| {
        let explained = node.explain(key, Hop::Forwarded).await.unwrap();
        let what: Vec<_> = explained.events.iter().map(|event| event.what.clone()).collect();
        (what, explained.last_removal.map(|removal| removal.origin))
    };
    let before = told(&nodes[0].node).await;
    put(&nodes[1].node, key, "v").await.unwrap();
    for running in &nodes {
        let (what, removed) = told(&running.node).await;
        assert_eq!(what.first().map(String::as_str), Some("set"), "{what:?}");
        assert!(!what.iter().any(|what| what == "removed"), "{what:?}");
        assert_eq!(removed, before.1, "the slot was acquired");
    }
    remove(&nodes[1].node, key).await;
    for running in &nodes {
        let (what, removed) = told(&running.node).await;
        assert_eq!(what.first().map(String::as_str), Some("removed"), "{what:?}");
        assert_ne!(removed, before.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_written_says_why() {
    let stack = stack(1);
    let [a, b] = start(&stack, ["a", "b"]).await;
    for running in [&a, &b] {
        let key = &owned(running, 1)[0];
        let large = "x".repeat(1025);
        assert_eq!(put(&a.node, key, &large).await.unwrap().as_deref(), Some("too_large"));
        assert_eq!(got(&a.node, key).await, None);
    }
    let error = put(&a.node, "user:1", "v").await.unwrap_err();
    assert!(matches!(error, Error::NotPlain { .. }), "{error}");
    assert!(error.to_string().contains("group user is not plain"), "{error}");
    assert!(matches!(put(&a.node, "session:x:1", "v").await, Err(Error::Key(_))));
    assert!(a.metric("freshline_node_plain_writes_total{what=\"put\",result=\"too_large\"}") > 1.0);
    assert!(stack.database.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_does_not_acknowledge_is_named_and_a_fenced_owner_orders_nothing() {
    let stack = stack(2);
    let [a, mut b] = start(&stack, ["a", "b"]).await;
    let key = &owned(&a, 1)[0];
    put(&a.node, key, "one").await.unwrap();
    b.crash().await;
    let error = put(&a.node, key, "two").await.unwrap_err();
    assert!(matches!(&error, Error::Unacknowledged { nodes } if nodes[0].starts_with("b (")), "{error}");
    let epoch = stack.registry.expire(&b.member.id);
    while a.node.epoch() < epoch {
        tokio::task::yield_now().await;
    }
    assert_eq!(put(&a.node, key, "three").await.unwrap(), None, "who is out of the ring is not waited for");
    stack.registry.fence(&a.member.id);
    assert!(matches!(put(&a.node, key, "four").await, Err(Error::Fenced)));
    assert!(matches!(a.node.get(key, Hop::First).await, Err(Error::Fenced)), "nor serves");
    stack.registry.unfence(&a.member.id);
    assert_eq!(got(&a.node, key).await.as_deref(), Some("three"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_tags_and_flushes_remove_what_was_written() {
    let stack = stack(2);
    let nodes = start(&stack, ["a", "b"]).await;
    let keys = owned(&nodes[0], 8);
    let (banned, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.starts_with("session:3:"));
    assert!(!banned.is_empty() && !others.is_empty());
    for key in &keys {
        put(&nodes[1].node, key, "v").await.unwrap();
    }
    nodes[1].node.remove_tags(&["user:3".to_owned()], Hop::First).await.unwrap();
    for running in &nodes {
        for key in &banned {
            assert_eq!(got(&running.node, key).await, None, "{key}");
        }
        for key in &others {
            assert_eq!(got(&running.node, key).await.as_deref(), Some("v"), "{key}");
        }
    }
    put(&nodes[1].node, banned[0], "later").await.unwrap();
    assert_eq!(
        got(&nodes[0].node, banned[0]).await.as_deref(),
        Some("later"),
        "written after the tag was removed"
    );
    nodes[0].node.flush(&["session".to_owned()], Hop::First).await.unwrap();
    for (running, key) in nodes.iter().flat_map(|running| keys.iter().map(move |key| (running, key))) {
        assert_eq!(got(&running.node, key).await, None);
    }
}

/// *Another primary, and every session was gone, of which the database knows nothing.*
#[tokio::test(flavor = "multi_thread")]
async fn another_primary_takes_no_plain_value_and_a_flush_of_all_takes_every_one() {
    let stack = stack(2);
    let nodes = start(&stack, ["a", "b"]).await;
    let user = nodes[0].key();
    stack.database.put(&user, row(&user, 1));
    let key = &owned(&nodes[0], 1)[0];
    put(&nodes[0].node, key, "v").await.unwrap();
    assert_eq!(nodes[0].node.get(&user, Hop::First).await.unwrap().outcome, Outcome::Miss);
    stack.database.switch();
    while held(&nodes[0].node, &user).is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while nodes.iter().any(|running| running.metric("freshline_node_flushes_total") < 4.0) {
        tokio::time::sleep(Duration::from_millis(5)).await; // by each of the two, of two groups
    }
    for running in &nodes {
        assert_eq!(held(&running.node, key).as_deref(), Some("v"));
    }
    nodes[0].node.flush(&[], Hop::First).await.unwrap();
    for running in &nodes {
        assert_eq!(got(&running.node, key).await, None, "whoever asks for all gets all");
    }
}
