//! Verify against real nodes in this process, with a database whose rows change behind the cache's back.

use std::{collections::HashSet, sync::Arc, time::Duration};

use cache_node::{Config, Hop, Node, Parts, Server};
use catalog::Catalog;
use client::{Apply, Client, Peers};
use daemon::admin::Readiness;
use loader::{Limits, Loader, memory::Memory};
use ring::{Membership as _, NodeId, memory::Registry, slot_of};
use sync_service::verify::{self, Checker, Compare, Plan, Report, Settings, Target, Watch};
use tokio_util::sync::CancellationToken;

const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"

[[group]]
name  = "product"
key   = "product:{id:u64}"
query = "SELECT id FROM shop.products WHERE id = {id}"
"#;

/// Nodes that fill from one database, and a checker that reads it.
struct Stack {
    database: Memory,
    registry: Arc<Registry>,
    nodes: Vec<Arc<Node>>,
    checker: Checker,
}

impl Stack {
    async fn start(ids: &[&str]) -> Self {
        let (database, registry) = (Memory::new(), Registry::new(1));
        let catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
        let loader =
            || Loader::new(Arc::new(database.clone()), Limits::default(), loader::Metrics::default());
        let mut nodes = Vec::new();
        for id in ids {
            let config = Config { quarantine: Duration::ZERO, leave: Duration::ZERO, ..Config::default() };
            let server = Server::bind(([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into()).unwrap();
            let member = server.member(NodeId::from(*id), 1);
            let parts = Parts {
                catalog: catalog.clone(),
                loader: loader(),
                membership: registry.observer(),
                registration: registry.register(member),
                peers: Peers::new(client::Config::default()),
                id: NodeId::from(*id),
            };
            let metrics = daemon::metrics::shared();
            let node = Node::start(config, parts, &mut metrics.lock());
            let readiness = Readiness::new();
            let mut waits = readiness.subscribe();
            tokio::spawn(server.serve(node.clone(), metrics, readiness, CancellationToken::new()));
            waits.wait_for(std::collections::BTreeMap::is_empty).await.unwrap();
            nodes.push(node);
        }
        let newest = registry.ring().epoch();
        while nodes.iter().any(|node| node.epoch() < newest) {
            tokio::task::yield_now().await;
        }
        let client = Client::from_membership(registry.observer(), client::Config::default());
        Self { checker: Checker::new(client, loader(), catalog), database, registry, nodes }
    }

    /// Gives keys a row each and has them cached.
    async fn cache(&self, keys: &[String]) {
        for key in keys {
            self.database.put(key, "{\"v\":1}");
        }
        self.read(keys).await;
    }

    async fn read(&self, keys: &[String]) {
        for answer in self.nodes[0].get_many(keys, Hop::First).await.unwrap() {
            answer.unwrap();
        }
    }

    fn owner(&self, key: &str) -> &Arc<Node> {
        let ring = self.registry.ring();
        let owner = ring.owner(slot_of(key)).unwrap();
        self.nodes.iter().find(|node| *node.id() == owner.id).unwrap()
    }

    /// What the sync service does for a change.
    async fn deliver(&self, key: &str, origin: &str) {
        let apply = Apply {
            epoch: self.registry.ring().epoch(),
            remove: vec![key.to_owned()],
            origin: origin.to_owned(),
            ..Apply::default()
        };
        for node in &self.nodes {
            node.apply(&apply).await.unwrap();
        }
    }

    async fn verify(&self, plan: Plan) -> Report {
        verify::run(&self.checker, &plan, |_| {}).await.unwrap()
    }
}

fn plan() -> Plan {
    let ages = vec![Duration::from_millis(50), Duration::from_millis(120)];
    Plan { sample: None, groups: Vec::new(), rate: 50_000.0, ages, repair: false }
}

fn users(count: usize) -> Vec<String> {
    (0..count).map(|id| format!("user:{id}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_entry_is_named_with_its_story_and_repaired_on_all_nodes() {
    let stack = Stack::start(&["a", "b"]).await;
    let keys = users(200);
    stack.cache(&keys).await;
    let report = stack.verify(plan()).await;
    assert_eq!((report.tally.checked, report.stale.len(), report.is_well()), (200, 0, true), "{report:?}");

    // A change that no stream carries, and one that reached everybody but the owner.
    stack.database.put("user:7", "{\"v\":2}");
    stack.database.put("user:8", "{\"v\":2}");
    let other = stack.nodes.iter().find(|node| node.id() != stack.owner("user:8").id()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // more than what counts as the same moment
    let missed = Apply { remove: vec!["user:8".into()], origin: "shop/0@42".into(), ..Apply::default() };
    other.apply(&missed).await.unwrap();

    let report = stack.verify(Plan { repair: true, ..plan() }).await;
    let mut named: Vec<&str> = report.stale.iter().map(|stale| stale.key.as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, ["user:7", "user:8"]);
    assert!(report.tally.ages.iter().all(|at| (at.consistent, at.inconsistent) == (198, 2)), "{report:?}");
    for stale in &report.stale {
        assert_eq!(stale.node, stack.owner(&stale.key).id().as_str());
        assert_eq!(stale.cached.as_ref().unwrap().get(), "{\"v\":1}");
        assert_eq!(stale.database.as_ref().unwrap().get(), "{\"v\":2}");
        assert_eq!(stale.repaired, Some(true));
        let verdict = &stale.history.as_ref().unwrap().verdict;
        if stale.key == "user:7" {
            assert!(verdict.contains("no removal of it has reached any node since"), "{verdict}");
        } else {
            let (has, lacks) = (other.id(), stack.owner("user:8").id());
            assert!(verdict.contains(&format!("on {has}, not on {lacks}: stale since then")), "{verdict}");
            assert!(verdict.contains("removal shop/0@42 applied"), "{verdict}");
        }
    }
    stack.read(&keys).await;
    assert!(stack.verify(plan()).await.stale.is_empty(), "the repaired keys were filled anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_under_way_makes_a_difference_that_is_gone_at_the_next_age() {
    let stack = Stack::start(&["a"]).await;
    stack.cache(&users(10)).await;
    stack.database.put("user:3", "{\"v\":2}");
    let run = stack.verify(Plan { ages: vec![Duration::from_millis(400)], ..plan() });
    let deliver = async {
        // The first look is over when all rows have been read twice: once to cache, once to compare.
        while stack.database.calls().iter().flatten().count() < 20 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        stack.deliver("user:3", "shop/0@1").await;
    };
    let (report, ()) = tokio::join!(run, deliver);
    let counts: Vec<_> = report.tally.ages.iter().map(|at| (at.consistent, at.inconsistent)).collect();
    assert_eq!((counts, report.stale.len()), (vec![(9, 1), (10, 0)], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_the_two_reads_is_not_taken_for_a_difference() {
    let stack = Stack::start(&["a"]).await;
    stack.cache(&users(1)).await;
    stack.database.put("user:0", "{\"v\":2}");
    stack.database.hold(true);
    let node = NodeId::from("a");
    let compared = stack.checker.compare(&node, "user:0");
    let change = async {
        stack.database.reached.notified().await; // the old entry and the new row are read ...
        stack.deliver("user:0", "shop/0@1").await; // ... and the removal arrives
        stack.database.hold(false);
        stack.database.release.notify_one();
    };
    let (compared, ()) = tokio::join!(compared, change);
    assert!(matches!(compared, Ok(Compare::Gone)), "{compared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absence_is_compared_too() {
    let stack = Stack::start(&["a"]).await;
    stack.read(&["user:1".into(), "user:2".into()]).await;
    assert_eq!(stack.verify(plan()).await.tally.checked, 2);
    stack.database.put("user:1", "{\"v\":1}");
    let report = stack.verify(plan()).await;
    assert_eq!((report.stale.len(), report.stale[0].key.as_str()), (1, "user:1"));
    assert!(report.stale[0].cached.is_none() && report.stale[0].database.is_some());
    stack.database.put("user:2", "{\"v\":1}");
    stack.deliver("user:2", "shop/0@1").await;
    stack.read(&["user:2".into()]).await;
    stack.database.delete("user:2");
    let report = stack.verify(plan()).await;
    assert!(report.stale.iter().any(|stale| stale.key == "user:2" && stale.database.is_none()), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_has_as_many_entries_as_were_asked_for_none_twice_and_of_the_groups_wanted() {
    let stack = Stack::start(&["a", "b"]).await;
    let keys: Vec<String> =
        users(400).into_iter().chain((0..100).map(|id| format!("product:{id}"))).collect();
    stack.cache(&keys).await;
    let client = stack.checker.client();
    let mut sampler = verify::Sampler::once(client.clone(), vec!["product".into()], Some(40)).await.unwrap();
    let mut drawn: Vec<Target> = Vec::new();
    while let Some(target) = sampler.next().await {
        assert_eq!(stack.owner(&target.key).id(), &target.node);
        drawn.push(target);
    }
    assert_eq!((drawn.len(), drawn.iter().collect::<HashSet<_>>().len()), (40, 40));
    assert!(drawn.iter().all(|target| target.key.starts_with("product:")));
    let nodes: HashSet<&NodeId> = drawn.iter().map(|target| &target.node).collect();
    assert_eq!(nodes.len(), 2, "all nodes are sampled");
    let all = stack.verify(Plan { groups: vec!["product".into()], ..plan() }).await;
    assert_eq!(all.tally.checked, 100);
    let wrong = verify::run(&stack.checker, &Plan { groups: vec!["usr".into()], ..plan() }, |_| {}).await;
    let wrong = wrong.unwrap();
    assert!(wrong.unreachable[0].contains("usr") && !wrong.is_well(), "a group that is not there is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_makes_no_entry_stale() {
    let stack = Stack::start(&["a"]).await;
    stack.cache(&users(5)).await;
    stack.database.fail(Some(loader::Error::Unavailable("down".into())));
    let report = stack.verify(plan()).await;
    assert_eq!((report.tally.checked, report.tally.failed, report.stale.len()), (0, 5, 0));
    assert!(report.errors[0].contains("down") && !report.is_well(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steady_task_counts_what_differs_and_mends_it_if_it_may() {
    let stack = Stack::start(&["a", "b"]).await;
    stack.cache(&users(20)).await;
    stack.database.put("user:5", "{\"v\":2}");
    let settings = Settings { rate: 1000.0, repair: true, ..Settings::default() };
    let registry = daemon::metrics::shared();
    let ages = vec![Duration::from_millis(50)];
    let source = Arc::new(stack.database.clone());
    let watch = Watch::over(stack.checker.clone(), source, settings, ages, &mut registry.lock());
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch.run(stop.clone()));
    let text = || daemon::metrics::encode(&registry).unwrap();
    while !text().contains("freshline_verify_repaired_total 1") {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    task.await.unwrap();
    let scan = client::Scan { keys: vec!["user:5".into()], ..client::Scan::default() };
    assert!(stack.owner("user:5").scan(&scan).unwrap().entries.is_empty());
    let text = text();
    for line in [
        "freshline_verify_inconsistent_total{age=\"0s\"} 1",
        "freshline_verify_inconsistent_total{age=\"50ms\"} 1",
        "freshline_verify_stale_total 1",
    ] {
        assert!(text.contains(line), "no {line} in:\n{text}");
    }
}
