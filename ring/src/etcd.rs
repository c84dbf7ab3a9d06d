//! Membership kept in etcd: each node is one key under `/freshline/<cluster>/members/`, bound to the node's lease.
//!
//! **Epochs.** A ring's epoch is the revision of the last change that its view has: from the watch, or, where a range read shows another list
//! than the view, the revision of that read. A range read doesn't tell *when* a member was deleted, so two observers may call the same list
//! by different epochs, the later of them by a read. That is harmless: [`catch_up`](Membership::catch_up) raises the epoch of an unchanged
//! list to the one asked for, so whoever is asked to apply under the greater epoch calls it the same from then on. A read that shows no
//! change raises no epoch; otherwise each read would make every node confirm again.
//!
//! **The watch and reads.** A view that a read has proven up to revision R ignores watch events at or below R: *the read at 12 shows that B,
//! registered at 11, is gone; the watch then delivers 11, and B would be back.*
//!
//! **Outages.** Nothing here fails for good because etcd is down, at the start or later: tasks try again with growing, jittered pauses,
//! warn once and tell the end. [`read`](Membership::read) fails after a bounded time. The ring stays as last known; what protects readers
//! meanwhile is the lease of each node ([`Registration::live`](crate::Registration::live)).

mod apart;
mod claim;
mod lease;
mod link;
mod outage;
mod pulse;
mod reads;
mod registration;
mod view;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::GetOptions;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use claim::{Claim, Held};
pub use registration::EtcdRegistration;

use crate::{Epoch, Error, Member, Membership, Ring};
use link::Link;
use reads::SharedRead;
use view::{Entry, View};

/// How etcd is reached, and which cluster's members are meant.
#[derive(Clone)]
pub struct Options {
    /// Such as `http://127.0.0.1:2379`; any of them may be down.
    pub endpoints: Vec<String>,
    /// Members live under `/freshline/<cluster>/members/`.
    pub cluster: String,
    /// Holders of each slot in total; 1 is the owner alone.
    pub replicas: usize,
    /// User name and password, where etcd has authentication switched on.
    pub user: Option<(String, String)>,
    /// How long the runtime that a registration was made in may do nothing at all before its lease is kept no longer.
    pub hung_after: Duration,
}

impl Options {
    /// Options without a user.
    pub fn new(endpoints: Vec<String>, cluster: impl Into<String>, replicas: usize) -> Self {
        Self { endpoints, cluster: cluster.into(), replicas, user: None, hung_after: Duration::from_mins(1) }
    }
}

/// The members of a cluster, followed in etcd by a task of its own, until this is dropped.
pub struct EtcdMembership {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// What the tasks and the membership itself work on.
struct Shared {
    link: Link,
    /// Of the members' keys, with a slash at the end.
    prefix: String,
    /// The truth about `ring`, which is sent under this lock, so that rings are seen in order.
    view: Mutex<View>,
    ring: watch::Sender<Arc<Ring>>,
    reads: SharedRead<Result<Arc<Ring>, Error>>,
    /// That etcd's history went back, and since when.
    went_back: Mutex<Option<(Error, Instant)>>,
    /// One at a time reaches for an epoch; whoever waits mostly finds it reached.
    reaching: tokio::sync::Mutex<()>,
}

impl EtcdMembership {
    /// Begins to follow the members. Returns at once, whether etcd is up or not; [`ready`](Self::ready) waits for the first view.
    ///
    /// What keeps leases and follows members runs on a thread of its own, whatever keeps the caller's busy.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for options that can never work; [`Error::Closed`] if the system has no thread to give.
    pub fn connect(options: Options) -> Result<Arc<Self>, Error> {
        if options.cluster.is_empty()
            || options.cluster.contains(|letter: char| letter == '/' || letter.is_whitespace())
        {
            return Err(Error::Invalid(format!(
                "cluster name {:?} must be a plain word without slashes or spaces",
                options.cluster
            )));
        }
        let ring = Arc::new(Ring::empty(options.replicas));
        let shared = Arc::new(Shared {
            prefix: format!("/freshline/{}/members/", options.cluster),
            link: Link::new(options)?,
            view: Mutex::new(View::new(ring.clone())),
            ring: watch::Sender::new(ring),
            reads: SharedRead::default(),
            went_back: Mutex::default(),
            reaching: tokio::sync::Mutex::default(),
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let follow = watching::follow(shared.clone());
        let stopped = stop.clone();
        tasks.spawn_on(async move { stopped.run_until_cancelled(follow).await }, shared.link.apart());
        Ok(Arc::new(Self { shared, tasks, stop: stop.clone(), _stop_on_drop: stop.drop_guard() }))
    }

    /// The first view; waits as long as it takes. Safe to drop.
    pub async fn ready(&self) -> Result<Arc<Ring>, Error> {
        let mut ring = self.shared.ring.subscribe();
        let seen = ring.wait_for(|ring| ring.epoch() > Epoch::default());
        tokio::select! {
            seen = seen => seen.map(|ring| ring.clone()).map_err(|_| Error::Closed),
            () = self.stop.cancelled() => Err(Error::Closed),
        }
    }

    /// Registers `member` with a lease, and keeps it registered; returns at once, see
    /// [`EtcdRegistration::registered`].
    ///
    /// `lease` is rounded up to seconds; etcd grants no less than its election timeout allows (2 s by default).
    ///
    /// If another incarnation holds the id, this waits until its lease ends, and says so in the log. It never takes the key over: *a node is
    /// started twice by mistake; the second takes the first one's place in the membership; removals go to the second alone; the first
    /// serves old values for ever.* So a node that was killed comes back only when its old lease has run out.
    pub fn register(self: &Arc<Self>, member: Member, lease: Duration) -> Arc<EtcdRegistration> {
        EtcdRegistration::begin(self.shared.clone(), member, lease, &self.tasks, self.stop.child_token())
    }

    /// Stops following. The ring stays as it is, and registrations are kept alive no longer.
    pub fn close(&self) {
        self.stop.cancel();
    }
}

#[async_trait]
impl Membership for EtcdMembership {
    fn ring(&self) -> Arc<Ring> {
        self.shared.ring()
    }

    fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        self.shared.ring.subscribe()
    }

    async fn read(&self) -> Result<Arc<Ring>, Error> {
        self.shared.read().await
    }

    async fn catch_up(&self, epoch: Epoch) -> Result<Arc<Ring>, Error> {
        self.shared.reach(epoch).await
    }

    fn broken(&self) -> Option<(Error, Instant)> {
        self.shared.went_back.lock().clone()
    }
}

impl Shared {
    fn ring(&self) -> Arc<Ring> {
        self.ring.borrow().clone()
    }

