//! Requests that are long on purpose: each costs what its bytes say, and nobody else waits for it.

use std::time::Duration;

use cache_node::Hop;
use client::Peers;
use proto::v1::{
    self, cache_client::CacheClient, hot_keys_client::HotKeysClient, invalidation_client::InvalidationClient,
};
use tokio::time::{Instant, timeout};
use tonic::Code;
use wire::Apply;

use crate::stack::{Stack, row};

const WAIT: Duration = Duration::from_secs(20);

/// *`Mirror` in the name of a node that does not exist: each removal of that key waits a second for it.*
#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_is_granted_no_mirror() {
    let mut stack = Stack::new();
    stack.config.mirror_lease = Duration::from_secs(9);
    let node = stack.start("a").await;
    let key = node.key();
    stack.database.put(&key, row(&key, 1));
    node.node.get(&key, Hop::First).await.unwrap();
    let mut caller = HotKeysClient::connect(node.member.grpc.clone()).await.unwrap();
    for stranger in ["ghost", "a"] {
        let asked = v1::MirrorRequest {
            node: stranger.into(),
            key: key.clone(),
            lease_ms: 1_000_000,
            protocol: ring::terms::PROTOCOL,
            ..Default::default()
        };
        let granted = caller.mirror(asked).await.unwrap().into_inner();
        assert_eq!(granted.lease_ms, 0, "{stranger}");
    }
    let begun = Instant::now();
    node.node.remove(&[key], Hop::First).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

/// *64 MiB of empty keys freeze a node for 19 s, and cost its lease.*
#[tokio::test(flavor = "multi_thread")]
async fn millions_of_names_are_refused_or_let_others_go_on() {
    let stack = Stack::new();
    let node = stack.start("a").await;
    let key = node.key();
    stack.database.put(&key, row(&key, 1));
    let mut invalidation = InvalidationClient::connect(node.member.grpc.clone()).await.unwrap();
    let empty = |count: usize| v1::ApplyRequest { remove: vec![String::new(); count], ..Default::default() };
    let refused = invalidation.apply(empty(9 << 20)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let mut cache = CacheClient::connect(node.member.grpc.clone()).await.unwrap();
    let keys = vec![String::new(); 9 << 20];
    let refused = cache.remove(v1::RemoveRequest { keys, ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");

    let reads = async {
        loop {
            node.node.get(&key, Hop::First).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let applied = invalidation.apply(empty(1 << 20));
    tokio::select! {
        () = reads => {}
        applied = timeout(WAIT, applied) => { applied.expect("it is done").unwrap(); }
    }
}

/// The worker's thread is shared: on one that does nothing else, a timer fires while a long request is applied.
#[tokio::test]
async fn a_long_request_lets_a_thread_do_other_things_between() {
    let stack = Stack::new();
    let node = stack.start("a").await;
    let epoch = stack.registry_epoch();
    let long =
        Apply { epoch, remove: (0..200_000).map(|id| format!("user:{id}")).collect(), ..Apply::default() };
    let turns = std::cell::Cell::new(0);
    let others = async {
        loop {
            turns.set(turns.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = others => {}
        applied = node.node.apply(&long) => { applied.unwrap(); }
    }
    assert!(turns.get() > 100, "{}", turns.get());
}

/// *Two heartbeats of 300 000 partitions froze all ports.*
#[tokio::test(flavor = "multi_thread")]
async fn more_partitions_than_a_node_remembers_are_refused_with_the_limit() {
    let stack = Stack::new();
    let node = stack.start("a").await;
    let mut caller = InvalidationClient::connect(node.member.grpc.clone()).await.unwrap();
    let all = (0..70_000).map(|number| v1::Partition { topic: "t".into(), number }).collect();
    let watermarks = Some(v1::Watermarks { all, ..Default::default() });
    let refused =
        caller.heartbeat(v1::HeartbeatRequest { watermarks: watermarks.clone(), ..Default::default() }).await;
    assert!(refused.unwrap_err().message().contains("limit is 65536"));
    let refused = caller.apply(v1::ApplyRequest { watermarks, ..Default::default() }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

/// *A flush that names one group a million times does it a million times.*
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_named_many_times_is_flushed_once() {
    let stack = Stack::new();
    let node = stack.start("a").await;
    let before = node.metric("freshline_node_flushes_total");
    let flush = vec!["user".to_owned(); 100_000];
    let peers = Peers::new(client::Config::default());
    let epoch = stack.registry_epoch();
    peers.apply(&node.member, Apply { epoch, flush: flush.clone(), ..Apply::default() }, WAIT).await.unwrap();
    node.node.flush(&flush, Hop::Forwarded).await.unwrap();
    assert_eq!((node.metric("freshline_node_flushes_total") - before).to_string(), "2");
}
