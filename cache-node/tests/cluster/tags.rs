//! Tags: entries that a changed row finds although it does not tell their keys.

use std::{sync::Arc, time::Duration};

use cache_node::{Error, Hop};
use catalog::Catalog;
use loader::Untagged;
use ring::Epoch;
use wire::{Apply, Outcome, ReadOptions};

use crate::{
    http::post,
    resp::Redis,
    stack::{Running, Stack, row},
};

const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT o.id, o.product_id, p.name FROM shop.orders o LEFT JOIN shop.products p ON p.id = o.product_id WHERE o.user_id = {id}"
rows  = "many"
tags  = ["product:{product_id:u64}"]

[[group]]
name  = "plain"
key   = "plain:{id:u64}"
query = "SELECT id FROM shop.users WHERE id = {id}"
"#;

fn stack(replicas: usize) -> Stack {
    let catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
    Stack { catalog, ..Stack::with_replicas(replicas) }
}

fn removal(epoch: Epoch, tag: &str) -> Apply {
    Apply { epoch, remove_tags: vec![tag.to_owned()], origin: "shop/0@42".into(), ..Apply::default() }
}

async fn get(running: &Running, key: &str) -> (Outcome, String) {
    let answer = running.node.get(key, Hop::First).await.unwrap();
    (answer.outcome, String::from_utf8(answer.value.unwrap().to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_tag_ends_what_carries_it_and_nothing_else() {
    let stack = stack(1);
    let a = stack.start("a").await;
    let keys = a.keys(3);
    for (key, tags) in keys.iter().zip([&["product:7", "product:8"][..], &["product:8"], &[]]) {
        stack.database.put_tagged(key, row(key, 1), tags);
        get(&a, key).await;
        stack.database.put_tagged(key, row(key, 2), tags);
    }
    a.node.apply(&removal(a.node.epoch(), "product:7")).await.unwrap();
    assert_eq!(get(&a, &keys[0]).await, (Outcome::Miss, row(&keys[0], 2)));
    assert_eq!(get(&a, &keys[0]).await.0, Outcome::Hit, "what was read after it stays");
    assert_eq!(get(&a, &keys[1]).await, (Outcome::Hit, row(&keys[1], 1)));
    assert_eq!(get(&a, &keys[2]).await, (Outcome::Hit, row(&keys[2], 1)));
    let explained = a.node.explain(&keys[0], Hop::First).await.unwrap();
    assert_eq!(explained.last_removal.unwrap().origin, "shop/0@42 by tag product:7");
    assert!(
        explained
            .events
            .iter()
            .any(|event| event.what == "removed" && event.detail.contains("by tag product:7"))
    );
    // A tag that nothing carries, and one that no group can: both harmless.
    a.node.apply(&removal(a.node.epoch(), "product:99")).await.unwrap();
    a.node.apply(&removal(a.node.epoch(), "colour:red")).await.unwrap();
    assert_eq!(get(&a, &keys[0]).await.0, Outcome::Hit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_removed_during_a_fill_keeps_the_old_rows_out_and_nobody_after_it_shares_them() {
    let stack = stack(1);
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put_tagged(&key, row(&key, 1), &["product:7"]);
    stack.database.hold(true);
    let ask = || {
        let (node, key) = (a.node.clone(), key.clone());
        tokio::spawn(async move { node.get(&key, Hop::First).await.unwrap() })
    };
    let first = ask();
    stack.database.reached.notified().await; // the read has begun ...
    stack.database.put_tagged(&key, row(&key, 2), &["product:7"]); // ... the product changes under it ...
    a.node.apply(&removal(a.node.epoch(), "product:7")).await.unwrap();
    let after = ask();
    stack.database.reached.notified().await; // ... and who asks after it reads for itself
    stack.database.hold(false);
    stack.database.release.notify_one();
    let old = first.await.unwrap();
    assert_eq!(
        (old.value.as_deref(), old.ttl),
        (Some(row(&key, 1).as_bytes()), None),
        "served, and not kept"
    );
    stack.database.release.notify_one();
    assert_eq!(after.await.unwrap().value.as_deref(), Some(row(&key, 2).as_bytes()));
    assert_eq!(get(&a, &key).await.1, row(&key, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_too_many_tags_or_an_unreadable_one_is_served_and_not_kept() {
    let stack = stack(1);
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put_untagged(&key, row(&key, 1), Untagged::TooMany { limit: 128 });
    for _ in 0..2 {
        assert_eq!(get(&a, &key).await, (Outcome::ReadThrough, row(&key, 1)));
    }
    assert_eq!(a.node.stats().fills_refused, 2);
    let explained = a.node.explain(&key, Hop::First).await.unwrap();
    assert!(explained.events.iter().any(|event| event.detail == "too_many_tags"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lack_its_tags_is_not_set_and_the_answer_says_what_to_do() {
    let stack = stack(1);
    let a = stack.start("a").await;
    let reply = Redis::to(&a).await.ask(&format!("SET {} x", a.key())).await;
    let text = "ERR group user is filled by its query, which gives its entries their tags: change the row";
    assert!(reply.is_error(text), "{reply:?}");
    let options = ReadOptions { look_aside: true, max_staleness: None };
    let answer = a.node.get_with(&a.key(), Hop::First, options).await.unwrap();
    let (value, token) = (Some("x".into()), answer.token.expect("a miss gives a token"));
    let set = a.node.set(&a.key(), value, &token, None, Hop::First).await.unwrap();
    assert_eq!(set.refused.as_deref(), Some("tagged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_copies_the_owners_entry_with_its_tags() {
    let stack = stack(2);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = a.key();
    stack.database.put_tagged(&key, row(&key, 1), &["product:7"]);
    assert_eq!(get(&b, &key).await.0, Outcome::Miss);
    assert_eq!((get(&b, &key).await.0, stack.database.calls().len()), (Outcome::Hit, 1), "one read for both");
    stack.database.put_tagged(&key, row(&key, 2), &["product:7"]);
    for node in [&a, &b] {
        node.node.apply(&removal(node.node.epoch(), "product:7")).await.unwrap();
    }
    assert_eq!(get(&b, &key).await.1, row(&key, 2));
    assert_eq!(get(&a, &key).await.1, row(&key, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_move_with_their_slots_keep_their_tags() {
    let stack = stack(1);
    let a = stack.start("a").await;
    let keys = a.keys(60);
    for key in &keys {
        stack.database.put_tagged(key, row(key, 1), &["product:7"]);
        get(&a, key).await;
    }
    let b = stack.start("b").await;
    let moved = b.keys(60).into_iter().find(|key| keys.contains(key)).expect("b has got some of the slots");
    tokio::time::timeout(Duration::from_secs(20), async {
        while b.node.stats().entries == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("b takes over what its slots had");
    get(&b, &moved).await; // from memory, or by a pull: without a read of the database
    assert_eq!(stack.database.calls().len(), 60);
    stack.database.put_tagged(&moved, row(&moved, 2), &["product:7"]);
    for node in [&a, &b] {
        node.node.apply(&removal(stack.registry_epoch(), "product:7")).await.unwrap();
    }
    assert_eq!(get(&b, &moved).await.1, row(&moved, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_removes_a_tag_on_every_node_and_a_tag_of_no_group_is_refused() {
    let stack = stack(1);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = b.key();
    stack.database.put_tagged(&key, row(&key, 1), &["product:7"]);
    get(&a, &key).await;
    stack.database.put_tagged(&key, row(&key, 2), &["product:7"]);
    a.node.remove_tags(&["product:7".into()], Hop::First).await.unwrap();
    assert_eq!(get(&a, &key).await.1, row(&key, 2));
    for wrong in ["colour:red", "product:007", "plain:7"] {
        let error = a.node.remove_tags(&[wrong.into()], Hop::First).await.unwrap_err();
        assert!(matches!(error, Error::UnknownTag { .. }), "{error}");
        assert!(error.to_string().contains("product:{product_id:u64}"), "{error}");
    }
    // The same over HTTP.
    get(&a, &key).await;
    stack.database.put_tagged(&key, row(&key, 3), &["product:7"]);
    let reply = post(a.http, "/v1/tags:batchDelete", r#"{"tags":["product:7"]}"#).await;
    assert_eq!((reply.status, reply.json()["tags"][0].as_str()), (200, Some("product:7")));
    assert_eq!(get(&a, &key).await.1, row(&key, 3));
    let refused = post(a.http, "/v1/tags:batchDelete", r#"{"tags":["colour:red"]}"#).await;
    assert_eq!((refused.status, &*refused.problem()), (404, "no-such-tag"));
}
