//! What the node does about the server behind its database: one that is not the primary any more, one that shows changes late.
//!
//! What was read shortly before a switch was noticed may be old, and the removal that would have ended it came before it was read. Nobody knows
//! which entries that are; so all groups but plain ones are flushed, on all nodes, since they may have taken such values over. The same holds for what was
//! stored under a quarantine that was too short: a pull is not checked for the quarantine, and each node notices at its own time.

use std::{sync::Arc, time::Duration};

use futures_util::future;
use ring::Member;
use tokio::time::{sleep, timeout};

use crate::node::Node;

/// The pause before a node that has not flushed is asked again, at first and at most.
const RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// The least time from one flush to the next.
const PACE: Duration = Duration::from_secs(1);

impl Node {
    /// Raises the quarantine to what the server needs now; whether it was raised. Called before the node holds slots, and by
    /// [`follow_server`](Self::follow_server).
    pub(crate) fn heed_visibility(&self) -> bool {
        let unseen_for = self.loader.source().server().borrow().unseen_for;
        let wanted = self.config.quarantine.saturating_add(unseen_for);
        let before = self.gate.quarantine();
        if wanted <= before {
            return false;
        }
        self.gate.set_quarantine(wanted);
        self.metrics.quarantine.set(wanted.as_secs_f64());
        tracing::warn!(node = %self.id, quarantine = ?wanted, ?before, "the database shows changes late: the quarantine is raised");
        true
    }

    /// Follows what the source knows of its server, and keeps it looking.
    pub(crate) async fn follow_server(self: Arc<Self>) {
        let source = self.loader.source().clone();
        let attended = async {
            tokio::select! {
                () = source.attend() => {}
                () = self.heed_server() => {}
                () = self.flush_when_wanted() => {}
            }
        };
        self.stop.run_until_cancelled(attended).await;
    }

    async fn heed_server(&self) {
        let mut server = self.loader.source().server();
        let mut known = server.borrow().switches;
        loop {
            let now = *server.borrow_and_update();
            let another = now.switches != known;
            if another {
                known = now.switches;
                self.metrics.switchovers.inc();
                tracing::warn!(node = %self.id, "the database's server has changed: flushing all groups on all nodes");
            }
            if self.heed_visibility() || another {
                self.flush_read_here();
                self.flush_wanted.notify_one();
                // Servers that take turns do so at any rate; what comes meanwhile is seen afterwards.
                sleep(PACE).await;
            }
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

    /// Apart from the looking, since it waits for nodes that do not answer. A wish that comes meanwhile is heeded afterwards.
    async fn flush_when_wanted(&self) {
        loop {
            self.flush_wanted.notified().await;
            let read = self.read_groups();
            if read.is_empty() {
                continue; // a request that names none is for all
            }
            // As often as a value can travel: who has flushed may take an old one over from who has not.
            for _ in 0..=self.more_rounds() {
                self.flush_read_here();
                let ring = self.current_ring();
                let others = ring.members().iter().filter(|member| member.id != self.id);
                future::join_all(others.map(|member| self.flush_there(member, &read))).await;
            }
        }
    }

    /// Has a node flush; asks until it has, or this life of it is over.
    async fn flush_there(&self, member: &Member, groups: &[String]) {
        let mut pause = RETRY;
        loop {
            let listed = self.membership.ring().member(&member.id).map(|listed| listed.incarnation);
            if listed != Some(member.incarnation) {
                return;
            }
            let error = match timeout(self.config.spread, self.peers.flush(member, groups)).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {:?}", self.config.spread),
            };
            if pause == RETRY {
                tracing::warn!(
                    node = %self.id, other = %member.id, error,
                    "a node has not flushed after the database's server has changed; asking until it has"
                );
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    fn flush_read_here(&self) {
        self.flush_known(&self.read_groups(), &Arc::from("the database's server"));
    }

    /// The names of the groups whose values were read from the database: all but plain ones.
    fn read_groups(&self) -> Vec<String> {
        let read = self.catalog.groups().iter().filter(|group| !group.is_plain());
        read.map(|group| group.name.to_string()).collect()
    }
}
