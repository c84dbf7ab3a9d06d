//! One shard: a table of nodes, an arena of blocks that hold the entries, and a policy that says who goes.
//!
//! An entry costs its block (20 bytes of header for most, rounded up to 8), a node of 14 bytes, and 6 to 8 of the table. The table leads
//! to the block and the block to the node, so that a hit waits for two places in memory and not three. What the shard
//! holds, free blocks included, is taken from the budget that all shards share.

use std::mem;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Cause,
    arena::{self, Arena},
    block::{self, Base, HEADER, Incoming, Meta},
    budget::Budget,
    entry::{Entry, Keep, Stamp, Take},
    nodes::{NONE, Nodes},
    policy::{Eviction, Policy},
    table::Table,
    uses::Uses,
};
use crate::{
    place::hash_bytes,
    store::compress::{Codec, Damaged, unpack},
};

/// What a large entry's bytes cost beyond themselves: their handle, the shared count, and what the allocator adds.
const BLOB: usize = mem::size_of::<Bytes>() + 32 + 16;
/// Free bytes that are left alone, as a divisor of all: more of them are put together before anything else has to go.
const SPARE: usize = 8;
/// Most places that are looked at when as many bytes are to be given up.
const TRIES: usize = 4096;

/// What all shards of a part are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Make {
    pub(super) eviction: Eviction,
    /// Bytes of a region.
    pub(super) region: usize,
    pub(super) base: Base,
}

impl Make {
    /// The largest block: four have room in a region.
    fn limit(&self) -> usize {
        self.region / 4
    }

    /// Whether an entry's key and value are kept apart from its block.
    pub(super) fn is_large(&self, new: &Incoming<'_>) -> bool {
        new.is_large(self.limit())
    }

    /// Bytes that the budget must have for an entry if its shard has no free block.
    pub(super) fn cost(&self, new: &Incoming<'_>) -> u64 {
        let data = if self.is_large(new) { new.data() + BLOB } else { 0 };
        (data + self.region) as u64
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    make: Make,
    table: Table,
    nodes: Nodes,
    arena: Arena,
    blobs: Vec<Bytes>,
    /// Numbers in `blobs` that are not in use.
    unused: Vec<u32>,
    policy: Box<dyn Policy>,
    uses: Uses,
    /// What table, nodes and policy have taken from the budget.
    side: u64,
    compressed: Compressed,
    scratch: Vec<u8>,
}

/// What compression saves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compressed {
    /// Values that are kept compressed.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they had.
    pub plain_bytes: u64,
}

/// An entry as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Its value is there only if it was taken.
    entry: Entry,
    /// A value that is not to be taken under a lock, as it is kept.
    kept: Option<(Bytes, Option<(Codec, usize)>)>,
}

impl Found {
    /// The entry as it was filled. Not to be done under a lock.
    pub(super) fn plain(self, take: &mut impl Take) -> Result<Entry, Damaged> {
        let Self { mut entry, kept } = self;
        if let Some((bytes, packed)) = kept {
            let value = match packed {
                Some((codec, plain)) => unpack(codec, &bytes, plain)?,
                None => bytes,
            };
            entry.value = Some(take.whole(value));
        }
        Ok(entry)
    }
}

