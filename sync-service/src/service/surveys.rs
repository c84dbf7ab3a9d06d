//! Asks the log how long it is, so that nodes can be told how fresh they are, also when nothing changes (R9).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Service;
use crate::metrics::PartitionLabel;
use crate::offsets::Offsets;
use crate::source::{Source, Survey};
use crate::watermarks::Watermarks;

/// How often a log that can't be asked is told of.
const REMIND: Duration = Duration::from_secs(30);

impl<S: Source> Service<S> {
    /// Takes a sample of every owned partition at each interval. A log that can't be asked gives none: then freshness grows,
    /// which is the truth. Ends with the reading: a log that is being closed is not asked.
    pub(super) async fn survey_all(
        self: Arc<Self>,
        offsets: Arc<Offsets>,
        watermarks: Arc<Watermarks>,
        reading: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(self.config.heartbeat_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told: Option<Instant> = None;
        // Dropping a tick or a question loses nothing.
        while reading.run_until_cancelled(ticks.tick()).await.is_some() {
            let known = offsets.acknowledged();
            let owned = known.iter().map(|(partition, _)| partition.clone()).collect();
            // Before the question: what is logged from here on may be beyond the end that it is answered with.
            let asked = Instant::now();
            match reading.run_until_cancelled(self.source.survey(owned)).await {
                None => return,
                Some(Ok(Survey { ends, all })) => {
                    told = None;
                    for end in ends {
                        let applied = known.iter().find(|(partition, _)| *partition == end.partition);
                        // A log that ends before what was applied of it is another log: that says nothing about this one.
                        // With heartbeat rows these alone tell, from the database on.
                        if self.beating.is_none()
                            && applied.and_then(|(_, next)| *next).is_none_or(|next| next <= end.next)
                        {
                            watermarks.sample(&end.partition, asked, end.next);
                        }
                    }
                    watermarks.list(asked, &all);
                }
                Some(Err(error)) => {
                    self.pipeline.survey_failures.inc();
                    if told.is_none_or(|told| told.elapsed() >= REMIND) {
                        told = Some(Instant::now());
                        warn!(%error, "the log can't be asked for its ends: freshness grows until it can");
                    } else {
                        debug!(%error, "the log still can't be asked for its ends");
                    }
                }
            }
            watermarks.advance(&offsets);
        }
    }

    /// Shows how far back each owned partition's watermark is.
    pub(super) fn show_watermarks(&self, watermarks: &Watermarks, shown: &mut Vec<PartitionLabel>) {
        let mut known = Vec::new();
        for (partition, lag) in watermarks.lags() {
            let label = PartitionLabel::from(&partition);
            self.pipeline.watermark_lag.get_or_create(&label).set(lag.as_secs_f64());
            known.push(label);
        }
        for gone in shown.iter().filter(|label| !known.contains(label)) {
            self.pipeline.watermark_lag.remove(gone);
        }
        *shown = known;
    }
}
