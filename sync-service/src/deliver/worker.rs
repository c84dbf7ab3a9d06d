//! One node's queue: packs removals into requests and repeats them until the node acknowledges or has left.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use rand::Rng as _;
use ring::{Epoch, Member};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use wire::Apply;

use super::payload::{Content, Payload};
use super::{Nodes, Place};
use crate::metrics::NodeLabel;

/// Requests to one node that are under way at once.
const PIPELINE: usize = 4;
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LAST_BACKOFF: Duration = Duration::from_secs(2);

/// How a send ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// Applied.
    Acknowledged {
        /// By which life of the node.
        incarnation: u64,
        /// At which epoch.
        epoch: Epoch,
    },
    /// The node has left the membership.
    Gone,
}

/// The queue of one life of a node, and the task that empties it.
pub(super) struct Worker {
    member: Member,
    nodes: Arc<Nodes>,
    /// Guards the waiting sends.
    queue: Mutex<Queue>,
    arrived: Notify,
    room: Notify,
    slow: watch::Sender<bool>,
    /// Version of the watermarks that the node has acknowledged.
    told: AtomicU64,
    closed: CancellationToken,
}

#[derive(Default)]
struct Queue {
    sends: VecDeque<Send>,
    keys: usize,
    /// Requests under way that are not acknowledged yet; their keys can be collapsed too.
    under_way: Vec<Arc<Payload>>,
}

struct Send {
    payload: Arc<Payload>,
    epoch: Epoch,
    origin: Arc<str>,
    done: oneshot::Sender<Outcome>,
}

impl Worker {
    pub(super) fn start(member: Member, nodes: &Arc<Nodes>) -> Arc<Self> {
        let worker = Arc::new(Self {
            member,
            nodes: nodes.clone(),
            queue: Mutex::default(),
            arrived: Notify::new(),
            room: Notify::new(),
            slow: watch::Sender::new(false),
            told: AtomicU64::new(0),
            closed: CancellationToken::new(),
        });
        drop(nodes.metrics.slow.get_or_create(&NodeLabel::new(worker.member.id.as_str())));
        let task = worker.clone();
        nodes.tasks.spawn(async move {
            // Dropping the loop drops every waiting sender, which tells `Gone`.
            tokio::select! {
                () = task.closed.cancelled() => {}
                () = task.serve() => {}
            }
            task.queue.lock().sends.clear();
            task.room.notify_waiters();
            let label = NodeLabel::new(task.member.id.as_str());
            task.nodes.metrics.backlog.remove(&label);
            task.nodes.metrics.slow.remove(&label);
        });
        worker
    }

    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn is_slow(&self) -> bool {
        *self.slow.borrow()
    }

    /// Ends when the node is slow.
    pub(super) async fn slowed(&self) {
        // The sender lives as long as `self`.
        let _ = self.slow.subscribe().wait_for(|slow| *slow).await;
    }

    /// Queues a send. Waits for room in the queue of a node that keeps up; for a slow one it never waits, but lets keys
    /// collapse into flushes of their groups. Cancel safe: what was not queued is not sent.
    pub(super) async fn push(
        &self,
        payload: Arc<Payload>,
        epoch: Epoch,
        origin: Arc<str>,
        place: &Place,
    ) -> oneshot::Receiver<Outcome> {
        let (done, answer) = oneshot::channel();
        let keys = payload.keys();
        loop {
            let room = self.room.notified();
            {
                let mut queue = self.queue.lock();
                if self.closed.is_cancelled() {
                    return answer; // the sender is dropped: gone
                }
                let full = queue.keys > 0 && queue.keys + keys > self.nodes.limits.backlog_keys;
                if !full || self.is_slow() {
                    queue.keys += keys;
                    queue.sends.push_back(Send { payload, epoch, origin, done });
                    if full {
                        self.collapse(&mut queue);
                    }
                    self.show(&queue);
                    break;
                }
            }
            tokio::select! {
                () = room => {}
                () = self.slowed() => place.give_back(),
                () = self.closed.cancelled() => {}
            }
        }
        self.arrived.notify_one();
        answer
    }

