//! First in, first out.

use super::Policy;
use crate::store::nodes::{Nodes, Queue};

#[derive(Debug)]
pub(super) struct Fifo {
    queue: Queue,
}

impl Fifo {
    pub(super) fn new() -> Self {
        Self { queue: Queue::new() }
    }
}

impl Policy for Fifo {
    fn came(&mut self, nodes: &mut Nodes, id: u32, _print: u32) {
        self.queue.push(nodes, id, 0);
    }

    fn left(&mut self, nodes: &mut Nodes, id: u32) {
        self.queue.unlink(nodes, id);
    }

    fn victim(&mut self, _nodes: &mut Nodes, _print_of: &dyn Fn(&Nodes, u32) -> u32) -> Option<u32> {
        self.queue.oldest()
    }

    fn coldest(&self, nodes: &Nodes) -> Option<u32> {
        self.queue.oldest().map(|id| nodes.time(id))
    }
}
