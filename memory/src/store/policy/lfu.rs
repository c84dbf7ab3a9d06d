//! W-TinyLFU (Einziger et al., 2017): a small window in order of use, and a main part that lets in only what a sketch of frequencies
//! has seen more often than what would have to go for it. The main part is a segmented LRU: on probation, and protected after a use.

use super::{Policy, sketch::Sketch};
use crate::store::nodes::{Nodes, Queue};

const WINDOW: u8 = 0;
const PROBATION: u8 = 1;
const PROTECTED: u8 = 2;

#[derive(Debug)]
pub(super) struct Lfu {
    window: Queue,
    probation: Queue,
    protected: Queue,
    sketch: Sketch,
}

impl Lfu {
    pub(super) fn new() -> Self {
        Self { window: Queue::new(), probation: Queue::new(), protected: Queue::new(), sketch: Sketch::new() }
    }

    fn queue(&mut self, of: u8) -> &mut Queue {
        match of {
            WINDOW => &mut self.window,
            PROBATION => &mut self.probation,
            _ => &mut self.protected,
        }
    }

    fn main_len(&self) -> usize {
        self.probation.len() + self.protected.len()
    }

    fn len(&self) -> usize {
        self.window.len() + self.main_len()
    }

    fn shift(&mut self, nodes: &mut Nodes, id: u32, to: u8) {
        let from = nodes.bits(id);
        self.queue(from).unlink(nodes, id);
        self.queue(to).push(nodes, id, to);
    }
}

impl Policy for Lfu {
    fn follows_uses(&self) -> bool {
        true
    }

    fn used(&mut self, nodes: &mut Nodes, id: u32, print: u32) {
        self.sketch.add(print);
        match nodes.bits(id) {
            WINDOW => self.shift(nodes, id, WINDOW),
            _ => self.shift(nodes, id, PROTECTED),
        }
        // Four fifths of the main part are protected.
        if self.protected.len() * 5 > self.main_len() * 4
            && let Some(oldest) = self.protected.oldest()
        {
            self.shift(nodes, oldest, PROBATION);
        }
    }

    fn came(&mut self, nodes: &mut Nodes, id: u32, print: u32) {
        self.window.push(nodes, id, WINDOW);
        self.sketch.fit(self.len());
        self.sketch.add(print);
    }

    fn left(&mut self, nodes: &mut Nodes, id: u32) {
        let of = nodes.bits(id);
        self.queue(of).unlink(nodes, id);
    }

    fn victim(&mut self, nodes: &mut Nodes, print_of: &dyn Fn(&Nodes, u32) -> u32) -> Option<u32> {
        let window = (self.len() / 100).max(1);
        while self.window.len() > window + 1 {
            // Nothing had to go until now, or what was in the main part has left: there is room in it.
            let id = self.window.oldest()?;
            self.shift(nodes, id, PROBATION);
        }
        let main = self.probation.oldest().or(self.protected.oldest());
        if self.window.len() <= window {
            return main.or(self.window.oldest());
        }
        let (candidate, Some(main)) = (self.window.oldest()?, main) else { return self.window.oldest() };
        if self.sketch.count(print_of(nodes, candidate)) > self.sketch.count(print_of(nodes, main)) {
            self.shift(nodes, candidate, PROBATION);
            return Some(main);
        }
        Some(candidate)
    }

    fn coldest(&self, nodes: &Nodes) -> Option<u32> {
        let id = self.probation.oldest().or(self.protected.oldest()).or(self.window.oldest());
        id.map(|id| nodes.time(id))
    }

    fn bytes(&self) -> usize {
        self.sketch.bytes()
    }
}
