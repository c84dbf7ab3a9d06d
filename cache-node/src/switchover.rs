//! What the node does about the server behind its database: one that is not the primary any more, one that shows changes late.
//!
//! What was read shortly before a switch was noticed may be old, and the removal that would have ended it came before it was read. Nobody knows
//! which entries that are; so all groups are flushed, on all nodes, since they may have taken such values over.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::node::{Hop, Node};

/// Pauses between attempts to reach the other nodes, and how many there are.
const RETRY: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 5;

impl Node {
    /// Goes by what is known of the server now. Called before the node holds slots, and by [`follow_server`](Self::follow_server).
    pub(crate) fn heed_visibility(&self) {
        let unseen_for = self.loader.source().server().borrow().unseen_for;
        let wanted = self.config.quarantine.saturating_add(unseen_for);
        let before = self.gate.quarantine();
        if wanted <= before {
            return;
        }
        self.gate.set_quarantine(wanted);
        self.metrics.quarantine.set(wanted.as_secs_f64());
        tracing::warn!(node = %self.id, quarantine = ?wanted, ?before, "the database shows changes late: the quarantine is raised");
        // What was stored under the shorter one may be old.
        self.flush_all_here("quarantine raised");
    }

    /// Follows what the source knows of its server, and keeps it looking.
    pub(crate) async fn follow_server(self: Arc<Self>) {
        let source = self.loader.source().clone();
        let attended = async {
            tokio::select! {
                () = source.attend() => {}
                () = self.heed_server() => {}
            }
        };
        self.stop.run_until_cancelled(attended).await;
    }

    async fn heed_server(&self) {
        let mut server = self.loader.source().server();
        let mut switches = server.borrow().switches;
        loop {
            let now = *server.borrow_and_update();
            if now.switches != switches {
                switches = now.switches;
                self.metrics.switchovers.inc();
                self.flush_after_switch().await;
            }
            self.heed_visibility();
            let wanted = self.config.quarantine.saturating_add(now.unseen_for);
            let before = self.gate.quarantine();
            if wanted < before {
                // Changes from before may stay unseen for as long as they could then. A switch meanwhile does not wait for it.
                tokio::select! {
                    () = sleep(before) => {
                        self.gate.set_quarantine(wanted);
                        self.metrics.quarantine.set(wanted.as_secs_f64());
                        tracing::info!(node = %self.id, quarantine = ?wanted, "the database shows changes at once again");
                    }
                    changed = server.changed() => if changed.is_err() { return std::future::pending().await },
                }
                continue;
            }
            if server.changed().await.is_err() {
                return std::future::pending().await; // a source that knows nothing of a server
            }
        }
    }

    async fn flush_after_switch(&self) {
        tracing::warn!(node = %self.id, "the database's server has changed: flushing all groups on all nodes");
        for attempt in 1..=ATTEMPTS {
            // Here first; the others are repeated.
            match self.flush(&[], Hop::First).await {
                Ok(()) => return,
                Err(error) if attempt < ATTEMPTS => {
                    tracing::debug!(node = %self.id, %error, attempt, "not all nodes have flushed after a switch");
                    sleep(RETRY * attempt).await;
                }
                Err(error) => tracing::warn!(
                    node = %self.id, %error,
                    "not all nodes have flushed after the database's server has changed; those that can be reached have"
                ),
            }
        }
    }

    fn flush_all_here(&self, origin: &str) {
        let all: Vec<String> = self.catalog.groups().iter().map(|group| group.name.to_string()).collect();
        self.flush_known(&all, &Arc::from(origin));
    }
}
