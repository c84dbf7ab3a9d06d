//! The stack itself: the same parts as in production, wired in one process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use cache_node::{Node, Parts, Server};
use catalog::Catalog;
use client::{Client, Peers};
use daemon::{
    admin::{self, Readiness},
    config::{
        ClientSection, Cluster, Database, DatabaseUrl, KafkaSource, Layers, Problems, Properties, Telemetry,
    },
    metrics::SharedRegistry,
};
use loader::{Limits, Loader, RowSource, sqlite::Sqlite};
use ring::{Member, NodeId, memory::Registry};
use sync_service::{Delivered, Service, source::kafka::Kafka, verify::Watch};
use tokio::{
    net::TcpListener,
    sync::{
        Mutex,
        broadcast::{self, error::RecvError},
        watch,
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    broker::Broker,
    files::Files,
    state::State,
    tail::{Sent, Tail},
    trial::{self, Trial},
};

const NODES: [&str; 3] = ["a", "b", "c"];
const PARTITIONS: i32 = 3;
const LOG: &str = "warn";
/// What the sync service says of a partition that its consumer group has never read.
const FIRST_START: &str = "first_start";
/// How long the stack may take until it is ready. Most of it is the consumer group's first rebalance.
const START: Duration = Duration::from_secs(20);
/// How long the sync service may take for each step of its end.
const SYNC_DRAIN: Duration = Duration::from_secs(2);
/// How long all parts may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// Which ports to take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Any that are free.
    Free,
    /// Nodes at 0, 10 and 20 from here, gRPC and then HTTP, RESP 3 higher; the sync service at 2.
    From(u16),
}

impl Ports {
    fn at(self, offset: u16) -> anyhow::Result<SocketAddr> {
        let port = match self {
            Self::Free => 0,
            Self::From(base) => base
                .checked_add(offset)
                .with_context(|| format!("use --port-base {base}: ports end at 65535"))?,
        };
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }

    /// What to do when a port is taken.
    fn taken(self) -> String {
        match self {
            Self::Free => "take free ports".to_owned(),
            Self::From(base) => {
                format!("take the ports of --port-base {base}, name another with --port-base")
            }
        }
    }
}

/// What the stack takes from the configuration.
struct Settings {
    catalog: Arc<Catalog>,
    node: cache_node::Config,
    sync: sync_service::config::Sync,
    cluster: Cluster,
    database: Database,
    client: ClientSection,
    source: KafkaSource,
    telemetry: Telemetry,
}

impl Settings {
    fn load(file: &Path) -> anyhow::Result<Self> {
        let read = |problems: Problems| anyhow::anyhow!("read the configuration:\n{problems}");
        let layers = Layers::load(Some(file)).map_err(read)?;
        let mut problems = Problems::default();
        let catalog = Catalog::parse(layers.file_name(), layers.text());
        if let Err(report) = &catalog {
            report.problems.iter().for_each(|problem| problems.push(problem));
        }
        let mut node: cache_node::Config = layers.section("node", &mut problems);
        // Who tries the stack has a plain client, and names one port.
        node.resp_forward |= !layers.has("node.resp_forward");
        let sync: sync_service::config::Sync = layers.section("sync", &mut problems);
        let cluster: Cluster = layers.section("cluster", &mut problems);
        let database: Database = layers.section("database", &mut problems);
        let client: ClientSection = layers.section("client", &mut problems);
        let source: KafkaSource = layers.section("source.kafka", &mut problems);
        let telemetry: Telemetry = layers.section("telemetry", &mut problems);
        node.check(&layers, &mut problems);
        sync.check(&layers, &mut problems);
        if let Ok(catalog) = &catalog {
            sync.verify.check_groups(catalog, &layers, &mut problems);
        }
        cluster.check(&layers, &mut problems);
        client.check(&layers, &mut problems);
        telemetry.check(&layers, &mut problems);
        let catalog = match catalog {
            Ok(catalog) if problems.is_empty() => Arc::new(catalog),
            _ => return Err(read(problems)),
        };
        if layers.has("telemetry.log") {
            daemon::telemetry::init(&telemetry).context("start logging")?;
        }
        Ok(Self { catalog, node, sync, cluster, database, client, source, telemetry })
    }
}

