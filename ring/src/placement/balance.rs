//! Bounded loads: moves as few slots as needed from seats that drew too many to seats that drew too few.
//!
//! Plain rendezvous moves only what it must when a node joins or leaves, since each slot ranks all nodes once and for all. The other way
//! round, whoever moves only that much must have such a ranking for each slot; so how many slots a node gets is then a matter of luck alone. With
//! slots in runs ([`cost`](super::cost)) it scatters by about 5 % (one standard deviation) with 3 nodes, 7 % with 10, 9 % with 100, where the unluckiest
//! of them is 25 % off. Both exact balance and exactly minimal movement can't be had. We keep every node within 10 % of its share and correct *only
//! beyond that*.
//!
//! The corrections are those that cost least: a slot goes to the seat that ranks it nearly as high as the one that loses it. Those are slots at the
//! border of two runs, so a correction moves a border and makes no runs; and they are mostly the same ones before and after a join. What they add to
//! what must move, over joins and leaves of single nodes of equal weight, with one holder per slot: at 3 nodes nothing (2 % at worst), at 5
//! nodes 1 % (5 %), at 10 nodes 5 % (14 %), at 20 nodes 14 % (25 %), at 50 nodes 24 % (56 %), at 100 nodes 41 % (63 %), which is 0.4 % of all slots. With two
//! holders it is a fifth of that. `tests/placement.rs` measures it again and holds it to bounds.

use super::cost::Costs;
use crate::{SLOTS, Slot};

/// How far from its share a seat may be.
const TOLERANCE: f64 = 0.10;

/// A slot's move to another seat at one level.
struct Move {
    /// How much higher the slot ranked the seat that loses it.
    regret: f64,
    slot: Slot,
    to: u16,
}

/// The holders of one level (0: owners), and what each seat holds up to that level.
struct Level<'a> {
    costs: &'a Costs,
    table: &'a mut [u16],
    depth: usize,
    number: usize,
    held: Vec<u32>,
    least: Vec<u32>,
    most: Vec<u32>,
}

/// Brings what each seat holds, up to and including `level`, to within [`TOLERANCE`] of its share, by changing holders of that level alone.
pub(super) fn level(costs: &Costs, table: &mut [u16], depth: usize, level: usize) {
    if costs.len() <= depth.min(level + 1) {
        return; // Everybody holds everything.
    }
    let mut held = vec![0; costs.len()];
    for holders in table.chunks_exact(depth) {
        for &seat in &holders[..=level] {
            held[usize::from(seat)] += 1;
        }
    }
    let shares = attainable(&costs.shares(), level + 1);
    // A share of less than ten slots is allowed to be rounded.
    let least =
        shares.iter().map(|share| whole((share * (1.0 - TOLERANCE)).ceil().min(share.floor()))).collect();
    let most =
        shares.iter().map(|share| whole((share * (1.0 + TOLERANCE)).floor().max(share.ceil()))).collect();
    let mut level = Level { costs, table, depth, number: level, held, least, most };
    while level.shed() {}
    while level.fill() {}
}

#[expect(clippy::cast_sign_loss, reason = "shares of slots are positive")]
fn whole(slots: f64) -> u32 {
    slots as u32
}

/// The slots that each seat should hold, when each slot has `copies` holders: by weight, but no seat can hold a slot twice.
fn attainable(shares: &[f64], copies: usize) -> Vec<f64> {
    let slots = f64::from(SLOTS);
    let mut full = vec![false; shares.len()];
    loop {
        let left = copies as f64 * slots - slots * full.iter().filter(|full| **full).count() as f64;
        let weight: f64 = shares.iter().zip(&full).filter(|(_, full)| !**full).map(|(share, _)| share).sum();
        let mut changed = false;
        for (share, full) in shares.iter().zip(&mut full) {
            if !*full && share / weight * left > slots {
                *full = true;
                changed = true;
            }
        }
        if !changed {
            return shares
                .iter()
                .zip(&full)
                .map(|(share, full)| if *full { slots } else { share / weight * left })
                .collect();
        }
    }
}

impl Level<'_> {
    fn holder(&self, slot: Slot) -> usize {
        usize::from(self.table[slot.index() * self.depth + self.number])
    }

    fn holders(&self, slot: Slot) -> &[u16] {
        let from = slot.index() * self.depth;
        &self.table[from..=from + self.number]
    }

    /// Takes slots from seats with too many, each to the best seat that has room. Returns whether another round may do more.
    ///
    /// At the level of owners this ends with no seat above its bound: the bounds add up to all slots or more, so while one has too many
    /// another has room.
    fn shed(&mut self) -> bool {
        if self.held.iter().zip(&self.most).all(|(held, most)| held <= most) {
            return false;
        }
        let mut moves = Vec::new();
        for slot in Slot::all() {
            let from = self.holder(slot);
            if self.held[from] > self.most[from] {
                let mut best = None;
                let mut least = f64::INFINITY;
                for to in 0..self.costs.len() {
                    if self.held[to] < self.most[to]
                        && !self.holders(slot).contains(&(to as u16))
                        && let Some(cost) = self.costs.below(least, slot, to)
                    {
                        least = cost;
                        best = Some(to as u16);
                    }
                }
                let regret = least - self.costs.of(slot, from);
                moves.extend(best.map(|to| Move { regret, slot, to }));
            }
        }
        self.make(moves)
    }

    /// Gives slots to seats with too few, from any that can spare one. Returns whether another round may do more.
    fn fill(&mut self) -> bool {
        let mut moves = Vec::new();
        for to in (0..self.costs.len()).filter(|&to| self.held[to] < self.least[to]) {
            let mut offers: Vec<_> = Slot::all()
                .filter(|&slot| {
                    let from = self.holder(slot);
                    self.held[from] > self.least[from] && !self.holders(slot).contains(&(to as u16))
                })
                .map(|slot| {
                    let regret = self.costs.of(slot, to) - self.costs.of(slot, self.holder(slot));
                    Move { regret, slot, to: to as u16 }
                })
                .collect();
            let wanted = (self.least[to] - self.held[to]) as usize;
            if offers.len() > wanted {
                offers.select_nth_unstable_by(wanted, by_regret);
                offers.truncate(wanted);
            }
            moves.extend(offers);
        }
        self.make(moves)
    }

    /// Makes those moves that still help when their turn comes, least regret first. Returns whether there were any.
    fn make(&mut self, mut moves: Vec<Move>) -> bool {
        moves.sort_unstable_by(by_regret);
        let mut made = false;
        for Move { slot, to, .. } in moves {
            let (from, to) = (self.holder(slot), usize::from(to));
            let sheds = self.held[from] > self.most[from] && self.held[to] < self.most[to];
            let fills = self.held[to] < self.least[to] && self.held[from] > self.least[from];
            if (sheds || fills) && !self.holders(slot).contains(&(to as u16)) {
                self.held[from] -= 1;
                self.held[to] += 1;
                // The loser is the first of those who come after; who comes last makes room, unless `to` itself stood among them.
                let row =
                    &mut self.table[slot.index() * self.depth + self.number..(slot.index() + 1) * self.depth];
                let found = row.iter().position(|&seat| usize::from(seat) == to);
                let last = found.unwrap_or(row.len() - 1);
                row[last] = to as u16;
                row[..=last].rotate_right(1);
                made = true;
            }
        }
        made
    }
}

fn by_regret(a: &Move, b: &Move) -> std::cmp::Ordering {
    a.regret.total_cmp(&b.regret).then(a.slot.cmp(&b.slot)).then(a.to.cmp(&b.to))
}
