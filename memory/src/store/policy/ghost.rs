//! What was in memory not long ago: 32 bits of each key's hash, in the order in which they left.

use std::{collections::VecDeque, mem};

use hashbrown::HashTable;

#[derive(Debug)]
pub(super) struct Ghost {
    seen: HashTable<(u32, u32)>,
    /// Oldest first; those whose number `seen` does not know have been taken out.
    order: VecDeque<(u32, u32)>,
    next: u32,
}

impl Ghost {
    pub(super) fn new() -> Self {
        Self { seen: HashTable::new(), order: VecDeque::new(), next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn contains(&self, print: u32) -> bool {
        self.seen.find(mixed(print), |(found, _)| *found == print).is_some()
    }

    pub(super) fn push(&mut self, print: u32) {
        self.remove(print);
        self.next = self.next.wrapping_add(1);
        let ghost = (print, self.next);
        self.seen.insert_unique(mixed(print), ghost, |(print, _)| mixed(*print));
        if self.order.len() > self.seen.len() * 2 + 64 {
            let seen = &self.seen;
            self.order.retain(|ghost| seen.find(mixed(ghost.0), |found| found == ghost).is_some());
        }
        self.order.push_back(ghost);
    }

    /// Takes one out; returns whether it was there.
    pub(super) fn remove(&mut self, print: u32) -> bool {
        self.seen
            .find_entry(mixed(print), |(found, _)| *found == print)
            .map(hashbrown::hash_table::OccupiedEntry::remove)
            .is_ok()
    }

    /// Forgets the oldest.
    pub(super) fn pop(&mut self) {
        while let Some(ghost) = self.order.pop_front() {
            if let Ok(found) = self.seen.find_entry(mixed(ghost.0), |found| *found == ghost) {
                found.remove();
                return;
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.seen.allocation_size() + self.order.capacity() * mem::size_of::<(u32, u32)>()
    }
}

/// Spreads a print over the bits that a table looks at.
fn mixed(print: u32) -> u64 {
    u64::from(print).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
