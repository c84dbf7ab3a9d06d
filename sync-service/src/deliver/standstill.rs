//! Deliveries that get nowhere: the same batch is planned again and again, or a node goes by another list of members.
//!
//! A plan is made anew when the membership has changed meanwhile. That ends by itself; where it does not, something is wrong that no repetition
//! mends: *the sync service takes listed nodes for another life than they are in; each acknowledgement is of the wrong one; the batch is
//! planned, sent and planned again for ever, as fast as the nodes answer.* So from the third time on there is a pause before a plan, which
//! grows, and from the fifth on it is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::{Epoch, NodeId, Ring};
use tokio::time::Instant;
use tracing::{info, warn};

use super::worker;
use crate::metrics::DeliverMetrics;

/// Plans of one batch without a pause.
const AT_ONCE: u32 = 2;
/// Plans of one batch from which on it counts as standing still.
const STANDS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How often a standstill is told of again.
const REMIND: Duration = Duration::from_secs(30);

/// What stands still. Clones share one state.
#[derive(Clone)]
pub(crate) struct Standstill(Arc<Shared>);

struct Shared {
    metrics: DeliverMetrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Batches that have been planned too often.
    batches: i64,
    /// Why the last of them was planned again.
    reason: String,
    told: Option<Instant>,
    /// Nodes that go by another list of members, with the epoch that they told.
    strangers: BTreeMap<NodeId, Epoch>,
}

/// One batch that is being delivered. Counted as standing still, if it does, until dropped.
pub(super) struct Batch {
    standstill: Standstill,
    counted: bool,
}

impl Standstill {
    pub(super) fn new(metrics: DeliverMetrics) -> Self {
        Self(Arc::new(Shared { metrics, state: Mutex::default() }))
    }

    pub(super) fn batch(&self) -> Batch {
        Batch { standstill: self.clone(), counted: false }
    }

    /// What keeps deliveries from being acknowledged and needs a person; `None` if nothing does.
    pub(crate) fn reason(&self) -> Option<String> {
        let state = self.0.state.lock();
        if let Some((node, epoch)) = state.strangers.first_key_value() {
            let more = state.strangers.len() - 1;
            let others = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Some(format!(
                "node {node}{others} goes by another list of members (epoch {epoch}): nothing is acknowledged by it; cluster.members \
                 (ids and weights) and cluster.replicas must be the same for all nodes and the sync service, or all use etcd"
            ));
        }
        (state.batches > 0).then(|| {
            format!(
                "{} batches are planned again and again and not acknowledged: {}",
                state.batches, state.reason
            )
        })
    }

    /// Takes note of the epoch at which a node answered a heartbeat.
    pub(super) fn heard(&self, node: &NodeId, told: Epoch, own: Epoch) {
        let mut state = self.0.state.lock();
        if told.is_of_same_history(own) {
            if state.strangers.remove(node).is_some() {
                info!(%node, "the node goes by the same members again");
            }
        } else if state.strangers.insert(node.clone(), told) != Some(told) {
            warn!(
                %node, epoch = told.0, own = own.0,
                "the node goes by another list of members: it acknowledges nothing, and commits wait; give all nodes and the sync \
                 service the same cluster.members (ids and weights) and cluster.replicas, or etcd"
            );
        }
        self.0.metrics.strangers.set(i64::try_from(state.strangers.len()).unwrap_or(i64::MAX));
    }

    /// A node that does not answer any more is to be called slow, not strange.
    pub(super) fn unheard(&self, node: &NodeId) {
        let mut state = self.0.state.lock();
        state.strangers.remove(node);
        self.0.metrics.strangers.set(i64::try_from(state.strangers.len()).unwrap_or(i64::MAX));
    }

    pub(super) fn retain(&self, ring: &Ring) {
        let mut state = self.0.state.lock();
        state.strangers.retain(|id, _| ring.member(id).is_some());
        self.0.metrics.strangers.set(i64::try_from(state.strangers.len()).unwrap_or(i64::MAX));
    }

    fn stands(&self, round: u32, reason: &str, first: bool) {
        let mut state = self.0.state.lock();
        if first {
            state.batches += 1;
            self.0.metrics.standing.inc();
        }
        reason.clone_into(&mut state.reason);
        if state.told.is_none_or(|told| told.elapsed() >= REMIND) {
            state.told = Some(Instant::now());
            warn!(
                round,
                batches = state.batches,
                reason,
                "a batch is planned again and again and not acknowledged: commits wait"
            );
        }
    }

    fn over(&self) {
        let mut state = self.0.state.lock();
        state.batches -= 1;
        self.0.metrics.standing.dec();
        if state.batches == 0 {
            state.told = None;
            info!("what was planned again and again is acknowledged, or given up with the service");
        }
    }
}

impl Batch {
    /// A path of the batch is planned for the `round`th time, counted from 0, for this reason; returns how long to wait before it is sent.
    pub(super) fn again(&mut self, round: u32, reason: &str) -> Duration {
        if round >= STANDS {
            self.standstill.stands(round, reason, !self.counted);
            self.counted = true;
        }
        match round.checked_sub(AT_ONCE + 1) {
            None => Duration::ZERO,
            Some(late) => {
                let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(late)).min(LAST_PAUSE);
                worker::jittered(pause)
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.counted {
            self.standstill.over();
        }
    }
}