    /// Reads the members linearizably, once for all who asked before it began.
    async fn read(&self) -> Result<Arc<Ring>, Error> {
        self.reads.get(self.read_now()).await
    }

    async fn read_now(&self) -> Result<Arc<Ring>, Error> {
        let known = self.view.lock().known();
        let options = GetOptions::new().with_prefix();
        let answer = self
            .link
            .call("read the members", async |client| {
                client.kv_client().get(&*self.prefix, Some(options)).await
            })
            .await?;
        let revision = link::revision(answer.header());
        self.check_history(known, revision)?;
        let entries = answer.kvs().iter().filter_map(|kv| Entry::new(&self.prefix, kv)).collect();
        Ok(self.update(|view| view.read(revision, entries)))
    }

    /// Notes whether etcd, at the revision that it was just found at, is behind what was known before it was asked; or ever was.
    fn check_history(&self, known: u64, found: u64) -> Result<(), Error> {
        let mut went_back = self.went_back.lock();
        if found < known {
            let error = Error::WentBack { known: Epoch(known), found: Epoch(found) };
            went_back.get_or_insert_with(|| (error, Instant::now()));
        }
        // For good: what is written since brings the revision past what was known, and its history stays another one.
        went_back.as_ref().map_or(Ok(()), |(error, _)| Err(error.clone()))
    }

    /// A ring at `epoch` or later. Reads the members as of that very revision, so that a list that has not changed since gets the epoch that
    /// was asked for; with the newest revision instead, two parties could drive each other's epochs up for ever.
    async fn reach(&self, epoch: Epoch) -> Result<Arc<Ring>, Error> {
        let ring = self.ring();
        if ring.epoch() >= epoch {
            return Ok(ring);
        }
        let _turn = self.reaching.lock().await;
        let ring = self.ring();
        if ring.epoch() >= epoch {
            return Ok(ring);
        }
        let known = self.view.lock().known();
        let options =
            GetOptions::new().with_prefix().with_revision(i64::try_from(epoch.0).unwrap_or(i64::MAX));
        let answer = self
            .link
            .try_call(link::CALL, async |client| client.kv_client().get(&*self.prefix, Some(options)).await)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.says("future revision") => {
                return Err(Error::Ahead { wanted: epoch, found: Epoch(known) });
            }
            Err(error) if error.says("compacted") => {
                // Nobody can tell any more what the list was at that epoch, so ours takes the newest.
                self.read().await?;
                return Ok(self.update(View::reach_known));
            }
            Err(error) => return Err(self.link.unavailable("read the members", &error)),
        };
        let revision = link::revision(answer.header());
        self.check_history(known, revision)?;
        let entries = answer.kvs().iter().filter_map(|kv| Entry::new(&self.prefix, kv)).collect();
        Ok(self.update(|view| view.reach(epoch, entries)))
    }

    /// Changes the view and shows its ring if that became another one.
    fn update(&self, change: impl FnOnce(&mut View)) -> Arc<Ring> {
        let mut view = self.view.lock();
        change(&mut view);
        let ring = view.ring().clone();
        self.ring.send_if_modified(|shown| {
            let newer = !Arc::ptr_eq(shown, &ring);
            if newer {
                *shown = ring.clone();
            }
            newer
        });
        ring
    }
}
