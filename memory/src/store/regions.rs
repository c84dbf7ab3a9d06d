//! Where regions have their bytes.
//!
//! A large store's regions lie in huge pages (2 MiB), where the system has them: a lookup goes to a random place in all of the store, and
//! with pages of 4 KiB the processor waits for the page table as often as for the entry. Such memory belongs to the process: what a store
//! gives back waits here for the next region, of this store or of another.

use std::ops::{Deref, DerefMut};

use parking_lot::Mutex;

/// Bytes of a region in huge pages; smaller ones are the heap's.
pub(super) const LARGE: usize = 64 << 10;
/// Bytes of a huge page on all systems that the kernel has them on by default.
const PAGE: usize = 2 << 20;
/// Bytes that are asked for at once. What has not been written to takes no memory.
const CHUNK: usize = 64 << 20;

static FREE: Mutex<Free> = Mutex::new(Free { regions: Vec::new(), exhausted: false });

#[derive(Debug)]
struct Free {
    regions: Vec<&'static mut [u8]>,
    /// The system gave no more.
    exhausted: bool,
}

/// The bytes of a region; by default none.
#[derive(Debug)]
pub(super) enum Region {
    Heap(Box<[u8]>),
    Huge(&'static mut [u8]),
}

impl Region {
    /// A region of so many bytes, whatever is in them.
    pub(super) fn new(bytes: usize) -> Self {
        let huge = if bytes == LARGE { FREE.lock().take() } else { None };
        huge.map_or_else(|| Self::Heap(vec![0; bytes].into()), Self::Huge)
    }
}

impl Default for Region {
    fn default() -> Self {
        Self::Heap(Box::default())
    }
}

impl Free {
    fn take(&mut self) -> Option<&'static mut [u8]> {
        if self.regions.is_empty() && !self.exhausted {
            match map() {
                // The lowest is taken first, so that a page is in use as a whole before the next one is touched.
                Some(chunk) => self.regions.extend(chunk.chunks_exact_mut(LARGE).rev()),
                None => self.exhausted = true,
            }
        }
        self.regions.pop()
    }
}

/// A chunk of whole huge pages.
#[cfg(target_os = "linux")]
fn map() -> Option<&'static mut [u8]> {
    let map = memmap2::MmapOptions::new().len(CHUNK).no_reserve_swap().map_anon().ok()?;
    // A system without huge pages refuses; the memory is as good as the heap's then.
    let _ = map.advise(memmap2::Advice::HugePage);
    let map: &'static mut memmap2::MmapMut = Box::leak(Box::new(map));
    let chunk: &'static mut [u8] = map;
    let before = chunk.as_ptr().addr().next_multiple_of(PAGE) - chunk.as_ptr().addr();
    chunk[before..].chunks_exact_mut(CHUNK - PAGE).next()
}

#[cfg(not(target_os = "linux"))]
fn map() -> Option<&'static mut [u8]> {
    None
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Huge(bytes) => bytes,
        }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Huge(bytes) => bytes,
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Self::Huge(bytes) = self {
            FREE.lock().regions.push(std::mem::take(bytes));
        }
    }
}

#[cfg(all(test, not(feature = "shuttle"), target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn regions_are_whole_apart_and_used_again() {
        let mut regions: Vec<Region> = (0..100).map(|_| Region::new(LARGE)).collect();
        for (number, region) in regions.iter_mut().enumerate() {
            assert_eq!(region.len(), LARGE);
            region.fill(number as u8);
        }
        for (number, region) in regions.iter().enumerate() {
            assert!(region.iter().all(|byte| *byte == number as u8), "region {number} is its own");
        }
        let huge = regions.iter().filter(|region| matches!(region, Region::Huge(_))).count();
        assert_eq!(huge, 100, "they are mapped, not of the heap");
        let addresses = |regions: &[Region]| -> Vec<usize> {
            regions.iter().map(|region| region.as_ptr().addr()).collect()
        };
        let before = addresses(&regions);
        drop(regions);
        let again: Vec<Region> = (0..100).map(|_| Region::new(LARGE)).collect();
        // Other tests' stores may take some meanwhile.
        assert!(addresses(&again).iter().any(|address| before.contains(address)));
    }

    #[test]
    fn a_small_region_is_of_the_heap() {
        assert!(matches!(Region::new(1 << 10), Region::Heap(_)));
        assert!(Region::default().is_empty());
    }
}
