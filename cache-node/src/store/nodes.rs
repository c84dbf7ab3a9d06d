//! Nodes: 16 bytes for each entry, through which the table finds it and the policy orders it.

use std::{mem, sync::atomic::Ordering::Relaxed};

use super::sync::AtomicU32;

/// No node, no place.
pub(crate) const NONE: u32 = u32::MAX;

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
#[expect(clippy::struct_field_names, reason = "nodes are what it has")]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    free: u32,
    /// The time now, in inserts of the whole part, as far as a node's state has room for it.
    time: u32,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), free: NONE, time: 0 }
    }

    /// Sets the time from a count of inserts.
    pub(super) fn set_time(&mut self, inserts: u32) {
        self.time = coarse(inserts);
    }

    /// How many nodes there are, used or not.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * mem::size_of::<Node>()
    }

    pub(crate) fn get(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    /// Moves an entry.
    pub(super) fn set_place(&mut self, id: u32, place: u32) {
        self.nodes[id as usize].place = place;
    }

    /// A node for an entry.
    pub(crate) fn take(&mut self, place: u32) -> u32 {
        let node = Node { place, older: NONE, newer: NONE, state: AtomicU32::new(0) };
        if self.free != NONE {
            let id = self.free;
            let unused = mem::replace(&mut self.nodes[id as usize], node);
            self.free = unused.newer;
            return id;
        }
        if self.nodes.len() == self.nodes.capacity() {
            // By a sixteenth, not to twice the size: spare nodes are memory that holds nothing.
            self.nodes.reserve_exact((self.nodes.len() / 16).max(64));
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    /// Gives a node back; it must be in no queue.
    pub(crate) fn give_back(&mut self, id: u32) {
        let free = self.free;
        let node = &mut self.nodes[id as usize];
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
        let node = &mut nodes.nodes[id as usize];
        (node.older, node.newer) = (self.newest, NONE);
        node.state = AtomicU32::new(time << POLICY | u32::from(bits));
        match self.newest {
            NONE => self.oldest = id,
            newest => nodes.nodes[newest as usize].newer = id,
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
            older => nodes.nodes[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => nodes.nodes[newer as usize].older = older,
        }
        self.len -= 1;
    }
}