    fn collapse(&self, queue: &mut Queue) {
        let waiting = queue.sends.iter().map(|send| &send.payload);
        let payloads: Vec<_> = waiting.chain(&queue.under_way).cloned().collect();
        for payload in payloads {
            let flushed = payload.collapse(&self.nodes.catalog);
            self.nodes.metrics.collapsed.inc_by(flushed as u64);
        }
        warn!(node = %self.member.id, keys = queue.keys, "backlog of a slow node is full: its keys become flushes of their groups");
        queue.keys = 0;
    }

    async fn serve(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            // Dropping either future loses nothing: sends stay queued, requests are polled again.
            tokio::select! {
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                () = self.arrived.notified(), if under_way.len() < PIPELINE => {
                    let few = self.queue.lock().keys < self.nodes.limits.request_keys;
                    if few && !under_way.is_empty() && !self.nodes.limits.linger.is_zero() {
                        tokio::select! {
                            () = tokio::time::sleep(self.nodes.limits.linger) => {}
                            Some(()) = under_way.next() => {}
                        }
                    }
                }
            }
            while under_way.len() < PIPELINE
                && let Some(pack) = self.pack()
            {
                under_way.push(self.request(pack));
            }
        }
    }

    /// Takes as many sends as fit into one request.
    fn pack(&self) -> Option<Vec<Send>> {
        let mut queue = self.queue.lock();
        let mut pack = Vec::new();
        let (mut keys, mut bytes) = (0, 0);
        while let Some(send) = queue.sends.front() {
            let content = send.payload.content();
            let more = content.len();
            let size: usize = content.keys.iter().chain(content.tags.iter()).map(|key| key.len() + 4).sum();
            let full = keys + more > self.nodes.limits.request_keys
                || bytes + size > self.nodes.limits.request_bytes;
            if !pack.is_empty() && full {
                break;
            }
            (keys, bytes) = (keys + more, bytes + size);
            queue.keys = queue.keys.saturating_sub(more);
            let send = queue.sends.pop_front().expect("the front was just seen");
            queue.under_way.push(send.payload.clone());
            pack.push(send);
        }
        if pack.is_empty() {
            return None;
        }
        self.show(&queue);
        drop(queue);
        self.room.notify_waiters();
        Some(pack)
    }

    /// Repeats one request until the node has acknowledged it.
    async fn request(&self, pack: Vec<Send>) {
        let (nodes, limits) = (&self.nodes, &self.nodes.limits);
        let epoch = pack.iter().map(|send| send.epoch).max().unwrap_or_default();
        let mut backoff = FIRST_BACKOFF;
        let ack = loop {
            let mut parts = self.parts(&pack, epoch);
            let version = self.tell(&mut parts);
            let mut last = None;
            let mut failure = None;
            for apply in parts {
                let (keys, flushes) = (apply.remove.len() + apply.remove_tags.len(), apply.flush.len());
                let answer = nodes.appliers.apply(&self.member, apply, limits.request_timeout);
                tokio::pin!(answer);
                let answered = tokio::select! {
                    answered = &mut answer => answered,
                    () = tokio::time::sleep(limits.slow_after) => {
                        self.set_slow(true, &"no answer yet");
                        // The node's own timeout is not relied on.
                        if let Ok(answered) = tokio::time::timeout(limits.request_timeout, answer).await {
                            answered
                        } else {
                            failure = Some(format!("no answer within {:?}", limits.request_timeout));
                            break;
                        }
                    }
                };
                match answered {
                    Ok(ack) if ack.epoch < epoch => {
                        failure =
                            Some(format!("node acknowledged at epoch {}, asked for {epoch}", ack.epoch));
                        break;
                    }
                    Ok(ack) => {
                        nodes.metrics.requests.inc();
                        nodes.metrics.request_keys.observe(keys as f64);
                        nodes.metrics.removes_sent.inc_by(keys as u64);
                        nodes.metrics.removes_hit.inc_by(ack.removed);
                        nodes.metrics.flushes_sent.inc_by(flushes as u64);
                        nodes.note(&ack.node, ack.incarnation, ack.confirmed_epoch, ack.clock);
                        last = Some(ack);
                    }
                    Err(error) => {
                        failure = Some(error.to_string());
                        break;
                    }
                }
            }
            match (failure, last) {
                (None, Some(ack)) => {
                    self.told.fetch_max(version, Relaxed);
                    break ack;
                }
                (failure, _) => {
                    let failure = failure.unwrap_or_default();
                    nodes.metrics.retries.inc();
                    self.set_slow(true, &failure);
                    debug!(node = %self.member.id, failure, "remove failed, trying again");
                    tokio::time::sleep(jittered(backoff)).await;
                    backoff = (backoff * 2).min(LAST_BACKOFF);
                }
            }
        };
        self.set_slow(false, &"");
        {
            let mut queue = self.queue.lock();
            for send in &pack {
                if let Some(at) =
                    queue.under_way.iter().position(|payload| Arc::ptr_eq(payload, &send.payload))
                {
                    queue.under_way.swap_remove(at);
                }
            }
        }
        for send in pack {
            // The batch may have been planned again meanwhile and not wait any more.
            let _ = send.done.send(Outcome::Acknowledged { incarnation: ack.incarnation, epoch: ack.epoch });
        }
    }

    /// The requests of a pack: one, but for a single payload that is larger than a request may be.
    fn parts(&self, pack: &[Send], epoch: Epoch) -> Vec<Apply> {
        let limits = &self.nodes.limits;
        let origin = pack.last().map_or_else(String::new, |send| send.origin.to_string());
        let mut flush = BTreeSet::new();
        let mut parts = Vec::new();
        let empty = || Apply { epoch, origin: origin.clone(), ..Apply::default() };
        let (mut part, mut bytes) = (empty(), 0);
        for send in pack {
            let Content { keys, tags, groups } = send.payload.content();
            flush.extend(groups);
            for (name, is_tag) in
                keys.iter().map(|key| (key, false)).chain(tags.iter().map(|tag| (tag, true)))
            {
                let count = part.remove.len() + part.remove_tags.len();
                if count >= limits.request_keys || (bytes + name.len() > limits.request_bytes && count > 0) {
                    parts.push(std::mem::replace(&mut part, empty()));
                    bytes = 0;
                }
                bytes += name.len() + 4;
                let names = if is_tag { &mut part.remove_tags } else { &mut part.remove };
                names.push(name.to_string());
            }
        }
        part.flush = flush.iter().map(ToString::to_string).collect();
        parts.push(part);
        parts
    }

    /// Has the last of the requests carry the watermarks, if the node has not acknowledged these yet; returns their version.
    fn tell(&self, parts: &mut [Apply]) -> u64 {
        let snapshot = self.nodes.watermarks.snapshot();
        if snapshot.version > self.told.load(Relaxed)
            && let Some(last) = parts.last_mut()
            && let Some(reading) = self.nodes.reading(&self.member.id)
        {
            last.watermarks = Some(snapshot.told(&reading));
            return snapshot.version;
        }
        0
    }

    fn set_slow(&self, slow: bool, why: &dyn std::fmt::Display) {
        let changed = self.slow.send_if_modified(|now| std::mem::replace(now, slow) != slow);
        if !changed {
            return;
        }
        self.nodes.metrics.slow.get_or_create(&NodeLabel::new(self.member.id.as_str())).set(i64::from(slow));
        if slow {
            warn!(node = %self.member.id, address = self.member.grpc, %why, "node is slow: commits wait for it, removes to others go on");
        } else {
            info!(node = %self.member.id, "node keeps up again");
        }
    }

    fn show(&self, queue: &Queue) {
        let keys = i64::try_from(queue.keys).unwrap_or(i64::MAX);
        self.nodes.metrics.backlog.get_or_create(&NodeLabel::new(self.member.id.as_str())).set(keys);
    }
}

/// Half to all of a wait, at random, so that many don't come back at once.
pub(super) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.5..=1.0))
}
