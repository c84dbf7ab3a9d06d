//! CLIENT TRACKING: what clients hold by a node is what they are told of.

use std::{sync::Arc, time::Duration};

use cache_node::Hop;
use catalog::Catalog;
use wire::Apply;

use super::{Redis, Value, all_invalidated, bulk, invalidated};
use crate::stack::{CATALOG, Running, Stack, row};

async fn remove(running: &Running, key: &str) {
    let apply = Apply { epoch: running.node.epoch(), remove: vec![key.to_owned()], ..Apply::default() };
    running.node.apply(&apply).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_pushed_once_to_everybody_who_has_read_the_key() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let (mut one, mut two) = (Redis::tracking(&a, "").await, Redis::tracking(&a, "").await);
    let mut plain = Redis::to(&a).await;
    stack.database.put("user:1", row("user:1", 1));
    for redis in [&mut one, &mut two, &mut plain] {
        assert_eq!(redis.ask("GET user:1").await, bulk(row("user:1", 1)));
    }
    remove(&a, "user:1").await;
    for redis in [&mut one, &mut two] {
        assert_eq!(redis.push().await, invalidated(&["user:1"]));
    }
    // Nobody has read it since: the next removal is nobody's.
    remove(&a, "user:1").await;
    for redis in [&mut one, &mut two, &mut plain] {
        assert_eq!(redis.next_of_ping().await, Value::Simple("PONG".into()));
    }
    // A cached absence is a value too.
    assert_eq!(one.ask("GET user:2").await, Value::Null);
    remove(&a, "user:2").await;
    assert_eq!(one.push().await, invalidated(&["user:2"]));
}

