//! What placement promises: the same ring everywhere, balance, little movement.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use ring::{Epoch, Member, MemberState, NodeId, Ring, SLOTS, Slot};

fn member(id: impl Into<NodeId>, weight: u32) -> Member {
    let id = id.into();
    let (grpc, http) = (format!("http://{id}:7400"), format!("http://{id}:7401"));
    Member {
        id,
        incarnation: 1,
        grpc,
        http,
        resp: String::new(),
        weight,
        state: MemberState::Active,
        terms: ring::Terms::default(),
    }
}

fn ring(members: Vec<Member>, replicas: usize) -> Ring {
    Ring::build(Epoch(1), members, replicas)
}

/// `count` nodes whose names depend on `cluster`, so that each cluster is another draw.
fn nodes(cluster: usize, count: usize) -> Vec<Member> {
    (0..count).map(|node| member(format!("cache-{cluster}-{node}"), 1)).collect()
}

fn holders(ring: &Ring, slot: Slot) -> Vec<&str> {
    ring.holders(slot).map(|member| member.id.as_str()).collect()
}

/// The least and the greatest number of slots per node, as shares of the mean.
fn spread(ring: &Ring, count: impl Fn(&NodeId) -> usize) -> (f64, f64) {
    let counts: Vec<_> = ring.members().iter().map(|member| count(&member.id) as f64).collect();
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    (
        counts.iter().copied().fold(f64::MAX, f64::min) / mean,
        counts.iter().copied().fold(0.0, f64::max) / mean,
    )
}

#[test]
fn every_node_owns_its_share_within_ten_percent_at_3_to_100_nodes() {
    for count in 3..=100 {
        let ring = ring(nodes(count, count), 2);
        let (least, greatest) = spread(&ring, |id| ring.owned_by(id));
        assert!(least >= 0.9 && greatest <= 1.1, "{count} nodes own {least:.3} to {greatest:.3} of the mean");
        let (least, greatest) = spread(&ring, |id| ring.held_by(id));
        assert!(
            least >= 0.9 && greatest <= 1.1,
            "{count} nodes hold {least:.3} to {greatest:.3} of the mean"
        );
    }
}

#[test]
fn every_node_owns_at_most_64_runs_of_slots_at_3_to_100_nodes() {
    for count in 3..=100 {
        let ring = ring(nodes(count, count), 2);
        let mut runs: HashMap<&NodeId, usize> = HashMap::new();
        let mut before = None;
        for slot in Slot::all() {
            let owner = &ring.owner(slot).unwrap().id;
            *runs.entry(owner).or_default() += usize::from(before.replace(owner) != Some(owner));
        }
        let most = runs.values().max().unwrap();
        assert!(*most <= 64, "{count} nodes: one owns {most} runs");
    }
}

/// When a node joins `rest`: slots that it gained a hold on, and slots that another gained a hold on although nobody had to. Of the first `level`
/// holders.
fn moved(rest: &Ring, with: &Ring, node: &NodeId, level: usize) -> (usize, usize) {
    let (mut extra, mut needed) = (0, 0);
    for slot in Slot::all() {
        let before = holders(rest, slot);
        for holder in &holders(with, slot)[..level] {
            if *holder == node.as_str() {
                needed += 1;
            } else if !before[..level].contains(holder) {
                extra += 1;
            }
        }
    }
    (extra, needed)
}

