//! Reads from replicas.

use client::{Config, ReadFrom};

use super::{client, config};
use crate::fake::{Fake, ring_of};

fn any() -> Config {
    Config { read_from: ReadFrom::Any, ..config() }
}

#[tokio::test]
async fn reads_from_any_holder_share_the_load_of_one_key() {
    let nodes = [Fake::start("a").await, Fake::start("b").await, Fake::start("c").await];
    let ring = ring_of(1, &nodes.each_ref(), 2);
    let client = client(&nodes[0], any()).await;
    for _ in 0..200 {
        client.get("user:1").await.unwrap();
    }
    let holders: Vec<_> = ring.holders(ring::slot_of("user:1")).map(|member| member.id.to_string()).collect();
    for node in &nodes {
        let (seen, holds) = (node.seen().len(), holders.contains(&node.id));
        assert!(if holds { seen > 50 } else { seen == 0 }, "{}: {seen} of 200, holders {holders:?}", node.id);
    }
    // What is no read goes to the owner.
    client.remove(&["user:1"]).await.unwrap();
    client.explain("user:1").await.unwrap();
    let owner = nodes.iter().find(|node| node.id == holders[0]).unwrap();
    assert_eq!(owner.seen().iter().filter(|what| !what.starts_with("get")).count(), 2);
}

#[tokio::test]
async fn batches_are_shared_out_to_all_holders() {
    let nodes = [Fake::start("a").await, Fake::start("b").await];
    ring_of(1, &nodes.each_ref(), 2);
    let client = client(&nodes[0], any()).await;
    let keys: Vec<String> = (0..200).map(|i| format!("user:{i}")).collect();
    assert!(client.get_many(&keys).await.iter().all(Result::is_ok));
    assert!(nodes.iter().all(|node| node.seen().len() == 1), "one request for each holder");
}

#[tokio::test]
async fn a_holder_that_is_gone_is_replaced_by_the_others() {
    let nodes = [Fake::start("a").await, Fake::start("b").await];
    ring_of(1, &nodes.each_ref(), 2);
    let client = client(&nodes[0], any()).await;
    nodes[1].kill().await;
    for _ in 0..20 {
        assert_eq!(client.get("user:1").await.unwrap().node, "a");
    }
    let keys: Vec<String> = (0..50).map(|i| format!("user:{i}")).collect();
    assert!(client.get_many(&keys).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn an_owner_that_is_gone_is_replaced_by_its_replica_before_anybody_else() {
    let nodes = [Fake::start("a").await, Fake::start("b").await, Fake::start("c").await];
    let ring = ring_of(1, &nodes.each_ref(), 2);
    let client = client(&nodes[0], config()).await;
    let holders: Vec<_> = ring.holders(ring::slot_of("user:1")).map(|member| member.id.to_string()).collect();
    nodes.iter().find(|node| node.id == holders[0]).unwrap().kill().await;
    for _ in 0..20 {
        assert_eq!(client.get("user:1").await.unwrap().node, holders[1]);
    }
}
