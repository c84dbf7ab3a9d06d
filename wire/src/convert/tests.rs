//! What goes out comes back.

use ::ring::{Epoch, Member, MemberState, NodeId, Ring};
use bytes::Bytes;
use proto::v1;

use super::*;
use crate::{
    Answer, Clock, EntryState, Event, Explanation, GroupStats, Heartbeat, HeartbeatReply, HotKey, HotKeys,
    NodeStats, Outcome, PartitionName, Removal, Watermark, Watermarks,
};

#[test]
fn answers_survive_the_wire() {
    for (outcome, value, ttl) in [
        (Outcome::Hit, Some(Bytes::from_static(b"{}")), Some(Duration::from_secs(9))),
        (Outcome::NegativeHit, None, Some(Duration::from_millis(1))),
        (Outcome::Miss, Some(Bytes::new()), Some(Duration::from_secs(1))),
        (Outcome::Shared, None, None),
        (Outcome::ReadThrough, Some(Bytes::from_static(b"[]")), None),
    ] {
        let there = Answer {
            value,
            outcome,
            age: Duration::from_millis(3),
            ttl,
            node: "a".to_owned(),
            epoch: 4,
            freshness: Duration::from_millis(2),
            token: None,
        };
        assert_eq!(Answer::try_from(v1::GetReply::from(there.clone())), Ok(there));
    }
}

#[test]
fn heartbeats_survive_the_wire() {
    let partition = |number| PartitionName { topic: "shop".into(), number };
    let watermarks = Watermarks {
        clock: 9,
        partitions: vec![Watermark { partition: partition(3), next: 12, at: -5 }],
        all: vec![partition(3), partition(4)],
        listed: -6,
    };
    let there = Heartbeat { epoch: Epoch(4), watermarks: Some(watermarks) };
    assert_eq!(Heartbeat::from(v1::HeartbeatRequest::from(there.clone())), there);
    let back = HeartbeatReply {
        node: NodeId::from("a"),
        incarnation: 2,
        epoch: Epoch(4),
        confirmed_epoch: Epoch(3),
        clock: Some(Clock { id: 9, micros: 77 }),
    };
    assert_eq!(HeartbeatReply::from(v1::HeartbeatReply::from(back.clone())), back);
}

#[test]
fn an_outcome_of_a_later_version_is_not_taken() {
    let reply = v1::GetReply { outcome: 99, value: Some(Bytes::new()), ..Default::default() };
    assert_eq!(Answer::try_from(reply), Err(UnknownOutcome(99)));
}

#[test]
fn rings_survive_the_wire_and_give_the_same_owners() {
    let members = ["b", "a", "c"].map(|id| Member {
        id: NodeId::from(id),
        incarnation: 3,
        grpc: format!("http://{id}:7400"),
        http: String::new(),
        resp: format!("{id}:6379"),
        weight: 2,
        state: if id == "c" { MemberState::Leaving } else { MemberState::Active },
        terms: ::ring::Terms::default(),
    });
    let there = Ring::build(Epoch(42), members.to_vec(), 2);
    let back = ring_of_reply(ring_reply("shop", "a", &there));
    assert_eq!((back.epoch(), back.members(), back.replicas()), (there.epoch(), there.members(), 2));
    let slot = ::ring::slot_of("user:42");
    assert_eq!(back.owner(slot), there.owner(slot));
}

#[test]
fn explanations_and_stats_survive_the_wire() {
    let explanation = Explanation {
        key: "user:1".to_owned(),
        group: "user".to_owned(),
        slot: 7,
        owner: "a".to_owned(),
        replicas: vec!["b".to_owned()],
        epoch: 5,
        node: "a".to_owned(),
        holds: true,
        entry: EntryState::Negative,
        age: Some(Duration::from_millis(2)),
        ttl: Some(Duration::from_millis(3)),
        size: 4,
        last_removal: Some(Removal { age: Duration::from_millis(1), origin: "shop/0@17".to_owned() }),
        fill_in_flight: true,
        query: "SELECT 1".to_owned(),
        events: vec![Event {
            age: Duration::from_millis(1),
            what: "removed".to_owned(),
            detail: "shop/0@17".to_owned(),
        }],
        freshness: Duration::from_millis(9),
    };
    assert_eq!(Explanation::from(v1::ExplainReply::from(explanation.clone())), explanation);
    let stats = NodeStats {
        node: "a".to_owned(),
        uptime: Duration::from_secs(1),
        hits: 3,
        tag_removes: 4,
        fenced: true,
        groups: vec![GroupStats { name: "user".to_owned(), hits: 1, misses: 2, fills: 3 }],
        ..NodeStats::default()
    };
    assert_eq!(NodeStats::from(v1::StatsReply::from(stats.clone())), stats);
}

#[test]
fn hot_keys_survive_the_wire() {
    let key = HotKey { key: "user:1".to_owned(), reads: 2.0, ..HotKey::default() };
    let there = HotKeys { node: "a".into(), epoch: 3, reads: 1.5, keys: vec![key] };
    assert_eq!(HotKeys::from(v1::HotReply::from(there.clone())), there);
}

#[test]
fn a_claim_is_rounded_up() {
    assert_eq!(
        [0, 1, 1_000_000, 1_000_001].map(|nanos| claimed_millis(Duration::from_nanos(nanos))),
        [0, 1, 1, 2]
    );
    assert_eq!(claimed_millis(Duration::MAX), u64::MAX);
}
