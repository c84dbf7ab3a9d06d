//! SIEVE (Zhang et al., NSDI 2024): a queue in order of arrival and a hand that moves from the oldest entry to the newest.
//!
//! An entry that was used since the hand last passed loses its mark and stays; the first one without a mark goes. A hit only
//! sets a mark, and keys used once leave before keys used often.

use super::Policy;
use crate::store::nodes::{NONE, Nodes, Queue};

const USED: u8 = 1;
/// Entries before the hand that are looked at for a cold one.
const LOOK: usize = 16;

#[derive(Debug)]
pub(super) struct Sieve {
    queue: Queue,
    hand: u32,
}

impl Sieve {
    pub(super) fn new() -> Self {
        Self { queue: Queue::new(), hand: NONE }
    }

    fn at(&self) -> Option<u32> {
        if self.hand == NONE { self.queue.oldest() } else { Some(self.hand) }
    }
}

impl Policy for Sieve {
    fn touch(&self, nodes: &Nodes, id: u32) {
        // Most hits find the mark set and leave the cache line as it is.
        if nodes.bits(id) & USED == 0 {
            nodes.set_bits(id, USED);
        }
    }

    fn came(&mut self, nodes: &mut Nodes, id: u32, _print: u32) {
        self.queue.push(nodes, id, 0);
    }

    fn left(&mut self, nodes: &mut Nodes, id: u32) {
        if self.hand == id {
            self.hand = Queue::newer(nodes, id).unwrap_or(NONE);
        }
        self.queue.unlink(nodes, id);
    }

    fn victim(&mut self, nodes: &mut Nodes, _print_of: &dyn Fn(&Nodes, u32) -> u32) -> Option<u32> {
        let mut at = self.at()?;
        loop {
            if nodes.bits(at) & USED == 0 {
                break;
            }
            nodes.set_bits(at, 0);
            at = Queue::newer(nodes, at).or(self.queue.oldest())?;
        }
        self.hand = at; // moves on when the entry goes
        Some(at)
    }

    fn coldest(&self, nodes: &Nodes) -> Option<u32> {
        let ahead = std::iter::successors(self.at(), |at| Queue::newer(nodes, *at));
        let mut unused = ahead.take(LOOK).filter(|id| nodes.bits(*id) & USED == 0);
        unused.next().map(|id| nodes.time(id))
    }
}
