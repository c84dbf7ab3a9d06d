//! What stands in for etcd: a linearizable list of members whose leases end by simulated time, and watches that can lag.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use ring::{Epoch, Error, Member, MemberState, Membership, NodeId, Ring};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    clock::{self, Millis, Party},
    network::Network,
    trace,
};

/// How long a lease lives after the last keep-alive that arrived.
pub(crate) const LEASE: Duration = Duration::from_millis(500);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// The members, and who watches them.
pub(crate) struct Etcd {
    network: Arc<Network>,
    state: Mutex<State>,
}

struct State {
    ring: Arc<Ring>,
    leases: BTreeMap<NodeId, Lease>,
    watches: BTreeMap<Party, Watch>,
    /// One ring for each set of active members that there was: placing slots costs more than all the rest.
    placed: BTreeMap<Vec<NodeId>, Arc<Ring>>,
}

struct Lease {
    incarnation: u64,
    ends: Millis,
}

struct Watch {
    shown: watch::Sender<Arc<Ring>>,
    held_back: bool,
}

/// What became of a keep-alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Alive,
    Gone,
}

impl Etcd {
    pub(crate) fn new(network: Arc<Network>, replicas: usize) -> Arc<Self> {
        let state = State {
            ring: Arc::new(Ring::empty(replicas)),
            leases: BTreeMap::new(),
            watches: BTreeMap::new(),
            placed: BTreeMap::new(),
        };
        Arc::new(Self { network, state: Mutex::new(state) })
    }

    /// The members now.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        self.state.lock().ring.clone()
    }

    /// Ends the leases whose time is over.
    pub(crate) fn step(&self) {
        let ended: Vec<NodeId> = {
            let mut state = self.state.lock();
            let over = |lease: &Lease| lease.ends <= clock::now();
            let ended =
                state.leases.iter().filter(|(_, lease)| over(lease)).map(|(id, _)| id.clone()).collect();
            state.leases.retain(|_, lease| !over(lease));
            ended
        };
        for id in ended {
            trace::note(format_args!("etcd: the lease of {id} has ended"));
            self.change(|members, _| members.retain(|member| member.id != id));
        }
    }

    /// Grants a lease, unless there is one; the incarnation is the epoch that it begins.
    pub(crate) fn register(&self, member: &Member) -> Option<u64> {
        if self.state.lock().leases.contains_key(&member.id) {
            return None;
        }
        let mut incarnation = 0;
        self.change(|members, epoch| {
            incarnation = epoch.0;
            members.push(Member { incarnation, state: MemberState::Joining, ..member.clone() });
        });
        let lease = Lease { incarnation, ends: clock::now() + millis(LEASE) };
        self.state.lock().leases.insert(member.id.clone(), lease);
        Some(incarnation)
    }

    /// Makes a lease live on, if it has not ended.
    pub(crate) fn keep(&self, id: &NodeId, incarnation: u64) -> Kept {
        match self.state.lock().leases.get_mut(id).filter(|lease| lease.incarnation == incarnation) {
            Some(lease) => {
                lease.ends = clock::now() + millis(LEASE);
                Kept::Alive
            }
            None => Kept::Gone,
        }
    }

    /// Changes a member's state; `None` if this life of it is over.
    pub(crate) fn set_state(&self, id: &NodeId, incarnation: u64, to: MemberState) -> Option<Epoch> {
        let is = |member: &Member| member.id == *id && member.incarnation == incarnation;
        self.ring().members().iter().any(is).then(|| {
            self.change(|members, _| {
                for member in members.iter_mut().filter(|member| is(member)) {
                    member.state = to;
                }
            })
        })
    }

    /// Ends a lease.
    pub(crate) fn leave(&self, id: &NodeId, incarnation: u64) {
        self.state.lock().leases.retain(|other, lease| other != id || lease.incarnation != incarnation);
        self.change(|members, _| {
            members.retain(|member| member.id != *id || member.incarnation != incarnation);
        });
    }

    /// Holds a party's watch back, or lets it go.
    pub(crate) fn hold_back(&self, party: Party, held_back: bool) {
        let mut state = self.state.lock();
        let ring = state.ring.clone();
        let Some(watch) = state.watches.get_mut(&party) else { return };
        watch.held_back = held_back;
        if !held_back {
            self.show(party, watch, ring);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Member>, Epoch)) -> Epoch {
        let state = &mut *self.state.lock();
        let next = Epoch(state.ring.epoch().0 + 1);
        let mut members = state.ring.members().to_vec();
        change(&mut members, next);
        members.sort_by(|a, b| a.id.cmp(&b.id));
        if members == state.ring.members() {
            return state.ring.epoch();
        }
        let active: Vec<_> = members
            .iter()
            .filter(|member| member.state == MemberState::Active)
            .map(|member| member.id.clone())
            .collect();
        let alike = state.placed.get(&active).unwrap_or(&state.ring);
        let ring = Arc::new(alike.advance(next, members));
        state.placed.insert(active, ring.clone());
        let told: Vec<_> = ring
            .members()
            .iter()
            .map(|member| format!("{}#{} {}", member.id, member.incarnation, member.state))
            .collect();
        trace::note(format_args!("etcd: epoch {next}: {}", told.join(", ")));
        state.ring = ring.clone();
        for (party, watch) in state.watches.iter().filter(|(_, watch)| !watch.held_back) {
            self.show(*party, watch, ring.clone());
        }
        next
    }

    fn show(&self, party: Party, watch: &Watch, ring: Arc<Ring>) {
        let shown = watch.shown.clone();
        self.network.post(Party::Etcd, party, move || show(&shown, ring));
    }
}

