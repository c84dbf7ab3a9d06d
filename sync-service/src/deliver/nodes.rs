//! The nodes as far as they are known: who has a worker, what each has confirmed, and how its clock runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::Catalog;
use daemon::admin::Warnings;
use parking_lot::Mutex;
use ring::{Epoch, Member, Membership, NodeId, Ring, Terms, terms};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::info;
use wire::Clock;

use super::worker::Worker;
use super::{Appliers, Limits, Standstill};
use crate::metrics::{DeliverMetrics, DifferenceLabel};
use crate::watermarks::{Reading, Watermarks};

/// What the sync service can differ in from nodes: it has no mirrors.
pub(crate) const DIFFERENCES: [&str; 3] = ["protocol", "replicas", "groups"];

/// What all workers share.
pub(super) struct Nodes {
    pub(super) appliers: Arc<dyn Appliers>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) limits: Limits,
    pub(super) metrics: DeliverMetrics,
    pub(super) tasks: TaskTracker,
    /// Guards the map alone.
    pub(super) workers: Mutex<BTreeMap<NodeId, Arc<Worker>>>,
    /// The greatest epoch that each life of a node has confirmed. Guards the map alone.
    pub(super) confirmed: Mutex<BTreeMap<NodeId, (u64, Epoch)>>,
    /// The last reading of each node's clock. Guards the map alone.
    pub(super) clocks: Mutex<BTreeMap<NodeId, Reading>>,
    pub(super) watermarks: Arc<Watermarks>,
    pub(super) standstill: Standstill,
    pub(super) warnings: Warnings,
}

impl Nodes {
    /// The worker of this life of a node; `None` if it is over.
    pub(super) fn worker(
        self: &Arc<Self>,
        member: &Member,
        membership: &dyn Membership,
    ) -> Option<Arc<Worker>> {
        let mut workers = self.workers.lock();
        if let Some(worker) = workers.get(&member.id) {
            if worker.member() == member {
                return Some(worker.clone());
            }
            if worker.member().incarnation > member.incarnation {
                return None;
            }
        }
        // Looked up under the lock: the watcher, which takes it too, closes what leaves after this.
        let ring = membership.ring();
        if ring.epoch() > Epoch(0)
            && ring.member(&member.id).is_none_or(|live| live.incarnation != member.incarnation)
        {
            return None;
        }
        let worker = Worker::start(member.clone(), self);
        if let Some(old) = workers.insert(member.id.clone(), worker.clone()) {
            old.close();
        }
        Some(worker)
    }

    pub(super) fn retain(&self, ring: &Ring) {
        // The ring before anything is known says nothing about anybody.
        if ring.epoch() == Epoch(0) && ring.members().is_empty() {
            return;
        }
        let live = |worker: &Worker| {
            ring.member(&worker.member().id)
                .is_some_and(|member| member.incarnation <= worker.member().incarnation)
        };
        self.workers.lock().retain(|id, worker| {
            let keep = live(worker);
            if !keep {
                info!(node = %id, "node has left: nothing waits for it any more");
                worker.close();
            }
            keep
        });
        self.confirmed.lock().retain(|id, _| ring.member(id).is_some());
        self.clocks.lock().retain(|id, _| ring.member(id).is_some());
        self.standstill.retain(ring);
        self.appliers.retain(ring);
    }

    /// Compares what the members of a new ring go by with what this service was told.
    pub(super) fn compare(&self, ring: &Ring) {
        let digests = self.catalog.groups().iter().map(|group| (group.name.to_string(), group.digest));
        let own = Terms {
            replicas: ring.configured_replicas(),
            groups: Arc::new(digests.collect()),
            ..Terms::default()
        };
        let found = terms::differences(ring, &own);
        for what in DIFFERENCES {
            let text = found.iter().find(|difference| difference.what == what);
            self.metrics.differences.get_or_create(&DifferenceLabel { what }).set(i64::from(text.is_some()));
            self.warnings.set(what, text.map(|difference| difference.text.clone()));
        }
    }

    /// Who is slow now, for `/readyz`.
    pub(super) fn show_slow(&self) {
        let workers = self.workers.lock();
        let slow: Vec<_> =
            workers.iter().filter(|(_, worker)| worker.is_slow()).map(|(id, _)| id.as_str()).collect();
        let text = slow.first().map(|first| match slow.len() - 1 {
            0 => format!("node {first} does not acknowledge: commits wait for it"),
            more => format!("node {first} and {more} more do not acknowledge: commits wait for them"),
        });
        drop(workers);
        self.warnings.set("nodes", text);
    }

    pub(super) fn close_all(&self) {
        for worker in std::mem::take(&mut *self.workers.lock()).into_values() {
            worker.close();
        }
    }

    /// Learns from an answer which epoch a node has confirmed, and what its clock shows.
    pub(super) fn note(&self, node: &NodeId, incarnation: u64, epoch: Epoch, clock: Option<Clock>) {
        if let Some(clock) = clock {
            self.clocks.lock().insert(node.clone(), Reading { clock, at: Instant::now() });
        }
        let mut confirmed = self.confirmed.lock();
        let known = confirmed.entry(node.clone()).or_insert((incarnation, epoch));
        if (incarnation, epoch) > *known {
            *known = (incarnation, epoch);
        }
    }

    /// The last reading of a node's clock. Not the best one: a clock that was set back by a freeze shows in the next.
    pub(super) fn reading(&self, node: &NodeId) -> Option<Reading> {
        self.clocks.lock().get(node).copied()
    }
}
