//! Copies: what an owner stores reaches its replicas, so that these are warm when it is gone (R10).
//!
//! An owner *announces* the keys that it has stored, and each replica pulls those that it lacks, under tokens from before the asking, as it does
//! for readers. An announcement carries no value and promises nothing, so it may be late, lost or made up: what is kept is decided by the
//! replica's gate alone. Both sides are queues with a bound (`node.copy_queue`); what they have no room for is copied when it is first read.

mod metrics;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use catalog::Key;
use futures_util::future;
use parking_lot::Mutex;
use ring::{Epoch, Member, NodeId, Ring, slot_of, terms::PROTOCOL};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, sleep},
};
use wire::{Announcement, Pull, Wanted};

pub(crate) use self::metrics::CopyMetrics;
use memory::{
    gate::{Room, Token},
    place::Place,
    protocol::PullRefused,
};

use crate::{
    error::Error,
    node::{Node, place},
    warm::Warm,
};

/// Keys that are announced or pulled at once.
pub(crate) const BATCH: usize = 256;
/// How long keys are gathered before they are announced.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes of a reply.
const PAGE: u64 = 1 << 20;

/// What an owner has to announce, and a replica to pull.
#[derive(Debug)]
pub(crate) struct Copies {
    /// Whether slots have replicas by the ring of now.
    replicated: AtomicBool,
    stored: Queue<Arc<str>>,
    wanted: Queue<String>,
    pub(crate) metrics: CopyMetrics,
}

/// A bounded queue with one reader.
#[derive(Debug)]
struct Queue<T> {
    sender: Sender<T>,
    /// Taken by the task that reads.
    receiver: Mutex<Option<Receiver<T>>>,
}

