//! ARC (Megiddo and Modha, FAST 2003): a queue for entries used once and one for entries used again, each with a memory of what left
//! it. What comes back shows which of the two was too short, and the share of the first moves that way.
//!
//! The paper counts pages of a fixed number; here as many count as there are, since entries differ in size.

use super::{Policy, ghost::Ghost};
use crate::store::nodes::{Nodes, Queue};

const ONCE: u8 = 0;
const AGAIN: u8 = 1;

#[derive(Debug)]
pub(super) struct Arc {
    once: Queue,
    again: Queue,
    left_once: Ghost,
    left_again: Ghost,
    /// How many entries used once there should be.
    target: usize,
    /// Whether the entry that is coming had been used again when it left.
    returns: bool,
}

impl Arc {
    pub(super) fn new() -> Self {
        Self {
            once: Queue::new(),
            again: Queue::new(),
            left_once: Ghost::new(),
            left_again: Ghost::new(),
            target: 0,
            returns: false,
        }
    }

    fn len(&self) -> usize {
        self.once.len() + self.again.len()
    }

    /// No more is remembered than there is.
    fn trim(&mut self) {
        let len = self.len();
        while self.left_once.len() > 0 && self.once.len() + self.left_once.len() > len {
            self.left_once.pop();
        }
        while self.left_again.len() > 0 && self.left_once.len() + self.left_again.len() > len {
            self.left_again.pop();
        }
    }
}

impl Policy for Arc {
    fn follows_uses(&self) -> bool {
        true
    }

    fn used(&mut self, nodes: &mut Nodes, id: u32, _print: u32) {
        self.left(nodes, id);
        self.again.push(nodes, id, AGAIN);
    }

    fn coming(&mut self, print: u32) {
        let (once, again) = (self.left_once.len(), self.left_again.len());
        self.returns = false;
        if self.left_once.contains(print) {
            self.target = (self.target + (again / once.max(1)).max(1)).min(self.len());
        } else if self.left_again.contains(print) {
            self.target = self.target.saturating_sub((once / again.max(1)).max(1));
            self.returns = true;
        }
    }

    fn came(&mut self, nodes: &mut Nodes, id: u32, print: u32) {
        let known = self.left_once.remove(print) | self.left_again.remove(print);
        if known {
            self.again.push(nodes, id, AGAIN);
        } else {
            self.once.push(nodes, id, ONCE);
        }
    }

    fn left(&mut self, nodes: &mut Nodes, id: u32) {
        let again = nodes.bits(id) == AGAIN;
        if again { &mut self.again } else { &mut self.once }.unlink(nodes, id);
    }

    fn victim(&mut self, nodes: &mut Nodes, print_of: &dyn Fn(&Nodes, u32) -> u32) -> Option<u32> {
        let _ = nodes;
        let over = self.once.len() > self.target || (self.returns && self.once.len() == self.target);
        let once = self.once.oldest().filter(|_| over || self.again.len() == 0);
        let (id, ghost) = match once {
            Some(id) => (id, &mut self.left_once),
            None => (self.again.oldest()?, &mut self.left_again),
        };
        ghost.push(print_of(nodes, id));
        self.trim();
        Some(id)
    }

    fn coldest(&self, nodes: &Nodes) -> Option<u32> {
        let once = self.once.oldest().filter(|_| self.once.len() > self.target);
        once.or(self.again.oldest()).or(self.once.oldest()).map(|id| nodes.time(id))
    }

    fn bytes(&self) -> usize {
        self.left_once.bytes() + self.left_again.bytes()
    }
}