fn show(shown: &watch::Sender<Arc<Ring>>, ring: Arc<Ring>) {
    shown.send_if_modified(|known| {
        let newer = ring.epoch() > known.epoch();
        if newer {
            *known = ring;
        }
        newer
    });
}

pub(crate) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).expect("a short time")
}

/// One party's view of the members.
pub(crate) struct View {
    party: Party,
    etcd: Arc<Etcd>,
    shown: watch::Sender<Arc<Ring>>,
}

impl View {
    /// Watches as `party`, in place of an earlier life of it.
    pub(crate) fn new(etcd: &Arc<Etcd>, party: Party) -> Arc<Self> {
        let mut state = etcd.state.lock();
        let shown = watch::Sender::new(Arc::new(Ring::empty(state.ring.replicas())));
        let watch = Watch { shown: shown.clone(), held_back: false };
        etcd.show(party, &watch, state.ring.clone());
        state.watches.insert(party, watch);
        drop(state);
        Arc::new(Self { party, etcd: etcd.clone(), shown })
    }
}

#[async_trait]
impl Membership for View {
    fn ring(&self) -> Arc<Ring> {
        self.shown.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        self.shown.subscribe()
    }

    async fn read(&self) -> Result<Arc<Ring>, Error> {
        let etcd = self.etcd.clone();
        let ring = ask(&self.etcd.network, self.party, move || etcd.ring()).await?;
        show(&self.shown, ring);
        Ok(self.ring())
    }

    async fn catch_up(&self, epoch: Epoch) -> Result<Arc<Ring>, Error> {
        if self.ring().epoch() >= epoch {
            return Ok(self.ring());
        }
        let ring = self.read().await?;
        if epoch > ring.epoch() { Err(Error::Ahead { wanted: epoch, found: ring.epoch() }) } else { Ok(ring) }
    }
}

/// Asks etcd, for a while.
pub(crate) async fn ask<T: Send + 'static>(
    network: &Arc<Network>,
    party: Party,
    answer: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let asked = timeout(PATIENCE, network.ask(party, Party::Etcd, answer)).await;
    if asked.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    asked.map_err(|_| Error::Unavailable { endpoints: "etcd".into(), reason: "no answer".into() })
}
