//! The pipeline: source, decode and map, deliver, commit.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use catalog::Catalog;
use daemon::admin::Readiness;
use futures_util::future;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use ring::Membership;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::{OnUndecodable, Sync};
use crate::decode::Zone;
use crate::deliver::{Appliers, Deliverer, Limits, Place, Removals};
use crate::map::Mapper;
use crate::metrics::{DeliverMetrics, PartitionLabel, PipelineMetrics, ReasonLabel};
use crate::offsets::{Offsets, Ticket};
use crate::source::{Batching, Event, Letter, Source};

/// Batches that were acknowledged, kept for slow listeners of [`Service::delivered`].
const REMEMBERED: usize = 1024;
/// Keys that an announcement names.
const ANNOUNCED_KEYS: usize = 1000;
/// Batches between two stages of the pipeline.
const QUEUE: usize = 4;

/// A batch that everybody who had to has acknowledged.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The keys removed, the first thousand of them.
    pub keys: Arc<[Arc<str>]>,
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
    pipeline: PipelineMetrics,
    deliver: DeliverMetrics,
    delivered: broadcast::Sender<Delivered>,
    readiness: Readiness,
}

/// A batch between mapping and delivery.
struct Work {
    removals: Removals,
    letters: Vec<Letter>,
    times: Vec<(Option<i64>, Option<i64>)>,
    fetched_at: Instant,
    ticket: Ticket,
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
        Self {
            config,
            source: Arc::new(source),
            catalog,
            membership,
            appliers,
            zone: Zone::default(),
            pipeline: PipelineMetrics::register(registry),
            deliver: DeliverMetrics::register(registry),
            delivered: broadcast::Sender::new(REMEMBERED),
            readiness: Readiness::new(),
        }
    }

    /// Sets the time zone that the stream's TIMESTAMP columns are written in; UTC otherwise.
    #[must_use]
    pub fn with_zone(mut self, zone: Zone) -> Self {
        self.zone = zone;
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
        };
        let deliverer = Deliverer::start(
            self.membership.clone(),
            self.appliers.clone(),
            self.catalog.clone(),
            limits,
            self.deliver.clone(),
            &tasks,
            running.clone(),
        );
        let (events_in, events) = mpsc::channel(QUEUE);
        let (work_in, work) = mpsc::channel(QUEUE);
        let batching = Batching { messages: self.config.batch_messages, wait: self.config.batch_wait };
        self.source
            .start(offsets.clone(), batching, events_in, reading.clone())
            .context("start the source")?;

        let this = Arc::new(self);
        let mapping = tokio::spawn(this.clone().map(events, work_in));
        let delivering = tokio::spawn(this.clone().deliver_all(
            deliverer,
            offsets.clone(),
            work,
            running.clone(),
            tasks.clone(),
        ));
        tasks.spawn(this.clone().watch(offsets.clone(), running.clone()));
        let committing = running.child_token();
        tasks.spawn(this.clone().commit_all(offsets.clone(), committing.clone()));

        // Both stages end by themselves when the source has stopped; dropping the handles would detach them.
        let ended = async { tokio::try_join!(mapping, delivering) };
        tokio::pin!(ended);
        let result = tokio::select! {
            ended = &mut ended => Self::ended(ended, stop.is_cancelled()),
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

    /// Decodes and maps, one batch after the other.
    async fn map(
        self: Arc<Self>,
        mut events: mpsc::Receiver<Event>,
        work: mpsc::Sender<Work>,
    ) -> anyhow::Result<()> {
        let mut mapper = Mapper::new(self.catalog.clone(), self.zone, self.pipeline.clone());
        while let Some(event) = events.recv().await {
            let next = match event {
                Event::Batch(batch) => {
                    let outcome = mapper.map(&batch);
                    if let Some(letter) = outcome.letters.first()
                        && self.config.on_undecodable == OnUndecodable::Halt
                    {
                        return Err(anyhow!(
                            "halt: message {}@{} can't be decoded: {}; mend or skip it, or set sync.on_undecodable = \"dead_letter\"",
                            letter.partition,
                            letter.offset,
                            letter.reason
                        ));
                    }
                    let (removals, letters, times) = (outcome.removals, outcome.letters, outcome.times);
                    Work { removals, letters, times, fetched_at: batch.fetched_at, ticket: batch.ticket }
                }
                Event::Gap(gap) => {
                    let reason = gap.reason.label();
                    warn!(partition = %gap.partition, reason, detail = gap.detail, "changes were missed: flushing all groups");
                    self.pipeline.gaps.get_or_create(&ReasonLabel { reason }).inc();
                    let removals = mapper.everything(gap.reason, format!("{} {reason}", gap.partition));
                    Work {
                        removals,
                        letters: Vec::new(),
                        times: Vec::new(),
                        fetched_at: Instant::now(),
                        ticket: gap.ticket,
                    }
                }
                Event::Failed(error) => return Err(error.into()),
            };
            if work.send(next).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Starts the delivery of each batch as soon as there is room, and lets them finish in any order.
    async fn deliver_all(
        self: Arc<Self>,
        deliverer: Arc<Deliverer>,
        offsets: Arc<Offsets>,
        mut work: mpsc::Receiver<Work>,
        running: CancellationToken,
        tasks: TaskTracker,
    ) -> anyhow::Result<()> {
        let in_flight = Arc::new(Semaphore::new(self.config.in_flight.min(Semaphore::MAX_PERMITS)));
        let unacknowledged =
            Arc::new(Semaphore::new(self.config.max_unacknowledged.min(Semaphore::MAX_PERMITS)));
        while let Some(work) = work.recv().await {
            let held = unacknowledged.clone().acquire_owned().await.context("take a place")?;
            let place = in_flight.clone().acquire_owned().await.context("take a place")?;
            let one = self.clone().deliver_one(deliverer.clone(), offsets.clone(), work, place, held);
            let running = running.clone();
            // Dropped when the service ends: then the batch stays uncommitted.
            tasks.spawn(async move {
                tokio::select! {
                    () = running.cancelled() => {}
                    () = one => {}
                }
            });
        }
        Ok(())
    }

    async fn deliver_one(
        self: Arc<Self>,
        deliverer: Arc<Deliverer>,
        offsets: Arc<Offsets>,
        work: Work,
        place: OwnedSemaphorePermit,
        held: OwnedSemaphorePermit,
    ) {
        let Work { removals, letters, times, fetched_at, ticket } = work;
        let place = Place::new(place);
        let announce = self.delivered.receiver_count() > 0;
        let announced = announce.then(|| {
            let keys: Arc<[Arc<str>]> = removals.keys.iter().take(ANNOUNCED_KEYS).cloned().collect();
            (keys, Arc::<[Arc<str>]>::from(removals.groups.clone()), removals.origin.clone())
        });
        let delivery = deliverer.deliver(removals, &place);
        future::join(delivery, self.dead_letters(&letters)).await;
        let acknowledged_at = Instant::now();
        offsets.acknowledge(ticket);
        drop((place, held));
        if !times.is_empty() {
            self.pipeline.own_delay.observe((acknowledged_at - fetched_at).as_secs_f64());
        }
        let now = now_ms();
        for (executed, logged) in &times {
            observe(&self.pipeline.commit_delay, now, *executed);
            observe(&self.pipeline.log_delay, now, *logged);
        }
        if let Some((keys, flushed, origin)) = announced {
            let logged_ms = times.iter().filter_map(|(_, logged)| *logged).min();
            // Nobody listens any more: nothing is lost.
            let _ = self.delivered.send(Delivered {
                keys,
                flushed,
                origin,
                logged_ms,
                fetched_at,
                acknowledged_at,
            });
        }
    }

    /// Keeps trying until all are safe: nothing is committed past a message that is lost.
    async fn dead_letters(&self, letters: &[Letter]) {
        for letter in letters {
            let mut wait = Duration::from_millis(100);
            while let Err(error) = self.source.dead_letter(letter).await {
                self.pipeline.dead_letter_failures.inc();
                warn!(%error, partition = %letter.partition, offset = letter.offset, "dead letter can't be sent, trying again; commits of its partition wait");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
            self.pipeline.dead_letters.inc();
        }
    }

    /// Shows lag and readiness, now and then.
    async fn watch(self: Arc<Self>, offsets: Arc<Offsets>, running: CancellationToken) {
        let mut looks = tokio::time::interval(Duration::from_millis(250));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut shown = Vec::new();
        // Dropping a tick loses nothing.
        while running.run_until_cancelled(looks.tick()).await.is_some() {
            self.show(&offsets, &mut shown);
        }
    }

    /// Commits now and then. Apart from the rest, because a commit waits for a broker that is away.
    async fn commit_all(self: Arc<Self>, offsets: Arc<Offsets>, running: CancellationToken) {
        let mut commits = tokio::time::interval(self.config.commit_interval);
        commits.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // A commit that is cut off is made once more at the end.
        while running.run_until_cancelled(commits.tick()).await.is_some() {
            if running.run_until_cancelled(self.commit(&offsets)).await.is_none() {
                return;
            }
        }
    }

    fn show(&self, offsets: &Offsets, shown: &mut Vec<PartitionLabel>) {
        self.pipeline.unacknowledged.set(i64::try_from(offsets.unacknowledged()).unwrap_or(i64::MAX));
        match self.source.waits_for() {
            Some(reason) => self.readiness.wait("source", reason),
            None => self.readiness.done("source"),
        }
        if self.deliver.membership_down.get() > 0 {
            self.readiness.wait("membership", "membership can't be read: commits wait");
        } else {
            self.readiness.done("membership");
        }
        self.readiness.set_ready();
        let acknowledged = offsets.acknowledged();
        let mut owned = Vec::new();
        for end in self.source.ends() {
            let Some((_, Some(next))) =
                acknowledged.iter().find(|(partition, _)| *partition == end.partition)
            else {
                continue;
            };
            let label = PartitionLabel::from(&end.partition);
            self.pipeline.lag.get_or_create(&label).set((end.next - next).max(0));
            owned.push(label);
        }
        for gone in shown.iter().filter(|label| !owned.contains(label)) {
            self.pipeline.lag.remove(gone);
        }
        *shown = owned;
    }

    async fn commit(&self, offsets: &Offsets) {
        let due = offsets.committable();
        if due.is_empty() {
            return;
        }
        match self.source.commit(&due).await {
            Ok(()) => {
                offsets.committed(&due);
                self.pipeline.commits.inc();
            }
            Err(error) => {
                self.pipeline.commit_failures.inc();
                warn!(%error, partitions = due.len(), "offsets can't be committed, trying again");
            }
        }
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Observes how long ago something was. What is before the year 2000 is no time (an in-process broker stamps a constant).
fn observe(histogram: &Histogram, now: i64, then: Option<i64>) {
    const YEAR_2000: i64 = 946_684_800_000;
    if let Some(then) = then.filter(|then| *then > YEAR_2000) {
        histogram.observe((now - then).max(0) as f64 / 1000.0);
    }
}
