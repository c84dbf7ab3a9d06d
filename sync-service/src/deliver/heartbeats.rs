//! Heartbeats: every live node is told how far it is, whether or not anything changes, and tells what it has confirmed (R9, R4).
//!
//! Each life of a node has a task of its own, so that a slow one holds up no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use ring::{Member, Membership, NodeId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use wire::Heartbeat;

use super::Nodes;

/// The tasks, by life.
#[derive(Default)]
pub(super) struct Hearts {
    beating: BTreeMap<NodeId, (u64, CancellationToken)>,
}

impl Hearts {
    /// Follows the membership. Never returns while that lives; dropping it ends all heartbeats.
    pub(super) async fn follow(mut self, nodes: Arc<Nodes>, membership: Arc<dyn Membership>) {
        let mut rings = membership.watch();
        loop {
            let ring = rings.borrow_and_update().clone();
            self.beating.retain(|id, (incarnation, ended)| {
                let lives = ring.member(id).is_some_and(|member| member.incarnation == *incarnation);
                if !lives {
                    ended.cancel();
                }
                lives
            });
            for member in ring.members() {
                if self.beating.contains_key(&member.id) {
                    continue;
                }
                let ended = CancellationToken::new();
                let beat = nodes.clone().beat(member.clone(), membership.clone());
                let task = ended.clone();
                nodes.tasks.spawn(async move { task.run_until_cancelled(beat).await });
                self.beating.insert(member.id.clone(), (member.incarnation, ended));
            }
            if rings.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Hearts {
    fn drop(&mut self) {
        for (_, ended) in self.beating.values() {
            ended.cancel();
        }
    }
}

impl Nodes {
    /// Tells one node at each interval, and sooner when there is news. Dropping it loses nothing.
    async fn beat(self: Arc<Self>, member: Member, membership: Arc<dyn Membership>) {
        let (interval, patience) = (self.limits.heartbeat, self.limits.request_timeout);
        let mut snapshots = self.watermarks.subscribe();
        loop {
            let begun = Instant::now();
            let snapshot = snapshots.borrow_and_update().clone();
            let reading = self.reading(&member.id);
            let watermarks = reading.map(|reading| snapshot.told(&reading));
            let epoch = membership.ring().epoch();
            let heartbeat = Heartbeat { epoch, watermarks };
            // The node's own timeout is not relied on.
            let asked = self.appliers.heartbeat(&member, heartbeat, patience);
            let answered = match tokio::time::timeout(patience, asked).await {
                Ok(Ok(reply)) => {
                    self.metrics.heartbeats.inc();
                    self.standstill.heard(&reply.node, reply.epoch, epoch);
                    // What a node confirms of another list says nothing of this one.
                    if reply.epoch.is_of_same_history(epoch) {
                        self.note(&reply.node, reply.incarnation, reply.confirmed_epoch, reply.clock);
                    }
                    true
                }
                Ok(Err(error)) => {
                    self.metrics.heartbeat_failures.inc();
                    self.standstill.unheard(&member.id);
                    debug!(node = %member.id, %error, "heartbeat failed");
                    false
                }
                Err(_) => {
                    self.metrics.heartbeat_failures.inc();
                    self.standstill.unheard(&member.id);
                    debug!(node = %member.id, ?patience, "heartbeat was not answered");
                    false
                }
            };
            // The first answer tells which clock to speak in.
            if answered && reading.is_none() && self.reading(&member.id).is_some() {
                continue;
            }
            tokio::time::sleep(interval / 4).await;
            let rest = interval.saturating_sub(begun.elapsed());
            // Dropping the wait for news loses nothing: it is looked at above.
            let _ = tokio::time::timeout(rest, snapshots.changed()).await;
        }
    }
}
