//! What this node has lost and still gives away: until when, and who has not said that it has all it wants.

use std::{collections::BTreeMap, time::Duration};

use memory::slots::{Change, Slots, holders};
use parking_lot::Mutex;
use ring::{Epoch, NodeId, Ring, Slot};
use tokio::{sync::Notify, time::Instant};

/// The handover of one node's lost slots.
#[derive(Debug)]
pub(crate) struct Departures {
    /// How long values of lost slots are kept at most.
    window: Duration,
    /// Guards the state; never held across a wait.
    state: Mutex<State>,
    /// Told when the state or the ring has changed. One waits: the task that ends handovers.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while nothing departs.
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    began: Instant,
    until: Instant,
    /// Nodes that may still ask, each with the epoch by which it got its last slot from this node: only a word that it gives
    /// at that epoch or later is about that slot too.
    waits: BTreeMap<NodeId, Epoch>,
}

/// How a handover stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing departs.
    Nothing,
    /// Values are kept, at most until then.
    Keep(Instant),
    /// Nobody wants more, or the time is over. Since when the handover was under way.
    Over(Instant),
}

impl Departures {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, state: Mutex::default(), changed: Notify::new() }
    }

    /// Goes by what a new ring changed. A ring by which more departs gives all of it a new window.
    pub(crate) fn take(&self, change: &Change, ring: &Ring, slots: &Slots, node: &NodeId, now: Instant) {
        let mut state = self.state.lock();
        if change.departing == 0 {
            state.under_way = None;
        } else {
            let all = Slot::all().filter(|slot| slots.departs(slot.get()).is_some());
            let (wanting, fresh) =
                (holders(ring, all, node), holders(ring, change.departed.iter().copied(), node));
            let under_way = state.under_way.get_or_insert_with(|| UnderWay {
                began: now,
                until: now + self.window,
                waits: BTreeMap::new(),
            });
            under_way.waits.retain(|node, _| wanting.contains(node));
            if !change.departed.is_empty() {
                under_way.until = now + self.window;
                under_way.waits.extend(fresh.into_iter().map(|node| (node, change.epoch)));
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A node that is at `epoch` wants no more.
    pub(crate) fn done(&self, node: &NodeId, epoch: Epoch) {
        let mut state = self.state.lock();
        if let Some(under_way) = &mut state.under_way
            && under_way.waits.get(node).is_some_and(|since| epoch >= *since)
        {
            under_way.waits.remove(node);
            drop(state);
            self.changed.notify_one();
        }
    }

    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        match &self.state.lock().under_way {
            None => Verdict::Nothing,
            Some(way) if way.waits.is_empty() || now >= way.until => Verdict::Over(way.began),
            Some(way) => Verdict::Keep(way.until),
        }
    }

    /// Forgets a handover that is over, or whose values are gone.
    pub(crate) fn end(&self) {
        self.state.lock().under_way = None;
        self.changed.notify_one();
    }

    /// Waits for the next change. For one waiter. Safe to drop.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ring::{Member, MemberState};

    use super::*;
    use memory::slots::Lost;

    fn ring(epoch: u64, members: &[&str]) -> Arc<Ring> {
        let member = |id: &&str| Member {
            id: NodeId::from(*id),
            incarnation: 1,
            grpc: String::new(),
            http: String::new(),
            resp: String::new(),
            weight: 1,
            state: MemberState::Active,
            terms: ring::Terms::default(),
        };
        Arc::new(Ring::build(Epoch(epoch), members.iter().map(member).collect(), 1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_handover_ends_when_all_takers_are_done_and_a_word_from_before_a_loss_is_not_about_it() {
        let (slots, node) = (Slots::new("a".into()), NodeId::from("a"));
        let departures = Departures::new(Duration::from_secs(10));
        let turn = |ring: &Arc<Ring>| {
            let change = slots.apply(ring, Instant::now(), Lost::Depart).unwrap();
            departures.take(&change, ring, &slots, &node, Instant::now());
        };
        turn(&ring(1, &["a"]));
        assert_eq!(departures.verdict(Instant::now()), Verdict::Nothing);
        turn(&ring(2, &["a", "b"]));
        let began = Instant::now();
        assert_eq!(departures.verdict(began), Verdict::Keep(began + Duration::from_secs(10)));
        departures.done(&"b".into(), Epoch(1));
        departures.done(&"c".into(), Epoch(9));
        assert!(matches!(departures.verdict(began), Verdict::Keep(_)), "b has not spoken of this loss");
        turn(&ring(3, &["a", "b", "c"]));
        departures.done(&"c".into(), Epoch(3));
        assert!(matches!(departures.verdict(began), Verdict::Keep(_)), "b still may ask");
        departures.done(&"b".into(), Epoch(3));
        assert_eq!(departures.verdict(began), Verdict::Over(began));
        departures.end();
        assert_eq!(departures.verdict(began), Verdict::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_that_says_nothing_holds_a_handover_no_longer_than_its_window_and_one_that_left_not_at_all()
     {
        let (slots, node) = (Slots::new("a".into()), NodeId::from("a"));
        let departures = Departures::new(Duration::from_secs(10));
        for (epoch, members) in [(1, &["a"][..]), (2, &["a", "b"])] {
            let ring = ring(epoch, members);
            let change = slots.apply(&ring, Instant::now(), Lost::Depart).unwrap();
            departures.take(&change, &ring, &slots, &node, Instant::now());
        }
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(matches!(departures.verdict(Instant::now()), Verdict::Keep(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(departures.verdict(Instant::now()), Verdict::Over(_)));
        let ring = ring(3, &["a"]);
        let change = slots.apply(&ring, Instant::now(), Lost::Depart).unwrap();
        departures.take(&change, &ring, &slots, &node, Instant::now());
        assert_eq!((change.departing, departures.verdict(Instant::now())), (0, Verdict::Nothing));
    }
}
