//! What replicas are for: how many reads come from memory after nodes join, leave or are killed.

use std::time::Duration;

use cache_node::Hop;
use wire::Outcome;

use crate::{
    changes::removal,
    handover::settled,
    stack::{Running, Stack, row},
};

const KEYS: usize = 400;

/// Waits until so many entries are in memory on all nodes together.
async fn copied(nodes: &[&Running], entries: usize) {
    let held = || nodes.iter().map(|node| node.node.stats().entries).sum::<u64>() as usize;
    let all = async {
        while held() != entries {
            tokio::time::sleep(Duration::from_millis(2)).await; // it goes on in the background, and nobody is told
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all)
        .await
        .unwrap_or_else(|_| panic!("{} entries, not {entries}", held()));
}

/// Reads all keys by one node; returns the share that no database was asked for.
async fn hits(stack: &Stack, node: &Running, keys: &[String]) -> f64 {
    let before = stack.database.calls().concat().len();
    for answer in node.node.get_many(keys, Hop::First).await.unwrap() {
        assert!(answer.unwrap().value.is_some());
    }
    let read = stack.database.calls().concat().len() - before;
    1.0 - read as f64 / keys.len() as f64
}

/// The epoch of the ring without a node whose lease has ended, which the others go by when this returns.
async fn killed(stack: &Stack, mut node: Running, rest: &[&Running]) {
    node.crash().await;
    let epoch = stack.registry.expire(&node.member.id);
    for node in rest {
        settled(node, epoch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_a_leave_and_with_replicas_a_kill_cost_the_database_nothing() {
    for replicas in [1, 2, 3] {
        let stack = Stack::with_replicas(replicas);
        let (a, b, c) = (stack.start("a").await, stack.start("b").await, stack.start("c").await);
        let keys: Vec<String> = (0..KEYS).map(|id| format!("user:{id}")).collect();
        for key in &keys {
            stack.database.put(key, row(key, 1));
        }
        let three = [&a, &b, &c];
        for node in three {
            settled(node, stack.registry_epoch()).await;
        }
        assert!(hits(&stack, &a, &keys).await < f64::EPSILON);
        copied(&three, KEYS * replicas).await;

        let d = stack.start("d").await;
        let four = [&a, &b, &c, &d];
        for node in four {
            settled(node, stack.registry_epoch()).await;
        }
        copied(&four, KEYS * replicas).await;
        let join = hits(&stack, &a, &keys).await;

        d.stop().await;
        for node in three {
            settled(node, stack.registry_epoch()).await;
        }
        copied(&three, KEYS * replicas).await;
        let leave = hits(&stack, &a, &keys).await;

        let owned = c.node.ring().owned_by(&c.member.id) as f64 / 16384.0;
        killed(&stack, c, &[&a, &b]).await;
        let kill = hits(&stack, &a, &keys).await;
        println!(
            "{replicas} holders: from memory after a join {:.1} %, a planned leave {:.1} %, a kill {:.1} %",
            100.0 * join,
            100.0 * leave,
            100.0 * kill
        );
        assert!((join - 1.0).abs() < f64::EPSILON && (leave - 1.0).abs() < f64::EPSILON, "{join} {leave}");
        let expected = if replicas == 1 { 1.0 - owned } else { 1.0 };
        assert!((kill - expected).abs() < 0.1, "{kill}, not {expected}");
    }
}

/// *A value that is under way to the replica when it is removed there comes in after the removal.*
#[tokio::test(flavor = "multi_thread")]
async fn what_was_announced_before_a_removal_is_no_copy_after_it() {
    let stack = Stack::with_replicas(2);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = a.key();
    for version in 1..=50 {
        stack.database.put(&key, row(&key, version));
        a.node.get(&key, Hop::First).await.unwrap();
        // While the announcement and the pull go on: the owner first, then the replica.
        stack.database.put(&key, row(&key, version + 1));
        for node in [&a, &b] {
            node.node.apply(&removal(stack.registry_epoch(), &key)).await.unwrap();
        }
        let answer = b.node.get(&key, Hop::First).await.unwrap();
        assert_eq!(answer.value.as_deref(), Some(row(&key, version + 1).as_bytes()));
        assert_ne!(answer.outcome, Outcome::Hit);
        for node in [&a, &b] {
            node.node.apply(&removal(stack.registry_epoch(), &key)).await.unwrap();
        }
    }
}
