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

mod heartbeats;
mod payload;
mod plan;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use catalog::Catalog;
use client::{Ack, Apply, Clock, Heartbeat, HeartbeatReply};
use futures_util::future::{self, BoxFuture, FutureExt as _, Shared};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use ring::{Epoch, Member, Membership, NodeId, Ring};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::metrics::DeliverMetrics;
use crate::watermarks::{Reading, Watermarks};

use self::heartbeats::Hearts;
use self::payload::{Content, Payload};
use self::plan::{Path, Planner};
use self::worker::{Outcome, Worker};

/// Where removals are applied: the cache nodes.
///
/// `Ok` is the node's acknowledgement that all of the request holds there. Failures are repeated by the caller; a request
/// may be applied twice.
#[async_trait]
pub trait Appliers: Send + Sync + 'static {
    /// Has one node apply removals and flushes.
    async fn apply(&self, to: &Member, apply: Apply, timeout: Duration) -> Result<Ack, client::Error>;

    /// Tells one node how far the change stream is applied there, and asks what it has confirmed.
    async fn heartbeat(
        &self,
        to: &Member,
        heartbeat: Heartbeat,
        timeout: Duration,
    ) -> Result<HeartbeatReply, client::Error>;

    /// Forgets nodes that are gone.
    fn retain(&self, _ring: &Ring) {}
}

#[async_trait]
impl Appliers for client::Peers {
    async fn apply(&self, to: &Member, apply: Apply, timeout: Duration) -> Result<Ack, client::Error> {
        Self::apply(self, to, apply, timeout).await
    }

    async fn heartbeat(
        &self,
        to: &Member,
        heartbeat: Heartbeat,
        timeout: Duration,
    ) -> Result<HeartbeatReply, client::Error> {
        Self::heartbeat(self, to, heartbeat, timeout).await
    }

    fn retain(&self, ring: &Ring) {
        Self::retain(self, ring);
    }
}

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

type Proof = Shared<BoxFuture<'static, Arc<Ring>>>;

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

/// What all workers share.
struct Nodes {
    appliers: Arc<dyn Appliers>,
    catalog: Arc<Catalog>,
    limits: Limits,
    metrics: DeliverMetrics,
    tasks: TaskTracker,
    /// Guards the map alone.
    workers: Mutex<BTreeMap<NodeId, Arc<Worker>>>,
    /// The greatest epoch that each life of a node has confirmed. Guards the map alone.
    confirmed: Mutex<BTreeMap<NodeId, (u64, Epoch)>>,
    /// The last reading of each node's clock. Guards the map alone.
    clocks: Mutex<BTreeMap<NodeId, Reading>>,
    watermarks: Arc<Watermarks>,
}

/// How the phases of a path ended.
enum Ran {
    Acknowledged,
    /// Someone has left, come back, or acknowledged at another epoch: plan again, at this epoch or a later one.
    Outdated(Epoch),
}

enum Attempt {
    Acknowledged,
    Again(Arc<Payload>, Arc<Ring>),
}

