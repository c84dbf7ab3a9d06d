//! Mirrors of hot keys: who may have one, for how long, and what a removal waits for.

use std::time::Duration;

use cache_node::{Hop, Node};
use ring::{Epoch, Member, MemberState, NodeId, slot_of};
use tokio::time::{Instant, sleep, timeout};
use wire::{Answer, Heartbeat, Outcome, ReadOptions};

use crate::{
    changes::removal,
    stack::{Running, Stack, row},
};

const LEASE: Duration = Duration::from_millis(400);

/// Nodes by which every key is hot from its first read on.
fn stack(replicas: usize) -> Stack {
    let mut stack = Stack::with_replicas(replicas);
    stack.config.hot_rate = 0.0;
    stack.config.hot_sample = 1;
    stack.config.mirror_lease = LEASE;
    stack
}

async fn settled(stack: &Stack, nodes: &[&Running]) {
    for running in nodes {
        while running.node.epoch() < stack.registry_epoch() {
            tokio::task::yield_now().await;
        }
    }
}

/// Reads until the node answers from its own memory.
async fn mirrored(node: &Node, key: &str) -> Answer {
    let read = async {
        loop {
            let answer = node.get(key, Hop::First).await.unwrap();
            if answer.node == node.id().as_str() {
                return answer;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), read).await.expect("a mirror comes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_key_is_answered_from_a_mirror_and_not_once_more_after_its_removal_is_acknowledged() {
    let stack = stack(1);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    settled(&stack, &[&a, &b]).await;
    let key = a.key();
    for version in 1..20 {
        stack.database.put(&key, row(&key, version));
        a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
        // Right after the acknowledgement, whether b has a mirror, asks for one, or has none.
        let next = b.node.get(&key, Hop::First).await.unwrap();
        assert_eq!(next.value.as_deref(), Some(row(&key, version).as_bytes()), "{next:?}");
        if version % 3 > 0 {
            let answer = mirrored(&b.node, &key).await;
            assert_eq!(
                (answer.outcome, answer.value.as_deref()),
                (Outcome::Hit, Some(row(&key, version).as_bytes()))
            );
            assert!(answer.freshness >= answer.age, "no watermark is known: {answer:?}");
        }
    }
    stack.database.put(&key, row(&key, 77));
    mirrored(&b.node, &key).await;
    a.node.remove(std::slice::from_ref(&key), Hop::Forwarded).await.unwrap();
    assert_eq!(b.node.get(&key, Hop::First).await.unwrap().value.as_deref(), Some(row(&key, 77).as_bytes()));
    stack.database.put(&key, row(&key, 78));
    mirrored(&b.node, &key).await;
    a.node.flush(&["user".into()], Hop::Forwarded).await.unwrap();
    assert_eq!(b.node.get(&key, Hop::First).await.unwrap().value.as_deref(), Some(row(&key, 78).as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once_are_answered_from_mirrors_and_staleness_is_bounded_there_too() {
    let mut stack = stack(1);
    stack.config.mirror_lease = Duration::from_secs(10);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    settled(&stack, &[&a, &b]).await;
    let keys = a.keys(3);
    for key in &keys {
        stack.database.put(key, row(key, 1));
        mirrored(&b.node, key).await;
    }
    let answers = b.node.get_many(&keys, Hop::First).await.unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().node == "b"), "{answers:?}");
    let strict = ReadOptions { max_staleness: Some(Duration::ZERO), ..ReadOptions::default() };
    let fresh = b.node.get_with(&keys[0], Hop::First, strict).await.unwrap();
    assert_eq!(fresh.node, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_no_source_for_others() {
    let stack = stack(1);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    settled(&stack, &[&a, &b]).await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    mirrored(&b.node, &key).await;
    let forwarded = b.node.get(&key, Hop::Forwarded).await.unwrap();
    assert_eq!((forwarded.outcome, forwarded.ttl), (Outcome::ReadThrough, None));
    let granted = grant(&b, "x", &key, b.node.epoch()).await.unwrap();
    assert_eq!(granted.lease, None, "b does not own it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_can_not_be_reached_delays_a_removal_until_its_lease_is_over_and_no_longer() {
    let stack = stack(1);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    settled(&stack, &[&a, &b]).await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    a.node.get(&key, Hop::First).await.unwrap();
    register_unreachable(&stack, "nobody", &a);
    settled(&stack, &[&a, &b]).await;
    let asked = Instant::now();
    let granted = grant(&a, "nobody", &key, a.node.epoch()).await.unwrap();
    assert_eq!(granted.lease, Some(LEASE));
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
    assert!(asked.elapsed() >= LEASE, "acknowledged after {:?}", asked.elapsed());
    let begun = Instant::now();
    a.node.apply(&removal(a.node.epoch(), &key)).await.unwrap();
    assert!(begun.elapsed() < LEASE, "nothing is left to wait for");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_grants_at_the_askers_epoch_and_only_while_it_is_a_member() {
    let stack = stack(2);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    settled(&stack, &[&a, &b]).await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    b.node.get(&key, Hop::First).await.unwrap(); // both hold it now
    register_unreachable(&stack, "x", &a);
    settled(&stack, &[&a, &b]).await;
    assert!(grant(&a, "x", &key, a.node.epoch()).await.unwrap().lease.is_some());
    assert_eq!(grant(&b, "x", &key, b.node.epoch()).await.unwrap().lease, None, "a replica");
    assert!(grant(&a, "x", &key, Epoch(a.node.epoch().0 + 5)).await.is_err(), "behind");
    stack.registry.fence(&a.member.id);
    assert_eq!(grant(&a, "x", &key, a.node.epoch()).await.unwrap().lease, None, "fenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_loses_slots_confirms_when_their_mirrors_are_over() {
    let mut stack = stack(1);
    stack.config.handover = Duration::ZERO;
    let a = stack.start("a").await;
    settled(&stack, &[&a]).await;
    let keys = a.keys(40);
    for key in &keys {
        stack.database.put(key, row(key, 1));
        a.node.get(key, Hop::First).await.unwrap();
    }
    let peers = client::Peers::new(client::Config::default());
    register_unreachable(&stack, "nobody", &a);
    settled(&stack, &[&a]).await;
    let asked = Instant::now();
    for key in &keys {
        let nobody = NodeId::from("nobody");
        let granted = peers.mirror(&a.member, &nobody, a.node.epoch(), key, LEASE).await.unwrap();
        assert!(granted.lease.is_some());
    }
    let b = stack.start("b").await;
    settled(&stack, &[&a, &b]).await;
    let ring = a.node.ring();
    assert!(keys.iter().any(|key| ring.owner(slot_of(key)).is_some_and(|owner| owner.id == b.member.id)));
    let confirmed = async {
        while a.node.heartbeat(&Heartbeat::default()).confirmed_epoch < ring.epoch() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), confirmed).await.expect("it confirms");
    assert!(asked.elapsed() >= LEASE, "confirmed after {:?}", asked.elapsed());
}

/// A member that is on its way into the ring and can't be reached.
fn register_unreachable(stack: &Stack, id: &str, like: &Running) {
    let grpc = "http://127.0.0.1:1".to_owned();
    stack.registry.register(Member {
        id: id.into(),
        state: MemberState::Joining,
        grpc,
        ..like.member.clone()
    });
}

/// Asks `owner` for a mirror of a key for a node of this name.
async fn grant(
    owner: &Running,
    name: &str,
    key: &str,
    epoch: Epoch,
) -> Result<wire::Mirrored, client::Error> {
    let peers = client::Peers::new(client::Config::default());
    peers.mirror(&owner.member, &NodeId::from(name), epoch, key, LEASE).await
}
