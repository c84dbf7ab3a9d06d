//! A database whose server changes, or that shows changes late.

use std::time::Duration;

use cache_node::Hop;
use loader::Untagged;
use tokio::time::timeout;
use wire::Outcome;

use crate::{
    changes::removal,
    stack::{Running, Stack, row},
};

const WAIT: Duration = Duration::from_secs(20);

async fn read(node: &Running, key: &str) -> (Outcome, String) {
    let answer = node.node.get(key, Hop::First).await.unwrap();
    (answer.outcome, String::from_utf8(answer.value.unwrap().to_vec()).unwrap())
}

/// *60 s after a switchover nodes still had rows of the old primary, of which no removal would come any more.*
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_server_flushes_what_was_filled_on_every_node() {
    let stack = Stack::with_replicas(2);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let keys: Vec<String> = a.keys(5).into_iter().chain(b.keys(5)).collect();
    for key in &keys {
        stack.database.put(key, row(key, 1));
        for node in [&a, &b] {
            read(node, key).await;
        }
        stack.database.put(key, row(key, 2)); // on the new server, before anybody noticed
        assert_eq!(read(&a, key).await, (Outcome::Hit, row(key, 1)));
    }
    stack.database.switch();
    let flushed = async {
        for (node, key) in [&a, &b].into_iter().flat_map(|node| keys.iter().map(move |key| (node, key))) {
            while read(node, key).await.1 != row(key, 2) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    timeout(WAIT, flushed).await.expect("everything is read anew");
    for node in [&a, &b] {
        assert!(node.metric("freshline_node_database_switches_total") > 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_shows_changes_late_raises_the_quarantine_from_the_first_fill_on() {
    let stack = Stack::new();
    stack.database.hide_for(Duration::from_hours(1));
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    assert_eq!(read(&a, &key).await.0, Outcome::ReadThrough, "gaining a slot counts as a removal");
    let raised = a.metric("freshline_node_quarantine_seconds");
    assert!(raised > 3599.0, "{raised}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_is_raised_while_running_flushes_and_then_keeps_nothing_of_a_changed_key() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    read(&a, &key).await;
    assert_eq!(read(&a, &key).await.0, Outcome::Hit);
    stack.database.put(&key, row(&key, 2));
    stack.database.hide_for(Duration::from_hours(1));
    let raised = async {
        while read(&a, &key).await.1 != row(&key, 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, raised).await.expect("what was stored under the shorter one is gone");
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(read(&a, &key).await.0, Outcome::ReadThrough);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_primarys_is_served_and_not_kept() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put_untagged(&key, row(&key, 1), Untagged::NotPrimary);
    for _ in 0..2 {
        assert_eq!(read(&a, &key).await, (Outcome::ReadThrough, row(&key, 1)));
    }
    assert!(a.metric("freshline_node_fills_refused_total{reason=\"not_primary\"}") > 1.0);
}
