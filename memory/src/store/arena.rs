//! Memory for blocks of any size up to a limit, in regions that can be given back.
//!
//! A block begins at a multiple of 8 bytes. What a block holds says how long it is, whether in use or free, so a region can be
//! walked, and blocks in use need nothing beside them. Free blocks hang in lists by their size; a new block takes the smallest
//! that fits. Free neighbours are joined when the first of them becomes free, and by [`Arena::compact`], which slides the blocks
//! of a region together, or moves them to other regions and gives the region back.

use super::{nodes::NONE, regions};

/// Bytes that places and sizes are multiples of.
const GRAIN: usize = 8;
/// Grains of the largest block in use.
const LARGEST: usize = 128;
/// The most bytes of a block in use.
pub(super) const MAX_BLOCK: usize = LARGEST * GRAIN;
/// Bytes of a line of the processor's cache.
const LINE: usize = 64;
/// The first byte of a free block; that of a block in use has this bit clear.
pub(super) const FREE: u8 = 0x80;

#[derive(Debug)]
pub(super) struct Arena {
    /// Those given back have no bytes.
    regions: Vec<Region>,
    /// Numbers of regions that were given back.
    vacant: Vec<u32>,
    /// Grains of a region, as a power of two.
    shift: u32,
    /// The first free block by grains; all longer ones are in the last list.
    lists: Box<[u32]>,
    /// Which lists have blocks.
    filled: [u64; LARGEST / 64 + 1],
    free: usize,
    held: usize,
}

#[derive(Debug)]
struct Region {
    bytes: regions::Region,
    /// Bytes in free blocks.
    free: usize,
}

