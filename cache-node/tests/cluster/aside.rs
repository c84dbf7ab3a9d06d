//! Look-aside: tokens that a miss gives, and what may be set with them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cache_node::{Error, Hop, Node};
use catalog::Catalog;
use client::{Client, Config, LoadError, ReadFrom};
use ring::{memory::Registry, slot_of};
use wire::{Apply, Outcome, ReadOptions};

use crate::{
    answers::http,
    stack::{Running, Stack, row},
};

const LOOK_ASIDE: ReadOptions = ReadOptions { max_staleness: None, look_aside: true };
const SESSIONS: &str = r#"
[[group]]
name  = "session"
key   = "session:{id:u64}"
ttl   = "10m"

[[rule]]
table = "shop.sessions"
keys  = ["session:{id}"]
"#;

/// Misses, and returns the token.
async fn miss(node: &Node, key: &str) -> Bytes {
    let answer = node.get_with(key, Hop::First, LOOK_ASIDE).await.unwrap();
    assert_eq!((answer.outcome, answer.value), (Outcome::Token, None));
    answer.token.unwrap()
}

/// Sets, and returns why it was refused.
async fn set(node: &Node, key: &str, token: &Bytes) -> Option<String> {
    let value = Some(Bytes::from(row(key, 1)));
    node.set(key, value, token, None, Hop::First).await.unwrap().refused
}

async fn is_in_memory(node: &Node, key: &str) -> bool {
    node.get_with(key, Hop::First, LOOK_ASIDE).await.unwrap().outcome != Outcome::Token
}

