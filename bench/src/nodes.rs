//! Cache nodes inside this process: the real ones, on loopback ports.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use cache_node::{Config, Node, Parts, Server};
use catalog::Catalog;
use client::Peers;
use daemon::admin::Readiness;
use loader::{Limits, Loader, RowSource};
use ring::{
    Member, MemberState, Membership, NodeId, Registration, Ring, etcd::EtcdMembership, memory::Registry,
    slot_of,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long nodes may take until they serve.
const START: Duration = Duration::from_secs(30);
/// How long they may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// Where nodes are members.
#[derive(Debug, Clone)]
pub(crate) enum Cluster {
    /// In this process.
    Here(Arc<Registry>),
    /// In etcd at this address, with so many holders of each slot.
    Etcd(String, usize),
}

/// Running nodes. [`stop`](Self::stop) them before dropping them.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// The nodes themselves.
    pub(crate) all: Vec<Arc<Node>>,
    /// Where each serves gRPC.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where each serves HTTP.
    pub(crate) http: Vec<SocketAddr>,
    /// Where each serves Redis clients.
    pub(crate) resp: Vec<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Cluster {
    /// A view of the members of its own.
    pub(crate) fn membership(&self) -> anyhow::Result<Arc<dyn Membership>> {
        match self {
            Self::Here(registry) => Ok(registry.clone()),
            Self::Etcd(url, replicas) => Ok(etcd(url, *replicas)?),
        }
    }

    /// Makes `member` one of them.
    fn register(&self, member: Member) -> anyhow::Result<(Arc<dyn Membership>, Arc<dyn Registration>)> {
        match self {
            Self::Here(registry) => Ok((registry.observer(), registry.register(member))),
            Self::Etcd(url, replicas) => {
                let membership = etcd(url, *replicas)?;
                let registration = membership.register(member, Duration::from_secs(10));
                Ok((membership, registration))
            }
        }
    }
}

fn etcd(url: &str, replicas: usize) -> anyhow::Result<Arc<EtcdMembership>> {
    let options = ring::etcd::Options::new(vec![url.to_owned()], "bench", replicas);
    EtcdMembership::connect(options).context("follow the members in etcd")
}

impl Nodes {
    /// Starts `count` nodes on the calling runtime, each with the row source that `source` makes, and waits until all of them serve and
    /// know each other.
    pub(crate) async fn start(
        count: usize,
        catalog: &Arc<Catalog>,
        cluster: &Cluster,
        source: impl Fn() -> anyhow::Result<Arc<dyn RowSource>>,
    ) -> anyhow::Result<Self> {
        let mut started = Self {
            all: Vec::new(),
            addresses: Vec::new(),
            http: Vec::new(),
            resp: Vec::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let mut waits = Vec::new();
        for number in 1..=count {
            let id = NodeId::from(format!("node-{number}").as_str());
            let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
            let server = Server::bind(loopback, loopback)?.with_resp(loopback)?;
            let member = server.member(id.clone(), 1);
            let (membership, registration) = cluster.register(member)?;
            let parts = Parts {
                catalog: catalog.clone(),
                loader: Loader::new(source()?, Limits::default(), loader::Metrics::default()),
                membership,
                registration,
                peers: Peers::new(client::Config::default()),
                id: id.clone(),
            };
            let config = Config {
                id: id.to_string(),
                leave: Duration::ZERO,
                grace: Duration::from_secs(1),
                ..Config::default()
            };
            let registry = daemon::metrics::shared();
            let node = Node::start(config, parts, &mut registry.lock());
            let readiness = Readiness::new();
            started.addresses.push(server.grpc_addr());
            started.http.push(server.http_addr());
            started.resp.extend(server.resp_addr());
            started.tasks.spawn(server.serve(
                node.clone(),
                registry,
                readiness.clone(),
                started.stop.clone(),
            ));
            started.all.push(node);
            waits.push(readiness);
        }
        let ready = async {
            for readiness in &waits {
                let _ = readiness.subscribe().wait_for(BTreeMap::is_empty).await;
            }
            let complete = |ring: &Ring| {
                ring.members().iter().filter(|member| member.state == MemberState::Active).count() == count
            };
            while !started.all.iter().all(|node| complete(&node.ring())) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(START, ready).await.context("start the nodes in time")?;
        Ok(started)
    }

    /// The node that owns a key.
    pub(crate) fn owner(&self, key: &str) -> anyhow::Result<&Arc<Node>> {
        let ring = self.all.first().context("find a node")?.ring();
        let owner = ring.owner(slot_of(key)).context("find the owner of a key")?;
        self.all.iter().find(|node| *node.id() == owner.id).context("find the owner of a key")
    }

    /// Stops all nodes.
    pub(crate) async fn stop(self) {
        daemon::shutdown::drain(self.stop, self.tasks, STOP).await;
    }
}
