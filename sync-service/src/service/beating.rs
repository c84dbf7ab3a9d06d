//! Writes heartbeat rows, and watches where they come out (R9).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Service;
use crate::beats::{BeatWriter, Beats, Irregular, Order};
use crate::decode::Reason;
use crate::map::Beat;
use crate::metrics::ReasonLabel;
use crate::offsets::{Offsets, Partition};
use crate::source::Source;
use crate::watermarks::Watermarks;

/// How often a trouble that lasts is told of.
const REMIND: Duration = Duration::from_secs(30);
/// How often the rows of writers that have ended are looked for.
const CLEAN: Duration = Duration::from_mins(1);

/// What is written, and by whom.
#[derive(Clone)]
pub(super) struct Beating {
    pub(super) beats: Arc<Beats>,
    pub(super) writer: Arc<dyn BeatWriter>,
}

impl<S: Source> Service<S> {
    /// Writes a beat at each interval until the service ends; then takes its rows away. A database that is down gives no beats:
    /// then freshness grows, which is the truth.
    pub(super) async fn beat_all(
        self: Arc<Self>,
        beating: Beating,
        offsets: Arc<Offsets>,
        running: CancellationToken,
    ) {
        let Beating { beats, writer } = beating;
        let mut trouble = Trouble::default();
        let mut ready = false;
        let mut cleaned = Instant::now();
        let mut missing = Vec::new();
        let mut ticks = tokio::time::interval(beats.interval());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // A beat that is cut off may be committed or not; nobody waits for it any more.
        while running.run_until_cancelled(ticks.tick()).await.is_some() {
            let beat = async {
                if !ready {
                    writer.prepare().await?;
                }
                let beat = beats.begin();
                writer.write(beat).await.map(|()| beat)
            };
            match running.run_until_cancelled(beat).await {
                None => break,
                Some(Ok(beat)) => {
                    ready = true;
                    beats.committed(beat);
                    trouble.over();
                    self.pipeline.beats.inc();
                }
                Some(Err(error)) => {
                    self.pipeline.beat_failures.inc();
                    trouble.tell(&error);
                }
            }
            if cleaned.elapsed() >= CLEAN {
                cleaned = Instant::now();
                if let Some(Err(error)) = running.run_until_cancelled(writer.clean()).await {
                    debug!(%error, "rows of writers that have ended can't be looked for");
                }
            }
            self.watch_beats(&beats, &offsets, &mut missing);
        }
        if ready {
            // Bounded: the service does not wait long for its tasks. What is left is cleaned by others, or by the next life.
            match tokio::time::timeout(Duration::from_millis(500), writer.leave()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "own heartbeat rows are left to be cleaned by others"),
                Err(_) => debug!("own heartbeat rows are left to be cleaned by others"),
            }
        }
    }

    /// Makes samples of beats that came back, and says whether some never did: then changes beside them are missing too.
    pub(super) fn note_beats(
        &self,
        came: &[Beat],
        order: &mut Order,
        offsets: &Offsets,
        watermarks: &Watermarks,
    ) -> bool {
        let Some(Beating { beats, .. }) = &self.beating else { return false };
        let mut skipped = false;
        for Beat { partition, next, row } in came {
            let Some(assignment) = offsets.assignment(partition) else { continue };
            beats.saw(partition);
            if let Some(begun) = beats.begun(row.beat) {
                watermarks.sample(partition, begun, *next);
            }
            match order.see(beats, partition, assignment, *row) {
                None => {}
                Some(Irregular::Skipped { partition, last, next }) => {
                    skipped = true;
                    let reason = Reason::Skipped.label();
                    self.pipeline.gaps.get_or_create(&ReasonLabel { reason }).inc();
                    warn!(%partition, last, next, "heartbeat rows between these two were committed and never came, so the stream has left a piece of the database's log out: flushing all groups");
                }
                Some(Irregular::Replayed { partition, last, again }) => {
                    info!(%partition, last, again, "the stream has gone back to an earlier place in the database's log");
                }
            }
        }
        skipped
    }

    /// Tells of partitions that beats don't reach: of those no watermark is known, and so of no node's memory how fresh it is.
    fn watch_beats(&self, beats: &Beats, offsets: &Offsets, told: &mut Vec<Partition>) {
        let owned: Vec<_> = offsets.acknowledged().into_iter().map(|(partition, _)| partition).collect();
        let missing = beats.missing(&owned);
        self.pipeline.without_beats.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        if missing != *told {
            let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
            if missing.is_empty() {
                info!("heartbeat rows reach all partitions again");
            } else {
                warn!(
                    partitions = ?names,
                    "no heartbeat row has come for ten intervals, so nobody knows how fresh these partitions are: raise sync.heartbeat.rows, name a table for their topic in sync.heartbeat.tables, or let Canal's filter pass the table"
                );
            }
            *told = missing;
        }
    }
}

/// A trouble that is told of once, and again while it lasts.
#[derive(Default)]
struct Trouble {
    told: Option<Instant>,
}

impl Trouble {
    fn tell(&mut self, error: &loader::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= REMIND) {
            self.told = Some(Instant::now());
            warn!(%error, "heartbeat rows can't be written: freshness grows until they can");
        } else {
            debug!(%error, "heartbeat rows still can't be written");
        }
    }

    fn over(&mut self) {
        if self.told.take().is_some() {
            info!("heartbeat rows are written again");
        }
    }
}
