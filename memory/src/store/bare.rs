//! The store without its gate, for measurements: never in a node, where the gate is the only way in.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Bounds, Cause, Entry, Eviction, Inserted, Show, Sizes, Stamp, Store, nodes::Nodes, policy::Policy,
};
use crate::{place::hash, store::compress::Packed};

const STAMP: Stamp = Stamp { group: 0, slot: 9000, generation: 1, acquisition: 16_000 };

/// A store that takes whatever it is given.
#[derive(Debug)]
pub struct Bare(Store);

impl Bare {
    /// An empty one.
    pub fn new(memory: u64, negative_share: f64, eviction: Eviction) -> Self {
        Self(Store::new(
            Bounds { memory, negative_share, eviction },
            &mut prometheus_client::registry::Registry::default(),
        ))
    }

    /// Returns a key's value; checks what a node would check.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.0.get(hash(key), key, Instant::now(), check)?.value
    }

    /// Writes a key's value to the end of a reply, as a node does; returns whether there is one.
    pub fn get_into(&self, key: &str, reply: &mut Vec<u8>) -> bool {
        let mut write = Show(|value: &[u8]| reply.extend_from_slice(value));
        let found = self.0.get_by(hash(key), key, Instant::now(), check, &mut write);
        found.is_some_and(|entry| entry.value.is_some())
    }

    /// Stores a value.
    pub fn insert(&self, key: &Arc<str>, value: Bytes, packed: Option<&Packed>) -> bool {
        let filled = Instant::now();
        let expires = filled + Duration::from_mins(10);
        let entry = Entry { value: Some(value), stamp: STAMP, filled, expires, tags: None };
        self.0.insert(hash(key), key, &entry, packed) == Inserted::Stored
    }

    /// Its sizes.
    pub fn sizes(&self) -> Sizes {
        self.0.sizes()
    }
}

/// A policy at work on as many keys as it may keep, without their values: what a shard does with it, and nothing else.
#[derive(Debug)]
pub struct Trial {
    policy: Box<dyn Policy>,
    nodes: Nodes,
    ids: HashMap<u64, u32>,
    keys: Vec<u64>,
    capacity: usize,
}

impl Trial {
    /// One that may keep `capacity` keys.
    pub fn new(eviction: Eviction, capacity: usize) -> Self {
        Self {
            policy: eviction.policy(),
            nodes: Nodes::new(),
            ids: HashMap::new(),
            keys: Vec::new(),
            capacity: capacity.max(1),
        }
    }

    /// Asks for a key, and keeps it; returns whether it was there.
    pub fn ask(&mut self, key: u64) -> bool {
        let print = print(key);
        if let Some(&id) = self.ids.get(&key) {
            self.policy.touch(&self.nodes, id);
            if self.policy.follows_uses() {
                self.policy.used(&mut self.nodes, id, print);
            }
            return true;
        }
        self.policy.coming(print);
        if self.ids.len() >= self.capacity {
            let keys = &self.keys;
            let print_of = |_: &Nodes, id: u32| self::print(keys[id as usize]);
            if let Some(victim) = self.policy.victim(&mut self.nodes, &print_of) {
                self.policy.left(&mut self.nodes, victim);
                self.nodes.give_back(victim);
                self.ids.remove(&self.keys[victim as usize]);
            }
        }
        let id = self.nodes.take(0);
        if self.keys.len() <= id as usize {
            self.keys.resize(id as usize + 1, 0);
        }
        self.keys[id as usize] = key;
        self.ids.insert(key, id);
        self.policy.came(&mut self.nodes, id, print);
        false
    }
}

/// What a node would check.
fn check(stamp: &Stamp) -> Result<(), Cause> {
    if *stamp == STAMP { Ok(()) } else { Err(Cause::Flushed) }
}

fn print(key: u64) -> u32 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
