//! One shard: a hash table over a slab of nodes, in the order in which they came, evicted by SIEVE.
//!
//! SIEVE keeps a queue in order of arrival and a hand that moves from the oldest node to the newest. A node that was
//! used since the hand last passed loses its mark and stays; the first one without a mark goes. A hit only sets a mark,
//! so that it needs no more than the lock for reading, and keys used once leave before keys used often.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use hashbrown::HashTable;

use super::entry::{Entry, weight_of};

/// No node.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<u32>,
    nodes: Vec<Node>,
    /// First of the unused nodes, chained by `newer`.
    free: u32,
    oldest: u32,
    newest: u32,
    hand: u32,
    bytes: usize,
    capacity: usize,
}

#[derive(Debug)]
pub(super) struct Node {
    hash: u64,
    /// `None` while the node is unused.
    content: Option<(Arc<str>, Entry)>,
    older: u32,
    newer: u32,
    used: AtomicBool,
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            table: HashTable::new(),
            nodes: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            hand: NONE,
            bytes: 0,
            capacity,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_room(&self, weight: usize) -> bool {
        self.bytes + weight <= self.capacity
    }

    /// Returns a key's entry and marks it as used.
    pub(super) fn get(&self, hash: u64, key: &str) -> Option<Entry> {
        let node = &self.nodes[self.find(hash, key)? as usize];
        if !node.used.load(Relaxed) {
            node.used.store(true, Relaxed);
        }
        node.content.as_ref().map(|(_, entry)| entry.clone())
    }

    /// Returns a key's entry.
    pub(super) fn peek(&self, hash: u64, key: &str) -> Option<Entry> {
        self.nodes[self.find(hash, key)? as usize].content.as_ref().map(|(_, entry)| entry.clone())
    }

    /// Stores an entry in place of what the key had, and tells the hash of each one that made room. Returns false if the
    /// entry is larger than the shard; then the key has nothing.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        key: Arc<str>,
        entry: Entry,
        mut evicted: impl FnMut(u64),
    ) -> bool {
        self.remove_if(hash, &key, |_| true);
        let weight = weight_of(&key, &entry);
        if weight > self.capacity {
            return false;
        }
        while self.bytes + weight > self.capacity {
            evicted(self.evict());
        }
        let index = self.take_free();
        let node = &mut self.nodes[index as usize];
        node.hash = hash;
        node.content = Some((key, entry));
        node.older = self.newest;
        node.newer = NONE;
        *node.used.get_mut() = false;
        match self.newest {
            NONE => self.oldest = index,
            newest => self.nodes[newest as usize].newer = index,
        }
        self.newest = index;
        self.bytes += weight;
        self.table.insert_unique(hash, index, |&other| self.nodes[other as usize].hash);
        true
    }

    /// Removes a key's entry if `condition` holds for it; returns whether it did.
    pub(super) fn remove_if(&mut self, hash: u64, key: &str, condition: impl FnOnce(&Entry) -> bool) -> bool {
        let Some(index) = self.find(hash, key) else { return false };
        let holds = self.nodes[index as usize].content.as_ref().is_some_and(|(_, entry)| condition(entry));
        if holds {
            self.unlink(index);
        }
        holds
    }

    /// Looks at `count` nodes from number `from` on and drops those that `keep` refuses; returns where to go on.
    pub(super) fn sweep(
        &mut self,
        from: usize,
        count: usize,
        mut keep: impl FnMut(u64, &Entry) -> bool,
    ) -> Option<usize> {
        let end = self.nodes.len().min(from + count);
        for index in from..end {
            let node = &self.nodes[index];
            if node.content.as_ref().is_some_and(|(_, entry)| !keep(node.hash, entry)) {
                self.unlink(index as u32);
            }
        }
        (end < self.nodes.len()).then_some(end)
    }

    /// How many places there are, used or not.
    pub(super) fn places(&self) -> usize {
        self.nodes.len()
    }

    /// Shows the entries of `count` places from number `from` on, until `take` has enough and says false. Returns where
    /// to go on: the place of the entry that was refused, or the first that was not looked at.
    pub(super) fn page(
        &self,
        from: usize,
        count: usize,
        mut take: impl FnMut(&Arc<str>, &Entry) -> bool,
    ) -> usize {
        let end = self.nodes.len().min(from.saturating_add(count));
        for index in from..end {
            if self.nodes[index].content.as_ref().is_some_and(|(key, entry)| !take(key, entry)) {
                return index;
            }
        }
        end.max(from)
    }

    /// Drops everything and gives the memory back; returns how many entries that were.
    pub(super) fn clear(&mut self) -> u64 {
        let capacity = self.capacity;
        mem::replace(self, Self::new(capacity)).len() as u64
    }

    fn find(&self, hash: u64, key: &str) -> Option<u32> {
        self.table
            .find(hash, |&index| {
                let node = &self.nodes[index as usize];
                node.hash == hash && node.content.as_ref().is_some_and(|(found, _)| **found == *key)
            })
            .copied()
    }

    /// Drops the first node that was not used since the hand last passed it; returns its hash. The shard must not be
    /// empty.
    fn evict(&mut self) -> u64 {
        let mut at = if self.hand == NONE { self.oldest } else { self.hand };
        loop {
            let node = &mut self.nodes[at as usize];
            if !mem::take(node.used.get_mut()) {
                break;
            }
            at = if node.newer == NONE { self.oldest } else { node.newer };
        }
        self.hand = at;
        let hash = self.nodes[at as usize].hash;
        self.unlink(at); // moves the hand on
        hash
    }

    fn unlink(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let Some((key, entry)) = node.content.take() else { return };
        let (hash, older, newer) = (node.hash, node.older, node.newer);
        node.newer = self.free;
        self.free = index;
        match older {
            NONE => self.oldest = newer,
            older => self.nodes[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.nodes[newer as usize].older = older,
        }
        if self.hand == index {
            self.hand = newer;
        }
        self.bytes -= weight_of(&key, &entry);
        if let Ok(found) = self.table.find_entry(hash, |&other| other == index) {
            found.remove();
        }
    }

    fn take_free(&mut self) -> u32 {
        if self.free != NONE {
            let index = self.free;
            self.free = self.nodes[index as usize].newer;
            return index;
        }
        if self.nodes.len() == self.nodes.capacity() {
            // By an eighth, not to twice the size: spare nodes are memory that the bound does not see.
            self.nodes.reserve_exact((self.nodes.len() / 8).max(64));
        }
        self.nodes.push(Node {
            hash: 0,
            content: None,
            older: NONE,
            newer: NONE,
            used: AtomicBool::new(false),
        });
        (self.nodes.len() - 1) as u32
    }
}
