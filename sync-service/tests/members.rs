//! A service that has nobody to deliver to, or can't know any more who that is.

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{CATALOG, Running, insert};
use parking_lot::Mutex;
use ring::memory::Registry;
use ring::{Epoch, Error, Membership, Ring};
use sync_service::config::Sync;
use sync_service::offsets::Partition;
use sync_service::source::memory::Memory;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const LEASE: Duration = Duration::from_secs(10);

fn partition() -> Partition {
    Partition::new("shop", 0)
}

async fn reason(running: &Running, part: &str) -> String {
    let mut waits = running.readiness.subscribe();
    let found = timeout(Duration::from_mins(2), waits.wait_for(|waits| waits.contains_key(part)));
    found.await.expect("it is said").expect("the service runs")[part].clone()
}

async fn over(running: &Running, part: &str) {
    let mut waits = running.readiness.subscribe();
    let over = timeout(Duration::from_mins(2), waits.wait_for(|waits| !waits.contains_key(part)));
    over.await.expect("it is over").expect("the service runs");
}

/// *`cluster.name` is written otherwise than on the nodes: the service commits, and says that it is ready.*
#[tokio::test(start_paused = true)]
async fn a_service_without_nodes_says_so_and_is_not_ready() {
    let log = Memory::new([partition()]);
    let finish = |service: sync_service::Service<Memory>| service.with_cluster("shpo", LEASE);
    let running = Running::start_with(Sync::default(), |_| log.clone(), finish);
    running.wait_metric("sync_members", 1.0).await;
    let member = running.registry.ring().members()[0].clone();
    running.registry.expire(&member.id);
    let begun = Instant::now();
    let said = reason(&running, "members").await;
    assert!(
        said.contains("no node is a member of the cluster \"shpo\"") && said.contains("cluster.name"),
        "{said}"
    );
    assert!(begun.elapsed() >= Duration::from_secs(30), "nodes may take their time: {:?}", begun.elapsed());
    assert_eq!(running.metric("sync_members"), Some(0.0));
    log.append(&partition(), 1, insert(1));
    log.wait_committed(&partition(), 1).await;
    let _again = running.registry.register(member);
    over(&running, "members").await;
    running.stop().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_service_without_nodes_halts_where_it_is_told_to() {
    let log = Memory::new([partition()]);
    let config = Sync { halt_without_members: Duration::from_secs(20), ..Sync::default() };
    let running = Running::start(config, |_| log.clone());
    running.registry.expire(&"a".into());
    let error = format!("{:#}", running.ended().await.expect_err("it halts"));
    assert!(error.contains("within 20s") && error.contains("sync.halt_without_members"), "{error}");
}

/// An etcd that can't be reached yet.
struct Away;

#[async_trait]
impl Membership for Away {
    fn ring(&self) -> Arc<Ring> {
        Arc::new(Ring::empty(1))
    }

    fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        watch::Sender::new(self.ring()).subscribe()
    }

    async fn read(&self) -> Result<Arc<Ring>, Error> {
        Err(Error::Closed)
    }

    async fn catch_up(&self, _: Epoch) -> Result<Arc<Ring>, Error> {
        Err(Error::Closed)
    }
}

#[tokio::test(start_paused = true)]
async fn an_etcd_that_can_not_be_reached_is_waited_for_and_is_no_lack_of_nodes() {
    let config = Sync { halt_without_members: Duration::from_secs(20), ..Sync::default() };
    let log = Memory::new([partition()]);
    let running = Running::among(CATALOG, config, |_| log, |service| service, |_| Arc::new(Away));
    sleep(Duration::from_mins(2)).await;
    assert!(!running.is_ended());
    assert_eq!(running.readiness.reasons().get("members"), None);
    running.stop().await.expect("a bounded end");
}

/// A membership whose etcd went back when a test says so.
struct Restored {
    registry: Arc<Registry>,
    broken: Arc<Mutex<Option<(Error, Instant)>>>,
}

#[async_trait]
impl Membership for Restored {
    fn ring(&self) -> Arc<Ring> {
        self.registry.ring()
    }

    fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        self.registry.watch()
    }

    async fn read(&self) -> Result<Arc<Ring>, Error> {
        self.registry.read().await
    }

    async fn catch_up(&self, epoch: Epoch) -> Result<Arc<Ring>, Error> {
        self.registry.catch_up(epoch).await
    }

    fn broken(&self) -> Option<(Error, Instant)> {
        self.broken.lock().clone()
    }
}

/// *etcd is restored from a backup: nothing is delivered any more, for ever, and `/readyz` says ready.*
#[tokio::test(start_paused = true)]
async fn a_service_whose_etcd_went_back_is_not_ready_and_ends_when_all_leases_have() {
    let broken = Arc::new(Mutex::new(None));
    let restored = broken.clone();
    let running = Running::among(
        CATALOG,
        Sync::default(),
        |_| Memory::new([partition()]),
        |service| service.with_cluster("shop", LEASE),
        |registry| Arc::new(Restored { registry, broken: restored }),
    );
    let went_back = || Error::WentBack { known: Epoch(90), found: Epoch(12) };
    *broken.lock() = Some((went_back(), Instant::now()));
    let said = reason(&running, "etcd").await;
    assert!(said.contains("went back from 90 to 12"), "{said}");
    *broken.lock() = None;
    over(&running, "etcd").await;
    let begun = Instant::now();
    *broken.lock() = Some((went_back(), begun));
    sleep(LEASE * 19 / 10).await;
    assert!(!running.is_ended());
    let error = format!("{:#}", running.ended().await.expect_err("a new start is what mends it"));
    assert!(error.contains("a new start") && error.contains("restored from a backup"), "{error}");
    assert!(begun.elapsed() >= LEASE * 2, "{:?}", begun.elapsed());
}
