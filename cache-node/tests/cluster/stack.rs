//! A small cluster whose database and membership do what a test says.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use cache_node::{Config, Node, Parts, Server};
use catalog::Catalog;
use client::Peers;
use daemon::{admin::Readiness, metrics::SharedRegistry};
use loader::{Limits, Loader, memory::Memory};
use ring::{Epoch, Member, Membership as _, NodeId, Registration, memory::Registry, slot_of};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub(crate) const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"
ttl   = "10m"
negative_ttl = "30s"

[[group]]
name  = "product"
key   = "product:{id:u64}"
query = "SELECT id, price FROM shop.products WHERE id = {id}"
ttl   = "10m"
"#;

/// A database, a membership, and the nodes started so far.
pub(crate) struct Stack {
    pub(crate) database: Memory,
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) config: Config,
    /// How nodes call each other.
    pub(crate) calls: client::Config,
}

/// One node that serves.
pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    pub(crate) member: Member,
    pub(crate) readiness: Readiness,
    pub(crate) http: SocketAddr,
    pub(crate) registry: SharedRegistry,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<anyhow::Result<()>>,
    ports: Ports,
}

/// What serves a node's ports, connections included.
struct Ports(Option<Runtime>);

impl Drop for Ports {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self::with_replicas(1)
    }

    /// The same with this many holders of each slot.
    pub(crate) fn with_replicas(replicas: usize) -> Self {
        let config = Config {
            grpc: "127.0.0.1:0".parse().unwrap(),
            http: "127.0.0.1:0".parse().unwrap(),
            memory: daemon::config::ByteSize(8 << 20),
            max_value: daemon::config::ByteSize(64 << 10),
            quarantine: Duration::ZERO, // most tests don't want to wait for it
            leave: Duration::ZERO,
            grace: Duration::from_secs(5),
            ..Config::default()
        };
        Self {
            database: Memory::new(),
            registry: Registry::new(replicas),
            catalog: Arc::new(Catalog::parse("test.toml", CATALOG).expect("the catalog is right")),
            config,
            calls: client::Config::default(),
        }
    }

    /// The newest epoch there is.
    pub(crate) fn registry_epoch(&self) -> Epoch {
        self.registry.ring().epoch()
    }

    /// Starts a node and waits until it is in the ring, of which all others know.
    pub(crate) async fn start(&self, id: &str) -> Running {
        let running = self.begin(id);
        let mut waits = running.readiness.subscribe();
        waits.wait_for(BTreeMap::is_empty).await.unwrap();
        running
    }

    /// Starts a node.
    pub(crate) fn begin(&self, id: &str) -> Running {
        self.begin_with(id, |registration| registration)
    }

    /// Starts a node whose registration is what `wrap` makes of its own.
    pub(crate) fn begin_with(
        &self,
        id: &str,
        wrap: impl FnOnce(Arc<dyn Registration>) -> Arc<dyn Registration>,
    ) -> Running {
        let (server, mut made_of) = self.parts(id);
        made_of.registration = wrap(made_of.registration);
        self.run(server, made_of)
    }

    /// Runs a node that is made of these parts.
    pub(crate) fn run(&self, server: Server, made_of: Parts) -> Running {
        let (http, member) = (server.http_addr(), server.member(made_of.id.clone(), 1));
        let registry = daemon::metrics::shared();
        let node = Node::start(self.config.clone(), made_of, &mut registry.lock());
        let (readiness, stop) = (Readiness::new(), CancellationToken::new());
        // In a runtime of its own, which can end with all connections.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving =
            runtime.spawn(server.serve(node.clone(), registry.clone(), readiness.clone(), stop.clone()));
        let ports = Ports(Some(runtime));
        Running { node, member, readiness, http, registry, stop, served: serving, ports }
    }

    /// What a node is made of, and its ports.
    pub(crate) fn parts(&self, id: &str) -> (Server, Parts) {
        let server = Server::bind(self.config.grpc, self.config.http).unwrap();
        let server = server.with_resp("127.0.0.1:0".parse().unwrap()).unwrap();
        let member = server.member(NodeId::from(id), 1);
        let parts = Parts {
            catalog: self.catalog.clone(),
            loader: Loader::new(
                Arc::new(self.database.clone()),
                Limits::default(),
                loader::Metrics::default(),
            ),
            membership: self.registry.observer(),
            registration: self.registry.register(member.clone()),
            peers: Peers::new(self.calls.clone()),
            id: member.id,
        };
        (server, parts)
    }
}

impl Running {
    /// Keys of the group `user` that this node owns now.
    pub(crate) fn keys(&self, count: usize) -> Vec<String> {
        let ring = self.node.ring();
        (0u64..)
            .map(|id| format!("user:{id}"))
            .filter(|key| ring.owner(slot_of(key)).is_some_and(|owner| owner.id == self.member.id))
            .take(count)
            .collect()
    }

    /// What a metric shows now; 0 if it is not shown.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = daemon::metrics::encode(&self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// A key that this node owns now.
    pub(crate) fn key(&self) -> String {
        self.keys(1).remove(0)
    }

    /// Ends its ports and all connections at once, as a crash would. Its lease has not ended.
    pub(crate) async fn crash(&mut self) {
        let runtime = self.ports.0.take().expect("it crashes once");
        let ended = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(Duration::from_secs(20)));
        ended.await.expect("it ends");
    }

    /// Stops it as a signal would, and waits until it has ended.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.served)
            .await
            .expect("a stop is bounded")
            .expect("serving does not panic")
            .expect("serving ends well");
    }
}

/// A row of `user`.
pub(crate) fn row(key: &str, version: u32) -> String {
    format!(r#"{{"id":{},"name":"v{version}"}}"#, key.rsplit(':').next().unwrap())
}
