//! One instance of the sharded structure: values, or negative entries.
//!
//! Its bytes are bounded as a whole. A shard that needs room takes it from what is left, and then makes its own entries go; but at
//! times it looks at another shard, and if what would go there next is clearly older than what goes here, that one gives up
//! memory. So a shard with more than its share of keys in use has more than its share of memory. No two shards' locks are ever held
//! at once.

use super::{
    block::Incoming,
    budget::Budget,
    nodes::{coarse, since},
    regions,
    shard::{Compressed, Make, Shard},
    sync::RwLock,
};

/// Bytes of memory for each shard, if there is enough.
const SHARD: u64 = 1 << 20;
const MOST_SHARDS: u64 = 64;
/// Regions for each shard, about, and the bounds of their size.
const REGIONS: u64 = 32;
const SMALLEST_REGION: u64 = 1 << 10;
const LARGEST_REGION: u64 = regions::LARGE as u64;
/// How many inserts go by between two looks at another shard.
const LOOK: u32 = 64;
/// Shards that are looked at for one that gives up memory for a large entry.
const SAMPLE: u32 = 4;

#[derive(Debug)]
pub(super) struct Part {
    pub(super) shards: Box<[RwLock<Shard>]>,
    pub(super) budget: Budget,
    make: Make,
}

impl Part {
    /// A part of `capacity` bytes; regions are as large as suits it.
    pub(super) fn new(capacity: u64, make: Make) -> Self {
        let count = 1_u64 << (capacity / SHARD).clamp(1, MOST_SHARDS).ilog2();
        Self::with_shards(capacity, count, make)
    }

    pub(super) fn with_shards(capacity: u64, count: u64, make: Make) -> Self {
        let region = (capacity / count / REGIONS).clamp(SMALLEST_REGION, LARGEST_REGION);
        let make = Make { region: 1 << region.ilog2(), ..make };
        Self {
            shards: (0..count).map(|_| RwLock::new(Shard::new(make))).collect(),
            budget: Budget::new(capacity),
            make,
        }
    }

    pub(super) fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[self.index(hash)]
    }

    fn index(&self, hash: u64) -> usize {
        // The table inside a shard uses the low and the topmost bits, policies the lower half; take others.
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    /// Stores an entry, see [`Shard::insert`].
    pub(super) fn insert(&self, hash: u64, new: &Incoming<'_>, mut evicted: impl FnMut(u64)) -> bool {
        let (index, cost) = (self.index(hash), self.make.cost(new));
        if cost <= self.budget.capacity() {
            if self.make.is_large(new) {
                self.make_room(index, cost, &mut evicted);
            } else if self.budget.now().is_multiple_of(LOOK) && self.budget.left() < cost {
                self.borrow(index, &mut evicted);
            }
        }
        if self.shards[index].write().insert(hash, new, &self.budget, &mut evicted) {
            return true;
        }
        if cost > self.budget.capacity() {
            return false;
        }
        // All memory is with other shards.
        for other in (0..self.shards.len()).filter(|other| *other != index) {
            if self.budget.left() < cost {
                self.shards[other].write().give_up(cost, &self.budget, &mut evicted);
            }
            if self.budget.left() >= cost
                && self.shards[index].write().insert(hash, new, &self.budget, &mut evicted)
            {
                return true;
            }
        }
        false
    }

    /// Removes what the key has; returns whether that was anything.
    pub(super) fn remove(&self, hash: u64, key: &str) -> bool {
        let shard = self.shard(hash);
        // Most keys are in one part alone, and looking disturbs nobody.
        shard.read().has(hash, key) && shard.write().remove_if(hash, key, &self.budget, |_, _| true)
    }

    /// Whether an entry could be inserted without evicting another.
    pub(super) fn has_room(&self, hash: u64, key: usize, value: usize) -> bool {
        self.shard(hash).read().has_room(key, value, &self.budget)
    }

    pub(super) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().len() as u64).sum()
    }

    pub(super) fn compressed(&self) -> Compressed {
        self.shards.iter().fold(Compressed::default(), |sum, shard| {
            let shard = shard.read().compressed();
            Compressed {
                entries: sum.entries + shard.entries,
                bytes: sum.bytes + shard.bytes,
                plain_bytes: sum.plain_bytes + shard.plain_bytes,
            }
        })
    }

    /// Has another shard give up a region if what would go there next is clearly older than what would go here.
    fn borrow(&self, index: usize, evicted: &mut impl FnMut(u64)) {
        let other = self.random(0);
        if other == index {
            return;
        }
        let (own, others) = (self.age(index).unwrap_or(0), self.age(other).unwrap_or(0));
        if others / 5 * 4 > own {
            self.shards[other].write().give_up(self.make.region as u64, &self.budget, evicted);
        }
    }

    /// Has the sampled shards whose next victims are the oldest give up memory, until there is enough for a large entry.
    fn make_room(&self, index: usize, cost: u64, evicted: &mut impl FnMut(u64)) {
        for round in 0..SAMPLE * self.shards.len() as u32 {
            let left = self.budget.left();
            if left >= cost {
                return;
            }
            let sampled = (1..SAMPLE).map(|n| self.random(round * SAMPLE + n)).chain([index]);
            let Some(coldest) = sampled.max_by_key(|shard| self.age(*shard).unwrap_or(0)) else { return };
            let part = (cost - left).min(4 * self.make.region as u64);
            self.shards[coldest].write().give_up(part, &self.budget, &mut *evicted);
        }
    }

    /// How many inserts ago a shard's next victim came, about; `None` if there is none, or all are in use.
    fn age(&self, index: usize) -> Option<u32> {
        let coldest = self.shards[index].read().coldest()?;
        Some(since(coldest, coarse(self.budget.now())))
    }

    /// A shard; another one each time.
    fn random(&self, salt: u32) -> usize {
        let mixed = u64::from(self.budget.now() ^ salt.rotate_left(24)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.shards.len() - 1)
    }
}