impl Deliverer {
    /// Starts to watch the membership on `tasks`, until `stop`.
    pub(crate) fn start(
        membership: Arc<dyn Membership>,
        appliers: Arc<dyn Appliers>,
        catalog: Arc<Catalog>,
        limits: Limits,
        metrics: DeliverMetrics,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
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
        for path in self.plan(&view, removals.keys, removals.tags, removals.groups) {
            open.push(self.attempt(path, view.clone(), proof.clone(), &origin, place));
        }
        while let Some(attempt) = open.next().await {
            let Attempt::Again(payload, ring) = attempt else { continue };
            self.shared.metrics.replans.inc();
            let Content { keys, tags, groups } = payload.content();
            let proof: Proof = future::ready(ring.clone()).boxed().shared();
            for path in self.plan(&ring, keys.to_vec(), tags.to_vec(), groups.into_iter().collect()) {
                open.push(self.attempt(path, ring.clone(), proof.clone(), &origin, place));
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
    ) -> Attempt {
        let run = self.run(&path, &ring, origin, place);
        tokio::pin!(run);
        // Dropping `run` when the proof names another ring leaves its sends queued; they do no harm.
        let ran = tokio::select! {
            biased;
            proven = proof.clone() => {
                if proven.epoch() != ring.epoch() {
                    return Attempt::Again(path.payload.clone(), proven);
                }
                run.await
            }
            ran = &mut run => {
                let proven = if let Some(proven) = proof.clone().now_or_never() { proven } else {
                    place.give_back();
                    proof.await
                };
                if proven.epoch() != ring.epoch() {
                    return Attempt::Again(path.payload.clone(), proven);
                }
                ran
            }
        };
        match ran {
            Ran::Acknowledged => Attempt::Acknowledged,
            Ran::Outdated(epoch) => Attempt::Again(path.payload.clone(), self.at_least(epoch).await),
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
                    Outcome::Acknowledged { epoch, .. } => Some(epoch),
                    Outcome::Gone => Some(ring.epoch()),
                }
            });
            if let Some(epoch) = future::join_all(sends).await.into_iter().flatten().max() {
                return Ran::Outdated(epoch);
            }
        }
        Ran::Acknowledged
    }

    /// The membership as it is now, by `epoch` or a later one. A read alone would not do: it raises no epoch while the list is
    /// the same, and a node that knows that list by a newer epoch would make every plan look old, for ever.
    async fn at_least(&self, epoch: Epoch) -> Arc<Ring> {
        loop {
            let ring = self.proof().await;
            if ring.epoch() >= epoch {
                return ring;
            }
            match self.membership.catch_up(epoch).await {
                Ok(ring) => return ring,
                Err(error) => {
                    self.shared.metrics.membership_failures.inc();
                    debug!(%error, %epoch, "can't catch up with the membership, trying again");
                    tokio::time::sleep(worker::jittered(Duration::from_millis(50))).await;
                }
            }
        }
    }

    async fn send(
        &self,
        to: &Member,
        payload: &Arc<Payload>,
        epoch: Epoch,
        origin: &Arc<str>,
        place: &Place,
    ) -> Outcome {
        let worker = self.worker(to);
        let Some(worker) = worker else { return Outcome::Gone };
        let mut answer = worker.push(payload.clone(), epoch, origin.clone(), place).await;
        tokio::select! {
            outcome = &mut answer => return outcome.unwrap_or(Outcome::Gone),
            () = worker.slowed() => place.give_back(),
        }
        answer.await.unwrap_or(Outcome::Gone)
    }

    /// The worker of this life of a node; `None` if it is over.
    fn worker(&self, member: &Member) -> Option<Arc<Worker>> {
        let mut workers = self.shared.workers.lock();
        if let Some(worker) = workers.get(&member.id) {
            if worker.member() == member {
                return Some(worker.clone());
            }
            if worker.member().incarnation > member.incarnation {
                return None;
            }
        }
        // Looked up under the lock: the watcher, which takes it too, closes what leaves after this.
        let ring = self.membership.ring();
        if ring.epoch() > Epoch(0)
            && ring.member(&member.id).is_none_or(|live| live.incarnation != member.incarnation)
        {
            return None;
        }
        let worker = Worker::start(member.clone(), &self.shared);
        if let Some(old) = workers.insert(member.id.clone(), worker.clone()) {
            old.close();
        }
        Some(worker)
    }

    /// A linearizable read of the membership that begins when it is first polled, repeated until it succeeds.
    fn proof(&self) -> Proof {
        let membership = self.membership.clone();
        let metrics = self.shared.metrics.clone();
        let read = async move {
            let mut wait = Duration::from_millis(50);
            let mut failed = false;
            loop {
                match membership.read().await {
                    Ok(ring) => {
                        if failed {
                            metrics.membership_down.set(0);
                        }
                        return ring;
                    }
                    Err(error) => {
                        failed = true;
                        metrics.membership_failures.inc();
                        if metrics.membership_down.set(1) == 0 {
                            warn!(%error, "membership can't be read: removals go to the nodes known, commits wait");
                        } else {
                            debug!(%error, "membership still can't be read");
                        }
                        tokio::time::sleep(worker::jittered(wait)).await;
                        wait = (wait * 2).min(Duration::from_secs(2));
                    }
                }
            }
        };
        read.boxed().shared()
    }

    /// Ends the workers of nodes that have left. Never returns while the membership lives.
    async fn watch(&self) {
        let mut rings = self.membership.watch();
        loop {
            let ring = rings.borrow_and_update().clone();
            self.shared.retain(&ring);
            self.shared.metrics.epoch.set(i64::try_from(ring.epoch().0).unwrap_or(i64::MAX));
            if rings.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Nodes {
    fn retain(&self, ring: &Ring) {
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
        self.appliers.retain(ring);
    }

    fn close_all(&self) {
        for worker in std::mem::take(&mut *self.workers.lock()).into_values() {
            worker.close();
        }
    }

    /// Learns from an answer which epoch a node has confirmed, and what its clock shows.
    fn note(&self, node: &NodeId, incarnation: u64, epoch: Epoch, clock: Option<Clock>) {
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
    fn reading(&self, node: &NodeId) -> Option<Reading> {
        self.clocks.lock().get(node).copied()
    }
}

#[cfg(test)]
mod tests;