async fn refused(node: &Node, key: &str, token: &Bytes, expected: &str) {
    assert_eq!(set(node, key, token).await.as_deref(), Some(expected));
    assert!(!is_in_memory(node, key).await, "refused with {expected}, and stored all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_with_its_token_is_served_wherever_it_was_asked_for() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    for key in [a.key(), b.key()] {
        let token = miss(&a.node, &key).await;
        assert_eq!(set(&b.node, &key, &token).await, None);
        assert_eq!(set(&a.node, &key, &token).await, None, "setting again is harmless");
        let answer = a.node.get(&key, Hop::First).await.unwrap();
        assert_eq!((answer.outcome, answer.value), (Outcome::Hit, Some(row(&key, 1).into())));
    }
    assert!(stack.database.calls().is_empty(), "no node read the database");
    let more = [a.keys(2).remove(1), b.keys(2).remove(1)];
    for answer in a.node.get_many_with(&more, Hop::First, LOOK_ASIDE).await.unwrap() {
        let answer = answer.unwrap();
        assert!(answer.outcome == Outcome::Token && answer.token.is_some_and(|token| !token.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negative_entry_can_be_set_and_a_shorter_time_to_live_counts() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    let token = miss(&a.node, &key).await;
    let set = a.node.set(&key, None, &token, Some(Duration::from_secs(5)), Hop::First).await.unwrap();
    assert!(set.is_stored(), "{set:?}");
    let answer = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!(answer.outcome, Outcome::NegativeHit);
    assert!(answer.ttl.unwrap() <= Duration::from_secs(5), "{:?}", answer.ttl);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_or_a_flush_between_the_miss_and_the_set_refuses_it() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    let token = miss(&a.node, &key).await;
    a.node.remove(std::slice::from_ref(&key), Hop::First).await.unwrap();
    refused(&a.node, &key, &token, "removed").await;
    let token = miss(&a.node, &key).await;
    a.node.flush(&["user".to_owned()], Hop::First).await.unwrap();
    refused(&a.node, &key, &token, "flushed").await;
    let token = miss(&a.node, &key).await;
    assert_eq!(set(&a.node, &key, &token).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_within_the_quarantine_sets_nothing() {
    let mut stack = Stack::new();
    stack.config.quarantine = Duration::from_hours(1);
    let a = stack.start("a").await; // acquiring a slot counts as a removal of all its keys
    let key = a.key();
    let token = miss(&a.node, &key).await;
    refused(&a.node, &key, &token, "quarantine").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_slot_that_has_moved_sets_nothing() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let keys = a.keys(100);
    let mut tokens = Vec::new();
    for key in &keys {
        tokens.push(miss(&a.node, key).await);
    }
    let b = stack.start("b").await;
    while a.node.epoch() < stack.registry_epoch() {
        tokio::task::yield_now().await;
    }
    let at = keys.iter().position(|key| b.keys(100).contains(key)).expect("some keys move");
    refused(&b.node, &keys[at], &tokens[at], "slot_lost").await;
    refused(&a.node, &keys[at], &tokens[at], "slot_lost").await;
    // And when the node that gave it is gone.
    let stays = keys.iter().position(|key| !b.keys(100).contains(key)).expect("some keys stay");
    a.stop().await;
    refused(&b.node, &keys[stays], &tokens[stays], "slot_lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_life_before_sets_nothing() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    let token = miss(&a.node, &key).await;
    a.stop().await;
    let a = stack.start("a").await;
    refused(&a.node, &key, &token, "token_past_life").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_stores_nothing_that_is_set_and_one_that_lost_its_lease_never_does() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    let token = miss(&a.node, &key).await;
    stack.registry.fence(&a.member.id);
    refused(&a.node, &key, &token, "fenced").await;
    let under_fence = miss(&a.node, &key).await;
    stack.registry.unfence(&a.member.id);
    assert_eq!(set(&a.node, &key, &under_fence).await, None, "the lease was alive after all");
    a.node.remove(std::slice::from_ref(&key), Hop::First).await.unwrap();

    let token = miss(&a.node, &key).await;
    stack.registry.expire(&a.member.id); // removals pass it by from here on
    stack.registry.revive(&a.member.id);
    while a.node.stats().slots == 0 {
        tokio::task::yield_now().await;
    }
    let why = set(&a.node, &key, &token).await;
    assert!(matches!(why.as_deref(), Some("slot_lost" | "fenced")), "{why:?}");
    assert!(!is_in_memory(&a.node, &key).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_leaves_a_value_alone_that_was_read_later() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    let token = miss(&a.node, &key).await;
    // The store tells ages in whole milliseconds, rounded up: what was read within the same one is as old.
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_millis(2) {
        tokio::task::yield_now().await;
    }
    stack.database.put(&key, row(&key, 2));
    assert_eq!(a.node.get(&key, Hop::First).await.unwrap().outcome, Outcome::Miss);
    assert_eq!(set(&a.node, &key, &token).await.as_deref(), Some("superseded"));
    let answer = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((answer.outcome, answer.value), (Outcome::Hit, Some(row(&key, 2).into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_not_what_they_should_be_each_have_their_reason() {
    let mut stack = Stack::new();
    let a = stack.start("a").await;
    let keys = a.keys(2);
    let token = miss(&a.node, &keys[0]).await;
    refused(&a.node, &keys[1], &token, "token_other_key").await;
    let mut changed = token.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    refused(&a.node, &keys[0], &changed.into(), "token_malformed").await;
    refused(&a.node, &keys[0], &Bytes::from_static(b"token"), "token_malformed").await;
    refused(&a.node, &keys[0], &Bytes::new(), "no_token").await;
    let forwarded = stack.start("b").await.node;
    let set = forwarded.set(&keys[0], None, &token, None, Hop::Forwarded).await.unwrap();
    assert_eq!(set.refused.as_deref(), Some("token_foreign"), "a forwarded set goes no further");

    stack.config.token_ttl = Duration::from_nanos(1);
    let c = stack.start("c").await;
    let key = c.key();
    let token = miss(&c.node, &key).await;
    refused(&c.node, &key, &token, "token_expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_over_the_limit_is_not_kept() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    let token = miss(&a.node, &key).await;
    let large = Some(Bytes::from(vec![b'1'; (64 << 10) + 1]));
    let set = a.node.set(&key, large, &token, None, Hop::First).await.unwrap();
    assert_eq!(set.refused.as_deref(), Some("too_large"));
    assert!(!is_in_memory(&a.node, &key).await);
}

/// Two nodes that hold every slot, of groups without a query.
async fn two_holders() -> (Stack, [Running; 2], String) {
    let mut stack = sessions();
    stack.registry = Registry::new(2);
    let nodes = [stack.start("a").await, stack.start("b").await];
    while nodes.iter().any(|running| running.node.epoch() < stack.registry_epoch()) {
        tokio::task::yield_now().await;
    }
    let ring = nodes[0].node.ring();
    let key = (0..1000).map(|id| format!("session:{id}"));
    let key = key.into_iter().find(|key| ring.owner(slot_of(key)).unwrap().id == nodes[0].member.id).unwrap();
    (stack, nodes, key)
}

/// *Behind a load balancer a session is there at one read and gone at the next: the owner has it, the replica says 404.*
#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_is_found_at_every_holder_and_forgotten_by_all() {
    let (stack, nodes, key) = two_holders().await;
    let [owner, replica] = &nodes;
    // Whoever is asked for it gives the owner's token.
    let token = miss(&replica.node, &key).await;
    for setter in [replica, owner] {
        let set = setter.node.set(&key, Some(row(&key, 1).into()), &token, None, Hop::First).await.unwrap();
        assert_eq!((set.refused, set.node.as_str()), (None, "a"));
    }
    for options in [ReadOptions::default(), LOOK_ASIDE, ReadOptions::default()] {
        for running in &nodes {
            let answer = running.node.get_with(&key, Hop::First, options).await.unwrap();
            assert_eq!(answer.value.as_deref(), Some(row(&key, 1).as_bytes()), "{answer:?}");
        }
    }
    let path = format!("/v1/keys/{key}");
    assert_eq!(http(replica.http, "GET", &path).await.0, 200);
    let local = replica.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((local.node.as_str(), local.outcome), ("b", Outcome::Hit), "the replica has kept a copy");

    let epoch = stack.registry_epoch();
    for running in &nodes {
        running.node.apply(&Apply { epoch, remove: vec![key.clone()], ..Apply::default() }).await.unwrap();
    }
    for running in &nodes {
        assert!(matches!(running.node.get(&key, Hop::First).await, Err(Error::Fill(_))));
        assert!(!is_in_memory(&running.node, &key).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_owner_is_away_gives_a_token_of_its_own() {
    let (_stack, mut nodes, key) = two_holders().await;
    nodes[0].crash().await;
    let token = miss(&nodes[1].node, &key).await;
    let set = nodes[1].node.set(&key, Some(row(&key, 1).into()), &token, None, Hop::First).await.unwrap();
    assert_eq!((set.refused, set.node.as_str()), (None, "b"));
    assert!(is_in_memory(&nodes[1].node, &key).await);
}

fn sessions() -> Stack {
    let mut stack = Stack::new();
    stack.catalog = Arc::new(Catalog::parse("test.toml", SESSIONS).expect("the catalog is right"));
    stack
}

async fn client(of: &Running, read_from: ReadFrom) -> Client {
    let config = Config { read_from, ..Config::default() };
    Client::from_seeds(vec![of.member.grpc.clone()], config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_miss_of_a_look_aside_group_says_what_to_do_and_reads_no_database() {
    let stack = sessions();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let ring = a.node.ring();
    for running in [&a, &b] {
        let key = (0..100_000)
            .map(|id| format!("session:{id}"))
            .find(|key| ring.owner(slot_of(key)).unwrap().id == running.member.id);
        let key = key.unwrap();
        let error = a.node.get(&key, Hop::First).await.unwrap_err();
        assert!(error.to_string().contains("get with look_aside"), "{error}");
        let error = client(&a, ReadFrom::Owner).await.get(&key).await.unwrap_err();
        assert!(
            matches!(&error, client::Error::LookAside { message } if message.contains("session")),
            "{error}"
        );
        let (status, _, body) = http(a.http, "GET", &format!("/v1/keys/{key}")).await;
        assert!(status == 404 && body.contains("has no query"), "{status} {body}");
    }
    assert!(stack.database.calls().is_empty());
    let explained = a.node.explain("session:1", Hop::First).await.unwrap();
    assert_eq!(explained.query, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn get_or_load_loads_once_and_serves_any_bytes_from_memory() {
    let stack = sessions();
    let (a, _b) = (stack.start("a").await, stack.start("b").await);
    let value = Bytes::from_static(b"\x01not JSON");
    let client = client(&a, ReadFrom::Owner).await;
    let key = "session:7";
    let load = || async { Ok::<_, Error>(Some(value.clone())) };
    assert_eq!(client.get_or_load(key, load).await.unwrap(), Some(value.clone()));
    let again = || async { Err("it is in memory") };
    assert_eq!(client.get_or_load(key, again).await.unwrap(), Some(value.clone()));
    let answer = client.get(key).await.unwrap();
    assert_eq!((answer.outcome, answer.value), (Outcome::Hit, Some(value)));
    let (status, headers, _) = http(a.http, "GET", &format!("/v1/keys/{key}")).await;
    assert_eq!(status, 200);
    assert!(headers.contains("application/octet-stream"), "{headers}");

    let error = client.get_or_load("session:x", || async { Ok::<_, Error>(None) }).await.unwrap_err();
    assert!(matches!(error, LoadError::Key(_)), "{error}");
    let failed = client.get_or_load("session:8", || async { Err::<Option<Bytes>, _>("down") }).await;
    assert!(matches!(failed, Err(LoadError::Load("down"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn get_or_load_loads_without_a_cache() {
    let stack = sessions();
    let a = stack.start("a").await;
    let client = client(&a, ReadFrom::Owner).await;
    a.stop().await;
    let loaded = client.get_or_load("session:7", || async { Ok::<_, Error>(Some(Bytes::from_static(b"1"))) });
    assert_eq!(loaded.await.unwrap().as_deref(), Some(&b"1"[..]));
}
