//! A membership inside one process: for the embedded stack of several nodes, and for tests, which lose leases and hold back views at will.
//!
//! Nothing happens by itself: there are no clocks and no background tasks. [`Registry`] is the truth; an [`Observer`] is somebody's view of
//! it, which a test can make lag behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Epoch, Error, Member, MemberState, Membership, NodeId, Registration, Ring};

/// The members of an in-process cluster. Every change is one more epoch; incarnations are the epochs that began them.
#[derive(Debug)]
pub struct Registry {
    ring: watch::Sender<Arc<Ring>>,
    registrations: Mutex<Vec<Arc<MemoryRegistration>>>,
    observers: Mutex<Vec<Arc<Observer>>>,
}

impl Registry {
    /// A cluster without members, with `replicas` holders of each slot.
    pub fn new(replicas: usize) -> Arc<Self> {
        Arc::new(Self {
            ring: watch::Sender::new(Arc::new(Ring::empty(replicas))),
            registrations: Mutex::default(),
            observers: Mutex::default(),
        })
    }

    /// Registers `member` as given, but for its incarnation, which is a new one. An earlier registration of the same id loses its lease.
    pub fn register(self: &Arc<Self>, member: Member) -> Arc<MemoryRegistration> {
        self.expire(&member.id);
        let state = member.state;
        let registration = Arc::new(MemoryRegistration {
            registry: self.clone(),
            member,
            live: AtomicBool::new(false),
            left: AtomicBool::new(false),
            incarnation: AtomicU64::new(0),
            incarnations: watch::Sender::new(0),
        });
        let mut registrations = self.registrations.lock();
        registrations.retain(|other| other.member.id != registration.member.id);
        registrations.push(registration.clone());
        drop(registrations);
        registration.begin(state);
        registration
    }

    /// Ends the lease of `id`: its registration is not live any more, and it is gone from the membership. Returns the epoch from then on.
    pub fn expire(&self, id: &NodeId) -> Epoch {
        self.fence(id);
        self.change(|members, _| members.retain(|member| member.id != *id))
    }

    /// Lets a registration whose lease ended register again, in state joining, as the real one does by itself.
    ///
    /// Returns the new incarnation; `None` if `id` never registered, or has left.
    pub fn revive(&self, id: &NodeId) -> Option<u64> {
        let registration = self.registration(id)?;
        (!registration.left.load(Ordering::Acquire)).then(|| registration.begin(MemberState::Joining))
    }

    /// Makes `id` doubt its lease, which has not ended yet: cut off from the membership, and still a member for all others.
    pub fn fence(&self, id: &NodeId) {
        if let Some(registration) = self.registration(id) {
            registration.live.store(false, Ordering::Release);
        }
    }

    /// Ends a [`fence`](Self::fence) under the same incarnation, if its lease has not ended meanwhile.
    pub fn unfence(&self, id: &NodeId) {
        if let Some(registration) = self.registration(id)
            && let Some(member) = self.ring().member(id)
            && member.incarnation == registration.incarnation()
        {
            registration.live.store(true, Ordering::Release);
        }
    }

    /// A new view of the members, which can be held back.
    pub fn observer(self: &Arc<Self>) -> Arc<Observer> {
        let observer = Arc::new(Observer {
            registry: self.clone(),
            ring: watch::Sender::new(self.ring()),
            held_back: AtomicBool::new(false),
        });
        let mut observers = self.observers.lock();
        observers.push(observer.clone());
        observer.show(self.ring());
        drop(observers);
        observer
    }

    fn registration(&self, id: &NodeId) -> Option<Arc<MemoryRegistration>> {
        self.registrations.lock().iter().find(|registration| registration.member.id == *id).cloned()
    }

