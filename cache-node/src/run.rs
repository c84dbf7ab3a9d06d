//! The whole process: configuration, ports, database, membership, node.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use catalog::Catalog;
use client::Peers;
use daemon::program::Program;
use daemon::{
    admin::Readiness,
    config::{ClientSection, Cluster, Database, Effective, FixedMember, Layers, Problems, Telemetry},
};
use loader::{Limits, Loader};
use ring::{Member, MemberState, Membership, NodeId, Registration, fixed::Fixed};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    node::{Node, Parts},
    running::Running,
    serve::Server,
};

/// Everything that a cache node process is configured by, checked.
#[derive(Debug)]
pub struct Settings {
    /// `[node]`.
    pub node: Config,
    /// `[cluster]`.
    pub cluster: Cluster,
    /// `[database]`.
    pub database: Database,
    /// `[client]`, for calls between nodes.
    pub client: ClientSection,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// `[[group]]` and `[[rule]]`.
    pub catalog: Arc<Catalog>,
}

impl Settings {
    /// Whether members can be found in etcd: whether this was built with the feature `etcd`.
    pub const HAS_ETCD: bool = cfg!(feature = "etcd");

    /// Takes everything from the layers. All mistakes of all sections and the catalog come at once.
    pub fn load(layers: &Layers) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut node: Config = layers.section("node", &mut problems);
        let cluster: Cluster = layers.section("cluster", &mut problems);
        let database: Database = layers.section("database", &mut problems);
        let client: ClientSection = layers.section("client", &mut problems);
        let telemetry: Telemetry = layers.section("telemetry", &mut problems);
        if node.id.is_empty() {
            node.id = host_name();
        }
        if let Err(error) = NodeId::parse(&node.id) {
            problems.push(format!("{}: {error}", layers.place("node.id")));
        }
        node.check(layers, &mut problems);
        cluster.check(layers, &mut problems);
        database.check(layers, &mut problems);
        client.check(layers, &mut problems);
        telemetry.check(layers, &mut problems);
        let catalog = match Catalog::parse(layers.file_name(), layers.text()) {
            Ok(catalog) => {
                if catalog.groups().is_empty() {
                    problems.push("no [[group]] in the configuration: a node without groups answers no key; declare one");
                }
                Some(Arc::new(catalog))
            }
            Err(report) => {
                for problem in &report.problems {
                    problems.push(problem);
                }
                None
            }
        };
        match catalog {
            Some(catalog) if problems.is_empty() => {
                Ok(Self { node, cluster, database, client, telemetry, catalog })
            }
            _ => Err(problems),
        }
    }

    /// What the process runs on, for `--print-config`.
    pub fn effective(&self) -> Effective {
        Effective::default()
            .with("node", &self.node)
            .with("cluster", &self.cluster)
            .with("database", &self.database)
            .with("client", &self.client)
            .with("telemetry", &self.telemetry)
    }
}

/// Runs a cache node until `stop`.
///
/// Holds every port before any work; then waits for the database and the membership, as long as it takes and saying
/// so in its log and on `/readyz`; then joins the ring.
///
/// # Errors
///
/// A mistake in the configuration, a port that is taken, a query that the database refuses. A database or an etcd that
/// is down is none: both are waited for.
pub async fn run(layers: &Layers, stop: CancellationToken) -> anyhow::Result<()> {
    Box::pin(Settings::load(layers)?.run(stop)).await
}

