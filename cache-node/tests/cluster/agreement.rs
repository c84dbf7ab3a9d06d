//! Parties that go by something else: another catalog, another cluster, another list of members (R11).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cache_node::{Hop, Node, Parts, Server};
use catalog::Catalog;
use client::{Client, Config, Peers};
use ring::{Epoch, Member, MemberState, Membership as _, NodeId, fixed::Fixed, slot_of};
use tokio::time::{Instant, timeout};
use wire::{Apply, Heartbeat, Outcome};

use crate::{
    changes::removal,
    stack::{CATALOG, Running, Stack, row},
};

const WAIT: Duration = Duration::from_secs(5);

/// The catalog of the next release: the group `user` joins another table, and its entries carry tags.
const TAGGED: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT o.id, o.product_id, p.name FROM shop.orders o LEFT JOIN shop.products p ON p.id = o.product_id WHERE o.user_id = {id}"
rows  = "many"
tags  = ["product:{product_id:u64}"]
ttl   = "10m"
"#;

fn catalog(text: &str) -> Arc<Catalog> {
    Arc::new(Catalog::parse("next.toml", text).expect("the catalog is right"))
}

/// Keys that `node` owns, out of these.
fn owned<'a>(node: &Running, keys: &'a [String]) -> Vec<&'a String> {
    let ring = node.node.ring();
    keys.iter()
        .filter(|key| ring.owner(slot_of(key)).is_some_and(|owner| owner.id == *node.node.id()))
        .collect()
}

async fn value(node: &Node, key: &str) -> String {
    let answer = node.get(key, Hop::First).await.unwrap();
    String::from_utf8(answer.value.unwrap().to_vec()).unwrap()
}