/// A running stack. [`stop`](Self::stop) it before dropping it.
pub(crate) struct Stack {
    pub(crate) files: Arc<Files>,
    catalog: Arc<Catalog>,
    /// What the catalog's queries call the database; Canal's messages say the same.
    pub(crate) schema: String,
    /// As they are known to the ring.
    pub(crate) nodes: Vec<Member>,
    pub(crate) sync_http: String,
    pub(crate) topic: String,
    pub(crate) broker: Broker,
    pub(crate) membership: Arc<Registry>,
    /// When the changes of the newest messages were made.
    pub(crate) sent: Arc<Sent>,
    delivered: Mutex<broadcast::Receiver<Delivered>>,
    quarantine: Duration,
    telemetry: Telemetry,
    readiness: Vec<(String, Readiness)>,
    /// What brought a part to its end, if one ended by itself.
    failure: watch::Sender<Option<String>>,
    nodes_stop: CancellationToken,
    stream_stop: CancellationToken,
    nodes_tasks: TaskTracker,
    stream_tasks: TaskTracker,
}

impl Stack {
    /// Starts everything; [`ready`](Self::ready) waits until it serves.
    pub(crate) async fn start(files: Arc<Files>, ports: Ports) -> anyhow::Result<Self> {
        let settings = Settings::load(&files.catalog)?;
        // Every port is held before any work.
        let mut servers = Vec::new();
        for (at, id) in NODES.iter().enumerate() {
            let offset = 10 * at as u16;
            let server = Server::bind(ports.at(offset)?, ports.at(offset + 1)?)
                .and_then(|server| server.with_resp(ports.at(offset + 3)?))
                .with_context(|| format!("start node {id}"))
                .with_context(|| ports.taken())?;
            servers.push((NodeId::parse(id).context("name a node")?, server));
        }
        let sync_listener = daemon::bind("sync.http", ports.at(2)?)
            .context("start the sync service")
            .with_context(|| ports.taken())?;

        let schema = schema(&settings.catalog, &files.database);
        let topic = match settings.source.topics.first() {
            Some(name) if !name.starts_with('^') => name.clone(),
            _ => schema.clone(),
        };
        let dead_letters = settings.source.dead_letter_topic.as_str();
        let broker = Broker::start(&[(topic.as_str(), PARTITIONS), (dead_letters, 1)])?;
        let report =
            Sqlite::open(&files.database, &settings.catalog)?.check().await.context("read the schema")?;
        anyhow::ensure!(report.is_ok(), "use {}:\n{report}", files.catalog.display());
        let sent = Arc::new(Sent::default());
        let tail =
            Tail::open(&files.database, &schema, broker.address(), &topic, PARTITIONS, sent.clone()).await?;

        let membership = Registry::new(settings.cluster.replicas);
        let registry = daemon::metrics::shared();
        let service = sync(&settings, &topic, broker.address(), membership.clone(), &registry)?;
        let watch = watch(&settings, &files.database, &membership, &registry)?;
        let mut stack = Self {
            files,
            catalog: settings.catalog.clone(),
            schema,
            nodes: Vec::new(),
            sync_http: format!("http://{}", sync_listener.local_addr().context("read the bound port")?),
            topic,
            broker,
            membership,
            telemetry: settings.telemetry.clone(),
            sent,
            delivered: Mutex::new(service.delivered()),
            quarantine: settings.node.quarantine,
            readiness: Vec::new(),
            failure: watch::Sender::new(None),
            nodes_stop: CancellationToken::new(),
            stream_stop: CancellationToken::new(),
            nodes_tasks: TaskTracker::new(),
            stream_tasks: TaskTracker::new(),
        };
        for (id, server) in servers {
            stack.start_node(id, server, &settings)?;
        }
        stack.start_sync(service, sync_listener, registry);
        if let Some(watch) = watch {
            stack.stream_tasks.spawn(watch.run(stack.stream_stop.clone()));
        }
        let (run, failure) = (tail.run(stack.stream_stop.clone()), stack.failure.clone());
        stack.stream_tasks.spawn(async move {
            if let Err(error) = run.await {
                failure.send_replace(Some(format!("follow the database's changes: {error:#}")));
            }
        });
        Ok(stack)
    }