impl Settings {
    /// Reads `freshline.toml`, or whatever the file is called, and `FRESHLINE__SECTION__FIELD` of the environment over it.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, Problems> {
        Self::load(&Layers::load(Some(file.as_ref()))?)
    }

    /// The same from a text, without the environment. Messages call it `name`.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        Self::load(&Layers::from_text(name, text, std::iter::empty())?)
    }

    /// Runs a cache node with these settings until `stop`; see [`run`].
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut running = self.start()?;
        tokio::select! {
            ended = running.ended() => return ended,
            () = stop.cancelled() => {}
        }
        running.stop().await
    }

    /// Starts a cache node in this process: holds its ports, and goes on by itself to open the database, to join the ring and to serve.
    ///
    /// Must be called in a tokio runtime. See [`Running`].
    ///
    /// # Errors
    ///
    /// A port that is taken, a database or an etcd that can't be meant. One that is down is waited for.
    pub fn start(mut self) -> anyhow::Result<Running> {
        self.node.fit(daemon::files::raise());
        let registry = daemon::metrics::shared();
        let mut server = Server::bind(self.node.grpc, self.node.http)?;
        if let Some(resp) = self.node.resp {
            server = server.with_resp(resp)?;
        }
        let host = host_name();
        let advertise_grpc = advertised(&self.node.advertise_grpc, server.grpc_addr(), &host);
        let advertise_http = advertised(&self.node.advertise_http, server.http_addr(), &host);

        let advertise_resp = server
            .resp_addr()
            .map(|bound| advertised(&self.node.advertise_resp, bound, &host))
            .map_or_else(String::new, |url| url.trim_start_matches("http://").to_owned());

        let source = loader::open(&self.database, &self.catalog).context("open the database")?;
        let loader_metrics = loader::Metrics::register(&mut registry.lock());
        let limits = Limits::from(&self.database);
        let loader = Loader::new(source.clone(), limits, loader_metrics);
        let peers = Peers::new(client::Config {
            deadline: self.client.deadline,
            silence: self.client.silence,
            retries: self.client.retries,
            connect_timeout: self.client.connect_timeout,
            breaker_failures: self.client.breaker_failures,
            breaker_cool_down: self.client.breaker_cool_down,
            cluster: self.cluster.name.clone(),
            metrics: client::Metrics::register(&mut registry.lock()),
            ..client::Config::default()
        });
        let id = NodeId::parse(&self.node.id).context("read node.id")?;
        let member = Member {
            id: id.clone(),
            incarnation: 0,
            grpc: advertise_grpc,
            http: advertise_http,
            resp: advertise_resp,
            weight: self.node.weight,
            state: MemberState::Joining,
            terms: crate::agreement::terms(&self.node, &self.catalog, self.cluster.replicas),
        };
        tracing::info!(
            node = %id, grpc = %server.grpc_addr(), http = %server.http_addr(), advertised = member.grpc,
            database = %self.database.url, groups = self.catalog.groups().len(), "starting"
        );
        let (membership, registration) = membership(&self.cluster, member)?;
        let parts = Parts { catalog: self.catalog, loader, membership, registration, peers, id };
        let node = Node::start(self.node, parts, &mut registry.lock());

        let readiness = Readiness::new();
        readiness.wait("database", format!("waiting for {}", self.database.url));
        let prepared = {
            let readiness = readiness.clone();
            async move {
                if let Err(report) = source.ready().await {
                    bail!("run the catalog's queries against the database:\n{report}");
                }
                readiness.done("database");
                Ok(())
            }
        };
        Ok(Running::begin(server, prepared, node, registry, readiness))
    }
}

/// Who the members are, and this one's place among them, by `[cluster]`: etcd, a fixed list, or this node alone.
fn membership(
    cluster: &Cluster,
    member: Member,
) -> anyhow::Result<(Arc<dyn Membership>, Arc<dyn Registration>)> {
    if !cluster.etcd.is_empty() {
        return in_etcd(cluster, member);
    }
    let id = member.id.clone();
    let members = if cluster.members.is_empty() {
        tracing::info!(node = %id, "no cluster.etcd and no cluster.members: one node alone");
        vec![Member { incarnation: 1, ..member }]
    } else {
        cluster.members.iter().map(listed).collect()
    };
    let fixed = Fixed::new(members, cluster.replicas);
    let registration = fixed.registration(&id).context("find this node in cluster.members")?;
    Ok((Arc::new(fixed), Arc::new(registration)))
}

#[cfg(feature = "etcd")]
fn in_etcd(
    cluster: &Cluster,
    member: Member,
) -> anyhow::Result<(Arc<dyn Membership>, Arc<dyn Registration>)> {
    use ring::etcd::{EtcdMembership, Options};
    let options = Options::new(cluster.etcd.clone(), &cluster.name, cluster.replicas);
    let membership = EtcdMembership::connect(options).context("follow the members in etcd")?;
    let registration = membership.register(member, cluster.lease);
    Ok((membership, registration))
}

#[cfg(not(feature = "etcd"))]
fn in_etcd(_: &Cluster, _: Member) -> anyhow::Result<(Arc<dyn Membership>, Arc<dyn Registration>)> {
    bail!(
        "use cluster.etcd: this build has no etcd in it; build with the feature `etcd`, or list cluster.members"
    )
}

fn listed(member: &FixedMember) -> Member {
    Member {
        id: NodeId::from(member.id.as_str()),
        incarnation: 1,
        grpc: member.grpc.clone(),
        http: member.http.clone(),
        resp: member.resp.clone(),
        weight: member.weight,
        state: MemberState::Active,
        terms: ring::Terms::default(),
    }
}

/// Where others reach a port: as configured, else at the address that was bound, else at this machine's name.
fn advertised(configured: &str, bound: SocketAddr, host: &str) -> String {
    if !configured.is_empty() {
        configured.to_owned()
    } else if bound.ip().is_unspecified() {
        format!("http://{host}:{}", bound.port())
    } else {
        format!("http://{bound}")
    }
}

/// This machine's name, to tell nodes apart.
pub(crate) fn host_name() -> String {
    let from_file = || {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .or_else(|_| std::fs::read_to_string("/etc/hostname"))
    };
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| from_file().ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

impl Program for Settings {
    const NAME: &'static str = "cache-node";

    fn load(layers: &Layers) -> Result<Self, Problems> {
        Self::load(layers)
    }

    fn effective(&self) -> impl std::fmt::Display {
        self.effective()
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        Box::pin(self.run(stop)).await
    }
}