/// *A node of the old catalog answers a pull with entries that carry no tags, which the new catalog finds by their tags alone: they stay
/// stale on the new cluster, and claim to be fresh.*
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_of_another_catalog_has_is_not_taken_in_bulk_nor_on_a_miss() {
    for (bulk, handover) in [(true, Duration::from_secs(10)), (false, Duration::from_secs(2))] {
        let mut stack = Stack::new();
        stack.config.warm_rate = daemon::config::ByteSize(if bulk { 1 << 30 } else { 0 });
        stack.config.handover = handover;
        let old = stack.start("old").await;
        let keys: Vec<String> = (0..60).map(|id| format!("user:{id}")).collect();
        for key in &keys {
            stack.database.put_tagged(key, row(key, 1), &["product:7"]);
        }
        for answer in old.node.get_many(&keys, Hop::First).await.unwrap() {
            assert_eq!(answer.unwrap().outcome, Outcome::Miss);
        }
        stack.catalog = catalog(TAGGED);
        let new = stack.start("new").await;
        let moved = owned(&new, &keys);
        assert!(!moved.is_empty());
        let reads = stack.database.calls().len();
        for key in &moved {
            assert_eq!(new.node.get(key, Hop::First).await.unwrap().outcome, Outcome::Miss, "bulk: {bulk}");
        }
        assert_eq!(stack.database.calls().len() - reads, moved.len(), "each was read by the new query");
        for key in &moved {
            stack.database.put_tagged(key, row(key, 2), &["product:7"]);
        }
        let tagged = Apply {
            remove_tags: vec!["product:7".into()],
            epoch: stack.registry_epoch(),
            ..Apply::default()
        };
        for node in [&old, &new] {
            node.node.apply(&tagged).await.unwrap();
        }
        for key in &moved {
            assert_eq!(value(&new.node, key).await, row(key, 2));
        }
        assert!(new.node.warnings().all().is_empty(), "members in one process tell nothing of their groups");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_copies_nothing_from_an_owner_of_another_catalog() {
    let mut stack = Stack::with_replicas(2);
    let old = stack.start("old").await;
    stack.catalog = catalog(TAGGED);
    let new = stack.start("new").await;
    let key = old.keys(1).remove(0);
    stack.database.put_tagged(&key, row(&key, 1), &["product:7"]);
    assert_eq!(value(&new.node, &key).await, row(&key, 1));
    stack.database.put_tagged(&key, row(&key, 2), &["product:7"]);
    // The removal that the new catalog's sync service would send: of the tag alone.
    let tagged =
        Apply { remove_tags: vec!["product:7".into()], epoch: stack.registry_epoch(), ..Apply::default() };
    for node in [&old, &new] {
        node.node.apply(&tagged).await.unwrap();
    }
    assert_eq!(value(&new.node, &key).await, row(&key, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_another_catalogs_value_is_not_kept() {
    let mut stack = Stack::new();
    (stack.config.hot_rate, stack.config.hot_sample) = (0.0, 1);
    let a = stack.start("a").await;
    stack.catalog = catalog(&CATALOG.replace("id, name FROM", "id, name, city FROM"));
    let b = stack.start("b").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    let asked = async {
        while b.metric("freshline_node_mirror_asks_total{result=\"other_catalog\"}") == 0.0 {
            b.node.get(&key, Hop::First).await.unwrap();
        }
    };
    timeout(Duration::from_secs(10), asked).await.expect("a mirror is asked for");
    assert_eq!(b.node.get(&key, Hop::First).await.unwrap().node, "a", "it goes on asking the owner");
}

/// *The address of a member that is gone is given to a node of another cluster, which has the same groups.*
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_cluster_at_a_members_address_is_not_believed() {
    let cluster = |name: &str| {
        let mut stack = Stack::new();
        stack.calls.cluster = name.to_owned();
        stack
    };
    let (ours, theirs) = (cluster("ours"), cluster("theirs"));
    let (a, stranger) = (ours.start("a").await, theirs.start("b").await);
    let gone =
        Member { state: MemberState::Active, grpc: stranger.member.grpc.clone(), ..stranger.member.clone() };
    ours.registry.register(gone.clone());
    let keys: Vec<String> = (0..40).map(|id| format!("user:{id}")).collect();
    for key in &keys {
        ours.database.put(key, row(key, 1));
        theirs.database.put(key, row(key, 666));
    }
    let ring = ours.registry.ring();
    let there: Vec<_> = keys.iter().filter(|key| ring.owner(slot_of(key)).unwrap().id == gone.id).collect();
    assert!(!there.is_empty());
    for key in &there {
        assert_eq!(value(&a.node, key).await, row(key, 1), "read through, and not by the stranger");
    }
    for (key, answer) in keys.iter().zip(a.node.get_many(&keys, Hop::First).await.unwrap()) {
        assert_eq!(answer.unwrap().value.as_deref(), Some(row(key, 1).as_bytes()));
    }
    let refused = a.node.remove(&keys, Hop::First).await.unwrap_err().to_string();
    assert!(refused.contains("node b of cluster theirs answers at its address"), "{refused}");
    let refused = a.node.flush(&["user".into()], Hop::First).await.unwrap_err().to_string();
    assert!(refused.contains("not acknowledged by b"), "{refused}");

    // And so for a client that goes by the ring, and for the sync service.
    for calls in [Config::default(), Config { cluster: "ours".into(), ..Config::default() }] {
        let client = Client::from_seeds(vec![a.member.grpc.clone()], calls).await.unwrap();
        for key in &there {
            let answer = client.get(key).await.unwrap();
            assert_eq!(answer.value.as_deref(), Some(row(key, 1).as_bytes()));
        }
        assert!(client.remove(&there).await.is_err());
    }
    let peers = Peers::new(Config { cluster: "ours".into(), ..Config::default() });
    let error = peers.apply(&gone, removal(Epoch(0), there[0]), WAIT).await.unwrap_err().to_string();
    assert!(error.contains("and cluster ours was meant"), "{error}");
    assert_eq!(stranger.node.stats().removes, 0, "the stranger did none of it");
    let shown = async {
        while stranger.node.warnings().all().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT, shown).await.expect("and it warns");

    let lost = Client::from_seeds(
        vec![stranger.member.grpc.clone()],
        Config { cluster: "ours".into(), ..Config::default() },
    );
    let error = lost.await.map(drop).unwrap_err().to_string();
    assert!(error.contains("of cluster theirs"), "{error}");
}

/// Nodes of one fixed list, over real ports.
pub(crate) async fn listed(stack: &Stack, ids: &[&str], replicas: usize) -> Vec<Running> {
    let bound: Vec<_> = ids.iter().map(|id| (NodeId::from(*id), stack.parts(id))).collect();
    let members: Vec<_> = bound.iter().map(|(id, (server, _))| server.member(id.clone(), 1)).collect();
    let mut running = Vec::new();
    for (id, (server, mut parts)) in bound {
        let fixed = Fixed::new(members.clone(), replicas);
        parts.registration = Arc::new(fixed.registration(&id).unwrap());
        parts.membership = Arc::new(fixed);
        running.push(stack.run(server, parts));
    }
    for node in &running {
        node.readiness.subscribe().wait_for(BTreeMap::is_empty).await.unwrap();
    }
    running
}

/// Runs a node of a fixed list again, at its address.
pub(crate) fn listed_again(stack: &mut Stack, member: &Member, ring: &ring::Ring) -> Running {
    stack.config.grpc = member.grpc.trim_start_matches("http://").parse().unwrap();
    let (server, mut parts) = stack.parts(member.id.as_str());
    let fixed = Fixed::new(ring.members().to_vec(), ring.configured_replicas());
    parts.registration = Arc::new(fixed.registration(&member.id).unwrap());
    parts.membership = Arc::new(fixed);
    stack.run(server, parts)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_fixed_list_acknowledge_in_the_life_that_everybody_reads_from_it() {
    let stack = Stack::new();
    let nodes = listed(&stack, &["a", "b"], 1).await;
    let ring = nodes[0].node.ring();
    let elsewhere = Fixed::new(ring.members().to_vec(), 1);
    let peers = Peers::new(Config::default());
    for member in elsewhere.ring().members() {
        let ack = peers.apply(member, removal(elsewhere.ring().epoch(), "user:1"), WAIT).await.unwrap();
        assert_eq!((ack.incarnation, ack.epoch), (member.incarnation, elsewhere.ring().epoch()));
    }
}

/// *A node of a fixed list grants mirrors for long; it is started again with a shorter lease, waits for that long, and acknowledges.*
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_another_mirror_lease_ends_what_the_process_before_has_granted() {
    let mut stack = Stack::new();
    (stack.config.hot_rate, stack.config.hot_sample) = (0.0, 1);
    stack.config.mirror_lease = Duration::from_secs(9);
    let mut nodes = listed(&stack, &["a", "b"], 1).await;
    let (b, mut a) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    let mirrored = async { while b.node.get(&key, Hop::First).await.unwrap().node != "b" {} };
    timeout(WAIT, mirrored).await.expect("b gets a mirror");
    a.crash().await;
    stack.config.mirror_lease = Duration::from_millis(50);
    let again = listed_again(&mut stack, &a.member, &b.node.ring());
    stack.database.put(&key, row(&key, 2));
    let begun = Instant::now();
    again.node.apply(&removal(again.node.epoch(), &key)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "b is asked, not waited out: {:?}", begun.elapsed());
    assert_eq!(value(&b.node, &key).await, row(&key, 2), "right after the acknowledgement");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_by_another_list_is_refused_and_said() {
    let stack = Stack::new();
    let nodes = listed(&stack, &["a", "b"], 1).await;
    let own = nodes[0].node.epoch();
    let peers = Peers::new(Config::default());
    let all = nodes[0].node.ring().members().to_vec();
    for (other, replicas) in [(&all[..1], 1), (&all[..], 2)] {
        let list = Fixed::new(other.to_vec(), replicas);
        let epoch = list.ring().epoch();
        let error = peers.apply(&all[0], removal(epoch, "user:1"), WAIT).await.unwrap_err().to_string();
        assert!(error.contains("of another list of members: cluster.members"), "{error}");
        let told = peers.heartbeat(&all[0], Heartbeat { epoch, watermarks: None }, WAIT).await.unwrap();
        assert!(told.epoch == own && !told.epoch.is_of_same_history(epoch));
    }
    // One that goes by etcd where these go by a list.
    assert!(peers.apply(&all[0], removal(Epoch(99), "user:1"), WAIT).await.is_err());
    let said = nodes[0].node.warnings().all();
    assert!(said["members"].contains("cluster.members (ids and weights)"), "{said:?}");
}

/// *A node of a longer list than the others', of which the sync service knows nothing: only what it hears from those that it asks can tell it.*
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_list_notices_by_a_batch_as_by_a_single_read() {
    for batch in [false, true] {
        let stack = Stack::new();
        let (a, b) = (stack.parts("a"), stack.parts("b"));
        let members = [a.0.member("a".into(), 1), b.0.member("b".into(), 1)];
        let start = |(server, mut parts): (Server, Parts), list: &[Member]| {
            let fixed = Fixed::new(list.to_vec(), 1);
            parts.registration = Arc::new(fixed.registration(&parts.id).unwrap());
            parts.membership = Arc::new(fixed);
            stack.run(server, parts)
        };
        let (a, b) = (start(a, &members[..1]), start(b, &members));
        for node in [&a, &b] {
            node.readiness.subscribe().wait_for(BTreeMap::is_empty).await.unwrap();
        }
        let key = (0..1000)
            .map(|id| format!("user:{id}"))
            .find(|key| b.node.ring().owner(slot_of(key)).unwrap().id == *a.node.id());
        let key = key.unwrap();
        stack.database.put(&key, row(&key, 1));
        if batch {
            b.node.get_many(&[key], Hop::First).await.unwrap().remove(0).unwrap();
        } else {
            b.node.get(&key, Hop::First).await.unwrap();
        }
        let said = b.node.warnings().all();
        assert!(
            said.get("members").is_some_and(|said| said.contains("of another list of members")),
            "batch: {batch}, {said:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_a_fixed_list_copies_and_forgets_as_in_any_ring() {
    let stack = Stack::new();
    let nodes = listed(&stack, &["a", "b", "c"], 2).await;
    let keys: Vec<String> = (0..60).map(|id| format!("user:{id}")).collect();
    for (version, reader) in [(1, 0), (2, 1), (3, 2)] {
        for key in &keys {
            stack.database.put(key, row(key, version));
        }
        let epoch = nodes[0].node.epoch();
        for node in &nodes {
            node.node.apply(&Apply { epoch, remove: keys.clone(), ..Apply::default() }).await.unwrap();
        }
        for node in [&nodes[reader], &nodes[(reader + 1) % 3], &nodes[(reader + 2) % 3]] {
            for key in &keys {
                assert_eq!(value(&node.node, key).await, row(key, version));
            }
        }
    }
}
