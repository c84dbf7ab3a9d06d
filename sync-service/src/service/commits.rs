//! What goes on beside the pipeline: commits of what is acknowledged, and what is shown of it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Service;
use crate::deliver::Deliverer;
use crate::metrics::PartitionLabel;
use crate::offsets::Offsets;
use crate::source::Source;
use crate::watermarks::Watermarks;

impl<S: Source> Service<S> {
    /// Shows lag and readiness, now and then.
    pub(super) async fn watch(
        self: Arc<Self>,
        offsets: Arc<Offsets>,
        watermarks: Arc<Watermarks>,
        deliverer: Arc<Deliverer>,
        running: CancellationToken,
    ) {
        let mut looks = tokio::time::interval(Duration::from_millis(250));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut shown, mut watermarks_shown) = (Vec::new(), Vec::new());
        // Dropping a tick loses nothing.
        while running.run_until_cancelled(looks.tick()).await.is_some() {
            self.show(&offsets, &mut shown);
            deliverer.show();
            match deliverer.standstill().reason() {
                Some(reason) => self.readiness.wait("delivery", reason),
                None => self.readiness.done("delivery"),
            }
            self.readiness.set_ready();
            self.show_watermarks(&watermarks, &mut watermarks_shown);
        }
    }

    /// Commits now and then. Apart from the rest, because a commit waits for a broker that is away.
    pub(super) async fn commit_all(self: Arc<Self>, offsets: Arc<Offsets>, running: CancellationToken) {
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

    pub(super) async fn commit(&self, offsets: &Offsets) {
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