impl<T> Queue<T> {
    fn new(bound: usize) -> Self {
        let (sender, receiver) = channel(bound.max(1));
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Copies {
    /// With so many keys in each queue; 0 copies nothing before it is read.
    pub(crate) fn new(bound: usize, metrics: CopyMetrics) -> Arc<Self> {
        let replicated = AtomicBool::new(false);
        Arc::new(Self { replicated, stored: Queue::new(bound), wanted: Queue::new(bound), metrics })
    }

    /// Goes by a new ring.
    pub(crate) fn take(&self, ring: &Ring, bound: usize) {
        self.replicated.store(bound > 0 && ring.replicas() > 1, Release);
    }

    /// A value was stored by its owner.
    pub(crate) fn stored(&self, key: &Arc<str>) {
        if self.replicated.load(Acquire) && self.stored.sender.try_send(key.clone()).is_err() {
            self.metrics.not_announced.inc();
        }
    }
}

impl Node {
    /// Tells replicas of what was stored. A task of its own; ends with the node.
    pub(crate) async fn announce_copies(self: Arc<Self>) {
        let Some(mut stored) = self.copies.stored.receiver.lock().take() else { return };
        let mut keys = Vec::with_capacity(BATCH);
        let announce = async {
            loop {
                if stored.recv_many(&mut keys, BATCH).await == 0 {
                    return;
                }
                sleep(GATHER).await;
                while keys.len() < BATCH
                    && let Ok(key) = stored.try_recv()
                {
                    keys.push(key);
                }
                self.announce(std::mem::take(&mut keys)).await;
            }
        };
        self.stop.run_until_cancelled(announce).await;
    }

    async fn announce(&self, keys: Vec<Arc<str>>) {
        let ring = self.current_ring();
        let mut told: BTreeMap<&NodeId, (&Member, Vec<String>)> = BTreeMap::new();
        for key in keys {
            let mut holders = ring.holders(slot_of(&key));
            if holders.next().is_none_or(|owner| owner.id != self.id) {
                continue; // lost since
            }
            for replica in holders {
                told.entry(&replica.id).or_insert_with(|| (replica, Vec::new())).1.push(key.to_string());
            }
        }
        let deadline = self.peers.config().deadline;
        let calls = told.into_values().map(|(replica, keys)| async move {
            let count = keys.len() as u64;
            let announcement = Announcement { node: self.id.clone(), keys, protocol: PROTOCOL };
            match self.peers.announce(replica, announcement, deadline).await {
                Ok(()) => self.copies.metrics.announced.inc_by(count),
                Err(error) => {
                    tracing::debug!(node = %self.id, replica = %replica.id, %error, "not told what was stored");
                    self.copies.metrics.not_announced.inc_by(count)
                }
            }
        });
        future::join_all(calls).await;
    }

    /// Notes what another node says that it has stored; what this node lacks of it is pulled in the background.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyKeys`]; [`Error::Pull`] if the other speaks another protocol.
    pub fn announced(&self, announcement: Announcement) -> Result<(), Error> {
        // What nodes ask of each other is not bounded by what this one grants its clients.
        if announcement.keys.len() > BATCH {
            return Err(Error::TooManyKeys { count: announcement.keys.len(), limit: BATCH });
        }
        if announcement.protocol != PROTOCOL {
            return Err(PullRefused::OtherProtocol { asked: announcement.protocol }.into());
        }
        if !self.copies.replicated.load(Acquire) {
            return Ok(());
        }
        for key in announcement.keys {
            if key.len() as u64 > self.config.max_key.0 || self.copies.wanted.sender.try_send(key).is_err() {
                self.copies.metrics.not_wanted.inc();
            }
        }
        Ok(())
    }

    /// Pulls what was announced. A task of its own; ends with the node.
    pub(crate) async fn take_copies(self: Arc<Self>) {
        let Some(mut wanted) = self.copies.wanted.receiver.lock().take() else { return };
        let mut keys = Vec::with_capacity(BATCH);
        let take = async {
            while wanted.recv_many(&mut keys, BATCH).await > 0 {
                self.copy_keys(std::mem::take(&mut keys)).await;
            }
        };
        self.stop.run_until_cancelled(take).await;
    }

    async fn copy_keys(&self, keys: Vec<String>) {
        let ring = self.current_ring();
        let mut by_owner: BTreeMap<&NodeId, (&Member, Vec<Key>)> = BTreeMap::new();
        for key in keys.into_iter().collect::<HashSet<_>>() {
            let Ok(key) = self.catalog.resolve(&key) else { continue };
            let Some(owner) = ring.owner(slot_of(&key.text)).filter(|owner| owner.id != self.id) else {
                continue;
            };
            by_owner.entry(&owner.id).or_insert_with(|| (owner, Vec::new())).1.push(key);
        }
        let epoch = ring.epoch();
        future::join_all(by_owner.into_values().map(|(owner, keys)| self.copy_from(owner, epoch, keys)))
            .await;
    }

    /// Pulls keys from their owner, in as many replies as their bytes take.
    async fn copy_from(&self, owner: &Member, epoch: Epoch, keys: Vec<Key>) {
        let mut keys: HashMap<String, Key> =
            keys.into_iter().map(|key| (key.text.to_string(), key)).collect();
        loop {
            // Before the asking: a removal that comes in between refuses what comes back.
            let now = Instant::now();
            let tokens: HashMap<String, (Place, Token)> = keys
                .iter()
                .filter_map(|(text, key)| {
                    let place = place(key);
                    let lacks = self.gate.peek(place, text, now).is_none();
                    let (token, _) = self.gate.token(place).filter(|_| lacks)?;
                    Some((text.clone(), (place, token)))
                })
                .collect();
            if tokens.is_empty() {
                return;
            }
            let wanted = Wanted::Keys(tokens.keys().cloned().collect());
            let pull = Pull { node: self.id.clone(), epoch, wanted, max_bytes: PAGE, protocol: PROTOCOL };
            let pulled = match self.peers.pull(owner, pull, self.peers.config().deadline).await {
                Ok(pulled) if pulled.epoch >= epoch => pulled,
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(node = %self.id, owner = %owner.id, %error, "copies not pulled");
                    self.metrics.pulls.copies_failed.inc();
                    return;
                }
            };
            if pulled.entries.is_empty() {
                return; // the rest is gone again
            }
            self.metrics.pulls.copies.inc();
            let wanted = keys.len();
            for held in pulled.entries {
                let Some(key) = keys.remove(&held.key) else { continue };
                let Some((place, token)) = tokens.get(&held.key) else { continue };
                let offered = Warm::offered(&key, held, now, Warm::is_alike(&key, &pulled.groups));
                // What came of it is counted where all pulls are.
                let _ = self.warm.store(token, *place, offered, epoch, Room::Make, &owner.id);
            }
            if keys.len() == wanted {
                return; // what came is not what was asked for
            }
            keys.retain(|text, _| tokens.contains_key(text));
        }
    }
}