    fn start_sync(&mut self, service: Service<Kafka>, listener: TcpListener, registry: SharedRegistry) {
        let readiness = service.readiness();
        self.readiness.push(("sync service".to_owned(), readiness.clone()));
        let connections = admin::connections(&registry);
        let router = admin::router(registry, readiness, admin::healthy());
        self.nodes_tasks.spawn(admin::serve(listener, connections, router, self.nodes_stop.clone()));
        let (run, failure) = (service.run(self.stream_stop.clone()), self.failure.clone());
        self.stream_tasks.spawn(async move {
            if let Err(error) = run.await {
                failure.send_replace(Some(format!("run the sync service: {error:#}")));
            }
        });
    }

    /// Tells of every batch of changes that all nodes have applied, from now on.
    pub(crate) async fn delivered(&self) -> broadcast::Receiver<Delivered> {
        self.delivered.lock().await.resubscribe()
    }

    fn start_node(&mut self, id: NodeId, server: Server, settings: &Settings) -> anyhow::Result<()> {
        let registry = daemon::metrics::shared();
        let member = server.member(id.clone(), settings.node.weight);
        let config = cache_node::Config {
            id: id.to_string(),
            // Nobody routes around a node that goes away with all the others.
            leave: Duration::ZERO,
            grace: Duration::from_secs(1),
            ..settings.node.clone()
        };
        let node = {
            let mut registry = registry.lock();
            let source = Sqlite::open(&self.files.database, &settings.catalog)?;
            let parts = Parts {
                catalog: settings.catalog.clone(),
                loader: Loader::new(
                    source,
                    Limits::from(&settings.database),
                    loader::Metrics::register(&mut registry),
                ),
                membership: self.membership.clone(),
                registration: self.membership.register(member.clone()),
                peers: Peers::new(client_config(&settings.client)),
                id: id.clone(),
            };
            Node::start(config, parts, &mut registry)
        };
        let readiness = Readiness::new();
        self.readiness.push((format!("node {id}"), readiness.clone()));
        let serving = server.serve(node, registry, readiness, self.nodes_stop.clone());
        let failure = self.failure.clone();
        self.nodes_tasks.spawn(async move {
            if let Err(error) = serving.await {
                failure.send_replace(Some(format!("run node {id}: {error:#}")));
            }
        });
        self.nodes.push(member);
        Ok(())
    }

