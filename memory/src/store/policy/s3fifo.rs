//! S3-FIFO (Yang et al., SOSP 2023): a small queue for what is new, a main one for what was used there, and a memory of what left the
//! small one: that goes to the main one when it comes back.

use super::{Policy, ghost::Ghost};
use crate::store::nodes::{Nodes, Queue};

/// Uses since the entry came to its queue, 3 at most.
const USES: u8 = 3;
/// The entry is in the main queue.
const MAIN: u8 = 4;
/// The share of entries in the small queue, as a divisor.
const SMALL: usize = 10;

#[derive(Debug)]
pub(super) struct S3Fifo {
    small: Queue,
    main: Queue,
    ghost: Ghost,
}

impl S3Fifo {
    pub(super) fn new() -> Self {
        Self { small: Queue::new(), main: Queue::new(), ghost: Ghost::new() }
    }
}

impl Policy for S3Fifo {
    fn touch(&self, nodes: &Nodes, id: u32) {
        let bits = nodes.bits(id);
        if bits & USES < USES {
            nodes.set_bits(id, bits + 1);
        }
    }

    fn came(&mut self, nodes: &mut Nodes, id: u32, print: u32) {
        if self.ghost.remove(print) {
            self.main.push(nodes, id, MAIN);
        } else {
            self.small.push(nodes, id, 0);
        }
    }

    fn left(&mut self, nodes: &mut Nodes, id: u32) {
        let main = nodes.bits(id) & MAIN != 0;
        if main { &mut self.main } else { &mut self.small }.unlink(nodes, id);
    }

    fn victim(&mut self, nodes: &mut Nodes, print_of: &dyn Fn(&Nodes, u32) -> u32) -> Option<u32> {
        loop {
            let wanted = (self.small.len() + self.main.len()) / SMALL;
            if let Some(id) = self.small.oldest()
                && (self.small.len() > wanted || self.main.len() == 0)
            {
                if nodes.bits(id) & USES > 1 {
                    self.small.unlink(nodes, id);
                    self.main.push(nodes, id, MAIN);
                    continue;
                }
                self.ghost.push(print_of(nodes, id));
                while self.ghost.len() > self.main.len().max(self.small.len()) {
                    self.ghost.pop();
                }
                return Some(id);
            }
            let id = self.main.oldest()?;
            let uses = nodes.bits(id) & USES;
            if uses == 0 {
                return Some(id);
            }
            self.main.unlink(nodes, id);
            self.main.push(nodes, id, MAIN | (uses - 1));
        }
    }

    fn coldest(&self, nodes: &Nodes) -> Option<u32> {
        let small = self.small.oldest().filter(|_| self.small.len() * SMALL > self.main.len());
        small.or(self.main.oldest()).map(|id| nodes.time(id))
    }

    fn bytes(&self) -> usize {
        self.ghost.bytes()
    }
}
