//! Nodes that join and leave with warm values, and removals that come in the middle of it.

use std::time::Duration;

use cache_node::Hop;
use client::{Config, Error, Peers};
use ring::{Epoch, Member, MemberState, Registration as _, slot_of, terms::PROTOCOL};
use wire::{Apply, Outcome, Pull, Wanted};

use crate::{
    changes::removal,
    source::Source,
    stack::{Running, Stack, row},
};

/// Waits until a node has confirmed `epoch`: nothing that it lost by then is in its memory.
pub(crate) async fn settled(node: &Running, epoch: Epoch) {
    let ask = Apply { epoch, ..Apply::default() };
    while node.node.apply(&ask).await.unwrap().confirmed_epoch < epoch {
        tokio::time::sleep(Duration::from_millis(2)).await; // asked, as the sync service asks
    }
}

/// Whether a node has confirmed the epoch that it goes by.
async fn is_settled(node: &Running) -> bool {
    let ack = node.node.apply(&Apply::default()).await.unwrap();
    ack.confirmed_epoch == ack.epoch
}

fn pull(asker: &str, epoch: Epoch, key: &str) -> Pull {
    Pull {
        node: asker.into(),
        epoch,
        wanted: Wanted::Keys(vec![key.to_owned()]),
        max_bytes: 0,
        protocol: PROTOCOL,
    }
}

/// A node with rows of version 1 in memory.
async fn filled(stack: &Stack, count: usize) -> (Running, Vec<String>) {
    let a = stack.start("a").await;
    let keys: Vec<String> = (0..count).map(|id| format!("user:{id}")).collect();
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    for answer in a.node.get_many(&keys, Hop::First).await.unwrap() {
        assert_eq!(answer.unwrap().outcome, Outcome::Miss);
    }
    (a, keys)
}

