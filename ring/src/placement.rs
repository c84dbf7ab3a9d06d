//! Slots to nodes: weighted rendezvous hashing, of runs of slots, with bounded loads. Pure, and the same on every machine.

mod balance;
mod cost;

use crate::{NodeId, SLOTS, Slot};
use cost::Costs;

/// Someone who may hold slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) id: NodeId,
    /// More than 0.
    pub(crate) weight: u32,
}

/// Which seats hold which slots.
#[derive(Debug)]
pub(crate) struct Placement {
    /// By id.
    seats: Vec<Seat>,
    /// Holders of each slot.
    depth: usize,
    /// `depth` seats for each slot, the owner first.
    table: Vec<u16>,
    owned: Vec<u16>,
    held: Vec<u16>,
}

/// More seats than anyone has. The rest of a longer list, by id, holds nothing.
const MAX_SEATS: usize = 4096;

impl Placement {
    /// Gives each slot to the `replicas` cheapest of `seats`, which must be in the order of their ids.
    pub(crate) fn compute(mut seats: Vec<Seat>, replicas: usize) -> Self {
        seats.truncate(MAX_SEATS);
        let depth = replicas.min(seats.len());
        let costs = Costs::new(&seats);
        let mut table = nearest(&costs, depth);
        for level in 0..depth {
            balance::level(&costs, &mut table, depth, level);
        }
        let mut owned = vec![0; seats.len()];
        let mut held = vec![0; seats.len()];
        for holders in table.chunks_exact(depth.max(1)) {
            owned[usize::from(holders[0])] += 1;
            for &seat in holders {
                held[usize::from(seat)] += 1;
            }
        }
        Self { seats, depth, table, owned, held }
    }

    pub(crate) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    pub(crate) fn holders(&self, slot: Slot) -> &[u16] {
        let from = slot.index() * self.depth;
        &self.table[from..from + self.depth]
    }

    pub(crate) fn seat_of(&self, id: &NodeId) -> Option<usize> {
        self.seats.binary_search_by(|seat| seat.id.cmp(id)).ok()
    }

    pub(crate) fn owned(&self, seat: usize) -> usize {
        usize::from(self.owned[seat])
    }

    pub(crate) fn held(&self, seat: usize) -> usize {
        usize::from(self.held[seat])
    }
}

/// Plain rendezvous: the `depth` cheapest seats of each slot, cheapest first.
fn nearest(costs: &Costs, depth: usize) -> Vec<u16> {
    let mut table = Vec::with_capacity(usize::from(SLOTS) * depth);
    let mut best: Vec<(f64, u16)> = Vec::with_capacity(depth + 1);
    for slot in Slot::all() {
        best.clear();
        for seat in 0..costs.len() {
            let bound =
                if best.len() < depth { f64::INFINITY } else { best.last().map_or(0.0, |&(worst, _)| worst) };
            if let Some(cost) = costs.below(bound, slot, seat) {
                // Equal costs keep the order of the ids, since seats are in that order.
                let at = best.partition_point(|&(other, _)| other <= cost);
                best.insert(at, (cost, seat as u16));
                best.truncate(depth);
            }
        }
        table.extend(best.iter().map(|&(_, seat)| seat));
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seats(names: &[String]) -> Vec<Seat> {
        let mut seats: Vec<_> =
            names.iter().map(|name| Seat { id: name.as_str().into(), weight: 1 }).collect();
        seats.sort_by(|a, b| a.id.cmp(&b.id));
        seats
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        /// Before the balance is looked at, movement is minimal to the slot: for owners and for replicas.
        #[test]
        fn a_leave_changes_only_the_slots_that_the_node_held(
            names in proptest::collection::hash_set("[a-z]{1,8}", 2..30),
            replicas in 1_usize..4,
            leaver in any::<prop::sample::Index>(),
        ) {
            let mut names: Vec<_> = names.into_iter().collect();
            let with = seats(&names);
            let gone = names.remove(leaver.index(names.len()));
            let rest = seats(&names);
            let (depth, left) = (replicas.min(with.len()), replicas.min(rest.len()));
            let (before, after) = (nearest(&Costs::new(&with), depth), nearest(&Costs::new(&rest), left));
            for (before, after) in before.chunks(depth).zip(after.chunks(left)) {
                let mut before: Vec<_> = before.iter().map(|seat| &with[usize::from(*seat)].id).collect();
                let after: Vec<_> = after.iter().map(|seat| &rest[usize::from(*seat)].id).collect();
                if let Some(at) = before.iter().position(|id| id.as_str() == gone) {
                    // The others keep their order and move up; one newcomer may come last.
                    before.remove(at);
                    prop_assert_eq!(&after[..before.len()], before.as_slice());
                } else {
                    prop_assert_eq!(after, before);
                }
            }
        }
    }
}
