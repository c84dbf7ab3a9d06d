//! The whole process: configuration, port, membership, service.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use catalog::Catalog;
use client::{Client, Peers};
use daemon::admin::{self, Readiness};
use daemon::config::{
    BinlogSource, ClientSection, Cluster, Database, Effective, KafkaSource, Layers, Problems, Telemetry,
};
use daemon::program::Program;
use prometheus_client::registry::Registry;
use ring::etcd::{EtcdMembership, Options};
use ring::fixed::Fixed;
use ring::{Member, MemberState, Membership, NodeId};
use tokio_util::sync::CancellationToken;

use crate::beats::Beats;
use crate::config::Sync;
use crate::decode::{Topics, Zone};
use crate::service::Service;
use crate::source::Source;
use crate::source::binlog::Binlog;
use crate::source::kafka::Kafka;
use crate::verify::Watch;

/// Everything that a sync service process is configured by, checked.
#[derive(Debug)]
pub struct Settings {
    /// `[sync]`.
    pub sync: Sync,
    /// `[source.kafka]`; read only without `[source.binlog]`.
    pub kafka: KafkaSource,
    /// `[source.binlog]`, if the binlog is read directly.
    pub binlog: Option<BinlogSource>,
    /// `[cluster]`.
    pub cluster: Cluster,
    /// `[client]`.
    pub client: ClientSection,
    /// `[database]`, where heartbeat rows are written to, and what verify compares with; read only with
    /// `[sync.heartbeat]` or `[sync.verify]`.
    pub database: Option<Database>,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// Groups and rules.
    pub catalog: Arc<Catalog>,
    zone: Zone,
    topics: Topics,
}

