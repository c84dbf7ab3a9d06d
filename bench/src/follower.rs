//! The sync service inside this process, watched from outside.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use catalog::Catalog;
use client::Peers;
use daemon::config::KafkaSource;
use ring::Membership;
use sync_service::{
    Delivered, Service,
    config::Sync,
    offsets::{NextOffset, Offsets, Partition},
    source::{Batching, Error, Event, Letter, Source, Survey, kafka::Kafka},
};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long the service may take until it reads.
const START: Duration = Duration::from_mins(1);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(15);

/// A running sync service. [`stop`](Self::stop) it before dropping it.
pub(crate) struct Follower {
    /// Tells of every acknowledged batch.
    pub(crate) delivered: broadcast::Receiver<Delivered>,
    offsets: Arc<OnceLock<Arc<Offsets>>>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Follower {
    /// Starts the service on the calling runtime, with its settings as they are by default.
    pub(crate) fn start(
        brokers: &str,
        topic: &str,
        group: &str,
        catalog: Arc<Catalog>,
        membership: Arc<dyn Membership>,
    ) -> anyhow::Result<Self> {
        let kafka = KafkaSource {
            brokers: brokers.to_owned(),
            topics: vec![topic.to_owned()],
            group: group.to_owned(),
            ..KafkaSource::default()
        };
        let config = Sync::default();
        let registry = daemon::metrics::shared();
        let offsets = Arc::new(OnceLock::new());
        let service = {
            let mut registry = registry.lock();
            let source = Kafka::new(&kafka, &config, &mut registry).context("set up the kafka source")?;
            let source = Watched { source, offsets: offsets.clone() };
            let peers = Peers::new(client::Config::default());
            Service::new(config, catalog, membership, peers, source, &mut registry)
        };
        let delivered = service.delivered();
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        Ok(Self { delivered, offsets, stop, task })
    }

    /// Waits until all of `partitions` are assigned.
    pub(crate) async fn assigned(&self, partitions: usize) -> anyhow::Result<()> {
        let assigned = async {
            while self.acknowledged().len() < partitions {
                if self.task.is_finished() {
                    bail!("start the sync service: it ended by itself");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        tokio::time::timeout(START, assigned).await.context("get all partitions in time")?
    }

    /// Listens to acknowledged batches no more.
    pub(crate) fn deafen(&mut self) {
        // The receiver of a channel that nobody sends to.
        self.delivered = broadcast::channel(1).1;
    }

    /// What can be asked which offsets are acknowledged, once the service has started.
    pub(crate) fn offsets(&self) -> Option<Arc<Offsets>> {
        self.offsets.get().cloned()
    }

    /// The acknowledged next offset of each assigned partition.
    fn acknowledged(&self) -> Vec<Option<i64>> {
        let Some(offsets) = self.offsets.get() else { return Vec::new() };
        offsets.acknowledged().into_iter().map(|(_, next)| next).collect()
    }

    /// Stops the service.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        tokio::time::timeout(STOP, self.task).await.context("stop the sync service in time")??
    }
}

/// A source, whose book of offsets is kept at hand.
struct Watched<S> {
    source: S,
    offsets: Arc<OnceLock<Arc<Offsets>>>,
}

#[async_trait]
impl<S: Source> Source for Watched<S> {
    fn start(
        &self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let _ = self.offsets.set(offsets.clone());
        self.source.start(offsets, batching, events, stop)
    }

    async fn commit(&self, offsets: &[NextOffset]) -> Result<(), Error> {
        self.source.commit(offsets).await
    }

    async fn dead_letter(&self, letter: &Letter) -> Result<(), Error> {
        self.source.dead_letter(letter).await
    }

    async fn close(&self) {
        self.source.close().await;
    }

    fn waits_for(&self) -> Option<String> {
        self.source.waits_for()
    }

    fn ends(&self) -> Vec<NextOffset> {
        self.source.ends()
    }

    async fn survey(&self, owned: Vec<Partition>) -> Result<Survey, Error> {
        self.source.survey(owned).await
    }
}
