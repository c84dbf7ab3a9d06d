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

fn five() -> [&'static str; 5] {
    ["a", "b", "c", "d", "e"]
}

/// *By the balance a node loses a few slots by a ring that gives it many: their plain values were dropped.*
#[tokio::test(start_paused = true)]
async fn plain_values_of_lost_slots_linger_whatever_else_a_node_does_and_tell_since_when() {
    let window = Duration::from_secs(10);
    let slots = slots().with_lingering(window);
    turn(&slots, &ring(1, &five()[..3]));
    let before: Vec<_> = (0..SLOTS).map(|slot| slots.acquisition(slot)).collect();
    let lost: Vec<Slot> = {
        turn(&slots, &ring(2, &five()));
        Slot::all()
            .filter(|slot| before[slot.index()].is_some() && slots.acquisition(slot.get()).is_none())
            .collect()
    };
    slots.end_departing();
    slots.confirm(Epoch(2));
    for slot in &lost {
        assert_eq!(
            slots.lingers(slot.get()),
            Some((before[slot.index()].unwrap(), Epoch(2))),
            "confirmed as it is"
        );
        assert_eq!(slots.acquired_by(slot.get()), None);
    }
    let held = Slot::all().find(|slot| slots.acquisition(slot.get()).is_some()).unwrap();
    assert_eq!((slots.acquired_by(held.get()), slots.lingers(held.get())), (Some(Epoch(1)), None));
    turn(&slots, &ring(3, &["a", "d"]));
    let (back, away): (Vec<Slot>, Vec<Slot>) =
        lost.iter().partition(|slot| slots.acquisition(slot.get()).is_some());
    assert!(!back.is_empty() && !away.is_empty());
    assert!(
        back.iter().all(|slot| slots.lingers(slot.get()).is_none()),
        "what came back is a new acquisition's"
    );
    assert!(away.iter().all(|slot| slots.lingers(slot.get()).is_some_and(|(_, epoch)| epoch == Epoch(2))));
    tokio::time::advance(window).await;
    assert!(lost.iter().all(|slot| slots.lingers(slot.get()).is_none()));
    slots.renew(2, Instant::now());
    turn(&slots, &ring_in_life(2, 4, &five()[..2]));
    slots.renew(3, Instant::now());
    assert!(Slot::all().all(|slot| slots.lingers(slot.get()).is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_new_life_does_not_say_that_it_was_told_of_all_removals_since_its_ring() {
    let slots = slots();
    slots.renew(2, Instant::now());
    turn(&slots, &ring_in_life(2, 4, &["a"]));
    assert_eq!(slots.acquired_by(7), Some(Epoch(4)));
    turn(&slots, &ring_in_life(3, 5, &["a"]));
    assert_eq!(slots.acquired_by(7), None, "another life's");
    slots.renew(3, Instant::now());
    assert_eq!(slots.acquired_by(7), Some(Epoch(u64::MAX)));
}