    /// Waits until every part serves and what is read is kept. An error if a part ends, or if it takes too long.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let mut delivered = self.delivered.lock().await;
        let all = async {
            for (_, readiness) in &self.readiness {
                let mut reasons = readiness.subscribe();
                // The sender lives as long as `self`.
                let _ = reasons.wait_for(std::collections::BTreeMap::is_empty).await;
            }
            // A new consumer group flushes all groups, once for all partitions, which are assigned together; for a while after a
            // flush nothing that is read is kept.
            loop {
                match delivered.recv().await {
                    Ok(batch) if batch.origin.contains(FIRST_START) => break,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                }
            }
            tokio::time::sleep(self.quarantine).await;
        };
        tokio::select! {
            () = all => Ok(()),
            error = self.failed() => Err(error),
            () = tokio::time::sleep(START) => {
                anyhow::bail!("start within {START:?}; still waiting for {}", self.waits().join(", "))
            }
        }
    }

    /// What is waited for until all is ready.
    pub(crate) fn waits(&self) -> Vec<String> {
        let mut waits: Vec<String> = self
            .readiness
            .iter()
            .flat_map(|(part, r)| r.reasons().into_values().map(move |reason| format!("{part}: {reason}")))
            .collect();
        if waits.is_empty() {
            waits.push("sync service: the flush of the first start is not acknowledged".to_owned());
        }
        waits
    }

    /// Logs what a person should act on, where neither the file nor the environment says what to log.
    ///
    /// Called when the stack is ready: before, it is normal that parts wait for each other.
    pub(crate) fn log(&self) -> anyhow::Result<()> {
        let telemetry = Telemetry { log: LOG.to_owned(), ..self.telemetry.clone() };
        // Does nothing if logging has been started before.
        daemon::telemetry::init(&telemetry).context("start logging")
    }

    /// Waits until a part ends by itself; never, if none does.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => anyhow::anyhow!("{}", reason.as_deref().unwrap_or_default()),
            Err(_) => std::future::pending().await,
        }
    }

    /// What to try first.
    pub(crate) async fn trial(&self) -> Option<Trial> {
        if self.files.sample {
            return Some(Trial::of_the_sample());
        }
        trial::find(&self.catalog, &self.files.database, &self.schema).await
    }

    /// What other commands must know.
    pub(crate) fn state(&self) -> State {
        State {
            pid: std::process::id(),
            dir: self.files.dir.clone(),
            database: self.files.database.clone(),
            catalog: std::path::absolute(&self.files.catalog).unwrap_or_else(|_| self.files.catalog.clone()),
            schema: self.schema.clone(),
            brokers: self.broker.address().to_owned(),
            topic: self.topic.clone(),
            nodes: self.nodes.iter().map(|member| member.grpc.clone()).collect(),
            resp: self.nodes.iter().map(|member| member.resp.clone()).collect(),
        }
    }

    /// Stops all parts: what carries changes first, then the nodes, then the broker.
    pub(crate) async fn stop(self) {
        daemon::shutdown::drain(self.stream_stop.clone(), self.stream_tasks.clone(), STOP).await;
        daemon::shutdown::drain(self.nodes_stop.clone(), self.nodes_tasks.clone(), STOP).await;
        // Dropping the broker waits for its thread.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// The sync service as in production, but for the broker's address and haste.
fn sync(
    settings: &Settings,
    topic: &str,
    brokers: &str,
    membership: Arc<Registry>,
    registry: &SharedRegistry,
) -> anyhow::Result<Service<Kafka>> {
    // The in-process broker answers an empty fetch only when its time is over, even if a message comes meanwhile.
    let haste = [("fetch.wait.max.ms", "4"), ("socket.nagle.disable", "true")];
    let own = settings.source.properties.iter();
    let source = KafkaSource {
        brokers: brokers.to_owned(),
        topics: vec![topic.to_owned()],
        properties: haste.into_iter().chain(own).collect::<Properties>(),
        ..settings.source.clone()
    };
    let config = sync_service::config::Sync { drain: SYNC_DRAIN, ..settings.sync.clone() };
    let zone =
        source.time_zone.parse().map_err(|error| anyhow::anyhow!("use source.kafka.time_zone: {error}"))?;
    let mut registry = registry.lock();
    let kafka = Kafka::new(&source, &config, &mut registry).context("make the consumer")?;
    let peers = Peers::new(client_config(&settings.client));
    Ok(Service::new(config, settings.catalog.clone(), membership, peers, kafka, &mut registry)
        .with_zone(zone))
}

/// The sync service's steady comparison with the database, if it is on.
fn watch(
    settings: &Settings,
    database: &Path,
    membership: &Arc<Registry>,
    registry: &SharedRegistry,
) -> anyhow::Result<Option<Watch>> {
    let verify = &settings.sync.verify;
    if !verify.is_on() {
        return Ok(None);
    }
    let url = DatabaseUrl::new(format!("sqlite:{}", database.display()));
    let database = Database { url, ..settings.database.clone() };
    let client = Client::from_membership(membership.clone(), client_config(&settings.client));
    Watch::new(verify.clone(), client, &database, &settings.catalog, &mut registry.lock()).map(Some)
}

/// The one database that the catalog's queries name, or else the name of the file.
fn schema(catalog: &Catalog, file: &Path) -> String {
    let mut names = catalog.groups().iter().flat_map(|group| group.tables()).map(|table| &*table.database);
    match names.next() {
        Some(first) if names.all(|name| name == first) => first.to_owned(),
        _ => file.file_stem().map_or_else(|| "main".to_owned(), |stem| stem.to_string_lossy().into_owned()),
    }
}

fn client_config(section: &ClientSection) -> client::Config {
    client::Config {
        deadline: section.deadline,
        silence: section.silence,
        read_from: crate::connect::read_from(section.read_from),
        retries: section.retries,
        connect_timeout: section.connect_timeout,
        breaker_failures: section.breaker_failures,
        breaker_cool_down: section.breaker_cool_down,
        ..client::Config::default()
    }
}