    /// Changes the members, as one epoch, and shows the result to the observers in order. Changes that change nothing keep the epoch.
    fn change(&self, change: impl FnOnce(&mut Vec<Member>, Epoch)) -> Epoch {
        let observers = self.observers.lock(); // Also makes changes reach all observers in the same order.
        let before = self.ring();
        let next = Epoch(before.epoch().0 + 1);
        let mut members = before.members().to_vec();
        change(&mut members, next);
        let after = before.advance(next, members);
        if after.same_members(&before) {
            return before.epoch();
        }
        let after = Arc::new(after);
        self.ring.send_replace(after.clone());
        for observer in observers.iter().filter(|observer| !observer.held_back.load(Ordering::Acquire)) {
            observer.show(after.clone());
        }
        next
    }
}

#[async_trait]
impl Membership for Registry {
    fn ring(&self) -> Arc<Ring> {
        self.ring.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        self.ring.subscribe()
    }

    async fn read(&self) -> Result<Arc<Ring>, Error> {
        Ok(self.ring())
    }

    async fn catch_up(&self, epoch: Epoch) -> Result<Arc<Ring>, Error> {
        let ring = self.ring();
        if epoch > ring.epoch() { Err(Error::Ahead { wanted: epoch, found: ring.epoch() }) } else { Ok(ring) }
    }
}

/// One party's view of a [`Registry`], up to date unless it is held back.
#[derive(Debug)]
pub struct Observer {
    registry: Arc<Registry>,
    ring: watch::Sender<Arc<Ring>>,
    held_back: AtomicBool,
}

impl Observer {
    /// Keeps the view as it is until [`let_go`](Self::let_go), as a slow watch does. [`read`](Membership::read) and
    /// [`catch_up`](Membership::catch_up) move it forward all the same.
    pub fn hold_back(&self) {
        let _no_change_under_way = self.registry.observers.lock();
        self.held_back.store(true, Ordering::Release);
    }

    /// Shows what was held back, in one step.
    pub fn let_go(&self) {
        let _no_change_under_way = self.registry.observers.lock();
        self.held_back.store(false, Ordering::Release);
        self.show(self.registry.ring());
    }

    fn show(&self, ring: Arc<Ring>) {
        self.ring.send_if_modified(|shown| {
            let newer = ring.epoch() > shown.epoch();
            if newer {
                *shown = ring;
            }
            newer
        });
    }
}

#[async_trait]
impl Membership for Observer {
    fn ring(&self) -> Arc<Ring> {
        self.ring.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        self.ring.subscribe()
    }