#[test]
fn a_join_or_leave_moves_little_more_than_the_slots_of_that_node() {
    // A join read backwards is a leave, so one figure serves both. The bounds are what was measured, rounded up.
    for (count, clusters, mean, most) in [
        (3, 30, 0.01, 0.05),
        (5, 20, 0.02, 0.12),
        (10, 10, 0.08, 0.20),
        (20, 4, 0.15, 0.30),
        (50, 4, 0.30, 0.60),
        (100, 4, 0.50, 0.70),
    ] {
        let replicas = 2;
        for level in 1..=replicas {
            let mut worst: f64 = 0.0;
            let (mut all_extra, mut all_needed, mut all) = (0, 0, 0);
            for cluster in 0..clusters {
                let with = nodes(cluster, count);
                let after = ring(with.clone(), replicas);
                for leaver in (0..count).step_by(count.div_ceil(5)) {
                    let mut rest = with.clone();
                    let gone = rest.remove(leaver);
                    let (extra, needed) = moved(&ring(rest, replicas), &after, &gone.id, level);
                    worst = worst.max(extra as f64 / needed as f64);
                    all_extra += extra;
                    all_needed += needed;
                    all += level * usize::from(SLOTS);
                }
            }
            let extra = all_extra as f64 / all_needed as f64;
            println!(
                "{count} nodes, {level} holders: {:.1} % more slots than needed, {:.1} % at worst; {:.2} % of all",
                100.0 * extra,
                100.0 * worst,
                100.0 * all_extra as f64 / all as f64
            );
            assert!(
                extra <= mean && worst <= most,
                "{count} nodes, {level}: {extra:.3}, {worst:.3} at worst"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_same_members_in_any_order_give_the_same_ring(
        members in proptest::collection::vec(("[a-z]{1,6}", 0_u32..5), 0..12),
        shuffle in any::<u64>(),
        replicas in 1_usize..4,
    ) {
        let members: Vec<_> = members.into_iter().map(|(id, weight)| member(id.as_str(), weight)).collect();
        let mut seen = HashSet::new();
        let members: Vec<_> = members.into_iter().filter(|member| seen.insert(member.id.clone())).collect();
        let mut other = members.clone();
        for at in 1..other.len() {
            other.swap(at, shuffle.rotate_left(at as u32) as usize % (at + 1));
        }
        let (one, two) = (ring(members, replicas), ring(other, replicas));
        for slot in Slot::all() {
            prop_assert_eq!(holders(&one, slot), holders(&two, slot));
        }
    }

    #[test]
    fn any_weights_give_every_slot_distinct_holders(
        weights in proptest::collection::vec(prop_oneof![0_u32..4, Just(1000), any::<u32>()], 1..30),
        replicas in 1_usize..5,
    ) {
        let members: Vec<_> = weights.iter().enumerate().map(|(at, weight)| member(format!("n{at}"), *weight)).collect();
        let able = weights.iter().filter(|weight| **weight > 0).count();
        let ring = ring(members, replicas);
        for slot in Slot::all() {
            let holders: Vec<_> = holders(&ring, slot);
            prop_assert_eq!(holders.len(), replicas.min(able));
            prop_assert_eq!(holders.iter().collect::<HashSet<_>>().len(), holders.len());
        }
        let owned: usize = ring.members().iter().map(|member| ring.owned_by(&member.id)).sum();
        prop_assert_eq!(owned, if able == 0 { 0 } else { usize::from(SLOTS) });
    }

    #[test]
    fn owners_follow_the_weights_within_ten_percent(weights in proptest::collection::vec(1_u32..9, 3..40)) {
        let members: Vec<_> = weights.iter().enumerate().map(|(at, weight)| member(format!("n{at}"), *weight)).collect();
        let all: u32 = weights.iter().sum();
        let ring = ring(members, 1);
        for member in ring.members() {
            let share = f64::from(SLOTS) * f64::from(member.weight) / f64::from(all);
            let owned = ring.owned_by(&member.id) as f64;
            prop_assert!((owned - share).abs() <= (share * 0.1).max(1.0), "{owned} of {share}");
        }
    }
}

#[test]
fn only_active_members_hold_slots_and_all_are_members() {
    let states = [MemberState::Joining, MemberState::Active, MemberState::Leaving];
    let members = states.map(|state| Member { state, ..member(state.as_str(), 1) }).to_vec();
    let ring = ring(members, 3);
    assert_eq!(ring.members().len(), 3);
    for slot in Slot::all() {
        assert_eq!(holders(&ring, slot), ["active"]);
    }
    assert!(
        ring.holds(&"active".into(), Slot::new(7).unwrap())
            && !ring.holds(&"joining".into(), Slot::new(7).unwrap())
    );
    let none = ring.advance(Epoch(2), vec![Member { state: MemberState::Joining, ..member("a", 1) }]);
    assert_eq!((none.owner(Slot::new(7).unwrap()), none.epoch()), (None, Epoch(2)));
}

#[test]
fn a_ring_that_advances_is_the_ring_built_anew() {
    let before = ring(nodes(1, 5), 2);
    let mut members = nodes(1, 6);
    members[5].state = MemberState::Joining;
    for members in [members, nodes(1, 7), nodes(1, 4), Vec::new()] {
        let (advanced, built) =
            (before.advance(Epoch(9), members.clone()), Ring::build(Epoch(9), members, 2));
        assert_eq!(advanced.members(), built.members());
        for slot in Slot::all() {
            assert_eq!(holders(&advanced, slot), holders(&built, slot));
        }
    }
}

#[test]
fn of_two_incarnations_the_later_one_counts() {
    let later = Member { incarnation: 7, ..member("a", 1) };
    let ring = ring(vec![member("a", 1), later.clone(), member("b", 1)], 1);
    assert_eq!(ring.member(&"a".into()), Some(&later));
    assert_eq!(ring.members().len(), 2);
}

/// Run by hand: `cargo test -p freshline-ring --release --test placement -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn how_long_a_ring_takes() {
    for (count, replicas) in [(3, 1), (10, 2), (100, 1), (100, 3)] {
        let members = nodes(0, count);
        let best = (0..5)
            .map(|_| {
                let started = std::time::Instant::now();
                let ring = ring(members.clone(), replicas);
                assert_eq!(ring.members().len(), count);
                started.elapsed()
            })
            .min();
        println!("{count} nodes, {replicas} holders: {:?}", best.unwrap());
    }
}
