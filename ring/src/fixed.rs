//! A membership that never changes: the members are listed in the configuration, or there is one node alone. Needs no etcd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Epoch, Error, Member, MemberState, Membership, Moment, NodeId, Registration, Ring};

/// The epoch of every fixed list.
const EPOCH: Epoch = Epoch(1);

/// A fixed list of members, all of them active for ever.
///
/// A member that is down is still asked to acknowledge every removal, for nobody can tell whether it is gone: the sync service commits
/// nothing until it is back. Use etcd where nodes come and go.
#[derive(Clone, Debug)]
pub struct Fixed {
    ring: watch::Sender<Arc<Ring>>,
}

impl Fixed {
    /// The list of `members`, whatever state they are given in, with `replicas` holders of each slot.
    pub fn new(members: Vec<Member>, replicas: usize) -> Self {
        let members =
            members.into_iter().map(|member| Member { state: MemberState::Active, ..member }).collect();
        Self { ring: watch::Sender::new(Arc::new(Ring::build(EPOCH, members, replicas))) }
    }

    /// The registration of the listed member `id`.
    pub fn registration(&self, id: &NodeId) -> Result<FixedRegistration, Error> {
        let ring = self.ring();
        let Some(member) = ring.member(id) else {
            let listed: Vec<_> = ring.members().iter().map(|member| member.id.as_str()).collect();
            return Err(Error::Invalid(format!(
                "node {id} is not in the fixed list of members ({}); add it, or set node.id",
                listed.join(", ")
            )));
        };
        Ok(FixedRegistration {
            live: AtomicBool::new(true),
            incarnation: member.incarnation,
            incarnations: watch::Sender::new(member.incarnation),
        })
    }
}

#[async_trait]
impl Membership for Fixed {
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
        if epoch > EPOCH { Err(Error::Ahead { wanted: epoch, found: EPOCH }) } else { Ok(self.ring()) }
    }
}

/// A node's place in a fixed list: live until it leaves. There is no lease, since there is nobody who could take the node off the list.
#[derive(Debug)]
pub struct FixedRegistration {
    live: AtomicBool,
    incarnation: u64,
    incarnations: watch::Sender<u64>,
}

#[async_trait]
impl Registration for FixedRegistration {
    fn live(&self, _now: Instant) -> bool {
        self.live.load(Ordering::Acquire)
    }

    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn moment(&self) -> Moment {
        crate::etcd::host_moment()
    }

    fn is_inherited(&self) -> bool {
        true
    }

    fn incarnations(&self) -> watch::Receiver<u64> {
        self.incarnations.subscribe()
    }

    /// Changes nothing: members of a fixed list are active.
    async fn set_state(&self, _state: MemberState) -> Result<Epoch, Error> {
        Ok(EPOCH)
    }

    /// The node is not live any more, and stays on the list.
    async fn leave(&self) -> Result<(), Error> {
        self.live.store(false, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str) -> Member {
        Member {
            id: id.into(),
            incarnation: 1,
            grpc: format!("http://{id}:7400"),
            http: format!("http://{id}:7401"),
            resp: String::new(),
            weight: 1,
            state: MemberState::Joining,
        }
    }

    #[tokio::test]
    async fn listed_members_hold_slots_at_once() {
        let fixed = Fixed::new(vec![member("b"), member("a")], 1);
        let ring = fixed.read().await.unwrap();
        assert_eq!(ring.owned_by(&"a".into()) + ring.owned_by(&"b".into()), 16384);
        assert_eq!(fixed.catch_up(ring.epoch()).await.unwrap().epoch(), ring.epoch());
        assert!(matches!(fixed.catch_up(Epoch(2)).await, Err(Error::Ahead { .. })));

        let a = fixed.registration(&"a".into()).unwrap();
        assert!(a.live_as(1, Instant::now()));
        a.set_state(MemberState::Active).await.unwrap();
        a.leave().await.unwrap();
        assert!(!a.live(Instant::now()));
    }

    #[test]
    fn an_unlisted_node_is_told_who_is_listed() {
        let error =
            Fixed::new(vec![member("a"), member("b")], 1).registration(&"c".into()).unwrap_err().to_string();
        assert!(error.contains("node c") && error.contains("a, b"), "{error}");
    }
}
