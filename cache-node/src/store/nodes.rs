//! Nodes: 16 bytes for each entry, through which the table finds it and the policy orders it.

use std::{mem, sync::atomic::Ordering::Relaxed};

use super::sync::AtomicU32;

/// No node, no place.
pub(crate) const NONE: u32 = u32::MAX;

/// Nodes that are allocated together, as a power of two: 4 KiB. More come without moving those that are there, so that growing leaves
/// no holes in the heap.
const CHUNK: u32 = 8;

/// Bits of a node's state that belong to the policy; the others hold the time.
const POLICY: u32 = 8;

/// One entry, for table and policy.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where the entry is in the arena; [`NONE`] while the node is unused.
    pub(super) place: u32,
    older: u32,
    /// For an unused node: the next unused one.
    newer: u32,
    /// The policy's own bits, and when the node came to the newest end of a queue, in inserts.
    state: AtomicU32,
}

impl Node {
    fn unused() -> Self {
        Self { place: NONE, older: NONE, newer: NONE, state: AtomicU32::new(0) }
    }

    /// The policy's own bits.
    pub(crate) fn bits(&self) -> u8 {
        self.state.load(Relaxed) as u8
    }

    /// Sets the policy's own bits. With the lock held for reading others may do the same: one of them wins.
    pub(crate) fn set_bits(&self, bits: u8) {
        let state = self.state.load(Relaxed);
        self.state.store(state & !0xff | u32::from(bits), Relaxed);
    }

    /// When it came to the newest end of a queue.
    pub(crate) fn time(&self) -> u32 {
        self.state.load(Relaxed) >> POLICY
    }
}

/// All nodes of a shard.
#[derive(Debug)]
pub(crate) struct Nodes {
    chunks: Vec<Box<[Node; 1 << CHUNK]>>,
    /// Nodes that were ever used.
    len: usize,
    free: u32,
    /// The time now, in inserts of the whole part, as far as a node's state has room for it.
    time: u32,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), len: 0, free: NONE, time: 0 }
    }

    /// Sets the time from a count of inserts.
    pub(super) fn set_time(&mut self, inserts: u32) {
        self.time = coarse(inserts);
    }

    /// How many nodes there are, used or not.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * mem::size_of::<[Node; 1 << CHUNK]>()
            + self.chunks.capacity() * mem::size_of::<usize>()
    }

    pub(crate) fn get(&self, id: u32) -> &Node {
        &self.chunks[id as usize >> CHUNK][id as usize & ((1 << CHUNK) - 1)]
    }

    fn get_mut(&mut self, id: u32) -> &mut Node {
        &mut self.chunks[id as usize >> CHUNK][id as usize & ((1 << CHUNK) - 1)]
    }

    /// Moves an entry.
    pub(super) fn set_place(&mut self, id: u32, place: u32) {
        self.get_mut(id).place = place;
    }

    /// A node for an entry.
    pub(crate) fn take(&mut self, place: u32) -> u32 {
        let node = Node { place, older: NONE, newer: NONE, state: AtomicU32::new(0) };
        if self.free != NONE {
            let id = self.free;
            let unused = mem::replace(self.get_mut(id), node);
            self.free = unused.newer;
            return id;
        }
        if self.len == self.chunks.len() << CHUNK {
            self.chunks.push(Box::new(std::array::from_fn(|_| Node::unused())));
        }
        let id = self.len as u32;
        self.len += 1;
        *self.get_mut(id) = node;
        id
    }

    /// Gives a node back; it must be in no queue.
    pub(crate) fn give_back(&mut self, id: u32) {
        let free = self.free;
        let node = self.get_mut(id);
        (node.place, node.newer) = (NONE, free);
        self.free = id;
    }
}

/// A time in inserts, as far as a node's state has room for it; it wraps.
pub(super) fn coarse(inserts: u32) -> u32 {
    inserts >> 4 & (u32::MAX >> POLICY)
}

/// How long ago `then` was, both coarse.
pub(super) fn since(then: u32, now: u32) -> u32 {
    now.wrapping_sub(then) & (u32::MAX >> POLICY)
}

/// A queue of nodes; each node is in one at most.
#[derive(Debug)]
pub(crate) struct Queue {
    oldest: u32,
    newest: u32,
    len: usize,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { oldest: NONE, newest: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The next newer one.
    pub(crate) fn newer(nodes: &Nodes, id: u32) -> Option<u32> {
        let newer = nodes.get(id).newer;
        (newer != NONE).then_some(newer)
    }

    /// Puts a node at the newest end, with these bits.
    pub(crate) fn push(&mut self, nodes: &mut Nodes, id: u32, bits: u8) {
        let time = nodes.time;
        let node = nodes.get_mut(id);
        (node.older, node.newer) = (self.newest, NONE);
        node.state = AtomicU32::new(time << POLICY | u32::from(bits));
        match self.newest {
            NONE => self.oldest = id,
            newest => nodes.get_mut(newest).newer = id,
        }
        self.newest = id;
        self.len += 1;
    }

    /// Takes a node out, which must be in this queue.
    pub(crate) fn unlink(&mut self, nodes: &mut Nodes, id: u32) {
        let node = nodes.get(id);
        let (older, newer) = (node.older, node.newer);
        match older {
            NONE => self.oldest = newer,
            older => nodes.get_mut(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => nodes.get_mut(newer).older = older,
        }
        self.len -= 1;
    }
}
