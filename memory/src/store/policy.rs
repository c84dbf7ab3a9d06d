//! Who has to go when room is needed: one policy per shard, behind one seam.
//!
//! A policy orders nodes in queues and counts entries, not bytes. What happens is told to it under the shard's lock for writing;
//! a hit alone comes with the lock held for reading, and either only marks the node ([`Policy::touch`]) or is told later, in order
//! ([`Policy::follows_uses`]).

mod arc;
mod fifo;
mod ghost;
mod lfu;
mod lru;
mod s3fifo;
mod sieve;
mod sketch;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::nodes::Nodes;

/// The node's choice of a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Eviction {
    /// The entry that was used the longest ago.
    Lru,
    /// W-TinyLFU: the one that is used least often, by a sketch that forgets slowly.
    Lfu,
    /// The one that came first.
    Fifo,
    /// S3-FIFO: first those that were not used while they were new.
    S3fifo,
    /// SIEVE: the first that was not used since the hand last passed.
    #[default]
    Sieve,
    /// ARC: by age or by frequency, whichever served better of late.
    Arc,
}

impl Eviction {
    /// All policies, for tests and measurements.
    pub const ALL: [Self; 6] = [Self::Lru, Self::Lfu, Self::Fifo, Self::S3fifo, Self::Sieve, Self::Arc];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::Fifo => "fifo",
            Self::S3fifo => "s3fifo",
            Self::Sieve => "sieve",
            Self::Arc => "arc",
        }
    }

    pub(crate) fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Lru => Box::new(lru::Lru::new()),
            Self::Lfu => Box::new(lfu::Lfu::new()),
            Self::Fifo => Box::new(fifo::Fifo::new()),
            Self::S3fifo => Box::new(s3fifo::S3Fifo::new()),
            Self::Sieve => Box::new(sieve::Sieve::new()),
            Self::Arc => Box::new(arc::Arc::new()),
        }
    }
}

/// Orders the entries of one shard. A `print` is 32 bits of a key's hash.
pub(crate) trait Policy: Debug + Send + Sync {
    /// Whether hits are to be told by [`used`](Self::used).
    fn follows_uses(&self) -> bool {
        false
    }

    /// An entry is hit. Others may hit the same one now.
    fn touch(&self, _nodes: &Nodes, _id: u32) {}

    /// An entry was hit.
    fn used(&mut self, _nodes: &mut Nodes, _id: u32, _print: u32) {}

    /// An entry is about to come, and room will be made for it.
    fn coming(&mut self, _print: u32) {}

    /// An entry has come.
    fn came(&mut self, nodes: &mut Nodes, id: u32, print: u32);

    /// An entry goes, for whatever reason.
    fn left(&mut self, nodes: &mut Nodes, id: u32);

    /// Chooses the entry that is to make room; it is taken out next. `None` if there is none.
    fn victim(&mut self, nodes: &mut Nodes, print_of: &dyn Fn(&Nodes, u32) -> u32) -> Option<u32>;

    /// The time of an entry that would make room soon; `None` if there is none, or if they are all in use. To compare shards.
    fn coldest(&self, nodes: &Nodes) -> Option<u32>;

    /// Bytes that it remembers entries with, beside their nodes.
    fn bytes(&self) -> usize {
        0
    }
}
