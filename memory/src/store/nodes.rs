//! Nodes: 14 bytes for each entry, by which the policy orders it. They stay where they are while entries are moved: a walk through all
//! entries goes by them.

use std::{mem, sync::atomic::Ordering::Relaxed};

use super::sync::AtomicU8;

/// No node, no place.
pub(crate) const NONE: u32 = u32::MAX;

/// Bytes of a node's number.
pub(super) const NUMBER: usize = 3;
/// Most nodes of a shard; the number after the last one is [`NONE`].
const MOST: u32 = (1 << (8 * NUMBER)) - 1;
/// Nodes that are allocated together, as a power of two: 4 KiB, about. More come without moving those that are there, so that growing
/// leaves no holes in the heap.
const CHUNK: u32 = 8;
/// Bits of a time.
const TIME: u32 = 8 * NUMBER as u32;

/// One entry, for the policy. In bytes, so that it takes 13 of them.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Where the entry is in the arena; [`NONE`] while the node is unused.
    place: [u8; 4],
    older: [u8; NUMBER],
    /// For an unused node: the next unused one.
    newer: [u8; NUMBER],
    /// When it came to the newest end of a queue, in inserts.
    time: [u8; NUMBER],
}

impl Node {
    fn at(place: u32) -> Self {
        Self { place: place.to_le_bytes(), older: narrow(NONE), newer: narrow(NONE), time: narrow(0) }
    }
}

fn narrow(number: u32) -> [u8; NUMBER] {
    let [a, b, c, _] = number.to_le_bytes();
    [a, b, c]
}

fn wide([a, b, c]: [u8; NUMBER]) -> u32 {
    let number = u32::from_le_bytes([a, b, c, 0]);
    if number == MOST { NONE } else { number }
}

#[derive(Debug)]
struct Chunk {
    nodes: [Node; 1 << CHUNK],
    /// The policy's own bits of each. What a hit looks at, and so close together that they stay in the processor's cache.
    bits: [AtomicU8; 1 << CHUNK],
}

/// All nodes of a shard.
#[derive(Debug)]
pub(crate) struct Nodes {
    #[expect(clippy::vec_box, reason = "chunks are not to be moved when more come")]
    chunks: Vec<Box<Chunk>>,
    /// Nodes that were ever used.
    len: usize,
    free: u32,
    /// The time now, in inserts of the whole part, as far as a node has room for it.
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

    /// Whether no entry may come before another has gone.
    pub(super) fn is_full(&self) -> bool {
        self.free == NONE && self.len >= MOST as usize
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * mem::size_of::<Chunk>() + self.chunks.capacity() * mem::size_of::<usize>()
    }

    fn node(&self, id: u32) -> &Node {
        let (chunk, at) = split(id);
        &self.chunks[chunk].nodes[at]
    }

    fn node_mut(&mut self, id: u32) -> &mut Node {
        let (chunk, at) = split(id);
        &mut self.chunks[chunk].nodes[at]
    }

    fn bits_of(&self, id: u32) -> &AtomicU8 {
        let (chunk, at) = split(id);
        &self.chunks[chunk].bits[at]
    }

    /// Where a node's entry is; [`NONE`] if it has none.
    pub(super) fn place(&self, id: u32) -> u32 {
        u32::from_le_bytes(self.node(id).place)
    }

    /// Moves an entry.
    pub(super) fn set_place(&mut self, id: u32, place: u32) {
        self.node_mut(id).place = place.to_le_bytes();
    }

    /// The policy's own bits.
    pub(crate) fn bits(&self, id: u32) -> u8 {
        self.bits_of(id).load(Relaxed)
    }

    /// Sets the policy's own bits. With the lock held for reading others may do the same: one of them wins.
    pub(crate) fn set_bits(&self, id: u32, bits: u8) {
        self.bits_of(id).store(bits, Relaxed);
    }

    /// When a node came to the newest end of a queue.
    pub(crate) fn time(&self, id: u32) -> u32 {
        let [a, b, c] = self.node(id).time;
        u32::from_le_bytes([a, b, c, 0])
    }

    /// A node for an entry.
    pub(crate) fn take(&mut self, place: u32) -> u32 {
        let id = self.free;
        if id != NONE {
            self.free = wide(self.node(id).newer);
            *self.node_mut(id) = Node::at(place);
            self.set_bits(id, 0);
            return id;
        }
        if self.len == self.chunks.len() << CHUNK {
            let bits = std::array::from_fn(|_| AtomicU8::new(0));
            self.chunks.push(Box::new(Chunk { nodes: [Node::at(NONE); 1 << CHUNK], bits }));
        }
        let id = self.len as u32;
        self.len += 1;
        *self.node_mut(id) = Node::at(place);
        id
    }

    /// Gives a node back; it must be in no queue.
    pub(crate) fn give_back(&mut self, id: u32) {
        let free = self.free;
        *self.node_mut(id) = Node { newer: narrow(free), ..Node::at(NONE) };
        self.free = id;
    }
}

/// A node's chunk, and which one there it is.
fn split(id: u32) -> (usize, usize) {
    (id as usize >> CHUNK, id as usize & ((1 << CHUNK) - 1))
}

/// A time in inserts, as far as a node has room for it; it wraps.
pub(super) fn coarse(inserts: u32) -> u32 {
    inserts >> 4 & ((1 << TIME) - 1)
}

/// How long ago `then` was, both coarse.
pub(super) fn since(then: u32, now: u32) -> u32 {
    now.wrapping_sub(then) & ((1 << TIME) - 1)
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
        let newer = wide(nodes.node(id).newer);
        (newer != NONE).then_some(newer)
    }

    /// Puts a node at the newest end, with these bits.
    pub(crate) fn push(&mut self, nodes: &mut Nodes, id: u32, bits: u8) {
        let time = narrow(nodes.time);
        let node = nodes.node_mut(id);
        (node.older, node.newer, node.time) = (narrow(self.newest), narrow(NONE), time);
        nodes.set_bits(id, bits);
        match self.newest {
            NONE => self.oldest = id,
            newest => nodes.node_mut(newest).newer = narrow(id),
        }
        self.newest = id;
        self.len += 1;
    }

    /// Takes a node out, which must be in this queue.
    pub(crate) fn unlink(&mut self, nodes: &mut Nodes, id: u32) {
        let node = nodes.node(id);
        let (older, newer) = (wide(node.older), wide(node.newer));
        match older {
            NONE => self.oldest = newer,
            older => nodes.node_mut(older).newer = narrow(newer),
        }
        match newer {
            NONE => self.newest = older,
            newer => nodes.node_mut(newer).older = narrow(older),
        }
        self.len -= 1;
    }
}
