//! Deliver: every removal to everybody who may hold the key, acknowledged in the order in which values travel.
//!
//! Sending is optimistic: a batch goes out at once under the ring as known now, while the membership is read
//! linearizably. Only if that read proves that the ring was current do the acknowledgements count; else the batch is
//! planned again under the newer ring. An acknowledgement at a newer epoch, or a target that has left, does the same.
//! A tag has no owner: what carries it may be of any slot, as in a flush of groups. So its removal goes the way of a flush
//! ([`Plan::flush_phases`](ring::plan::Plan::flush_phases)): to all live nodes, while any has not confirmed the epoch; then to all
//! owners; then, where slots have replicas, to these. All at once would not do: *the owner applies the removal of a tag; it pulls an
//! entry that carries it, whose tags it learns by that, from a departing holder that has not applied it yet, under a token that
//! is newer than the removal.* A node that pulls after its own phase finds only sources that have applied it, and gave up what
//! carries the tag.
//!
//! With etcd down removals still go to the known nodes at once; only their acknowledgement waits.

mod appliers;
mod heartbeats;
mod nodes;
mod payload;
mod plan;
mod proof;
mod standstill;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use catalog::Catalog;
use daemon::admin::Warnings;
use futures_util::future::{self, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use ring::{Epoch, Member, Membership, NodeId, Ring};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::DeliverMetrics;
use crate::watermarks::Watermarks;

pub use self::appliers::Appliers;
use self::heartbeats::Hearts;
pub(crate) use self::nodes::DIFFERENCES;
use self::nodes::Nodes;
use self::payload::{Content, Payload};
use self::plan::{Path, Planner};
use self::proof::Proof;
pub(crate) use self::standstill::Standstill;
use self::worker::Outcome;

/// Bounds of what goes to one node.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most keys of one request.
    pub request_keys: usize,
    /// Most bytes of keys of one request.
    pub request_bytes: usize,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Most keys that wait for one node.
    pub backlog_keys: usize,
    /// After how long without an answer a node is slow.
    pub slow_after: Duration,
    /// How long keys wait to be packed together while another request is under way.
    pub linger: Duration,
    /// How often a node is told how far it is.
    pub heartbeat: Duration,
}

/// Where a person sees what becomes of deliveries.
pub(crate) struct Shown {
    pub(crate) metrics: DeliverMetrics,
    /// What should be known of the nodes.
    pub(crate) warnings: Warnings,
}

/// A place in the pipeline that is given back as soon as only slow nodes, or etcd, keep a batch from being done.
pub(crate) struct Place(Mutex<Option<OwnedSemaphorePermit>>);

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Mutex::new(Some(permit)))
    }

    fn give_back(&self) {
        self.0.lock().take();
    }
}

/// What is delivered together: the removals and flushes of one batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removals {
    pub(crate) keys: Vec<Arc<str>>,
    pub(crate) tags: Vec<Arc<str>>,
    pub(crate) groups: Vec<Arc<str>>,
    /// Where the newest change came from.
    pub(crate) origin: Arc<str>,
}

/// Sends removals to nodes and waits for those who must acknowledge.
pub(crate) struct Deliverer {
    membership: Arc<dyn Membership>,
    shared: Arc<Nodes>,
    planner: Planner,
}

/// How the phases of a path ended.
enum Ran {
    Acknowledged,
    /// Someone has left, come back, or acknowledged at another epoch: plan again, at this epoch or a later one.
    Outdated(Epoch, String),
}

enum Attempt {
    Acknowledged,
    /// To be planned by this ring, for the `round`th time, for this reason.
    Again {
        payload: Arc<Payload>,
        ring: Arc<Ring>,
        round: u32,
        reason: String,
    },
}

/// Which try of a path it is.
#[derive(Clone, Copy, Default)]
struct Try {
    /// How often it was planned before.
    round: u32,
    /// How long to wait before it is sent.
    pause: Duration,
}

