//! Where a walk through the store is.

use super::Store;

/// The bit that tells a place that a page returned from a random number.
const RETURNED: u64 = 1 << 63;
/// Bits of a place in its shard.
const PLACE: u32 = 40;

/// A place in the store to go on from. As a number, any is good: 0 is the beginning, what a page returned leads on, and
/// every other one leads to some place, each about as likely as the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// The beginning.
    pub const START: Self = Self(0);

    pub(super) fn at(shard: usize, place: usize) -> Self {
        Self(RETURNED | (shard as u64) << PLACE | place as u64)
    }

    /// The shard, counted over values and then negative entries, and the place there.
    pub(super) fn resolve(self, store: &Store) -> (usize, usize) {
        let shard = ((self.0 & !RETURNED) >> PLACE) as usize;
        if self.0 & RETURNED != 0 && store.shard_at(shard).is_some() {
            return (shard, (self.0 & ((1 << PLACE) - 1)) as usize);
        }
        if self == Self::START {
            return (0, 0);
        }
        let places: Vec<usize> = (0..).map_while(|n| store.shard_at(n)).map(|s| s.read().places()).collect();
        let total = places.iter().sum::<usize>().max(1) as u64;
        let mut at = (self.0 % total) as usize;
        for (shard, places) in places.into_iter().enumerate() {
            if at < places {
                return (shard, at);
            }
            at -= places;
        }
        (0, 0)
    }
}

impl From<u64> for Cursor {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<Cursor> for u64 {
    fn from(cursor: Cursor) -> Self {
        cursor.0
    }
}
