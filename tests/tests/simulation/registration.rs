//! A node's lease, kept alive over the simulated network.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use ring::{Epoch, Error, Member, MemberState, Registration};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    clock::Party,
    etcd::{self, Etcd, Kept, LEASE},
    network::Network,
};

/// How much earlier than etcd a node believes that its lease has ended.
const MARGIN: Duration = Duration::from_millis(60);
/// The pause between keep-alives.
const EVERY: Duration = Duration::from_millis(100);

/// A node's place among the members. Begins again by itself, as a new incarnation, when its lease has ended.
pub(crate) struct Lease {
    party: Party,
    member: Member,
    etcd: Arc<Etcd>,
    network: Arc<Network>,
    alive_until: Mutex<Option<Instant>>,
    incarnation: AtomicU64,
    incarnations: watch::Sender<u64>,
    left: watch::Sender<bool>,
}

impl Lease {
    /// Registers, and keeps the registration alive until it leaves. Must be called in the node's runtime.
    pub(crate) fn begin(party: Party, member: Member, etcd: Arc<Etcd>, network: Arc<Network>) -> Arc<Self> {
        let lease = Arc::new(Self {
            party,
            member,
            etcd,
            network,
            alive_until: Mutex::new(None),
            incarnation: AtomicU64::new(0),
            incarnations: watch::Sender::new(0),
            left: watch::Sender::new(false),
        });
        let keeping = lease.clone();
        tokio::spawn(async move {
            let mut left = keeping.left.subscribe();
            tokio::select! {
                () = keeping.keep() => {}
                _ = left.wait_for(|left| *left) => {}
            }
        });
        lease
    }

    async fn keep(&self) {
        loop {
            let sent = Instant::now();
            let (etcd, member) = (self.etcd.clone(), self.member.clone());
            let Ok(Some(incarnation)) =
                etcd::ask(&self.network, self.party, move || etcd.register(&member)).await
            else {
                sleep(EVERY / 4).await;
                continue;
            };
            // The incarnation first, see `Registration::live_as`.
            self.incarnation.store(incarnation, SeqCst);
            self.extend(sent);
            self.incarnations.send_replace(incarnation);
            loop {
                sleep(EVERY).await;
                let sent = Instant::now();
                let (etcd, id) = (self.etcd.clone(), self.member.id.clone());
                match etcd::ask(&self.network, self.party, move || etcd.keep(&id, incarnation)).await {
                    Ok(Kept::Alive) => self.extend(sent),
                    Ok(Kept::Gone) => break,
                    Err(_) => {}
                }
            }
            *self.alive_until.lock() = None;
        }
    }

    fn extend(&self, sent: Instant) {
        let mut alive_until = self.alive_until.lock();
        *alive_until = (*alive_until).max(Some(sent + LEASE - MARGIN));
    }
}

#[async_trait]
impl Registration for Lease {
    fn live(&self, now: Instant) -> bool {
        self.alive_until.lock().is_some_and(|until| now < until)
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.load(SeqCst)
    }

    fn incarnations(&self) -> watch::Receiver<u64> {
        self.incarnations.subscribe()
    }

    async fn set_state(&self, state: MemberState) -> Result<Epoch, Error> {
        let (etcd, id, incarnation) = (self.etcd.clone(), self.member.id.clone(), self.incarnation());
        let set =
            etcd::ask(&self.network, self.party, move || etcd.set_state(&id, incarnation, state)).await?;
        set.ok_or(Error::NotRegistered { id: self.member.id.clone() })
    }

    async fn leave(&self) -> Result<(), Error> {
        *self.alive_until.lock() = None;
        self.left.send_replace(true);
        let (etcd, id, incarnation) = (self.etcd.clone(), self.member.id.clone(), self.incarnation());
        etcd::ask(&self.network, self.party, move || etcd.leave(&id, incarnation)).await
    }
}