    async fn read(&self) -> Result<Arc<Ring>, Error> {
        self.show(self.registry.ring());
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

/// A node's place in a [`Registry`]. Its lease ends only when a test says so.
#[derive(Debug)]
pub struct MemoryRegistration {
    registry: Arc<Registry>,
    member: Member,
    live: AtomicBool,
    left: AtomicBool,
    incarnation: AtomicU64,
    incarnations: watch::Sender<u64>,
}

impl MemoryRegistration {
    fn begin(&self, state: MemberState) -> u64 {
        let mut incarnation = 0;
        self.registry.change(|members, epoch| {
            incarnation = epoch.0;
            members.retain(|member| member.id != self.member.id);
            members.push(Member { incarnation, state, ..self.member.clone() });
        });
        self.incarnation.store(incarnation, Ordering::Release); // before it is live, see `Registration::live_as`
        self.live.store(true, Ordering::Release);
        self.incarnations.send_replace(incarnation);
        incarnation
    }
}

#[async_trait]
impl Registration for MemoryRegistration {
    fn live(&self, _now: Instant) -> bool {
        self.live.load(Ordering::Acquire)
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    fn incarnations(&self) -> watch::Receiver<u64> {
        self.incarnations.subscribe()
    }

    async fn set_state(&self, state: MemberState) -> Result<Epoch, Error> {
        let incarnation = self.incarnation();
        let mut found = false;
        let epoch = self.registry.change(|members, _| {
            for member in members
                .iter_mut()
                .filter(|member| member.id == self.member.id && member.incarnation == incarnation)
            {
                member.state = state;
                found = true;
            }
        });
        if found { Ok(epoch) } else { Err(Error::NotRegistered { id: self.member.id.clone() }) }
    }

    async fn leave(&self) -> Result<(), Error> {
        self.live.store(false, Ordering::Release);
        self.left.store(true, Ordering::Release);
        let incarnation = self.incarnation();
        self.registry.change(|members, _| {
            members.retain(|member| member.id != self.member.id || member.incarnation != incarnation);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str) -> Member {
        Member {
            id: id.into(),
            incarnation: 0,
            grpc: format!("http://{id}:7400"),
            http: format!("http://{id}:7401"),
            resp: String::new(),
            weight: 1,
            state: MemberState::Joining,
            terms: crate::Terms::default(),
        }
    }

    #[tokio::test]
    async fn nodes_join_become_active_and_leave_each_as_one_epoch() {
        let registry = Registry::new(1);
        let a = registry.register(member("a"));
        let joined = registry.ring();
        assert_eq!(joined.owner(crate::slot_of("k")), None);
        let active = a.set_state(MemberState::Active).await.unwrap();
        assert!(active > joined.epoch());
        assert_eq!(
            a.set_state(MemberState::Active).await.unwrap(),
            active,
            "nothing changed, so the epoch stays"
        );
        assert_eq!(registry.ring().owner(crate::slot_of("k")).unwrap().incarnation, a.incarnation());
        a.leave().await.unwrap();
        assert!(!a.live(Instant::now()));
        assert!(registry.ring().members().is_empty());
        assert!(matches!(a.set_state(MemberState::Active).await, Err(Error::NotRegistered { .. })));
        assert_eq!(registry.revive(&"a".into()), None);
    }

    #[tokio::test]
    async fn a_lost_lease_comes_back_as_a_joining_new_incarnation() {
        let registry = Registry::new(1);
        let a = registry.register(member("a"));
        a.set_state(MemberState::Active).await.unwrap();
        let first = a.incarnation();
        registry.expire(&"a".into());
        assert!(!a.live(Instant::now()));
        let second = registry.revive(&"a".into()).unwrap();
        assert!(second > first);
        assert!(a.live_as(second, Instant::now()) && !a.live_as(first, Instant::now()));
        assert_eq!(registry.ring().member(&"a".into()).unwrap().state, MemberState::Joining);
    }

    #[test]
    fn a_fenced_node_is_still_a_member() {
        let registry = Registry::new(1);
        let a = registry.register(member("a"));
        registry.fence(&"a".into());
        assert!(!a.live(Instant::now()) && registry.ring().member(&"a".into()).is_some());
        registry.unfence(&"a".into());
        assert!(a.live(Instant::now()));
        registry.expire(&"a".into());
        registry.unfence(&"a".into());
        assert!(!a.live(Instant::now()), "a lease that has ended does not come back");
    }

    #[test]
    fn a_second_node_of_the_same_id_takes_the_lease_of_the_first() {
        let registry = Registry::new(1);
        let first = registry.register(member("a"));
        let second = registry.register(member("a"));
        assert!(!first.live(Instant::now()) && second.live(Instant::now()));
        assert_eq!(registry.ring().members().len(), 1);
    }

    #[tokio::test]
    async fn an_observer_held_back_sees_the_old_ring_until_it_reads() {
        let registry = Registry::new(1);
        let (near, far) = (registry.observer(), registry.observer());
        far.hold_back();
        let mut seen = far.watch();
        registry.register(member("a"));
        let epoch = registry.ring().epoch();
        assert_eq!(near.ring().epoch(), epoch);
        assert!(far.ring().members().is_empty());
        assert_eq!(far.catch_up(epoch).await.unwrap().members().len(), 1);
        assert!(seen.has_changed().unwrap());
        registry.register(member("b"));
        seen.mark_unchanged();
        far.let_go();
        assert_eq!(seen.borrow_and_update().members().len(), 2);
        assert!(matches!(far.catch_up(Epoch(99)).await, Err(Error::Ahead { .. })));
    }
}
