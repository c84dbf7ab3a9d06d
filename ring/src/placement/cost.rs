//! What it costs a seat to hold a slot: the draw of the rendezvous.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Seat;
use crate::{SLOTS, Slot};

/// Points of a seat: one at a random place in each of so many stretches of slots. A seat has at most as many runs of slots as it has points, and now
/// and then one more that the balance makes: 64 at most were wanted.
const POINTS: usize = 62;

/// Costs of all slots for all seats.
///
/// A seat draws once for each of its points, not for each slot, and a slot's draw is how far it is from the seat's nearest point. So slots that
/// are next to each other mostly go to one seat, in *runs*, and yet each seat's draw for each slot is uniform and does not depend on who else is there:
/// all that is true of rendezvous by slot is true of this, but for how much the loads scatter ([`balance`](super::balance)).
pub(super) struct Costs {
    /// [`POINTS`] of each seat: where in its stretch, in `0..1`.
    points: Vec<f64>,
    /// One over each seat's weight.
    per_weight: Vec<f64>,
}

impl Costs {
    pub(super) fn new(seats: &[Seat]) -> Self {
        let mut points = Vec::with_capacity(seats.len() * POINTS);
        for seat in seats {
            let seed = xxh3_64(seat.id.as_str().as_bytes());
            points
                .extend((0..POINTS as u16).map(|point| unit(xxh3_64_with_seed(&point.to_le_bytes(), seed))));
        }
        Self { points, per_weight: seats.iter().map(|seat| 1.0 / f64::from(seat.weight)).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.per_weight.len()
    }

    /// Each seat's weight, as its share of all the weight there is.
    pub(super) fn shares(&self) -> Vec<f64> {
        let all: f64 = self.per_weight.iter().map(|per_weight| 1.0 / per_weight).sum();
        self.per_weight.iter().map(|per_weight| 1.0 / per_weight / all).collect()
    }

    /// `-ln(u) / weight` for a `u` in (0, 1] drawn from slot and id alone. The least of several such costs is each seat's with a probability
    /// that is proportional to its weight, and a slot's order of two seats does not depend on who else is there.
    pub(super) fn of(&self, slot: Slot, seat: usize) -> f64 {
        negative_ln(self.draw(slot, seat)) * self.per_weight[seat]
    }

    /// The cost, if it is less than `bound`. Much faster where it mostly is not, since `-ln(u)` is never less than `1 - u`.
    pub(super) fn below(&self, bound: f64, slot: Slot, seat: usize) -> Option<f64> {
        let (u, per_weight) = (self.draw(slot, seat), self.per_weight[seat]);
        if (1.0 - u) * per_weight >= bound {
            return None;
        }
        let cost = negative_ln(u) * per_weight;
        (cost < bound).then_some(cost)
    }

    /// How likely it is that a seat's nearest point is farther away than this seat's is: uniform in (0, 1], and 1 right at a point.
    fn draw(&self, slot: Slot, seat: usize) -> f64 {
        let points = &self.points[seat * POINTS..(seat + 1) * POINTS];
        // The middle of the slot, in halves of a slot for each point: all is exact.
        let (slots, middle) = (usize::from(SLOTS), (2 * slot.index() + 1) * POINTS);
        let (stretch, within) = (middle / (2 * slots), middle % (2 * slots));
        // In stretches, from the beginning of this one; the last stretch and the first are neighbours.
        let x = within as f64 / (2 * slots) as f64;
        let (left, right) =
            (points[(stretch + POINTS - 1) % POINTS] - 1.0, points[(stretch + 1) % POINTS] + 1.0);
        let d = (x - points[stretch]).abs().min(x - left).min(right - x);
        // One point is in each stretch: none of the three within `d`. Farther ones can't be the nearest.
        let own = 1.0 - ((x + d).min(1.0) - (x - d).max(0.0));
        let beside = (1.0 - (d - x).max(0.0)) * (1.0 - (x + d - 1.0).max(0.0));
        (own * beside).max(f64::EPSILON)
    }
}

/// A hash as a number in `0..1`.
fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// `-ln(u)` for a normal `u` in (0, 1], to about nine digits.
///
/// Not `f64::ln`: that asks the platform's mathematics library, whose last digit differs between platforms, and then two machines could
/// disagree on the owner of a slot. Sums, products and quotients are the same everywhere.
fn negative_ln(u: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = u.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = f64::from_bits((bits & MANTISSA) | 1.0_f64.to_bits());
    // Centred on 1, where the series is at its best: u = m * 2^e with m in [0.707, 1.414].
    let (m, e) = if mantissa > std::f64::consts::SQRT_2 {
        (mantissa * 0.5, exponent + 1)
    } else {
        (mantissa, exponent)
    };
    let z = (m - 1.0) / (m + 1.0);
    let z2 = z * z;
    let series = 2.0 * z * (1.0 + z2 * (1.0 / 3.0 + z2 * (1.0 / 5.0 + z2 * (1.0 / 7.0 + z2 * (1.0 / 9.0)))));
    -(series + f64::from(e) * std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for u in
            [f64::MIN_POSITIVE, 1e-300, 1e-16, 0.1, 0.25, 0.5, 0.6, 0.7, 0.7072, 0.71, 0.9, 0.999_999, 1.0]
        {
            let error = (negative_ln(u) + u.ln()).abs();
            assert!(error < 1e-8, "-ln({u}) is {}, not {}", negative_ln(u), -u.ln());
        }
    }

    #[test]
    fn draws_are_pinned() {
        // Another value here means: nodes of this version and of the one before disagree on who owns what.
        let costs = Costs::new(&[Seat { id: "a".into(), weight: 1 }, Seat { id: "b".into(), weight: 3 }]);
        let slot = Slot::new(12345).unwrap();
        assert_eq!(costs.of(slot, 0).to_bits(), 0x3fb3_44c7_fbf3_e3c5);
        assert_eq!(costs.of(slot, 1).to_bits(), 0x3fc9_147a_9675_9085);
    }
}