impl Shard {
    pub(super) fn new(make: Make) -> Self {
        let policy = make.eviction.policy();
        Self {
            make,
            table: Table::new(),
            nodes: Nodes::new(),
            arena: Arena::new(make.region),
            blobs: Vec::new(),
            unused: Vec::new(),
            uses: Uses::new(policy.follows_uses()),
            policy,
            side: 0,
            compressed: Compressed::default(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn compressed(&self) -> Compressed {
        self.compressed
    }

    /// Whether hits are about to be lost; then [`catch_up`](Self::catch_up) is due.
    pub(super) fn is_behind(&self) -> bool {
        self.uses.is_full()
    }

    /// Tells the policy of the hits so far. The first thing that every change does.
    pub(super) fn catch_up(&mut self) {
        let Self { uses, policy, nodes, .. } = self;
        uses.drain(|id, print| policy.used(nodes, id, print));
    }

    /// Whether the key has an entry, valid or not.
    pub(super) fn has(&self, hash: u64, key: &str) -> bool {
        self.find(hash, key).is_some()
    }

    /// Returns a key's entry if `judge` finds it valid, and its verdict if not; counts as a use of it.
    pub(super) fn get(
        &self,
        hash: u64,
        key: &str,
        judge: impl Fn(&Stamp, Instant) -> Result<(), Cause>,
        take: &mut impl Take,
    ) -> Option<Result<Found, Cause>> {
        let block = self.arena.block(self.find(hash, key)?);
        let meta = Meta::read(block);
        let found = self.judged(block, &meta, judge, take);
        if found.is_ok() {
            self.policy.touch(&self.nodes, meta.node);
            if self.policy.follows_uses() {
                self.uses.note(meta.node, print(hash));
            }
        }
        Some(found)
    }

    /// Like [`get`](Self::get), but no use.
    pub(super) fn peek(
        &self,
        hash: u64,
        key: &str,
        judge: impl Fn(&Stamp, Instant) -> Result<(), Cause>,
    ) -> Option<Result<Found, Cause>> {
        let block = self.arena.block(self.find(hash, key)?);
        Some(self.judged(block, &Meta::read(block), judge, &mut Keep))
    }

    fn judged(
        &self,
        block: &[u8],
        meta: &Meta,
        judge: impl Fn(&Stamp, Instant) -> Result<(), Cause>,
        take: &mut impl Take,
    ) -> Result<Found, Cause> {
        judge(&meta.stamp, meta.expires(self.make.base))?;
        Ok(self.found(block, meta, take))
    }

    fn found(&self, block: &[u8], meta: &Meta, take: &mut impl Take) -> Found {
        let blob = meta.blob.map(|number| &self.blobs[number as usize]);
        let packed = meta.codec.map(|codec| (codec, meta.plain));
        let (value, kept) = match blob {
            _ if !meta.has_value => (None, None),
            Some(blob) => (None, Some((blob.slice(meta.value()), packed))),
            // A share of a block would be an allocation too, and hold on to all of its region.
            None if packed.is_some() => (None, Some((Bytes::copy_from_slice(&block[meta.value()]), packed))),
            None => (Some(take.lent(&block[meta.value()])), None),
        };
        let tags = meta.tags(blob.map_or(block, |blob| &blob[..]));
        let base = self.make.base;
        let (filled, expires) = (meta.filled(base), meta.expires(base));
        Found { entry: Entry { value, stamp: meta.stamp, filled, expires, tags }, kept }
    }

    /// Stores an entry in place of what the key had, and tells the hash of each one that made room. Returns false if there
    /// can't be room for it; then the key has nothing.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        new: &Incoming<'_>,
        budget: &Budget,
        mut evicted: impl FnMut(u64),
    ) -> bool {
        self.catch_up();
        self.nodes.set_time(budget.tick());
        if let Some(place) = self.find(hash, new.key) {
            self.unlink(hash, place, budget);
        }
        while self.nodes.is_full() && self.evict(budget, &mut evicted) {}
        if self.cost(new) > budget.capacity() {
            return false;
        }
        self.policy.coming(print(hash));
        let Some(place) = self.write(new, budget, &mut evicted) else { return false };
        let id = self.nodes.take(place);
        block::set_node(self.arena.block_mut(place), id);
        let (arena, blobs) = (&self.arena, &self.blobs);
        self.table.insert(hash, place, |place| hash_at(arena, blobs, place));
        self.policy.came(&mut self.nodes, id, print(hash));
        self.count(new.packed.map(|packed| (packed.bytes.len(), packed.plain)), true);
        self.settle(budget);
        if !budget.is_over() {
            return true;
        }
        // Table and nodes have grown.
        while budget.is_over() && self.shed(budget, &mut evicted) {}
        self.has(hash, new.key)
    }

    /// Bytes that the budget must have for an entry if the shard has no free block: of a large one, and of the region of its block.
    fn cost(&self, new: &Incoming<'_>) -> u64 {
        self.make.cost(new)
    }

    /// Whether such an entry could be inserted without evicting another.
    pub(super) fn has_room(&self, key: usize, value: usize, budget: &Budget) -> bool {
        let len = HEADER + key + value;
        let grows = self.make.region as u64;
        if len <= self.limit() {
            self.arena.has_room(len) || budget.left() >= grows
        } else {
            budget.left() >= (len + BLOB) as u64 + grows
        }
    }

    fn limit(&self) -> usize {
        self.make.limit()
    }

    /// Writes the entry into a block, making room for it; returns its place.
    fn write(&mut self, new: &Incoming<'_>, budget: &Budget, evicted: &mut impl FnMut(u64)) -> Option<u32> {
        let blob = if new.is_large(self.limit()) {
            let bytes = (new.data() + BLOB) as u64;
            while !budget.reserve(bytes) {
                if !self.shed(budget, evicted) {
                    return None;
                }
            }
            Some(self.keep(new.blob()))
        } else {
            None
        };
        let mut scratch = mem::take(&mut self.scratch);
        new.write(self.make.base, blob, &mut scratch);
        let place = self.place_for(scratch.len(), budget, evicted);
        if let Some(place) = place {
            self.arena.block_mut(place)[..scratch.len()].copy_from_slice(&scratch);
        } else if let Some(number) = blob {
            self.drop_blob(number, budget);
        }
        self.scratch = scratch;
        place
    }

    fn keep(&mut self, blob: Bytes) -> u32 {
        if let Some(number) = self.unused.pop() {
            self.blobs[number as usize] = blob;
            return number;
        }
        self.blobs.push(blob);
        (self.blobs.len() - 1) as u32
    }

    fn drop_blob(&mut self, number: u32, budget: &Budget) {
        let blob = mem::take(&mut self.blobs[number as usize]);
        budget.give_back((blob.len() + BLOB) as u64);
        self.unused.push(number);
    }

    /// A free block of `len` bytes; what is in the way makes room.
    fn place_for(&mut self, len: usize, budget: &Budget, evicted: &mut impl FnMut(u64)) -> Option<u32> {
        loop {
            if let Some(place) = self.arena.take(len) {
                return Some(place);
            }
            if budget.reserve(self.arena.region_bytes() as u64) {
                if self.arena.grow() {
                    continue;
                }
                budget.give_back(self.arena.region_bytes() as u64);
            }
            if self.arena.free_bytes() * SPARE > self.arena.held()
                && let Some((free, region)) = self.arena.emptiest()
                && free >= arena::taken(len)
            {
                self.compact(region, false);
            } else if !self.evict(budget, evicted) {
                return None; // This shard has nothing left; what there is belongs to others.
            }
        }
    }

    /// Drops the entry that the policy chooses.
    fn evict(&mut self, budget: &Budget, evicted: &mut impl FnMut(u64)) -> bool {
        let Self { policy, nodes, arena, blobs, .. } = self;
        let print_of = |nodes: &Nodes, id| print(hash_at(arena, blobs, nodes.place(id)));
        let Some(id) = policy.victim(nodes, &print_of) else { return false };
        let place = nodes.place(id);
        arena.fetch(place);
        let hash = hash_at(arena, blobs, place);
        self.unlink(hash, place, budget);
        evicted(hash);
        true
    }

    /// Makes the budget less used, by a region or by an entry; returns false if there is nothing left to give.
    fn shed(&mut self, budget: &Budget, evicted: &mut impl FnMut(u64)) -> bool {
        let region = self.arena.region_bytes();
        let free = self.arena.free_bytes();
        if (free >= region * 5 / 4 || free == self.arena.held())
            && let Some((_, emptiest)) = self.arena.emptiest()
        {
            let given = self.compact(emptiest, true);
            if given > 0 {
                budget.give_back(given as u64);
                return true;
            }
        }
        self.evict(budget, evicted)
    }

    /// Gives up `bytes` of the budget, for another shard.
    pub(super) fn give_up(&mut self, bytes: u64, budget: &Budget, mut evicted: impl FnMut(u64)) {
        self.catch_up();
        let target = budget.left() + bytes;
        for _ in 0..TRIES {
            if budget.left() >= target || !self.shed(budget, &mut evicted) {
                return;
            }
        }
    }

    /// Gives back what is not needed any more; after many entries have gone.
    pub(super) fn trim(&mut self, budget: &Budget) {
        if self.len() == 0 {
            self.clear(budget);
            return;
        }
        while self.arena.free_bytes() >= self.arena.region_bytes() * 2 + self.arena.held() / SPARE
            && let Some((_, emptiest)) = self.arena.emptiest()
        {
            let given = self.compact(emptiest, true);
            if given == 0 {
                break;
            }
            budget.give_back(given as u64);
        }
        let (arena, blobs) = (&self.arena, &self.blobs);
        self.table.trim(|place| hash_at(arena, blobs, place));
        self.settle(budget);
    }

    /// Puts a region's free blocks together, or empties it; returns the bytes that it gave back.
    fn compact(&mut self, region: u32, elsewhere: bool) -> usize {
        let (moved, given) = self.arena.compact(region, elsewhere, block::len_of);
        // In the order of the old places: none of them is the new place of one that was moved before.
        for moved in moved {
            let hash = hash_at(&self.arena, &self.blobs, moved.to);
            if self.table.replace(hash, moved.from, moved.to) {
                self.nodes.set_place(block::node_of(self.arena.block(moved.to)), moved.to);
            }
        }
        given
    }

    /// Removes a key's entry if `condition` holds for its stamp and expiry; returns whether it did.
    pub(super) fn remove_if(
        &mut self,
        hash: u64,
        key: &str,
        budget: &Budget,
        condition: impl FnOnce(&Stamp, Instant) -> bool,
    ) -> bool {
        self.catch_up();
        let Some(place) = self.find(hash, key) else { return false };
        let meta = Meta::read(self.arena.block(place));
        let holds = condition(&meta.stamp, meta.expires(self.make.base));
        if holds {
            self.unlink(hash, place, budget);
        }
        holds
    }

    /// Looks at `count` places from number `from` on and drops the entries that `judge` refuses; returns where to go on.
    pub(super) fn sweep(
        &mut self,
        from: usize,
        count: usize,
        budget: &Budget,
        mut judge: impl FnMut(&Stamp, Instant) -> Result<(), Cause>,
        mut dropped: impl FnMut(u64, Cause),
    ) -> Option<usize> {
        self.catch_up();
        let end = self.nodes.len().min(from + count);
        for id in (from..end).map(|id| id as u32) {
            let place = self.nodes.place(id);
            if place == NONE {
                continue;
            }
            let meta = Meta::read(self.arena.block(place));
            if let Err(cause) = judge(&meta.stamp, meta.expires(self.make.base)) {
                let hash = hash_at(&self.arena, &self.blobs, place);
                self.unlink(hash, place, budget);
                dropped(hash, cause);
            }
        }
        (end < self.nodes.len()).then_some(end)
    }

    /// How many places there are, used or not.
    pub(super) fn places(&self) -> usize {
        self.nodes.len()
    }

    /// The entries of up to `count` places from number `from` on that `wanted` says true for, each with its place, and where to go on.
    pub(super) fn page(
        &self,
        from: usize,
        count: usize,
        mut wanted: impl FnMut(&Stamp, Instant) -> bool,
    ) -> (Vec<(usize, String, Found)>, usize) {
        let end = self.nodes.len().min(from.saturating_add(count)).max(from);
        let mut entries = Vec::new();
        for at in from..end {
            let place = self.nodes.place(at as u32);
            if place == NONE {
                continue;
            }
            let block = self.arena.block(place);
            let meta = Meta::read(block);
            if wanted(&meta.stamp, meta.expires(self.make.base)) {
                let key = String::from_utf8_lossy(key_at(&self.arena, &self.blobs, place)).into_owned();
                entries.push((at, key, self.found(block, &meta, &mut Keep)));
            }
        }
        (entries, end)
    }

    /// The time of an entry that would make room soon; `None` if all are in use.
    pub(super) fn coldest(&self) -> Option<u32> {
        self.policy.coldest(&self.nodes)
    }

    /// Drops everything and gives the memory back; returns how many entries that were.
    pub(super) fn clear(&mut self, budget: &Budget) -> u64 {
        let old = mem::replace(self, Self::new(self.make));
        let blobs: usize =
            old.blobs.iter().filter(|blob| !blob.is_empty()).map(|blob| blob.len() + BLOB).sum();
        budget.give_back((old.arena.held() + blobs) as u64 + old.side);
        old.len() as u64
    }

    fn find(&self, hash: u64, key: &str) -> Option<u32> {
        let (arena, blobs) = (&self.arena, &self.blobs);
        self.table.find(hash, |place| {
            arena.fetch(place);
            key_at(arena, blobs, place) == key.as_bytes()
        })
    }

    fn unlink(&mut self, hash: u64, place: u32, budget: &Budget) {
        let meta = Meta::read(self.arena.block(place));
        self.table.remove(hash, place);
        self.policy.left(&mut self.nodes, meta.node);
        self.count(meta.codec.map(|_| (meta.kept(), meta.plain)), false);
        if let Some(number) = meta.blob {
            self.drop_blob(number, budget);
        }
        self.arena.give_back(place, meta.len);
        self.nodes.give_back(meta.node);
    }

    fn count(&mut self, packed: Option<(usize, usize)>, comes: bool) {
        let Some((bytes, plain)) = packed else { return };
        let (counted, sign) = (&mut self.compressed, if comes { 1 } else { -1 });
        counted.entries = counted.entries.wrapping_add_signed(sign);
        counted.bytes = counted.bytes.wrapping_add_signed(sign * (bytes as u64).cast_signed());
        counted.plain_bytes = counted.plain_bytes.wrapping_add_signed(sign * (plain as u64).cast_signed());
    }

    /// Has the budget know what table, nodes and policy take now.
    fn settle(&mut self, budget: &Budget) {
        let in_use = self.blobs.len() - self.unused.len();
        let handles = (self.blobs.capacity() - in_use) * mem::size_of::<Bytes>();
        let side = self.table.bytes()
            + self.nodes.bytes()
            + self.policy.bytes()
            + handles
            + self.unused.capacity() * mem::size_of::<u32>();
        let side = side as u64;
        if side == self.side {
            return; // as nearly always: the budget is everybody's
        }
        match side.checked_sub(self.side) {
            Some(more) => budget.take(more),
            None => budget.give_back(self.side - side),
        }
        self.side = side;
    }

    /// Panics if table, nodes, arena and counts don't agree; returns what has been taken from the budget.
    #[cfg(test)]
    pub(super) fn verify(&self) -> u64 {
        let mut used = 0;
        let mut compressed = Compressed::default();
        for place in self.table.places() {
            let meta = Meta::read(self.arena.block(place));
            assert_eq!(self.nodes.place(meta.node), place);
            used += meta.len.next_multiple_of(8).max(16);
            let hash = hash_at(&self.arena, &self.blobs, place);
            assert!(self.table.find(hash, |other| other == place).is_some());
            if meta.codec.is_some() {
                compressed.entries += 1;
                compressed.bytes += meta.kept() as u64;
                compressed.plain_bytes += meta.plain as u64;
            }
        }
        assert_eq!(self.arena.verify(block::len_of), used);
        assert_eq!(self.compressed, compressed);
        let places = (0..self.nodes.len()).filter(|id| self.nodes.place(*id as u32) != NONE);
        assert_eq!(places.count(), self.table.len());
        let blobs: usize =
            self.blobs.iter().filter(|blob| !blob.is_empty()).map(|blob| blob.len() + BLOB).sum();
        (self.arena.held() + blobs) as u64 + self.side
    }

    /// Spoils the value of a key, for tests of what that does.
    #[cfg(all(test, not(feature = "shuttle")))]
    pub(super) fn damage(&mut self, hash: u64, key: &str) {
        let place = self.find(hash, key).expect("the key is there");
        let meta = Meta::read(self.arena.block(place));
        let value = meta.value();
        self.arena.block_mut(place)[value].fill(0xff);
    }
}

/// The 32 bits of a hash that policies know a key by; not those that chose the shard.
fn print(hash: u64) -> u32 {
    hash as u32
}

fn hash_at(arena: &Arena, blobs: &[Bytes], place: u32) -> u64 {
    hash_bytes(key_at(arena, blobs, place))
}

fn key_at<'a>(arena: &'a Arena, blobs: &'a [Bytes], place: u32) -> &'a [u8] {
    match block::key_of(arena.block(place)) {
        Ok(key) => key,
        Err((number, len)) => &blobs[number as usize][..len],
    }
}
