//! What is in a node's memory, and what happened to it: `Scan` and the flight recorder.

use std::time::Duration;

use cache_node::Hop;
use wire::{Apply, Scan};

use crate::stack::{Stack, row};

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_returns_what_a_node_would_serve_and_nothing_else() {
    let mut stack = Stack::new();
    stack.config.handover = Duration::ZERO; // who joins has nothing yet
    let a = stack.start("a").await;
    let keys: Vec<String> = (0..300).map(|id| format!("user:{id}")).collect();
    for key in &keys[..290] {
        stack.database.put(key, row(key, 1)); // the last ten have no row
    }
    stack.database.put("product:1", "{\"id\":1}");
    a.node.get_many(&keys, Hop::First).await.unwrap();
    a.node.get("product:1", Hop::First).await.unwrap();
    let all = |scan: Scan| {
        let (mut entries, mut scan) = (Vec::new(), scan);
        loop {
            let page = a.node.scan(&scan).unwrap();
            entries.extend(page.entries);
            scan.cursor = page.cursor;
            if page.cursor == 0 {
                return entries;
            }
        }
    };
    let users = all(Scan { groups: vec!["user".into()], values: true, count: 17, ..Scan::default() });
    assert_eq!(users.len(), 300);
    assert_eq!(users.iter().filter(|entry| entry.value.is_none()).count(), 10);
    let one = users.iter().find(|entry| entry.key == keys[7]).unwrap();
    assert_eq!(one.value.as_deref(), Some(row(&keys[7], 1).as_bytes()));
    assert_eq!(all(Scan::default()).len(), 301);
    assert!(all(Scan::default()).iter().all(|entry| entry.value.is_none()), "values were not asked for");

    let named = Scan {
        keys: vec![keys[1].clone(), "user:999".into(), "product:1".into()],
        values: true,
        ..Scan::default()
    };
    let hits = a.node.stats().hits;
    let found: Vec<String> =
        a.node.scan(&named).unwrap().entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(
        found,
        [keys[1].as_str(), "product:1"],
        "what is not in memory is neither filled nor returned"
    );
    assert_eq!(a.node.stats().hits, hits, "looking is no hit");
    assert!(a.node.scan(&Scan { groups: vec!["usr".into()], ..Scan::default() }).is_err());

    let b = stack.start("b").await;
    while a.node.epoch() < b.node.epoch() {
        tokio::task::yield_now().await;
    }
    let (here, there) = (all(Scan::default()), b.node.scan(&Scan::default()).unwrap().entries);
    assert!(here.len() < 301 && there.is_empty(), "slots that were lost are not scanned: {}", here.len());
    a.node.flush(&["user".into()], Hop::First).await.unwrap();
    assert!(all(Scan::default()).iter().all(|entry| entry.key == "product:1"), "nor what was flushed");
    stack.registry.expire(&a.member.id);
    assert!(all(Scan::default()).is_empty(), "a node that is no member has nothing to show");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_bounded_by_bytes() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let keys = a.keys(120);
    let big = format!("\"{}\"", "x".repeat(60_000));
    for key in &keys {
        stack.database.put(key, big.clone());
    }
    a.node.get_many(&keys, Hop::First).await.unwrap();
    let (mut pages, mut entries, mut cursor) = (0, 0, 0);
    loop {
        let page = a.node.scan(&Scan { cursor, values: true, ..Scan::default() }).unwrap();
        let bytes: usize =
            page.entries.iter().filter_map(|entry| entry.value.as_ref()).map(bytes::Bytes::len).sum();
        assert!(bytes <= 4 << 20, "{bytes} bytes in a page");
        (pages, entries, cursor) = (pages + 1, entries + page.entries.len(), page.cursor);
        if cursor == 0 {
            break;
        }
    }
    assert!(pages > 1 && entries as u64 == a.node.stats().entries, "{entries} entries in {pages} pages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_remembers_what_happened_to_a_key_and_where_it_came_from() {
    let mut stack = Stack::new();
    stack.config.quarantine = Duration::from_mins(1);
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    a.node.get(&key, Hop::First).await.unwrap(); // within the quarantine of the slot: not stored
    let epoch = a.node.epoch();
    let apply = |origin: &str| Apply {
        epoch,
        remove: vec![key.clone()],
        remove_tags: Vec::new(),
        flush: vec!["user".into()],
        origin: origin.into(),
        watermarks: None,
    };
    a.node.apply(&apply("shop/0@41")).await.unwrap();
    let events = a.node.explain(&key, Hop::First).await.unwrap().events;
    let told: Vec<(&str, &str)> =
        events.iter().map(|event| (event.what.as_str(), event.detail.as_str())).collect();
    assert_eq!(
        told[..3],
        [("removed", "shop/0@41, was not in memory"), ("flushed", "shop/0@41"), ("refused", "quarantine")],
        "{told:?}"
    );
    assert_eq!(told[3].0, "slot acquired", "{told:?}");
    assert!(events.is_sorted_by_key(|event| event.age), "newest first");
    stack.registry.expire(&a.member.id);
    stack.registry.revive(&a.member.id);
    let told = async {
        while !a
            .node
            .explain(&key, Hop::First)
            .await
            .unwrap()
            .events
            .iter()
            .any(|event| event.what == "emptied")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("a lost lease is told too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_took_a_value_is_told_once_with_its_source() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    a.node.get(&key, Hop::First).await.unwrap();
    let epoch = a.node.epoch();
    let remove = Apply { epoch, remove: vec![key.clone()], origin: "shop/2@7".into(), ..Apply::default() };
    a.node.apply(&remove).await.unwrap();
    let events = a.node.explain(&key, Hop::First).await.unwrap().events;
    let told: Vec<&str> = events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(told[..2], ["removed", "filled"], "{events:?}");
    assert_eq!(events[0].detail, "shop/2@7");
    assert!(events[1].detail.starts_with("from the database, in "), "{events:?}");
}