impl Redis {
    /// What comes first after a PING: its reply, or a push that was on its way.
    async fn next_of_ping(&mut self) -> Value {
        self.request("PING").await;
        self.next().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_removal_overtook_is_taken_back_after_its_reply() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::tracking(&a, "").await;
    stack.database.put("user:1", row("user:1", 1));
    stack.database.hold(true);
    redis.request("GET user:1").await;
    stack.database.reached.notified().await; // the old row is read ...
    remove(&a, "user:1").await; // ... it changes ...
    stack.database.release.notify_one(); // ... and the old row arrives
    // A push may come before the reply, for the registration; one must come after it.
    let mut seen = Vec::new();
    while seen.last() != Some(&invalidated(&["user:1"]))
        || !seen.iter().any(|value| matches!(value, Value::Bulk(_)))
    {
        seen.push(redis.next().await);
    }
    assert!(seen.contains(&bulk(row("user:1", 1))), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_within_the_quarantine_is_not_to_be_kept() {
    let mut stack = Stack::new();
    stack.config.quarantine = Duration::from_hours(1);
    let a = stack.start("a").await;
    stack.database.put("user:1", row("user:1", 1));
    for options in ["", "BCAST PREFIX user:"] {
        let mut redis = Redis::tracking(&a, options).await;
        redis.request("GET user:1").await;
        assert_eq!(redis.next().await, bulk(row("user:1", 1)));
        assert_eq!(redis.next().await, invalidated(&["user:1"]), "{options}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_from_another_node_is_not_to_be_kept() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = b.key();
    stack.database.put(&key, row(&key, 1));
    let mut redis = Redis::tracking(&a, "").await;
    redis.ask("READONLY").await;
    redis.request(&format!("GET {key}")).await;
    assert_eq!(redis.next().await, bulk(row(&key, 1)));
    assert_eq!(redis.next().await, invalidated(&[&key]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_and_a_lost_slot_and_a_lost_lease_are_told() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::tracking(&a, "").await;
    redis.ask("GET user:1").await;
    redis.ask("GET product:1").await;
    a.node.flush(&["user".to_owned()], Hop::First).await.unwrap();
    assert_eq!(redis.push().await, invalidated(&["user:1"]));

    let keys = a.keys(200);
    for key in &keys {
        redis.ask(&format!("GET {key}")).await;
    }
    let b = stack.start("b").await;
    let lost = b.keys(200).into_iter().filter(|key| keys.contains(key)).count();
    assert!(lost > 0, "some keys move");
    let mut told = 0;
    while told < lost {
        let Value::Push(push) = redis.push().await else { panic!("a push") };
        let Value::Array(keys) = &push[1] else { panic!("some keys stay") };
        told += keys.len();
    }

    let mut redis = Redis::tracking(&a, "").await;
    redis.ask(&format!("GET {}", a.key())).await;
    stack.registry.fence(&a.member.id);
    assert_eq!(redis.push().await, all_invalidated());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_tag_is_told_to_all_who_hold_entries_that_may_carry_it() {
    let mut stack = Stack::new();
    let tagged = CATALOG.replacen("ttl   =", "tags  = [\"product:{product_id:u64}\"]\nttl   =", 1);
    let tagged = tagged.replacen("SELECT id, name", "SELECT id, product_id, name", 1);
    stack.catalog = Arc::new(Catalog::parse("test.toml", &tagged).unwrap());
    let a = stack.start("a").await;
    stack.database.put_tagged("user:1", row("user:1", 1), &["product:7"]);
    let mut redis = Redis::tracking(&a, "").await;
    assert_eq!(redis.ask("GET user:1").await, bulk(row("user:1", 1)));
    let (epoch, remove_tags) = (a.node.epoch(), vec!["product:7".to_owned()]);
    a.node.apply(&Apply { epoch, remove_tags, ..Apply::default() }).await.unwrap();
    assert_eq!(redis.push().await, invalidated(&["user:1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcast_tells_of_every_removal_of_a_prefix_read_or_not() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::tracking(&a, "BCAST PREFIX user: NOLOOP").await;
    remove(&a, "product:1").await;
    remove(&a, "user:1").await;
    assert_eq!(redis.push().await, invalidated(&["user:1"]));
    // NOLOOP: what it removes by itself it knows.
    redis.ask("DEL user:2").await;
    remove(&a, "user:3").await;
    assert_eq!(redis.push().await, invalidated(&["user:3"]));
    a.node.flush(&["product".to_owned()], Hop::First).await.unwrap();
    assert_eq!(redis.push().await, all_invalidated());
    assert!(redis.ask("CLIENT TRACKING ON BCAST PREFIX us").await.is_error("ERR Prefix 'us' overlaps"));
    assert!(redis.ask("CLIENT TRACKING ON").await.is_error("ERR You can't switch BCAST mode"));
    let many: Vec<String> = (0..300).map(|n| format!("PREFIX {n:03}:")).collect();
    assert!(
        redis
            .ask(&format!("CLIENT TRACKING ON BCAST {}", many.join(" ")))
            .await
            .is_error("ERR a client has at most 256")
    );
    assert_eq!(redis.ask("CLIENT TRACKING OFF").await, Value::Simple("OK".into()));
    remove(&a, "user:1").await;
    assert_eq!(redis.next_of_ping().await, Value::Simple("PONG".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn opt_in_and_opt_out_choose_what_is_tracked() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut opt_in = Redis::tracking(&a, "OPTIN").await;
    opt_in.ask("GET user:1").await;
    opt_in.ask("CLIENT CACHING YES").await;
    opt_in.ask("GET user:2").await;
    opt_in.ask("GET user:3").await;
    let mut opt_out = Redis::tracking(&a, "OPTOUT").await;
    opt_out.ask("CLIENT CACHING NO").await;
    opt_out.ask("GET user:1").await;
    opt_out.ask("GET user:3").await;
    for key in ["user:1", "user:2", "user:3"] {
        remove(&a, key).await;
    }
    assert_eq!(opt_in.push().await, invalidated(&["user:2"]));
    assert_eq!(opt_out.push().await, invalidated(&["user:3"]));
    for redis in [&mut opt_in, &mut opt_out] {
        assert_eq!(redis.next_of_ping().await, Value::Simple("PONG".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resp2_is_told_by_a_subscriber_and_closed_if_that_is_gone() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let (mut reader, mut listener) = (Redis::to(&a).await, Redis::to(&a).await);
    let Value::Int(id) = listener.ask("CLIENT ID").await else { panic!("an id is a number") };
    let subscribed = listener.ask("SUBSCRIBE __redis__:invalidate").await;
    assert_eq!(
        subscribed,
        Value::Array(vec![bulk("subscribe"), bulk("__redis__:invalidate"), Value::Int(1)])
    );
    assert!(listener.ask("GET user:1").await.is_error("ERR Can't execute 'get': only (P|S)SUBSCRIBE"));
    assert!(
        reader
            .ask("CLIENT TRACKING ON REDIRECT 999")
            .await
            .is_error("ERR The client ID you want redirect to does not exist")
    );
    assert_eq!(reader.ask(&format!("CLIENT TRACKING ON REDIRECT {id}")).await, Value::Simple("OK".into()));
    reader.ask("GET user:1").await;
    remove(&a, "user:1").await;
    let told = listener.next().await;
    assert_eq!(
        told,
        Value::Array(vec![bulk("message"), bulk("__redis__:invalidate"), Value::Array(vec![bulk("user:1")])])
    );
    drop(listener);
    reader.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_after_its_redirection_broke_is_told_of_every_removal_that_can_not_be_told() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut listener = Redis::tracking(&a, "").await;
    let Value::Int(id) = listener.ask("CLIENT ID").await else { panic!("an id is a number") };
    let mut reader = Redis::tracking(&a, &format!("REDIRECT {id}")).await;
    let broken = Value::Push(vec![bulk("tracking-redir-broken"), Value::Int(id)]);
    drop(listener);
    assert_eq!(reader.push().await, broken, "at once");
    // It keeps what it reads from here on as well: nobody has told it to stop.
    for key in ["user:1", "user:2"] {
        reader.ask(&format!("GET {key}")).await;
    }
    assert_eq!(reader.next_of_ping().await, Value::Simple("PONG".into()), "nothing to be told");
    remove(&a, "user:1").await;
    assert_eq!(reader.push().await, broken, "for a key");
    stack.registry.fence(&a.member.id);
    assert_eq!(reader.push().await, broken, "for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_what_it_is_told_is_closed() {
    let mut stack = Stack::new();
    stack.config.tracking_queue = 100;
    let a = stack.start("a").await;
    let mut redis = Redis::tracking(&a, "BCAST").await;
    // The client reads nothing. When its sockets are full too, the queue fills, and then the node ends it.
    let mut watcher = Redis::to(&a).await;
    let keys: Vec<String> = (0..50).map(|n| format!("product:{n}{}", "9".repeat(15))).collect();
    for _ in 0..100_000 {
        let apply = Apply { epoch: a.node.epoch(), remove: keys.clone(), ..Apply::default() };
        a.node.apply(&apply).await.unwrap();
        let Value::Bulk(info) = watcher.ask("INFO clients").await else { panic!("INFO is text") };
        if info.contains("tracking_clients:0") {
            return redis.closed().await;
        }
    }
    panic!("it was never closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_table_invalidates_what_makes_room() {
    let mut stack = Stack::new();
    stack.config.tracking_keys = 10;
    let a = stack.start("a").await;
    let mut redis = Redis::tracking(&a, "").await;
    for id in 0..50 {
        redis.ask(&format!("GET user:{id}")).await;
    }
    for _ in 0..40 {
        redis.push().await;
    }
    assert_eq!(redis.next_of_ping().await, Value::Simple("PONG".into()));
}