/// A block that was moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Arena {
    /// An arena of regions of `region` bytes, a power of two from 1 KiB.
    pub(super) fn new(region: usize) -> Self {
        Self {
            regions: Vec::new(),
            vacant: Vec::new(),
            shift: (region / GRAIN).ilog2(),
            lists: vec![NONE; LARGEST + 2].into(),
            filled: [0; LARGEST / 64 + 1],
            free: 0,
            held: 0,
        }
    }

    pub(super) fn region_bytes(&self) -> usize {
        GRAIN << self.shift
    }

    /// Bytes of all regions.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Bytes in free blocks.
    pub(super) fn free_bytes(&self) -> usize {
        self.free
    }

    /// Whether a block of `len` bytes could be had now.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.list_for(grains(len)).is_some()
    }

    /// Most free bytes of a region, and which region that is.
    pub(super) fn emptiest(&self) -> Option<(usize, u32)> {
        let held = self.regions.iter().enumerate().filter(|(_, region)| !region.bytes.is_empty());
        held.map(|(number, region)| (region.free, number as u32)).max()
    }

    /// Adds a region; the caller has reserved its bytes. Returns false if there can't be more.
    pub(super) fn grow(&mut self) -> bool {
        let bytes = regions::Region::new(self.region_bytes());
        let number = match self.vacant.pop() {
            Some(number) => number,
            None if (self.regions.len() as u64 + 1) << self.shift < u64::from(NONE) => {
                self.regions.push(Region { bytes: regions::Region::default(), free: 0 });
                (self.regions.len() - 1) as u32
            }
            None => return false,
        };
        self.held += bytes.len();
        self.regions[number as usize].bytes = bytes;
        self.set_free(number << self.shift, 1 << self.shift);
        true
    }

    /// A block of `len` bytes, [`MAX_BLOCK`] at most, if there is one.
    pub(super) fn take(&mut self, len: usize) -> Option<u32> {
        let wanted = grains(len);
        let place = self.lists[self.list_for(wanted)?];
        let found = self.unlink(place);
        if found > wanted {
            self.set_free(place + wanted as u32, found - wanted);
        }
        Some(place)
    }

    /// Gives back a block of `len` bytes.
    pub(super) fn give_back(&mut self, place: u32, len: usize) {
        let mut size = grains(len);
        let after = place + size as u32;
        // Not beyond the end of the region.
        if after & self.mask() != 0 && self.block(after)[0] == FREE {
            size += self.unlink(after);
        }
        self.set_free(place, size);
    }

    /// The memory from a block's beginning to the end of its region.
    pub(super) fn block(&self, place: u32) -> &[u8] {
        &self.regions[(place >> self.shift) as usize].bytes[self.offset(place)..]
    }

    /// Has the processor get what follows the first line of a block while that one is still on its way.
    pub(super) fn fetch(&self, place: u32) {
        let block = self.block(place);
        for ahead in [LINE, 2 * LINE] {
            std::hint::black_box(block.get(ahead).copied());
        }
    }

    pub(super) fn block_mut(&mut self, place: u32) -> &mut [u8] {
        let offset = self.offset(place);
        &mut self.regions[(place >> self.shift) as usize].bytes[offset..]
    }

    /// Slides all blocks of a region together, or moves those that find room to other regions. A region that is empty then is
    /// given back, and its bytes are the caller's to give back. `len_of` tells a used block's length; blocks that were moved are
    /// shown in the order of their old places.
    pub(super) fn compact(
        &mut self,
        number: u32,
        elsewhere: bool,
        len_of: impl Fn(&[u8]) -> usize,
    ) -> (Vec<Moved>, usize) {
        let start = number << self.shift;
        let end = start + (1 << self.shift);
        // None of its own free blocks is to be taken meanwhile.
        let mut at = start;
        let mut used = Vec::new();
        while at < end {
            let block = self.block(at);
            if block[0] == FREE {
                at += self.unlink(at) as u32;
            } else {
                let size = grains(len_of(block));
                used.push((at, size));
                at += size as u32;
            }
        }
        let mut moved = Vec::new();
        let mut next = start;
        for (from, size) in used {
            let to = if elsewhere { self.take(size * GRAIN) } else { None };
            let to = to.unwrap_or_else(|| {
                let here = next;
                next += size as u32;
                here
            });
            if to != from {
                self.copy(from, to, size * GRAIN);
                moved.push(Moved { from, to });
            }
        }
        if next == start && elsewhere {
            let region = &mut self.regions[number as usize];
            let bytes = std::mem::take(&mut region.bytes).len();
            region.free = 0;
            self.vacant.push(number);
            self.held -= bytes;
            return (moved, bytes);
        }
        if next < end {
            self.set_free(next, (end - next) as usize);
        }
        (moved, 0)
    }

    fn copy(&mut self, from: u32, to: u32, len: usize) {
        let (source, target) = (self.offset(from), self.offset(to));
        let (a, b) = ((from >> self.shift) as usize, (to >> self.shift) as usize);
        if a == b {
            self.regions[a].bytes.copy_within(source..source + len, target);
        } else if let Ok([a, b]) = self.regions.get_disjoint_mut([a, b]) {
            b.bytes[target..target + len].copy_from_slice(&a.bytes[source..source + len]);
        }
    }

    fn mask(&self) -> u32 {
        (1 << self.shift) - 1
    }

    fn offset(&self, place: u32) -> usize {
        (place & self.mask()) as usize * GRAIN
    }

    /// The list with the smallest blocks that have room for as many grains.
    fn list_for(&self, wanted: usize) -> Option<usize> {
        let mut word = wanted / 64;
        let mut bits = self.filled.get(word)? & (u64::MAX << (wanted % 64));
        while bits == 0 {
            word += 1;
            bits = *self.filled.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Makes a free block. One of a single grain has no room for links and waits for its neighbours.
    fn set_free(&mut self, place: u32, size: usize) {
        let list = list_of(size);
        let next = if size > 1 { self.lists[list] } else { NONE };
        let block = self.block_mut(place);
        block[0] = FREE;
        block[1..4].copy_from_slice(&(size as u32).to_le_bytes()[..3]);
        if size > 1 {
            block[4..8].copy_from_slice(&next.to_le_bytes());
            block[8..12].copy_from_slice(&NONE.to_le_bytes());
            if next != NONE {
                self.block_mut(next)[8..12].copy_from_slice(&place.to_le_bytes());
            }
            self.lists[list] = place;
            self.filled[list / 64] |= 1 << (list % 64);
        }
        self.free += size * GRAIN;
        self.regions[(place >> self.shift) as usize].free += size * GRAIN;
    }

    /// Takes a free block out of its list; returns its grains.
    fn unlink(&mut self, place: u32) -> usize {
        let block = self.block(place);
        let size = number(&[block[1], block[2], block[3], 0]) as usize;
        if size > 1 {
            let (next, previous) = (number(&block[4..8]), number(&block[8..12]));
            if next != NONE {
                self.block_mut(next)[8..12].copy_from_slice(&previous.to_le_bytes());
            }
            let list = list_of(size);
            if previous == NONE {
                self.lists[list] = next;
                if next == NONE {
                    self.filled[list / 64] &= !(1 << (list % 64));
                }
            } else {
                self.block_mut(previous)[4..8].copy_from_slice(&next.to_le_bytes());
            }
        }
        self.free -= size * GRAIN;
        self.regions[(place >> self.shift) as usize].free -= size * GRAIN;
        size
    }

    /// Panics if regions, lists and counts don't agree; returns the bytes in use.
    #[cfg(test)]
    pub(super) fn verify(&self, len_of: impl Fn(&[u8]) -> usize) -> usize {
        let (mut used, mut free, mut linked) = (0, 0, 0);
        for (number, region) in self.regions.iter().enumerate() {
            if region.bytes.is_empty() {
                assert!(self.vacant.contains(&(number as u32)), "region {number} is lost");
                continue;
            }
            let (mut at, mut free_here) = (0, 0);
            while at < region.bytes.len() {
                let block = &region.bytes[at..];
                let size = if block[0] == FREE {
                    let size = super::arena::number(&[block[1], block[2], block[3], 0]) as usize * GRAIN;
                    free_here += size;
                    linked += usize::from(size > GRAIN);
                    size
                } else {
                    let size = grains(len_of(block)) * GRAIN;
                    used += size;
                    size
                };
                at += size;
            }
            assert_eq!(at, region.bytes.len(), "region {number} is walked to its end");
            assert_eq!(free_here, region.free, "region {number}");
            free += free_here;
        }
        assert_eq!(free, self.free);
        let mut in_lists = 0;
        for (list, first) in self.lists.iter().enumerate() {
            assert_eq!(*first != NONE, self.filled[list / 64] & 1 << (list % 64) != 0, "list {list}");
            let mut at = *first;
            while at != NONE {
                in_lists += 1;
                at = super::arena::number(&self.block(at)[4..8]);
            }
        }
        assert_eq!(in_lists, linked);
        used
    }
}

/// Bytes that a block of `len` bytes takes.
pub(super) fn taken(len: usize) -> usize {
    grains(len) * GRAIN
}

/// Grains of a block of `len` bytes; two at least, so that it can be a free block of a list one day.
fn grains(len: usize) -> usize {
    len.div_ceil(GRAIN).max(2)
}

fn list_of(size: usize) -> usize {
    size.min(LARGEST + 1)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(NONE, u32::from_le_bytes)
}
