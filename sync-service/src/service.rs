//! The pipeline: source, decode and map, deliver, commit.

mod beating;
mod commits;
mod members;
mod stages;
mod surveys;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use catalog::Catalog;
use daemon::admin::{Readiness, Warnings};
use daemon::tasks::until;
use prometheus_client::registry::Registry;
use ring::Membership;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::beating::Beating;
use crate::beats::{BeatWriter, Beats};
use crate::config::Sync;
use crate::decode::{Topics, Zone};
use crate::deliver::{Appliers, Deliverer, Limits, Shown};
use crate::metrics::{DeliverMetrics, PipelineMetrics};
use crate::offsets::Offsets;
use crate::source::{Batching, Source};

/// Batches that were acknowledged, kept for slow listeners of [`Service::delivered`].
const REMEMBERED: usize = 1024;
/// Batches between two stages of the pipeline.
const QUEUE: usize = 4;

/// A batch that everybody who had to has acknowledged.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The keys removed, the first thousand of them.
    pub keys: Arc<[Arc<str>]>,
    /// The tags removed, the first thousand of them: what carries one of them is gone.
    pub tags: Arc<[Arc<str>]>,
    /// The groups flushed.
    pub flushed: Arc<[Arc<str>]>,
    /// Where its newest message came from: `topic/partition@offset`.
    pub origin: Arc<str>,
    /// The oldest timestamp of its records in the log, in milliseconds since 1970.
    pub logged_ms: Option<i64>,
    /// When its first message was fetched.
    pub fetched_at: Instant,
    /// When the last acknowledgement was there.
    pub acknowledged_at: Instant,
}

impl Delivered {
    /// This service's own part of the delay: from the fetch to the last acknowledgement.
    pub fn own_delay(&self) -> Duration {
        self.acknowledged_at - self.fetched_at
    }
}

/// The sync service, ready to run.
pub struct Service<S> {
    config: Sync,
    source: Arc<S>,
    catalog: Arc<Catalog>,
    membership: Arc<dyn Membership>,
    appliers: Arc<dyn Appliers>,
    zone: Zone,
    topics: Topics,
    pipeline: PipelineMetrics,
    deliver: DeliverMetrics,
    beating: Option<Beating>,
    /// The cluster's name, for messages.
    cluster: String,
    /// How long a node may go by its lease at most.
    lease: Duration,
    delivered: broadcast::Sender<Delivered>,
    readiness: Readiness,
    warnings: Warnings,
}

impl<S: Source> Service<S> {
    /// Puts a service together; its metrics are registered under `sync`.
    pub fn new(
        config: Sync,
        catalog: Arc<Catalog>,
        membership: Arc<dyn Membership>,
        appliers: Arc<dyn Appliers>,
        source: S,
        registry: &mut Registry,
    ) -> Self {
        let registry = registry.sub_registry_with_prefix("sync");
        let warnings = Warnings::new();
        Self {
            config,
            source: Arc::new(source),
            catalog,
            membership,
            appliers,
            zone: Zone::default(),
            topics: Topics::default(),
            pipeline: PipelineMetrics::register(registry),
            deliver: DeliverMetrics::register(registry),
            beating: None,
            cluster: String::new(),
            lease: Duration::ZERO,
            delivered: broadcast::Sender::new(REMEMBERED),
            readiness: Readiness::new().with_warnings(&warnings),
            warnings,
        }
    }

    /// Sets the time zone that the stream's TIMESTAMP columns are written in; UTC otherwise.
    #[must_use]
    pub fn with_zone(mut self, zone: Zone) -> Self {
        self.zone = zone;
        self
    }

    /// Sets the formats of topics, and whose rows they carry where messages don't say; otherwise all messages are Canal's.
    #[must_use]
    pub fn with_topics(mut self, topics: Topics) -> Self {
        self.topics = topics;
        self
    }

    /// Sets which cluster's members are delivered to, and how long their leases are.
    #[must_use]
    pub fn with_cluster(mut self, name: &str, lease: Duration) -> Self {
        name.clone_into(&mut self.cluster);
        self.lease = lease;
        self
    }

    /// Has heartbeat rows written while the service runs: then these alone make the watermarks.
    #[must_use]
    pub fn with_beats(mut self, beats: Beats, writer: Arc<dyn BeatWriter>) -> Self {
        self.beating = Some(Beating { beats: Arc::new(beats), writer });
        self
    }

    /// Tells of every batch that was acknowledged. A listener that is a thousand batches behind misses some.
    pub fn delivered(&self) -> broadcast::Receiver<Delivered> {
        self.delivered.subscribe()
    }

