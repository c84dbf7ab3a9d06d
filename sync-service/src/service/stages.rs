//! The stages between source and commit: decode and map, deliver, dead letters.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use futures_util::future;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{Delivered, Service};
use crate::beats::Order;
use crate::config::OnUndecodable;
use crate::decode::Reason;
use crate::deliver::{Deliverer, Place, Removals};
use crate::map::Mapper;
use crate::metrics::ReasonLabel;
use crate::offsets::{Offsets, Ticket};
use crate::source::{Event, Letter, Missed, Reaction, Source};
use crate::watermarks::Watermarks;

/// Keys that an announcement names, and tags.
const ANNOUNCED: usize = 1000;

/// A batch between mapping and delivery.
pub(super) struct Work {
    removals: Removals,
    letters: Vec<Letter>,
    times: Vec<(Option<i64>, Option<i64>)>,
    fetched_at: Instant,
    ticket: Ticket,
}

impl<S: Source> Service<S> {
    /// Decodes and maps, one batch after the other.
    pub(super) async fn map(
        self: Arc<Self>,
        mut events: mpsc::Receiver<Event>,
        work: mpsc::Sender<Work>,
        offsets: Arc<Offsets>,
        watermarks: Arc<Watermarks>,
    ) -> anyhow::Result<()> {
        let beats = self.beating.as_ref().map(|beating| beating.beats.clone());
        let mut order = Order::default();
        let restart = self.config.on_canal_restart;
        let mut mapper = Mapper::new(self.catalog.clone(), self.zone, self.pipeline.clone(), restart)
            .with_topics(self.topics.clone())
            .with_beats(beats);
        while let Some(event) = events.recv().await {
            let next = match event {
                Event::Batch(batch) => {
                    let mut outcome = mapper.map(&batch);
                    if !outcome.beats.is_empty()
                        && self.note_beats(&outcome.beats, &mut order, &offsets, &watermarks)
                    {
                        let everything = mapper.everything(Reason::Skipped, batch.origin());
                        outcome.removals.groups = everything.groups;
                        outcome.owed = true;
                    }
                    if outcome.owed {
                        offsets.owe(&batch.ticket);
                    }
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
                    for missed in &gap.missed {
                        order.forget(&missed.partition);
                    }
                    let removals = self.missed(&mapper, &gap.missed);
                    let (letters, times) = (Vec::new(), Vec::new());
                    Work { removals, letters, times, fetched_at: Instant::now(), ticket: gap.ticket }
                }
                Event::Failed(error) => return Err(error.into()),
            };
            if work.send(next).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Tells what was missed, and returns what it makes stale.
    fn missed(&self, mapper: &Mapper, missed: &[Missed]) -> Removals {
        let mut flush = None;
        for one in missed {
            let reason = one.reason.label();
            self.pipeline.gaps.get_or_create(&ReasonLabel { reason }).inc();
            if one.reaction == Reaction::Flush {
                warn!(partition = %one.partition, reason, detail = one.detail, "changes were missed: flushing all groups");
                flush.get_or_insert((one.reason, format!("{} {reason}", one.partition)));
            } else {
                warn!(partition = %one.partition, reason, detail = one.detail, "nothing is missed: all of it is read");
            }
        }
        flush.map_or_else(Removals::default, |(reason, origin)| mapper.everything(reason, origin))
    }

    /// Starts the delivery of each batch as soon as there is room, and lets them finish in any order.
    pub(super) async fn deliver_all(
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
            let first = |names: &[Arc<str>]| names.iter().take(ANNOUNCED).cloned().collect::<Arc<[_]>>();
            (
                first(&removals.keys),
                first(&removals.tags),
                Arc::from(&*removals.groups),
                removals.origin.clone(),
            )
        });
        let delivery = deliverer.deliver(removals, &place);
        future::join(delivery, self.dead_letters(&letters)).await;
        let acknowledged_at = Instant::now();
        offsets.acknowledge(ticket);
        if deliverer.watermarks().is_waiting() {
            deliverer.watermarks().advance(&offsets);
        }
        drop((place, held));
        if !times.is_empty() {
            self.pipeline.own_delay.observe((acknowledged_at - fetched_at).as_secs_f64());
        }
        let now = now_ms();
        for (executed, logged) in &times {
            observe(&self.pipeline.commit_delay, now, *executed);
            observe(&self.pipeline.log_delay, now, *logged);
        }
        if let Some((keys, tags, flushed, origin)) = announced {
            let logged_ms = times.iter().filter_map(|(_, logged)| *logged).min();
            // Nobody listens any more: nothing is lost.
            let _ = self.delivered.send(Delivered {
                keys,
                tags,
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
