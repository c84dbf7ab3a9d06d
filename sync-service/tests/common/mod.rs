//! Nodes in memory, a catalog and messages, for the tests of the whole service.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use catalog::Catalog;
use parking_lot::Mutex;
use prometheus_client::registry::Registry as Metrics;
use ring::memory::Registry;
use ring::{Member, MemberState, Membership};
use sync_service::Service;
use sync_service::config::Sync;
use sync_service::deliver::Appliers;
use sync_service::source::Source;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::{Ack, Apply, Clock, Heartbeat, HeartbeatReply, Watermarks};

pub const CATALOG: &str = r#"
[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"

[[group]]
name = "orders"
key = "orders:{user_id:u64}"
query = "SELECT id, total FROM shop.orders WHERE user_id = {user_id}"
rows = "many"
"#;

pub fn insert(id: u64) -> String {
    format!(
        r#"{{"data":[{{"id":"{id}","name":"n"}}],"database":"shop","es":1795210057000,"isDdl":false,"mysqlType":{{"id":"bigint unsigned","name":"varchar(20)"}},"old":null,"pkNames":["id"],"table":"users","ts":1795210057115,"type":"INSERT"}}"#
    )
}

/// One node that holds everything and notes what it is asked.
pub struct Node {
    pub state: Mutex<State>,
    pub changed: Notify,
    pub begun: tokio::time::Instant,
}

impl Default for Node {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), begun: tokio::time::Instant::now() }
    }
}

#[derive(Default)]
pub struct State {
    pub removed: BTreeSet<String>,
    pub removed_tags: BTreeSet<String>,
    pub flushed: BTreeSet<String>,
    pub flushes: usize,
    pub beats: usize,
    /// The watermarks of the last heartbeat that had any.
    pub told: Option<Watermarks>,
    pub down: bool,
    /// Answers heartbeats and applies nothing.
    pub stuck: bool,
}

impl Node {
    pub async fn wait(&self, holds: impl Fn(&State) -> bool) {
        let waited = tokio::time::timeout(Duration::from_mins(1), async {
            loop {
                let changed = self.changed.notified();
                if holds(&self.state.lock()) {
                    return;
                }
                changed.await;
            }
        });
        if waited.await.is_err() {
            let state = self.state.lock();
            panic!(
                "never happened; removed {:?}, flushed {:?} in {}",
                state.removed, state.flushed, state.flushes
            );
        }
    }

    /// Its clock: microseconds since it was made.
    pub fn clock(&self) -> Clock {
        Clock { id: 1, micros: u64::try_from(self.begun.elapsed().as_micros()).expect("a short test") }
    }

    /// How old what it would serve could be, as a node works it out.
    pub fn freshness(&self) -> Option<Duration> {
        let state = self.state.lock();
        let told = state.told.as_ref()?;
        let of = |partition: &wire::PartitionName| {
            told.partitions.iter().find(|known| known.partition == *partition).map(|known| known.at)
        };
        let lowest = told.all.iter().map(of).collect::<Option<Vec<_>>>()?.into_iter().min()?.min(told.listed);
        let now = i64::try_from(self.begun.elapsed().as_micros()).expect("a short test");
        Some(Duration::from_micros(u64::try_from(now - lowest).expect("never of the future")))
    }

    pub fn set_down(&self, down: bool) {
        self.state.lock().down = down;
    }
}

#[async_trait]
impl Appliers for Node {
    async fn apply(&self, to: &Member, apply: Apply, _: Duration) -> Result<Ack, client::Error> {
        let removed = apply.remove.len() as u64;
        {
            let mut state = self.state.lock();
            if state.down || state.stuck {
                return Err(client::Error::Unavailable {
                    node: to.id.to_string(),
                    reason: "told to be".to_owned(),
                });
            }
            state.removed.extend(apply.remove);
            state.removed_tags.extend(apply.remove_tags);
            state.flushes += usize::from(!apply.flush.is_empty());
            state.flushed.extend(apply.flush);
        }
        self.changed.notify_waiters();
        Ok(Ack {
            node: to.id.clone(),
            incarnation: to.incarnation,
            epoch: apply.epoch,
            confirmed_epoch: apply.epoch,
            removed,
            clock: Some(self.clock()),
        })
    }