impl Settings {
    /// Reads and checks all sections and the catalog; reports everything that is wrong at once.
    pub fn load(layers: &Layers) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let sync: Sync = layers.section("sync", &mut problems);
        let kafka: KafkaSource = layers.section("source.kafka", &mut problems);
        let cluster: Cluster = layers.section("cluster", &mut problems);
        let client: ClientSection = layers.section("client", &mut problems);
        let telemetry: Telemetry = layers.section("telemetry", &mut problems);
        let mut binlog: Option<BinlogSource> =
            layers.has("source.binlog").then(|| layers.section("source.binlog", &mut problems));
        let needs_url = binlog.as_ref().is_some_and(|binlog| binlog.url.is_empty());
        let database: Option<Database> = (sync.heartbeat.is_some() || sync.verify.is_on() || needs_url)
            .then(|| layers.section("database", &mut problems));
        sync.check(layers, &mut problems);
        match &mut binlog {
            Some(binlog) => {
                if layers.has("source.kafka") {
                    problems.push(format!(
                        "{}: changes come from one source, leave out this section or source.kafka",
                        layers.place("source.binlog")
                    ));
                }
                if let (true, Some(database)) = (needs_url, &database) {
                    binlog.url = database.url.clone();
                }
                binlog.check(!cluster.etcd.is_empty(), layers, &mut problems);
            }
            None => kafka.check(layers, &mut problems),
        }
        if let Some(database) = &database {
            database.check(layers, &mut problems);
            if sync.heartbeat.is_some() && database.url.expose().starts_with("sqlite:") {
                problems.push(format!(
                    "{}: heartbeat rows need MySQL; leave the section out",
                    layers.place("sync.heartbeat")
                ));
            }
        }
        cluster.check(layers, &mut problems);
        client.check(layers, &mut problems);
        telemetry.check(layers, &mut problems);
        if cluster.etcd.is_empty() && cluster.members.is_empty() {
            problems.push(format!(
                "{}: neither cluster.etcd nor cluster.members is set, so no node can be found; write etcd = [\"http://etcd:2379\"] or members = [{{ id = \"node-1\", grpc = \"http://node-1:7400\" }}]",
                layers.place("cluster")
            ));
        }
        let zone = kafka.time_zone.parse().unwrap_or_else(|error| {
            problems.push(format!("{}: {error}", layers.place("source.kafka.time_zone")));
            Zone::default()
        });
        let topics = Topics::new(&kafka).unwrap_or_else(|error| {
            problems.push(format!("{}: {error}", layers.place("source.kafka")));
            Topics::default()
        });
        let catalog = Catalog::parse(layers.file_name(), layers.text())
            .map_err(|report| {
                for problem in &report.problems {
                    problems.push(problem);
                }
            })
            .inspect(|catalog| sync.verify.check_groups(catalog, layers, &mut problems))
            .ok();
        problems.clone().into_result()?;
        // Without problems there is a catalog.
        let catalog = Arc::new(catalog.ok_or(problems)?);
        Ok(Self { sync, kafka, binlog, cluster, client, database, telemetry, catalog, zone, topics })
    }

    /// What is in effect, secrets hidden.
    pub fn effective(&self) -> Effective {
        let effective = match &self.database {
            Some(database) => Effective::default().with("database", database),
            None => Effective::default(),
        };
        let effective = effective.with("sync", &self.sync);
        let effective = match &self.binlog {
            Some(binlog) => effective.with("source.binlog", binlog),
            None => effective.with("source.kafka", &self.kafka),
        };
        effective
            .with("cluster", &self.cluster)
            .with("client", &self.client)
            .with("telemetry", &self.telemetry)
    }

    /// Runs a sync service with these settings until `stop`; see [`run`].
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        daemon::files::raise();
        let registry = daemon::metrics::shared();
        let listener = daemon::bind("sync.http", self.sync.http)?;
        let peers = Peers::new(client::Config {
            deadline: self.client.deadline,
            connect_timeout: self.client.connect_timeout,
            cluster: self.cluster.name.clone(),
            ..client::Config::default()
        });
        let membership: Arc<dyn Membership> = if self.cluster.etcd.is_empty() {
            let members = self.cluster.members.iter().map(|member| Member {
                id: NodeId::from(member.id.as_str()),
                incarnation: 0,
                grpc: member.grpc.clone(),
                http: member.http.clone(),
                resp: member.resp.clone(),
                weight: member.weight,
                state: MemberState::Active,
                terms: ring::Terms::default(),
            });
            Arc::new(Fixed::new(members.collect(), self.cluster.replicas))
        } else {
            let options =
                Options::new(self.cluster.etcd.clone(), self.cluster.name.clone(), self.cluster.replicas);
            EtcdMembership::connect(options).context("follow the membership")?
        };
        let verify = self.watch(&membership, &mut registry.lock())?;
        let beats = match (&self.sync.heartbeat, &self.database) {
            (Some(config), Some(database)) => {
                // Unique to this life: what an earlier one wrote tells nothing of when.
                let (writer, tables) = (format!("{:032x}", rand::random::<u128>()), config.all());
                let rows = loader::Heartbeat::connect(database, &tables, &writer, config.rows)
                    .context("prepare heartbeat rows")?;
                Some((Beats::new(writer, &tables, config.interval), rows))
            }
            _ => None,
        };
        let beating = beats.as_ref().map(|(beats, _)| beats.tables().to_vec()).unwrap_or_default();
        let source: Box<dyn Source> = match &self.binlog {
            Some(binlog) => {
                let etcd = (!self.cluster.etcd.is_empty()).then(|| {
                    Options::new(self.cluster.etcd.clone(), self.cluster.name.clone(), self.cluster.replicas)
                });
                let catalog = self.catalog.clone();
                Box::new(Binlog::new(binlog, etcd, catalog, &self.sync, &beating, &mut registry.lock())?)
            }
            None => Box::new(Kafka::new(&self.kafka, &self.sync, &mut registry.lock())?),
        };
        let service = Service::new(self.sync, self.catalog, membership, peers, source, &mut registry.lock())
            .with_zone(self.zone)
            .with_cluster(&self.cluster.name, self.cluster.lease)
            .with_topics(self.topics);
        let service = match beats {
            Some((beats, rows)) => service.with_beats(beats, Arc::new(rows)),
            None => service,
        };
        let readiness: Readiness = service.readiness();
        let connections = admin::connections(&registry);
        let router = admin::router(registry, readiness, admin::healthy());
        // The port outlives the pipeline, so that a shutdown can be watched.
        let serving = CancellationToken::new();
        let mut admin = tokio::spawn(admin::serve(listener, connections, router, serving.clone()));
        let verify = verify.map(|watch| tokio::spawn(watch.run(stop.child_token())));
        let service = service.run(stop);
        tokio::pin!(service);
        let result = tokio::select! {
            result = &mut service => result,
            ended = &mut admin => {
                ended.context("serve the admin port")?;
                return Err(anyhow::anyhow!("the admin port ended by itself"));
            }
        };
        if let Some(verify) = verify {
            verify.abort(); // it only reads
        }
        serving.cancel();
        // Bounded by the port's own grace; what it still has to say matters no more.
        let _ = tokio::time::timeout(Duration::from_secs(6), admin).await;
        result
    }

    /// The steady comparison with the database, if it is on. It has connections of its own: it must not wait behind
    /// removals, nor they behind it.
    fn watch(
        &self,
        membership: &Arc<dyn Membership>,
        registry: &mut Registry,
    ) -> anyhow::Result<Option<Watch>> {
        let Some(database) = self.database.as_ref().filter(|_| self.sync.verify.is_on()) else {
            return Ok(None);
        };
        let config = client::Config {
            deadline: self.client.deadline,
            retries: self.client.retries,
            connect_timeout: self.client.connect_timeout,
            cluster: self.cluster.name.clone(),
            ..client::Config::default()
        };
        let client = Client::from_membership(membership.clone(), config);
        Watch::new(self.sync.verify.clone(), client, database, &self.catalog, registry).map(Some)
    }
}

/// Runs a sync service from its configuration until `stop`.
///
/// # Errors
///
/// A mistake in the configuration, a port that is taken, a property that librdkafka refuses, a message or gap that is
/// declared to halt the service. Brokers, nodes or an etcd that are down are none: they are waited for, and `/readyz` and
/// the log say so.
pub async fn run(layers: &Layers, stop: CancellationToken) -> anyhow::Result<()> {
    Settings::load(layers)?.run(stop).await
}

impl Program for Settings {
    const NAME: &'static str = "sync-service";

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
        self.run(stop).await
    }
}
