//! One read of so many, by each thread for itself: a count down and nothing else, for those that are not taken.

use std::cell::Cell;

thread_local! {
    /// Reads until the next one that is taken, and the state of the dice.
    static NEXT: Cell<(u32, u32)> = const { Cell::new((1, 0x9e37_79b9)) };
}

/// Whether this read is taken. The distance to the next is drawn anew each time, so that keys that come in a steady order are not always
/// taken or always left out.
pub(super) fn takes(every: u32) -> bool {
    NEXT.with(|next| {
        let (left, mut state) = next.get();
        if left > 1 {
            next.set((left - 1, state));
            return false;
        }
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // 1 to 2 * every - 1: `every` on average.
        next.set((1 + state % (every.max(1) * 2 - 1), state));
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_so_many_is_taken_whatever_the_order_in_which_keys_come() {
        for every in [1, 2, 16, 100] {
            let mut taken = [0_u32; 16];
            for n in 0..160_000 {
                taken[n % 16] += u32::from(takes(every));
            }
            for count in taken {
                let expected = 10_000 / every;
                assert!(count.abs_diff(expected) <= expected / 3 + 1, "every {every}: {taken:?}");
            }
        }
    }
}