    async fn heartbeat(
        &self,
        to: &Member,
        heartbeat: Heartbeat,
        _: Duration,
    ) -> Result<HeartbeatReply, client::Error> {
        {
            let mut state = self.state.lock();
            if state.down {
                return Err(client::Error::Unavailable {
                    node: to.id.to_string(),
                    reason: "told to be".to_owned(),
                });
            }
            state.beats += 1;
            state.told = heartbeat.watermarks.or(state.told.take());
        }
        self.changed.notify_waiters();
        Ok(HeartbeatReply {
            node: to.id.clone(),
            incarnation: to.incarnation,
            epoch: heartbeat.epoch,
            confirmed_epoch: heartbeat.epoch,
            clock: Some(self.clock()),
        })
    }
}

pub struct Running {
    pub node: Arc<Node>,
    pub metrics: Metrics,
    pub readiness: daemon::admin::Readiness,
    pub delivered: tokio::sync::broadcast::Receiver<sync_service::Delivered>,
    pub registry: Arc<Registry>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    _registration: Arc<ring::memory::MemoryRegistration>,
}

impl Running {
    pub fn start<S: Source>(config: Sync, make: impl FnOnce(&mut Metrics) -> S) -> Self {
        Self::start_with(config, make, |service| service)
    }

    /// Starts a service that `finish` has had its hands on.
    pub fn start_with<S: Source>(
        config: Sync,
        make: impl FnOnce(&mut Metrics) -> S,
        finish: impl FnOnce(Service<S>) -> Service<S>,
    ) -> Self {
        Self::over(CATALOG, config, make, finish)
    }

    /// The same over another catalog.
    pub fn over<S: Source>(
        catalog: &str,
        config: Sync,
        make: impl FnOnce(&mut Metrics) -> S,
        finish: impl FnOnce(Service<S>) -> Service<S>,
    ) -> Self {
        Self::among(catalog, config, make, finish, |registry| registry)
    }

    /// The same by what `follow` makes of the membership.
    pub fn among<S: Source>(
        catalog: &str,
        config: Sync,
        make: impl FnOnce(&mut Metrics) -> S,
        finish: impl FnOnce(Service<S>) -> Service<S>,
        follow: impl FnOnce(Arc<Registry>) -> Arc<dyn Membership>,
    ) -> Self {
        let registry = Registry::new(1);
        let member = Member {
            id: "a".into(),
            incarnation: 0,
            grpc: "http://a:1".to_owned(),
            http: String::new(),
            resp: String::new(),
            weight: 1,
            state: MemberState::Active,
            terms: ring::Terms::default(),
        };
        let registration = registry.register(member);
        let node = Arc::new(Node::default());
        let mut metrics = Metrics::default();
        let source = make(&mut metrics);
        let catalog = Arc::new(Catalog::parse("freshline.toml", catalog).expect("a catalog"));
        let service = finish(Service::new(
            config,
            catalog,
            follow(registry.clone()),
            node.clone(),
            source,
            &mut metrics,
        ));
        let (delivered, readiness) = (service.delivered(), service.readiness());
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        Self { node, metrics, readiness, delivered, registry, stop, task, _registration: registration }
    }

    /// Stops, and returns how the service ended.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.ended().await
    }

    pub fn is_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until the service ends by itself.
    pub async fn ended(self) -> anyhow::Result<()> {
        tokio::time::timeout(Duration::from_mins(1), self.task)
            .await
            .expect("the service ends in bounded time")
            .expect("no panic")
    }

    /// Waits until a metric has at least this value.
    pub async fn wait_metric(&self, line: &str, value: f64) {
        let waited = tokio::time::timeout(Duration::from_mins(1), async {
            while self.metric(line).is_none_or(|found| found < value) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "{line} never reached {value}");
    }

    pub fn metric(&self, line: &str) -> Option<f64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).expect("metrics");
        text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }
}
