//! What a ring changes: who serves, who gives, who takes.

use std::sync::Arc;

use ring::{Member, MemberState};

use super::*;

fn ring(epoch: u64, members: &[&str]) -> Arc<Ring> {
    ring_in_life(1, epoch, members)
}

/// All members are in their life of this number.
fn ring_in_life(incarnation: u64, epoch: u64, members: &[&str]) -> Arc<Ring> {
    let member = |id: &&str| Member {
        id: NodeId::from(*id),
        incarnation,
        grpc: String::new(),
        http: String::new(),
        resp: String::new(),
        weight: 1,
        state: MemberState::Active,
        terms: ring::Terms::default(),
    };
    Arc::new(Ring::build(Epoch(epoch), members.iter().map(member).collect(), 1))
}

/// The same with two holders of each slot.
fn ring_of_two(epoch: u64, members: &[&str]) -> Arc<Ring> {
    let members = ring(epoch, members).members().to_vec();
    Arc::new(Ring::build(Epoch(epoch), members, 2))
}

fn slots() -> Slots {
    Slots::new("a".into())
}

fn turn(slots: &Slots, ring: &Arc<Ring>) -> Change {
    slots.apply(ring, Instant::now(), Lost::Depart).expect("the ring is newer")
}

#[tokio::test(start_paused = true)]
async fn a_lost_slot_is_held_no_more_at_once_and_departs_under_its_ended_acquisition() {
    let slots = slots();
    turn(&slots, &ring(1, &["a"]));
    assert_eq!(slots.confirmed(), Epoch(1), "nothing was lost");
    let before: Vec<_> = (0..SLOTS).map(|slot| slots.acquisition(slot).unwrap()).collect();
    let change = turn(&slots, &ring(2, &["a", "b"]));
    assert!(change.lost > 6000 && change.departing == change.lost as u64 && change.gained.is_empty());
    assert_eq!(slots.confirmed(), Epoch(1), "while something departs the epoch is not confirmed");
    assert_eq!(slots.unconfirmed(), None, "nor may it be");
    for slot in &change.departed {
        assert_eq!(slots.acquisition(slot.get()), None);
        assert_eq!(slots.departs(slot.get()), Some(before[slot.index()]));
        assert_eq!(slots.owned(slot.get()), None);
    }
    slots.end_departing();
    assert!((0..SLOTS).all(|slot| slots.departs(slot).is_none()));
    assert_eq!(slots.unconfirmed(), Some(Epoch(2)));
    slots.confirm(Epoch(2));
    assert_eq!((slots.unconfirmed(), slots.confirmed()), (None, Epoch(2)));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_a_replica_now_serves_and_gives_until_it_is_over() {
    let slots = slots();
    turn(&slots, &ring_of_two(1, &["a", "c"]));
    let before: Vec<_> = (0..SLOTS).map(|slot| (slots.acquisition(slot), slots.owned(slot))).collect();
    let ring = ring_of_two(2, &["a", "b", "c"]);
    let change = turn(&slots, &ring);
    let demoted: Vec<_> = Slot::all()
        .filter(|slot| before[slot.index()].1.is_some() && slots.acquisition(slot.get()).is_some())
        .filter(|slot| slots.owned(slot.get()).is_none())
        .collect();
    assert!(demoted.len() > 1000 && change.promoted.is_empty(), "{}", demoted.len());
    assert_eq!(change.departing, (change.lost + demoted.len()) as u64);
    for slot in &demoted {
        let (acquisition, _) = before[slot.index()];
        assert_eq!((slots.acquisition(slot.get()), slots.departs(slot.get())), (acquisition, acquisition));
    }
    assert_eq!((slots.confirmed(), slots.unconfirmed()), (Epoch(1), None), "it takes nothing meanwhile");
    slots.end_departing();
    assert!(demoted.iter().all(|slot| slots.departs(slot.get()).is_none()));
    slots.confirm(Epoch(2));
    // What comes back is the owner's again, under the same acquisition.
    let change = turn(&slots, &ring_of_two(3, &["a", "c"]));
    assert!(demoted.iter().all(|slot| change.promoted.contains(slot)));
    assert!(demoted.iter().all(|slot| slots.owned(slot.get()) == before[slot.index()].0));
    assert_eq!(change.departing, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_comes_back_is_a_new_acquisition_and_departs_no_more() {
    let slots = slots();
    turn(&slots, &ring(1, &["a"]));
    let lost = turn(&slots, &ring(2, &["a", "b"])).departed;
    let departing = slots.departs(lost[0].get());
    let change = turn(&slots, &ring(3, &["a"]));
    assert_eq!((change.gained.len(), change.departing), (lost.len(), 0));
    for slot in &lost {
        assert_eq!(slots.departs(slot.get()), None);
    }
    assert_ne!(slots.acquisition(lost[0].get()), departing);
}

#[tokio::test(start_paused = true)]
async fn a_ring_during_a_handover_adds_what_it_takes_and_one_that_changes_nothing_leaves_it_under_way() {
    let slots = slots();
    turn(&slots, &ring(1, &["a"]));
    let first = turn(&slots, &ring(2, &["a", "b"]));
    let idle = turn(&slots, &ring(3, &["a", "b"]));
    assert_eq!((idle.lost, idle.departing), (0, first.departing));
    assert_eq!(slots.confirmed(), Epoch(1));
    let second = turn(&slots, &ring(4, &["a", "b", "c"]));
    assert!(second.departing > first.departing);
    assert_eq!(second.departing, (0..SLOTS).filter(|slot| slots.departs(*slot).is_some()).count() as u64);
    slots.end_departing();
    assert_eq!(slots.unconfirmed(), Some(Epoch(4)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gains_more_than_it_has_lost_drops_at_once() {
    let slots = slots();
    turn(&slots, &ring(1, &["a", "b", "c", "d"]));
    let lost = turn(&slots, &ring(2, &["a", "b", "c", "d", "e"])); // a fifth of a quarter
    assert!(lost.departing > 0);
    let change = turn(&slots, &ring(3, &["a", "b"]));
    assert!(change.gained.len() > lost.lost && change.departing == 0, "{change:?}");
    assert_eq!(slots.unconfirmed(), Some(Epoch(3)), "as soon as it is swept");
}

#[tokio::test(start_paused = true)]
async fn nothing_departs_where_nobody_could_want_it_or_it_is_turned_off() {
    let slots = slots();
    turn(&slots, &ring(1, &["a"]));
    let change = turn(&slots, &ring(2, &[]));
    assert_eq!((change.lost, change.departing), (usize::from(SLOTS), 0));
    let off = self::slots();
    turn(&off, &ring(1, &["a"]));
    let change = off.apply(&ring(2, &["a", "b"]), Instant::now(), Lost::Drop).unwrap();
    assert!(change.lost > 0 && change.departing == 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_life_ends_what_departs() {
    let slots = slots();
    turn(&slots, &ring(1, &["a"]));
    turn(&slots, &ring(2, &["a", "b"]));
    slots.renew(2, Instant::now());
    assert_eq!(slots.departing_count(), 0);
    assert!((0..SLOTS).all(|slot| slots.departs(slot).is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_new_life_holds_nothing_by_a_ring_of_the_former_one() {
    let slots = slots();
    let nothing = |slots: &Slots| {
        slots.count() == 0
            && (0..SLOTS).all(|slot| slots.acquisition(slot).is_none() && slots.owned(slot).is_none())
    };
    slots.renew(1, Instant::now());
    turn(&slots, &ring(1, &["a", "b"]));
    assert!(!nothing(&slots));
    slots.renew(2, Instant::now());
    assert!(nothing(&slots), "the ring lists the former life");
    turn(&slots, &ring(2, &["a", "b"]));
    assert!(nothing(&slots), "so does this one, though it is newer");
    turn(&slots, &ring_in_life(2, 3, &["a", "b"]));
    assert!(!nothing(&slots));
    let acquired = slots.last_acquisition();
    slots.renew(2, Instant::now());
    assert!(!nothing(&slots) && slots.last_acquisition() > acquired, "listed already: all is acquired anew");
}
