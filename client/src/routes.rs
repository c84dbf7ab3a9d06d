//! Where the client's ring comes from, and when it is asked for again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::seq::SliceRandom as _;
use ring::{Epoch, Membership, Ring};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};

use crate::{
    Error,
    link::Link,
    peers::{self, Peers},
};

/// Hints that come while the ring is asked for, or this soon after, share one asking.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one node may take to tell its ring.
const PATIENCE: Duration = Duration::from_millis(500);

/// The ring as known now.
pub(crate) struct Routes {
    rings: watch::Receiver<Arc<Ring>>,
    /// Absent with a membership, which refreshes itself.
    seeds: Option<Arc<Seeds>>,
    task: JoinHandle<()>,
}

/// Asks nodes for the ring.
struct Seeds {
    peers: Arc<Peers>,
    addresses: Vec<String>,
    ring: watch::Sender<Arc<Ring>>,
    /// The newest epoch heard of.
    heard: AtomicU64,
    wake: Notify,
}

impl Routes {
    /// Follows a membership; connections of members that leave are dropped.
    pub(crate) fn of_membership(membership: &dyn Membership, peers: Arc<Peers>) -> Self {
        let rings = membership.watch();
        let mut changes = rings.clone();
        let task = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let ring = changes.borrow_and_update().clone();
                peers.retain(&ring);
            }
        });
        Self { rings, seeds: None, task }
    }

    /// Asks the seeds until one answers, then keeps the ring fresh.
    pub(crate) async fn of_seeds(addresses: Vec<String>, peers: Arc<Peers>) -> Result<Self, Error> {
        if addresses.is_empty() {
            return Err(Error::NoNodes {
                reason: "no address was given; name one node, like http://host:7400".to_owned(),
            });
        }
        let addresses = addresses.into_iter().map(with_scheme).collect();
        let (ring, rings) = watch::channel(Arc::new(Ring::empty(1)));
        let seeds = Arc::new(Seeds { peers, addresses, ring, heard: AtomicU64::new(0), wake: Notify::new() });
        seeds.first().await?;
        let task = tokio::spawn(seeds.clone().keep_fresh());
        Ok(Self { rings, seeds: Some(seeds), task })
    }

    pub(crate) fn ring(&self) -> Arc<Ring> {
        self.rings.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        self.rings.clone()
    }

    /// A node answered at this epoch.
    pub(crate) fn heard(&self, epoch: u64) {
        if let Some(seeds) = &self.seeds
            && self.rings.borrow().epoch().is_behind(Epoch(epoch))
        {
            seeds.heard.fetch_max(epoch, Relaxed);
            seeds.wake.notify_one();
        }
    }

    /// A node could not be reached: perhaps it is gone.
    pub(crate) fn lost(&self) {
        if let Some(seeds) = &self.seeds {
            seeds.wake.notify_one();
        }
    }

    /// Connections to the seeds, for when the ring names no node at all.
    pub(crate) fn last_resort(&self) -> Vec<Arc<Link>> {
        self.seeds.as_ref().map(|seeds| seeds.links(&Ring::empty(1))).unwrap_or_default()
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seeds {
    /// Asks until a node answers, as long as one call may take.
    async fn first(&self) -> Result<(), Error> {
        let config = self.peers.config();
        let deadline = Instant::now() + config.deadline;
        loop {
            let Err(error) = self.refresh().await else { return Ok(()) };
            if Instant::now() + config.max_backoff >= deadline {
                let reason =
                    format!("none of {} told the ring; the last one: {error}", self.addresses.join(", "));
                return Err(Error::NoNodes { reason });
            }
            sleep(config.max_backoff).await;
        }
    }

    /// Asks at every hint and at every interval. Dropping it is safe at any point.
    async fn keep_fresh(self: Arc<Self>) {
        loop {
            let _ = timeout(self.peers.config().refresh, self.wake.notified()).await;
            if let Err(error) = self.refresh().await {
                debug!(%error, "no node told its ring, keeping the old one");
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks node after node until one knows what is wanted; else takes the newest that there is.
    async fn refresh(&self) -> Result<(), Error> {
        self.peers.config().metrics.refreshes.inc();
        let current = self.ring.borrow().clone();
        let wanted = self.heard.load(Relaxed).max(current.epoch().0);
        let mut best: Option<Ring> = None;
        let mut last = None;
        for link in self.links(&current) {
            let asked =
                peers::ring_of(&link, Instant::now() + PATIENCE.min(self.peers.config().deadline)).await;
            let told =
                asked.and_then(|(ring, cluster)| self.peers.learn_cluster(&link, &cluster).map(|()| ring));
            match told {
                Ok(ring) if best.as_ref().is_none_or(|best| best.epoch() < ring.epoch()) => best = Some(ring),
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
            if best.as_ref().is_some_and(|best| best.epoch().0 >= wanted) {
                break;
            }
        }
        let Some(best) = best else {
            return Err(last.unwrap_or(Error::NoNodes { reason: "no address is known".to_owned() }));
        };
        // Nobody that can be asked knows of a newer one: an epoch that is not to be had wakes nobody again, until it is heard again.
        let _ = self.heard.compare_exchange(wanted, best.epoch().0, Relaxed, Relaxed);
        if best.epoch() != current.epoch() || !best.same_members(&current) {
            info!(epoch = %best.epoch(), members = best.members().len(), "ring changed");
            self.peers.retain(&best);
            self.ring.send_replace(Arc::new(best));
        }
        Ok(())
    }

    /// Whom to ask: members that are reachable, in any order, then the others, then the seeds.
    fn links(&self, ring: &Ring) -> Vec<Arc<Link>> {
        let mut members: Vec<_> = ring
            .members()
            .iter()
            .filter_map(|member| self.peers.link(&member.id, &member.grpc).ok())
            .collect();
        members.shuffle(&mut rand::rng());
        members.sort_by_key(|link| !link.breaker().is_closed());
        let seeds =
            self.addresses.iter().filter(|address| !members.iter().any(|link| link.address() == *address));
        let seeds: Vec<_> = seeds.filter_map(|address| self.peers.seed(address).ok()).collect();
        members.extend(seeds);
        members
    }
}

/// `host:7400` is taken for `http://host:7400`.
fn with_scheme(address: String) -> String {
    if address.contains("://") { address } else { format!("http://{address}") }
}