/// Only on demand, and with time to spare on a busy machine.
fn on_demand() -> Stack {
    let mut stack = Stack::new();
    stack.config.warm_rate = daemon::config::ByteSize(0);
    let patience = Duration::from_secs(20);
    stack.config.pull_wait = patience;
    (stack.calls.deadline, stack.calls.silence) = (patience, patience);
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_brings_values_along_and_reads_no_row_again() {
    let stack = Stack::new();
    let (a, keys) = filled(&stack, 500).await;
    let reads = stack.database.calls().len();
    let b = stack.start("b").await;
    settled(&a, b.node.epoch()).await;
    let ring = a.node.ring();
    for (key, answer) in keys.iter().zip(a.node.get_many(&keys, Hop::First).await.unwrap()) {
        let answer = answer.unwrap();
        assert_eq!(answer.node, ring.owner(slot_of(key)).unwrap().id.as_str());
        assert_eq!((answer.outcome, answer.value.as_deref()), (Outcome::Hit, Some(row(key, 1).as_bytes())));
    }
    assert_eq!(stack.database.calls().len(), reads, "nothing was read again");
    let (had, has) = (a.node.stats(), b.node.stats());
    assert_eq!(had.slots + has.slots, 16384);
    assert_eq!((had.entries + has.entries, has.entries > 100), (500, true), "what was lost is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leave_gives_values_away_before_the_node_stops_and_reads_no_row_again() {
    let stack = Stack::new();
    let (a, keys) = filled(&stack, 500).await;
    let b = stack.start("b").await;
    settled(&a, b.node.epoch()).await;
    let reads = stack.database.calls().len();
    b.stop().await;
    for answer in a.node.get_many(&keys, Hop::First).await.unwrap() {
        assert_eq!(answer.unwrap().outcome, Outcome::Hit);
    }
    assert_eq!(stack.database.calls().len(), reads, "nothing was read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_before_the_bulk_gets_the_departing_holders_value() {
    let stack = on_demand();
    let (a, _) = filled(&stack, 200).await;
    let reads = stack.database.calls().len();
    let b = stack.start("b").await;
    let key = b.keys(1).remove(0);
    let age = Duration::from_millis(1);
    let first = b.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((first.outcome, &*first.node), (Outcome::Hit, "b"));
    assert!(
        first.age >= age && first.ttl.is_some_and(|ttl| ttl <= Duration::from_mins(10)),
        "as old as it is"
    );
    let again = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((again.outcome, &*again.node), (Outcome::Hit, "b"));
    assert_eq!(stack.database.calls().len(), reads);
    assert!(!is_settled(&a).await, "nobody has said that it is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_during_a_handover_is_gone_from_giver_and_taker_in_either_order() {
    for pulled_first in [false, true] {
        let stack = on_demand();
        let (a, _) = filled(&stack, 200).await;
        let b = stack.start("b").await;
        let (key, epoch) = (b.key(), b.node.epoch());
        if pulled_first {
            assert_eq!(b.node.get(&key, Hop::First).await.unwrap().outcome, Outcome::Hit);
        }
        stack.database.put(&key, row(&key, 2));
        // As the sync service does: all nodes, since a has not confirmed; then the owner.
        let ack = a.node.apply(&removal(epoch, &key)).await.unwrap();
        assert!(
            ack.removed == 1 && ack.confirmed_epoch < ack.epoch,
            "it departs, and is removed there: {ack:?}"
        );
        b.node.apply(&removal(epoch, &key)).await.unwrap();
        b.node.apply(&removal(epoch, &key)).await.unwrap();
        let next = b.node.get(&key, Hop::First).await.unwrap();
        assert_eq!((next.outcome, next.value.as_deref()), (Outcome::Miss, Some(row(&key, 2).as_bytes())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_taker_pulled_between_two_phases_goes_with_the_second() {
    let stack = on_demand();
    let (a, _) = filled(&stack, 200).await;
    let b = stack.start("b").await;
    let (key, epoch) = (b.key(), b.node.epoch());
    stack.database.put(&key, row(&key, 2));
    b.node.apply(&removal(epoch, &key)).await.unwrap(); // phase 1 reaches the owner ...
    let pulled = b.node.get(&key, Hop::First).await.unwrap(); // ... which pulls ...
    assert_eq!(pulled.value.as_deref(), Some(row(&key, 1).as_bytes()), "not delivered yet");
    a.node.apply(&removal(epoch, &key)).await.unwrap(); // ... before it reaches the departing holder;
    b.node.apply(&removal(epoch, &key)).await.unwrap(); // phase 2
    let next = b.node.get(&key, Hop::First).await.unwrap();
    assert_eq!(next.value.as_deref(), Some(row(&key, 2).as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_during_a_handover_reaches_what_departs() {
    let stack = on_demand();
    let (a, _) = filled(&stack, 200).await;
    let b = stack.start("b").await;
    let key = b.key();
    stack.database.put(&key, row(&key, 2));
    a.node.flush(&["user".into()], Hop::First).await.unwrap();
    let next = b.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((next.outcome, next.value.as_deref()), (Outcome::Miss, Some(row(&key, 2).as_bytes())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_between_the_sources_read_and_the_takers_store_wins() {
    for bulk in [true, false] {
        let mut stack = on_demand();
        stack.config.warm_rate = daemon::config::ByteSize(if bulk { 1 << 30 } else { 0 });
        let (source, member) = Source::serve("s").await;
        let registration = stack.registry.register(member);
        registration.set_state(MemberState::Active).await.unwrap();
        *source.holds.lock() = true;
        for id in 0..200 {
            let key = format!("user:{id}");
            source.put(&key, &row(&key, 1));
            stack.database.put(&key, row(&key, 1));
        }
        let b = stack.start("b").await;
        let key = b.keys(1).remove(0);
        let asked = tokio::spawn({
            let (node, key) = (b.node.clone(), key.clone());
            // In bulk nobody asks; on demand a reader does.
            async move { if bulk { None } else { Some(node.get(&key, Hop::First).await.unwrap()) } }
        });
        source.reached.notified().await; // the source has read the old value ...
        stack.database.put(&key, row(&key, 2));
        b.node.apply(&removal(b.node.epoch(), &key)).await.unwrap(); // ... the removal overtakes the reply ...
        *source.holds.lock() = false;
        source.entries.lock().retain(|(held, _)| *held != key); // where it was applied, too
        source.release.notify_one(); // ... which arrives
        asked.await.unwrap();
        if bulk {
            // By this ring: by the one in which b was joining nothing was asked of the source, and it was told so.
            let epoch = b.node.epoch().0;
            while !source.asked.lock().iter().any(|request| request.done && request.epoch >= epoch) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let other = b.keys(2).remove(1);
            assert_eq!(
                b.node.get(&other, Hop::First).await.unwrap().outcome,
                Outcome::Hit,
                "the rest is kept"
            );
        }
        let next = b.node.get(&key, Hop::First).await.unwrap();
        assert_eq!(next.value.as_deref(), Some(row(&key, 2).as_bytes()), "bulk: {bulk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_changes_between_the_asking_and_the_reply_voids_the_reply() {
    let stack = on_demand();
    let (source, member) = Source::serve("s").await;
    stack.registry.register(member);
    *source.holds.lock() = true;
    for id in 0..200 {
        let key = format!("user:{id}");
        source.put(&key, &row(&key, 1));
        stack.database.put(&key, row(&key, 2)); // a change that is planned by the next ring, which misses b's reply
    }
    let b = stack.start("b").await;
    let key = b.key();
    let asked = tokio::spawn({
        let (node, key) = (b.node.clone(), key.clone());
        async move { node.get(&key, Hop::First).await.unwrap() }
    });
    source.reached.notified().await;
    let idle = Member { id: "idle".into(), state: MemberState::Joining, ..b.member.clone() };
    stack.registry.register(idle);
    let epoch = stack.registry_epoch();
    b.node.apply(&Apply { epoch, ..Apply::default() }).await.unwrap();
    *source.holds.lock() = false;
    source.release.notify_one();
    let answer = asked.await.unwrap();
    assert_eq!(answer.value.as_deref(), Some(row(&key, 2).as_bytes()), "the database was asked instead");
    assert_eq!(source.asked_for(&key), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_catches_up_with_the_asker_before_it_answers_and_else_refuses() {
    let stack = Stack::new();
    let (a, _) = filled(&stack, 10).await;
    let peers = Peers::new(Config::default());
    let (key, wait) = (a.key(), Duration::from_secs(5));
    let ahead = Epoch(a.node.epoch().0 + 1);
    let refused = peers.pull(&a.member, pull("b", ahead, &key), wait).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Unavailable { reason, .. } if reason.contains("could not catch up")),
        "{refused}"
    );
    let (_, member) = Source::serve("s").await; // takes half of the slots, and never says that it is done
    stack.registry.register(member);
    let epoch = stack.registry_epoch();
    let pulled = peers.pull(&a.member, pull("s", epoch, &key), wait).await.unwrap();
    assert!(pulled.epoch >= epoch && a.node.epoch() >= epoch);
    assert_eq!(pulled.entries.len(), 1, "as the owner or as the departing holder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_answers_no_pulls() {
    let stack = Stack::new();
    let (a, keys) = filled(&stack, 10).await;
    let peers = Peers::new(Config::default());
    let ask = || peers.pull(&a.member, pull("b", a.node.epoch(), &keys[0]), Duration::from_secs(5));
    assert_eq!(ask().await.unwrap().entries.len(), 1);
    stack.registry.fence(&a.member.id);
    let refused = ask().await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains("cannot prove"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gives_takes_none_so_that_no_two_pull_from_each_other() {
    let stack = on_demand();
    let (a, keys) = filled(&stack, 200).await;
    let (source, member) = Source::serve("s").await;
    let registration = stack.registry.register(member);
    let epoch = stack.registry_epoch();
    a.node.apply(&Apply { epoch, ..Apply::default() }).await.unwrap();
    let ring = a.node.ring();
    let lost = keys.iter().find(|key| !ring.holds(&"a".into(), slot_of(key))).unwrap();
    assert!(!is_settled(&a).await, "a gives to s");
    for key in &keys {
        source.put(key, &row(key, 0)); // an old value that s would give back
        stack.database.put(key, row(key, 2));
    }
    // A third node: a loses more, and gains a little by the balance of the ring. It goes on giving.
    let (_other, third) = Source::serve("t").await;
    stack.registry.register(third);
    let epoch = stack.registry_epoch();
    a.node.apply(&Apply { epoch, ..Apply::default() }).await.unwrap();
    for key in &keys {
        a.node.get(key, Hop::Forwarded).await.unwrap();
    }
    assert!(source.asked.lock().iter().all(|request| request.done), "not one pull");
    stack.registry.expire(&"t".into());
    let epoch = stack.registry_epoch();
    a.node.apply(&Apply { epoch, ..Apply::default() }).await.unwrap();
    // s leaves: a gains all that it has lost, drops what departs at once, and takes.
    registration.set_state(MemberState::Leaving).await.unwrap();
    let epoch = stack.registry_epoch();
    settled(&a, epoch).await;
    let answer = a.node.get(lost, Hop::First).await.unwrap();
    assert_eq!(
        answer.value.as_deref(),
        Some(row(lost, 0).as_bytes()),
        "s has it, and nobody removed it there"
    );
    assert_eq!(source.asked_for(lost), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_wait_for_no_window() {
    let mut stack = Stack::new();
    stack.config.handover = Duration::from_mins(2); // so long that no slow machine hides a wait for it
    let (a, keys) = filled(&stack, 200).await;
    let others = [stack.begin("b"), stack.begin("c"), stack.begin("d")];
    let all = async {
        for other in &others {
            let mut waits = other.readiness.subscribe();
            waits.wait_for(std::collections::BTreeMap::is_empty).await.unwrap();
        }
        for node in others.iter().chain([&a]) {
            settled(node, stack.registry_epoch()).await;
        }
    };
    tokio::time::timeout(stack.config.handover / 2, all).await.expect("all say when they are done");
    for key in &keys {
        assert!(a.node.get(key, Hop::First).await.unwrap().value.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_that_nobody_ends_is_over_in_time() {
    let mut stack = Stack::new();
    stack.config.handover = Duration::from_millis(50);
    let (a, _) = filled(&stack, 10).await;
    let (_, member) = Source::serve("s").await;
    stack.registry.register(member);
    let epoch = stack.registry_epoch();
    tokio::time::timeout(Duration::from_secs(10), settled(&a, epoch)).await.expect("the window ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_whom_nothing_is_asked_is_told_so() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    // It takes slots from `a`, which wants nothing of it; by the rings that it has seen it might wait for `a`.
    let (source, member) = Source::serve("s").await;
    stack.registry.register(member);
    let epoch = stack.registry_epoch();
    let told =
        || source.asked.lock().iter().any(|asked| asked.done && asked.node == "a" && asked.epoch >= epoch.0);
    while !told() {
        tokio::task::yield_now().await;
    }
    assert_eq!(a.node.epoch(), epoch);
    assert!(source.asked.lock().iter().all(|asked| asked.done), "and nothing is asked of it");
}
