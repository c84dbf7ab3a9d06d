//! A membership that never changes: the members are listed in the configuration, or there is one node alone. Needs no etcd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{
    Epoch, Error, Member, MemberState, Membership, Moment, NodeId, Registration, Ring, terms::PROTOCOL,
};

/// Which life of its node every listed member is in: nobody counts them, and all who read the list must say the same.
const INCARNATION: u64 = 1;

/// A fixed list of members, all of them active for ever.
///
/// A member that is down is still asked to acknowledge every removal, for nobody can tell whether it is gone: the sync service commits
/// nothing until it is back. Use etcd where nodes come and go.
///
/// Its epoch is a digest of the ids, the weights, the number of replicas and the protocol: whoever is handed an epoch of another list refuses it
/// ([`Error::OtherList`]). Addresses are not in it, since a node may be reached by several.
#[derive(Clone, Debug)]
pub struct Fixed {
    ring: watch::Sender<Arc<Ring>>,
}

impl Fixed {
    /// The list of `members`, whatever state they are given in, with `replicas` holders of each slot.
    pub fn new(members: Vec<Member>, replicas: usize) -> Self {
        let listed = |member| Member { incarnation: INCARNATION, state: MemberState::Active, ..member };
        let members: Vec<_> = members.into_iter().map(listed).collect();
        let epoch = Epoch::of_list(digest(&members, replicas, PROTOCOL));
        Self { ring: watch::Sender::new(Arc::new(Ring::build(epoch, members, replicas))) }
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
            epoch: ring.epoch(),
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
        let ring = self.ring();
        let found = ring.epoch();
        if found.is_of_same_history(epoch) {
            Ok(ring)
        } else {
            Err(Error::OtherList { wanted: epoch, found })
        }
    }
}

/// What makes two rings of lists the same: the same members with the same weights in any order, the same number of replicas, and the same placement.
fn digest(members: &[Member], replicas: usize, protocol: u32) -> u64 {
    let mut lines: Vec<_> = members.iter().map(|member| format!("{} {}", member.id, member.weight)).collect();
    lines.sort_unstable();
    lines.push(format!("replicas {}, protocol {protocol}", replicas.max(1)));
    xxhash_rust::xxh3::xxh3_64(lines.join("\n").as_bytes())
}

/// A node's place in a fixed list: live until it leaves. There is no lease, since there is nobody who could take the node off the list.
#[derive(Debug)]
pub struct FixedRegistration {
    live: AtomicBool,
    epoch: Epoch,
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
        Moment::now()
    }

    fn is_inherited(&self) -> bool {
        true
    }

    fn incarnations(&self) -> watch::Receiver<u64> {
        self.incarnations.subscribe()
    }

    /// Changes nothing: members of a fixed list are active.
    async fn set_state(&self, _state: MemberState) -> Result<Epoch, Error> {
        Ok(self.epoch)
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
    use crate::Terms;

    fn member(id: &str) -> Member {
        Member {
            id: id.into(),
            incarnation: 1,
            grpc: format!("http://{id}:7400"),
            http: format!("http://{id}:7401"),
            resp: String::new(),
            weight: 1,
            state: MemberState::Joining,
            terms: Terms::default(),
        }
    }

    #[tokio::test]
    async fn listed_members_hold_slots_at_once() {
        let fixed = Fixed::new(vec![member("b"), member("a")], 1);
        let ring = fixed.read().await.unwrap();
        assert_eq!(ring.owned_by(&"a".into()) + ring.owned_by(&"b".into()), 16384);
        assert_eq!(fixed.catch_up(ring.epoch()).await.unwrap().epoch(), ring.epoch());
        assert!(matches!(fixed.catch_up(Epoch(2)).await, Err(Error::OtherList { .. })), "etcd's");

        let a = fixed.registration(&"a".into()).unwrap();
        assert!(a.live_as(1, Instant::now()));
        a.set_state(MemberState::Active).await.unwrap();
        a.leave().await.unwrap();
        assert!(!a.live(Instant::now()));
    }

    /// *The sync service gave listed members incarnation 0, the nodes themselves 1: no acknowledgement ever counted.*
    #[test]
    fn all_who_read_the_list_say_the_same_of_its_members() {
        let elsewhere = |id| Member { incarnation: 0, state: MemberState::Active, ..member(id) };
        let node = Fixed::new(vec![member("a"), member("b")], 1);
        let sync = Fixed::new(
            vec![elsewhere("b"), Member { grpc: "http://10.0.0.1:7400".into(), ..elsewhere("a") }],
            1,
        );
        assert_eq!(sync.ring().epoch(), node.ring().epoch(), "order and addresses don't matter");
        for member in sync.ring().members() {
            assert_eq!(member.incarnation, node.registration(&member.id).unwrap().incarnation());
        }
    }

    #[tokio::test]
    async fn another_list_is_refused_whichever_epoch_is_greater() {
        let list = |ids: &[&str], replicas| Fixed::new(ids.iter().map(|id| member(id)).collect(), replicas);
        let ours = list(&["a", "b"], 1);
        let heavier = Fixed::new(vec![member("a"), Member { weight: 2, ..member("b") }], 1);
        for other in [list(&["a"], 1), list(&["a", "b", "c"], 1), list(&["a", "b"], 2), heavier] {
            let (ours_epoch, others_epoch) = (ours.ring().epoch(), other.ring().epoch());
            assert!(matches!(ours.catch_up(others_epoch).await, Err(Error::OtherList { .. })));
            assert!(matches!(other.catch_up(ours_epoch).await, Err(Error::OtherList { .. })));
        }
        assert!(ours.catch_up(Epoch(0)).await.is_ok(), "who knows nothing yet asks for nothing");
    }

    #[test]
    fn a_version_that_gives_slots_out_otherwise_has_another_list() {
        // *Both have the same epoch, and one sends a removal to a node that does not hold the key in the other's eyes.*
        let members = [member("a"), member("b")];
        assert_ne!(digest(&members, 1, PROTOCOL), digest(&members, 1, PROTOCOL - 1));
    }

    #[test]
    fn an_unlisted_node_is_told_who_is_listed() {
        let error =
            Fixed::new(vec![member("a"), member("b")], 1).registration(&"c".into()).unwrap_err().to_string();
        assert!(error.contains("node c") && error.contains("a, b"), "{error}");
    }
}