    /// Whether changes are read and can be acknowledged, and if not, what is waited for.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Runs until `stop`, then finishes what was read, commits, and gives up its partitions, all in bounded time.
    ///
    /// An error means that the service can't go on: it was told to halt, or a part of it ended. Dropping the future leaves
    /// uncommitted what was not committed; it is delivered again by the next start.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let offsets = Offsets::new();
        let reading = stop.child_token();
        let running = CancellationToken::new();
        // Whatever way this function is left, its tasks end.
        let _ended = running.clone().drop_guard();
        let tasks = TaskTracker::new();
        let limits = Limits {
            request_keys: self.config.request_keys,
            request_bytes: 1 << 20,
            request_timeout: self.config.request_timeout,
            backlog_keys: self.config.backlog_keys,
            slow_after: self.config.slow_after,
            linger: Duration::from_millis(1).min(self.config.batch_wait),
            heartbeat: self.config.heartbeat_interval,
        };
        let deliverer = Deliverer::start(
            self.membership.clone(),
            self.appliers.clone(),
            self.catalog.clone(),
            limits,
            Shown { metrics: self.deliver.clone(), warnings: self.warnings.clone() },
            &tasks,
            running.clone(),
        );
        let (events_in, events) = mpsc::channel(QUEUE);
        let (work_in, work) = mpsc::channel(QUEUE);
        let batching = Batching {
            messages: self.config.batch_messages,
            wait: self.config.batch_wait,
            catch_up: self.config.catch_up,
        };
        self.source
            .start(offsets.clone(), batching, events_in, reading.clone())
            .context("start the source")?;

        let watermarks = deliverer.watermarks().clone();
        let this = Arc::new(self);
        let mapping = tokio::spawn(this.clone().map(events, work_in, offsets.clone(), watermarks.clone()));
        if let Some(beating) = this.beating.clone() {
            tasks.spawn(until(
                running.clone(),
                "writing heartbeat rows",
                this.clone().beat_all(beating, offsets.clone(), running.clone()),
            ));
        }
        let delivering = tokio::spawn(this.clone().deliver_all(
            deliverer.clone(),
            offsets.clone(),
            work,
            running.clone(),
            tasks.clone(),
        ));
        tasks.spawn(until(
            reading.clone(),
            "looking at the source's ends",
            this.clone().survey_all(offsets.clone(), watermarks.clone(), reading.clone()),
        ));
        tasks.spawn(until(
            running.clone(),
            "watching the offsets",
            this.clone().watch(offsets.clone(), watermarks, deliverer, running.clone()),
        ));
        let committing = running.child_token();
        tasks.spawn(until(
            committing.clone(),
            "committing offsets",
            this.clone().commit_all(offsets.clone(), committing.clone()),
        ));

        // Both stages end by themselves when the source has stopped; dropping the handles would detach them.
        let ended = async { tokio::try_join!(mapping, delivering) };
        tokio::pin!(ended);
        let result = tokio::select! {
            ended = &mut ended => Self::ended(ended, stop.is_cancelled()),
            error = this.attend_members() => Err(error),
            () = stop.cancelled() => if let Ok(ended) = tokio::time::timeout(this.config.drain, &mut ended).await { Self::ended(ended, true) } else {
                    warn!(grace = ?this.config.drain, "removes are still under way: they are delivered again by the next start");
                    Ok(()) },
        };
        reading.cancel();
        this.readiness.set_not_ready("stopping");
        if result.is_ok() && tokio::time::timeout(this.config.drain, offsets.drained()).await.is_err() {
            warn!(
                unacknowledged = offsets.unacknowledged(),
                "stopping with batches unacknowledged: they are delivered again by the next start"
            );
        }
        committing.cancel();
        if tokio::time::timeout(this.config.drain, this.commit(&offsets)).await.is_err() {
            warn!("the last commit was not answered: its messages are delivered again by the next start");
        }
        // The log's client may need its own time to leave the group; it is bounded there too.
        let _ = tokio::time::timeout(this.config.drain, this.source.close()).await;
        running.cancel();
        tasks.close();
        if tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await.is_err() {
            warn!(left = tasks.len(), "some removes did not end");
        }
        result
    }

    fn ended(
        ended: Result<(anyhow::Result<()>, anyhow::Result<()>), tokio::task::JoinError>,
        stopping: bool,
    ) -> anyhow::Result<()> {
        let (mapping, delivering) = ended.context("run the pipeline")?;
        mapping.and(delivering)?;
        if stopping { Ok(()) } else { Err(anyhow!("the source ended by itself")) }
    }
}