impl Deliverer {
    /// Starts to watch the membership on `tasks`, until `stop`.
    pub(crate) fn start(
        membership: Arc<dyn Membership>,
        appliers: Arc<dyn Appliers>,
        catalog: Arc<Catalog>,
        limits: Limits,
        Shown { metrics, warnings }: Shown,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let standstill = Standstill::new(metrics.clone());
        let shared = Arc::new(Nodes {
            appliers,
            catalog,
            limits,
            metrics,
            tasks: tasks.clone(),
            workers: Mutex::default(),
            confirmed: Mutex::default(),
            clocks: Mutex::default(),
            watermarks: Arc::default(),
            standstill,
            warnings,
        });
        let deliverer = Arc::new(Self { membership, shared, planner: Planner::default() });
        let watcher = deliverer.clone();
        tasks.spawn(async move {
            let hearts = Hearts::default().follow(watcher.shared.clone(), watcher.membership.clone());
            // Dropping them on stop loses nothing: workers and heartbeats end with it.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = watcher.watch() => {}
                () = hearts => {}
            }
            watcher.shared.close_all();
        });
        deliverer
    }

    /// What the nodes are told of how far they are.
    pub(crate) fn watermarks(&self) -> &Arc<Watermarks> {
        &self.shared.watermarks
    }

    /// What gets nowhere.
    pub(crate) fn standstill(&self) -> &Standstill {
        &self.shared.standstill
    }

    /// Shows who is slow.
    pub(crate) fn show(&self) {
        self.shared.show_slow();
    }

    /// Delivers, and returns when everybody who may hold any of it has acknowledged. Dropping the future leaves it undecided
    /// whether it was applied.
    pub(crate) async fn deliver(&self, removals: Removals, place: &Place) {
        if removals.keys.is_empty() && removals.tags.is_empty() && removals.groups.is_empty() {
            return;
        }
        // Taken before the read begins, which is at the first poll: the read can't be older than this view.
        let view = self.membership.ring();
        let proof = self.proof();
        let origin = removals.origin;
        let mut open = FuturesUnordered::new();
        let mut batch = self.shared.standstill.batch();
        for path in self.plan(&view, removals.keys, removals.tags, removals.groups) {
            open.push(self.attempt(path, view.clone(), proof.clone(), &origin, place, Try::default()));
        }
        while let Some(attempt) = open.next().await {
            let Attempt::Again { payload, ring, round, reason } = attempt else { continue };
            self.shared.metrics.replans.inc();
            let next = Try { round, pause: batch.again(round, &reason) };
            let Content { keys, tags, groups } = payload.content();
            let proof: Proof = future::ready(ring.clone()).boxed().shared();
            for path in self.plan(&ring, keys.to_vec(), tags.to_vec(), groups.into_iter().collect()) {
                open.push(self.attempt(path, ring.clone(), proof.clone(), &origin, place, next));
            }
        }
    }

    fn plan(
        &self,
        ring: &Arc<Ring>,
        keys: Vec<Arc<str>>,
        tags: Vec<Arc<str>>,
        groups: Vec<Arc<str>>,
    ) -> Vec<Path> {
        let confirmed = self.shared.confirmed.lock().clone();
        let confirmed = |id: &NodeId| {
            let (incarnation, epoch) = confirmed.get(id)?;
            (ring.member(id)?.incarnation == *incarnation).then_some(*epoch)
        };
        self.planner.paths(ring, &confirmed, keys, tags, groups)
    }

    /// Sends one path's payload, and checks that the ring it went out under is the proven one.
    async fn attempt(
        &self,
        path: Path,
        ring: Arc<Ring>,
        proof: Proof,
        origin: &Arc<str>,
        place: &Place,
        this: Try,
    ) -> Attempt {
        if !this.pause.is_zero() {
            place.give_back();
            tokio::time::sleep(this.pause).await;
        }
        let again = |ring: Arc<Ring>, reason: String| Attempt::Again {
            payload: path.payload.clone(),
            ring,
            round: this.round.saturating_add(1),
            reason,
        };
        let newer = |proven: &Ring| {
            format!("the membership is at epoch {}, it was planned at {}", proven.epoch(), ring.epoch())
        };
        let run = self.run(&path, &ring, origin, place);
        tokio::pin!(run);
        // Dropping `run` when the proof names another ring leaves its sends queued; they do no harm.
        let ran = tokio::select! {
            biased;
            proven = proof.clone() => {
                if proven.epoch() != ring.epoch() {
                    let reason = newer(&proven);
                    return again(proven, reason);
                }
                run.await
            }
            ran = &mut run => {
                let proven = if let Some(proven) = proof.clone().now_or_never() { proven } else {
                    place.give_back();
                    proof.await
                };
                if proven.epoch() != ring.epoch() {
                    let reason = newer(&proven);
                    return again(proven, reason);
                }
                ran
            }
        };
        match ran {
            Ran::Acknowledged => Attempt::Acknowledged,
            Ran::Outdated(epoch, reason) => again(self.at_least(epoch).await, reason),
        }
    }

    /// Goes through a path's phases.
    async fn run(&self, path: &Path, ring: &Arc<Ring>, origin: &Arc<str>, place: &Place) -> Ran {
        for phase in path.route.iter() {
            let sends = phase.iter().filter_map(|id| ring.member(id)).map(|member| async move {
                let outcome = self.send(member, &path.payload, ring.epoch(), origin, place).await;
                match outcome {
                    Outcome::Acknowledged { incarnation, epoch }
                        if incarnation == member.incarnation && epoch == ring.epoch() =>
                    {
                        None
                    }
                    Outcome::Acknowledged { incarnation, epoch } => Some((
                        epoch,
                        format!(
                            "node {} acknowledged in incarnation {incarnation} at epoch {epoch}, it was planned for {} at {}",
                            member.id, member.incarnation, ring.epoch()
                        ),
                    )),
                    Outcome::Gone => Some((ring.epoch(), format!("node {} has left", member.id))),
                }
            });
            let missing = future::join_all(sends).await.into_iter().flatten();
            if let Some((epoch, reason)) = missing.max_by_key(|(epoch, _)| *epoch) {
                return Ran::Outdated(epoch, reason);
            }
        }
        Ran::Acknowledged
    }

    async fn send(
        &self,
        to: &Member,
        payload: &Arc<Payload>,
        epoch: Epoch,
        origin: &Arc<str>,
        place: &Place,
    ) -> Outcome {
        let worker = self.shared.worker(to, &*self.membership);
        let Some(worker) = worker else { return Outcome::Gone };
        let mut answer = worker.push(payload.clone(), epoch, origin.clone(), place).await;
        tokio::select! {
            outcome = &mut answer => return outcome.unwrap_or(Outcome::Gone),
            () = worker.slowed() => place.give_back(),
        }
        answer.await.unwrap_or(Outcome::Gone)
    }

    /// Ends the workers of nodes that have left. Never returns while the membership lives.
    async fn watch(&self) {
        let mut rings = self.membership.watch();
        loop {
            let ring = rings.borrow_and_update().clone();
            self.shared.retain(&ring);
            self.shared.compare(&ring);
            self.shared.metrics.epoch.set(i64::try_from(ring.epoch().0).unwrap_or(i64::MAX));
            if rings.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
