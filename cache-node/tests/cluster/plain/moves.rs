//! Plain values when slots change hands.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use cache_node::{Error, Hop};
use ring::{Epoch, Member, Membership, NodeId, Ring, memory::Observer, slot_of};
use tokio::sync::watch;
use wire::{Only, Put, Write};

use super::{agreed, got, held, owned, put, put_all, remove, stack, start};
use crate::{
    agreement::{listed, listed_again},
    handover::settled,
    stack::Running,
};

#[tokio::test(flavor = "multi_thread")]
async fn values_move_with_their_slots_to_a_node_that_joins_and_back_when_it_leaves() {
    let stack = stack(1);
    let a = stack.start("a").await;
    let keys = owned(&a, 300);
    for key in &keys {
        put(&a.node, key, key).await.unwrap();
    }
    let b = stack.start("b").await;
    let moved = keys.iter().filter(|key| owned(&b, 1000).contains(key)).count();
    assert!(moved > 50, "{moved}");
    for key in &keys {
        assert_eq!(got(&b.node, key).await.as_ref(), Some(key));
    }
    settled(&a, b.node.epoch()).await;
    for key in &keys[..10] {
        put(&a.node, key, "newer").await.unwrap();
    }
    b.stop().await;
    agreed(&stack, &[&a]).await;
    for (at, key) in keys.iter().enumerate() {
        let value = got(&a.node, key).await;
        assert_eq!(value.as_deref(), Some(if at < 10 { "newer" } else { key }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_its_owner() {
    let stack = stack(2);
    let [mut a, b, c] = start(&stack, ["a", "b", "c"]).await;
    let keys = owned(&a, 100);
    for key in &keys {
        put(&c.node, key, key).await.unwrap();
    }
    remove(&c.node, &keys[0]).await;
    a.crash().await;
    stack.registry.expire(&a.member.id);
    agreed(&stack, &[&b, &c]).await;
    for running in [&b, &c] {
        for key in &keys[1..] {
            assert_eq!(got(&running.node, key).await.as_ref(), Some(key));
        }
        assert_eq!(got(&running.node, &keys[0]).await, None, "removed is removed");
    }
    put(&b.node, &keys[1], "after").await.unwrap();
    assert_eq!(got(&c.node, &keys[1]).await.as_deref(), Some("after"));
}

/// *Two nodes that hold everything; the owner is restarted: no node has lost the slots, the other one is a replica again.*
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_comes_back_takes_what_its_replica_has_kept() {
    let stack = stack(2);
    let [a, b] = start(&stack, ["a", "b"]).await;
    let keys = owned(&a, 100);
    for key in &keys {
        put(&b.node, key, "before").await.unwrap();
    }
    a.stop().await;
    agreed(&stack, &[&b]).await;
    put(&b.node, &keys[0], "meanwhile").await.unwrap();
    remove(&b.node, &keys[1]).await;
    let a = stack.start("a").await;
    agreed(&stack, &[&a, &b]).await;
    for key in &keys[2..] {
        assert_eq!(got(&a.node, key).await.as_deref(), Some("before"));
    }
    for running in [&a, &b] {
        assert_eq!(got(&running.node, &keys[0]).await.as_deref(), Some("meanwhile"));
        assert_eq!(got(&running.node, &keys[1]).await, None);
    }
}

/// *The new owner writes or removes a key, and loses it again by eviction or expiry; what the former one still has must not come back.*
#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_owner_still_has_does_not_come_back_after_a_write() {
    let mut stack = stack(1);
    stack.config.warm_rate = daemon::config::ByteSize(0); // only when it is asked for
    let a = stack.start("a").await;
    let keys = owned(&a, 300);
    for key in &keys {
        put(&a.node, key, "old").await.unwrap();
    }
    let b = stack.start("b").await;
    agreed(&stack, &[&a, &b]).await;
    let moved: Vec<_> = keys.iter().filter(|key| owned(&b, 1000).contains(key)).take(3).collect();
    let [expires, removed, untouched] = moved[..] else { panic!("some move") };
    let short = Duration::from_millis(1);
    b.node.put(expires, "new".into(), Some(short), Hop::First).await.unwrap();
    while held(&b.node, expires).is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(got(&b.node, expires).await, None, "the former owner had an older one");
    assert_eq!(remove(&a.node, removed).await, 0, "not in memory at its owner yet");
    for running in [&a, &b] {
        assert_eq!(got(&running.node, removed).await, None);
        assert_eq!(got(&running.node, untouched).await.as_deref(), Some("old"));
    }
}

/// *A node that hears late of a new ring takes itself for the owner still: it would acknowledge what nobody reads any more, and serve what it has.*
#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_has_the_former_one_go_by_its_ring_before_its_first_write() {
    let mut stack = stack(1);
    stack.config.handover = Duration::ZERO; // nobody asks anybody for values, which would tell of the ring too
    let observer = stack.registry.observer();
    let (server, mut made_of) = stack.parts("a");
    made_of.membership = observer.clone();
    let a = stack.run(server, made_of);
    while owned_slots(&a) == 0 {
        tokio::task::yield_now().await;
    }
    let keys = owned(&a, 100);
    for key in &keys {
        put(&a.node, key, "old").await.unwrap();
    }
    observer.hold_back();
    let b = stack.begin("b");
    while owned_slots(&b) == 0 {
        tokio::task::yield_now().await;
    }
    let key = keys.iter().find(|key| owned(&b, 1000).contains(key)).expect("some move");
    assert_eq!(got(&a.node, key).await.as_deref(), Some("old"), "it knows of nothing yet");
    put(&b.node, key, "new").await.unwrap();
    assert_eq!(got(&a.node, key).await.as_deref(), Some("new"));
    put(&a.node, key, "newest").await.unwrap();
    for running in [&a, &b] {
        assert_eq!(got(&running.node, key).await.as_deref(), Some("newest"));
    }
}

/// A membership that can be cut off.
struct Cut {
    inner: Arc<Observer>,
    cut: AtomicBool,
}

#[async_trait]
impl Membership for Cut {
    fn ring(&self) -> Arc<Ring> {
        self.inner.ring()
    }

    fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        self.inner.watch()
    }

    async fn read(&self) -> Result<Arc<Ring>, ring::Error> {
        self.inner.read().await
    }

    async fn catch_up(&self, epoch: Epoch) -> Result<Arc<Ring>, ring::Error> {
        if self.cut.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        self.inner.catch_up(epoch).await
    }
}

/// *A node that is cut off from the membership is asked to remove: all whom it knows apply it, and who has joined has the value already.*
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_of_an_old_ring_removes_is_not_acknowledged_before_who_has_joined_has_applied_it() {
    for flush in [true, false] {
        let stack = stack(1);
        let a = stack.start("a").await;
        let cut = Arc::new(Cut { inner: stack.registry.observer(), cut: AtomicBool::new(false) });
        let (server, mut made_of) = stack.parts("b");
        made_of.membership = cut.clone();
        let b = stack.run(server, made_of);
        while owned_slots(&b) == 0 {
            tokio::task::yield_now().await;
        }
        agreed(&stack, &[&a, &b]).await;
        let keys = owned(&a, 100);
        put_all(&a.node, &keys).await;
        cut.inner.hold_back();
        cut.cut.store(true, SeqCst);
        let joined = stack.begin("j");
        while owned_slots(&joined) == 0 {
            tokio::task::yield_now().await;
        }
        let key = keys.iter().find(|key| owned(&joined, 1000).contains(key)).expect("some move");
        assert_eq!(got(&joined.node, key).await.as_ref(), Some(key));
        assert!(b.node.epoch() < joined.node.epoch(), "it knows of nothing");
        let user = key.split(':').nth(1).unwrap();
        let (groups, tags) = (["session".to_owned()], [format!("user:{user}")]);
        let remove = async || {
            if flush {
                b.node.flush(&groups, Hop::First).await
            } else {
                b.node.remove_tags(&tags, Hop::First).await
            }
        };
        let error = remove().await.unwrap_err();
        assert!(matches!(error, Error::Behind { .. }), "{error}");
        cut.cut.store(false, SeqCst);
        remove().await.unwrap();
        assert_eq!(got(&joined.node, key).await, None, "flush: {flush}");
    }
}

fn owned_slots(of: &Running) -> usize {
    of.node.ring().owned_by(&of.member.id)
}

/// *By the balance a few slots move beyond those of the node that comes or goes: who loses some and gains others by one ring brought the fewer
/// to nobody.*
#[tokio::test(flavor = "multi_thread")]
async fn no_value_is_lost_where_nodes_lose_some_slots_and_gain_others() {
    for replicas in [1, 2] {
        let stack = stack(replicas);
        let nodes = start(&stack, ["a", "b", "c", "d", "e", "f", "g", "h"]).await;
        let ring = nodes[0].node.ring();
        let come = Member { id: "i".into(), ..ring.members()[0].clone() };
        let with = Ring::build(Epoch(1), ring.members().iter().cloned().chain([come]).collect(), replicas);
        let moves_besides = |key: &String| {
            let (before, after) = (ring.owner(slot_of(key)).unwrap(), with.owner(slot_of(key)).unwrap());
            before.id != after.id && after.id != NodeId::from("i")
        };
        let all = || (0..50_000).map(|id| format!("session:{}:{id}", id % 7));
        let mut keys: Vec<String> = all().filter(moves_besides).take(100).collect();
        assert!(replicas > 1 || keys.len() > 20, "{}", keys.len());
        keys.extend(all().take(500));
        put_all(&nodes[0].node, &keys).await;

        let joined = stack.start("i").await;
        let everybody: Vec<&Running> = nodes.iter().chain([&joined]).collect();
        agreed(&stack, &everybody).await;
        for key in &keys {
            assert_eq!(got(&nodes[0].node, key).await.as_ref(), Some(key), "{replicas} holders, i has come");
        }
        for running in &everybody {
            settled(running, stack.registry_epoch()).await;
        }
        joined.stop().await;
        agreed(&stack, &nodes.iter().collect::<Vec<_>>()).await;
        for key in &keys {
            assert_eq!(got(&nodes[0].node, key).await.as_ref(), Some(key), "{replicas} holders, i has left");
        }
    }
}

/// *In a fixed list no ring tells that the owner was away: it said that there is no value, and an NX succeeded.*
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_a_fixed_list_that_was_killed_takes_what_its_replica_has_kept() {
    let mut stack = stack(2);
    let mut nodes = listed(&stack, &["a", "b"], 2).await;
    let (b, mut a) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let ring = b.node.ring();
    let owned = |key: &String| ring.owner(slot_of(key)).is_some_and(|owner| owner.id == a.member.id);
    let unreached: Vec<String> = (0..).map(|id| format!("note:{id}")).filter(owned).take(50).collect();
    let reached: Vec<String> = (0..).map(|id| format!("session:1:{id}")).filter(owned).take(1).collect();
    put_all(&b.node, &unreached).await;
    put_all(&b.node, &reached).await;
    a.crash().await;
    let a = listed_again(&mut stack, &a.member, &ring);
    let only_absent = |key: &String| {
        let put = Put { only: Only::IfAbsent, ..Put::new(Bytes::from_static(b"another")) };
        let (node, key) = (a.node.clone(), key.clone());
        async move { node.write(&key, Write::Put(put), Hop::First).await.map(|written| written.refused) }
    };
    a.readiness.subscribe().wait_for(BTreeMap::is_empty).await.unwrap();
    assert_eq!(only_absent(&unreached[0]).await.unwrap().as_deref(), Some("exists"));
    for key in &unreached {
        assert_eq!(got(&a.node, key).await.as_ref(), Some(key));
    }
    assert_eq!(
        got(&a.node, &reached[0]).await,
        None,
        "a removal may have been on its way when it was killed"
    );
}

/// *A fixed list of three, one of them away: an owner that was restarted waited for it before its first write, for ever.*
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_a_fixed_list_writes_though_another_member_is_away() {
    let mut stack = stack(1);
    let mut nodes = listed(&stack, &["a", "b", "c"], 1).await;
    let (mut c, _b, mut a) = (nodes.pop().unwrap(), nodes.pop().unwrap(), nodes.pop().unwrap());
    let ring = a.node.ring();
    c.crash().await;
    a.crash().await;
    let again = listed_again(&mut stack, &a.member, &ring);
    again.readiness.subscribe().wait_for(BTreeMap::is_empty).await.unwrap();
    let key = &owned(&again, 1)[0];
    assert_eq!(put(&again.node, key, "v").await.unwrap(), None);
    assert_eq!(got(&again.node, key).await.as_deref(), Some("v"));
}
