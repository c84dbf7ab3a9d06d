//! Writes and removals of one key at the same time, through several nodes.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures_util::future::join_all;
use ring::slot_of;
use wire::Apply;

use super::{got, held, owned, put, remove, stack, start};
use crate::stack::{Running, Stack};

/// What all holders have in memory: the same, or nothing where a removal took it from a replica.
fn agree(nodes: &[Running], key: &str) -> Option<String> {
    let ring = nodes[0].node.ring();
    let holders = ring
        .holders(slot_of(key))
        .map(|member| nodes.iter().find(|node| node.member.id == member.id).unwrap());
    let values: Vec<_> = holders.map(|running| held(&running.node, key)).collect();
    for value in values[1..].iter().filter(|value| value.is_some()) {
        assert_eq!(*value, values[0], "{key}: {values:?}");
    }
    values[0].clone()
}

/// Delivers a removal as the sync service does: to the owner, and when that has acknowledged to the other holders.
async fn deliver(stack: &Stack, nodes: &[Running], key: &str) {
    let ring = nodes[0].node.ring();
    let apply = Apply { epoch: stack.registry_epoch(), remove: vec![key.to_owned()], ..Apply::default() };
    let of = |id: &ring::NodeId| &nodes.iter().find(|node| node.member.id == *id).unwrap().node;
    let holders: Vec<_> = ring.holders(slot_of(key)).map(|member| member.id.clone()).collect();
    of(&holders[0]).apply(&apply).await.unwrap();
    join_all(holders[1..].iter().map(|id| of(id).apply(&apply))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_through_several_nodes_end_equal_at_all_holders() {
    let stack = stack(3);
    let nodes = start(&stack, ["a", "b", "c"]).await;
    for (round, key) in owned(&nodes[1], 30).into_iter().enumerate() {
        let writes = (0..9).map(|at| {
            let (node, key) = (nodes[at % 3].node.clone(), key.clone());
            tokio::spawn(async move { put(&node, &key, &format!("{round}/{at}")).await })
        });
        for written in join_all(writes).await {
            assert_eq!(written.unwrap().unwrap(), None);
        }
        let last = agree(&nodes, &key).expect("it is there");
        for running in &nodes {
            assert_eq!(held(&running.node, &key).as_ref(), Some(&last), "all have it");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn removals_and_writes_at_the_same_time_leave_holders_that_agree() {
    let stack = stack(2);
    let nodes = start(&stack, ["a", "b", "c"]).await;
    for (round, key) in owned(&nodes[0], 60).into_iter().enumerate() {
        put(&nodes[0].node, &key, "before").await.unwrap();
        let write = |at: usize| {
            let (node, key) = (nodes[at].node.clone(), key.clone());
            tokio::spawn(async move { put(&node, &key, &format!("{round}/{at}")).await.unwrap() })
        };
        let writes = [write(0), write(1), write(2)];
        if round % 2 == 0 {
            deliver(&stack, &nodes, &key).await;
        } else {
            remove(&nodes[2].node, &key).await;
        }
        join_all(writes).await;
        let last = agree(&nodes, &key);
        for running in &nodes {
            assert_eq!(got(&running.node, &key).await, last, "{key} at {}", running.member.id);
        }
        // What comes after all of them takes it from everybody.
        if round % 2 == 0 {
            remove(&nodes[1].node, &key).await;
        } else {
            deliver(&stack, &nodes, &key).await;
        }
        for running in &nodes {
            assert_eq!((held(&running.node, &key), got(&running.node, &key).await), (None, None));
        }
    }
}

/// *A node joins, another one leaves and comes back, while every key is written again and again through one that stays.*
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_is_not_older_after_any_change_of_the_ring() {
    for replicas in [1, 2] {
        let stack = stack(replicas);
        let [a, b, c] = start(&stack, ["a", "b", "c"]).await;
        let keys: Vec<String> = [&a, &b, &c].into_iter().flat_map(|node| owned(node, 12)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (node, keys, stop) = (a.node.clone(), keys.clone(), stop.clone());
            async move {
                let mut acknowledged = HashMap::new();
                let (mut round, mut failed) = (0_u64, 0);
                while !stop.load(Relaxed) || round < 3 {
                    round += 1;
                    for key in &keys {
                        // Who is not acknowledged may be there or not; a later one takes its place.
                        match put(&node, key, &round.to_string()).await {
                            Ok(None) => drop(acknowledged.insert(key.clone(), round)),
                            Ok(refused) => panic!("{refused:?}"),
                            Err(_) => failed += 1,
                        }
                    }
                }
                (acknowledged, round, failed)
            }
        });
        let d = stack.start("d").await;
        b.stop().await;
        let b = stack.start("b").await;
        c.stop().await;
        stop.store(true, Relaxed);
        let (acknowledged, rounds, failed) = writer.await.unwrap();
        super::agreed(&stack, &[&a, &b, &d]).await;
        assert_eq!(acknowledged.len(), keys.len());
        for (key, round) in &acknowledged {
            for running in [&a, &b, &d] {
                let value = got(&running.node, key).await.and_then(|value| value.parse::<u64>().ok());
                let newer = value.is_some_and(|value| value >= *round);
                assert!(
                    newer,
                    "{key} at {}: {value:?} after {round} of {rounds}, {failed} failed",
                    running.member.id
                );
            }
        }
    }
}
