//! Whether this node may speak for its memory (R6).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

use ring::{
    Registration,
    rules::{self, Rule},
};
use tokio::time::Instant;

/// The node's registration, and the incarnation that its memory belongs to.
///
/// A registration that lost its lease comes back by itself as a new incarnation. Until the node has emptied its store
/// and [adopted](Self::adopt) it, the lease is alive but the memory is of the old one, and must not be served.
pub struct Life {
    registration: Arc<dyn Registration>,
    adopted: AtomicU64,
}

impl Life {
    /// A life of which the memory belongs to the registration's incarnation of now.
    pub fn new(registration: Arc<dyn Registration>) -> Self {
        let adopted = AtomicU64::new(registration.incarnation());
        Self { registration, adopted }
    }

    /// The incarnation that the memory belongs to. Take it before reading from memory.
    pub fn incarnation(&self) -> u64 {
        self.adopted.load(Acquire)
    }

    /// Whether what was read from memory since `incarnation` was taken may be served. To be asked after the read: the
    /// lease is alive now and is the one of then, so it was alive in between.
    pub fn vouches_for(&self, incarnation: u64) -> bool {
        let live = !rules::holds(Rule::Fencing) || self.registration.live_as(incarnation, Instant::now());
        live && self.adopted.load(Acquire) == incarnation
    }

    /// Whether the lease is provably alive and the memory belongs to it.
    pub fn live(&self) -> bool {
        self.vouches_for(self.incarnation())
    }

    /// The registration's incarnation, if the memory does not belong to it yet.
    pub fn newborn(&self) -> Option<u64> {
        let incarnation = self.registration.incarnation();
        (incarnation != self.incarnation()).then_some(incarnation)
    }

    /// Notes that the memory, emptied, now belongs to this incarnation.
    pub fn adopt(&self, incarnation: u64) {
        self.adopted.store(incarnation, Release);
    }

    /// The node's place among the members.
    pub fn registration(&self) -> &Arc<dyn Registration> {
        &self.registration
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("adopted", &self.adopted).finish_non_exhaustive()
    }
}
