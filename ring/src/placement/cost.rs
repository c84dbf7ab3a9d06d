//! What it costs a seat to hold a slot: the draw of the rendezvous.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Seat;
use crate::Slot;

/// Costs of all slots for all seats.
pub(super) struct Costs {
    /// The hash of each seat's id, and one over its weight.
    seats: Vec<(u64, f64)>,
}

impl Costs {
    pub(super) fn new(seats: &[Seat]) -> Self {
        let seats =
            seats.iter().map(|seat| (xxh3_64(seat.id.as_str().as_bytes()), 1.0 / f64::from(seat.weight)));
        Self { seats: seats.collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Each seat's weight, as its share of all the weight there is.
    pub(super) fn shares(&self) -> Vec<f64> {
        let all: f64 = self.seats.iter().map(|(_, per_weight)| 1.0 / per_weight).sum();
        self.seats.iter().map(|(_, per_weight)| 1.0 / per_weight / all).collect()
    }

    /// `-ln(u) / weight` for a `u` in (0, 1] drawn from slot and id alone. The least of several such costs is each seat's with a probability
    /// that is proportional to its weight, and a slot's order of two seats does not depend on who else is there.
    pub(super) fn of(&self, slot: Slot, seat: usize) -> f64 {
        negative_ln(self.draw(slot, seat)) * self.seats[seat].1
    }

    /// The cost, if it is less than `bound`. Much faster where it mostly is not, since `-ln(u)` is never less than `1 - u`.
    pub(super) fn below(&self, bound: f64, slot: Slot, seat: usize) -> Option<f64> {
        let (u, per_weight) = (self.draw(slot, seat), self.seats[seat].1);
        if (1.0 - u) * per_weight >= bound {
            return None;
        }
        let cost = negative_ln(u) * per_weight;
        (cost < bound).then_some(cost)
    }

    fn draw(&self, slot: Slot, seat: usize) -> f64 {
        let hash = xxh3_64_with_seed(&slot.get().to_le_bytes(), self.seats[seat].0);
        ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
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
        assert_eq!(costs.of(slot, 0).to_bits(), 0x3fc9_1191_1c1e_4f21);
        assert_eq!(costs.of(slot, 1).to_bits(), 0x3fc3_e9e2_f9bb_12cd);
    }
}
