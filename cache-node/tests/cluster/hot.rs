//! Hot keys: who knows them, and fills that no reader waits for.

use std::{sync::Arc, time::Duration};

use cache_node::Hop;
use catalog::Catalog;
use client::{Client, Config};
use tokio::time::{Instant, sleep, timeout};
use wire::{EntryState, Outcome};

use crate::{
    changes::removal,
    stack::{Running, Stack, row},
};

const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"
ttl   = "2s"
ttl_jitter = 0
on_change = "reload"
refresh_ahead = 0.9
"#;

fn stack() -> Stack {
    let mut stack = Stack::new();
    stack.catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
    stack.config.hot_rate = 0.0;
    stack.config.hot_sample = 1;
    stack
}

/// Waits, without reading it, until a key is in memory.
async fn comes(a: &Running, key: &str) -> wire::Explanation {
    let look = async {
        loop {
            let explained = a.node.explain(key, Hop::Forwarded).await.unwrap();
            if explained.entry == EntryState::Value {
                return explained;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), look).await.expect("it comes by itself")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_reloads_has_a_changed_key_in_memory_again_once_its_quarantine_is_over() {
    let mut stack = stack();
    stack.config.quarantine = Duration::from_millis(150);
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    sleep(stack.config.quarantine).await; // of the slot
    assert_eq!(a.node.get(&key, Hop::First).await.unwrap().outcome, Outcome::Miss);
    stack.database.put(&key, row(&key, 2));
    let removed = Instant::now();
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
    let explained = a.node.explain(&key, Hop::Forwarded).await.unwrap();
    assert_eq!(explained.entry, EntryState::Absent, "nobody is served the old value meanwhile");
    let there = comes(&a, &key).await;
    let began = removed.elapsed().saturating_sub(there.age.unwrap());
    assert!(began + Duration::from_millis(20) >= stack.config.quarantine, "it began after {began:?}");
    let next = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((next.outcome, next.value.as_deref()), (Outcome::Hit, Some(row(&key, 2).as_bytes())));
    assert_eq!(stack.database.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_removed_while_it_is_reloaded_is_reloaded_again() {
    let stack = stack();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    a.node.get(&key, Hop::First).await.unwrap();
    stack.database.hold(true);
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
    stack.database.reached.notified().await; // the reload has read the old row
    stack.database.put(&key, row(&key, 2));
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
    stack.database.hold(false);
    stack.database.release.notify_one();
    let refused = async {
        while a.node.stats().fills_refused == 0 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), refused).await.unwrap();
    let next = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!(next.value.as_deref(), Some(row(&key, 2).as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_not_in_memory_are_not_reloaded() {
    let stack = stack();
    let a = stack.start("a").await;
    let keys = a.keys(2);
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    a.node.get(&keys[0], Hop::First).await.unwrap();
    a.node.apply(&removal(a.node.epoch(), &keys[1])).await.unwrap();
    a.node.apply(&removal(a.node.epoch(), &keys[0])).await.unwrap();
    comes(&a, &keys[0]).await;
    let calls = stack.database.calls();
    assert!(calls.iter().all(|keys_of_call| !keys_of_call.contains(&keys[1])), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_key_near_its_end_is_filled_again_while_the_old_entry_is_served() {
    let stack = stack();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    a.node.get(&key, Hop::First).await.unwrap();
    // A row that changes by no change that anybody tells: only to see which reading an entry is of.
    stack.database.put(&key, row(&key, 2));
    let mut outcomes = Vec::new();
    let renewed = async {
        loop {
            let answer = a.node.get(&key, Hop::First).await.unwrap();
            outcomes.push(answer.outcome);
            if answer.value.as_deref() == Some(row(&key, 2).as_bytes()) {
                return answer;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let answer = timeout(Duration::from_secs(10), renewed).await.unwrap();
    assert!(answer.ttl.unwrap() > Duration::from_secs(1), "{answer:?}");
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Hit), "{outcomes:?}");
    assert_eq!(stack.database.calls().len(), 2, "one at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hottest_keys_of_all_nodes_are_told_by_each_of_them_and_by_the_client() {
    let mut stack = stack();
    stack.config.mirror_lease = Duration::ZERO;
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    while a.node.epoch() < stack.registry_epoch() || b.node.epoch() < stack.registry_epoch() {
        tokio::task::yield_now().await;
    }
    let (of_a, of_b) = (a.key(), b.key());
    for key in [&of_a, &of_b] {
        stack.database.put(key, row(key, 1));
    }
    for _ in 0..30 {
        b.node.get(&of_a, Hop::First).await.unwrap(); // passed on
    }
    for _ in 0..10 {
        b.node.get(&of_b, Hop::First).await.unwrap();
    }
    let told = b.node.hot_everywhere(None, 10).await.unwrap();
    let keys: Vec<_> = told.keys.iter().map(|key| (&*key.key, &*key.group, key.hot)).collect();
    assert_eq!(keys, [(&*of_a, "user", true), (&*of_b, "user", true)]);
    let (first, second) = (&told.keys[0], &told.keys[1]);
    let ratio = first.reads / second.reads;
    assert!((2.0..4.5).contains(&ratio), "each read is counted where it was answered: {told:?}");
    assert!(first.forwarded > second.reads && told.share() > 0.99, "{told:?}");
    assert!(b.node.hot_everywhere(Some("c"), 10).await.is_none());
    let client = Client::from_seeds(vec![a.member.grpc.clone()], Config::default()).await.unwrap();
    let merged = client.hot(None, 1).await.unwrap();
    assert_eq!((merged.keys.len(), &*merged.keys[0].key, merged.nodes.len()), (1, &*of_a, 2));
    assert!(client.hot(Some(&"c".into()), 1).await.is_err());
}
