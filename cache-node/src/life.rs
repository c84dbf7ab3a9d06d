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
pub(crate) struct Life {
    registration: Arc<dyn Registration>,
    adopted: AtomicU64,
}

impl Life {
    pub(crate) fn new(registration: Arc<dyn Registration>) -> Self {
        let adopted = AtomicU64::new(registration.incarnation());
        Self { registration, adopted }
    }

    /// The incarnation that the memory belongs to. Take it before reading from memory.
    pub(crate) fn incarnation(&self) -> u64 {
        self.adopted.load(Acquire)
    }

    /// Whether what was read from memory since `incarnation` was taken may be served. To be asked after the read: the
    /// lease is alive now and is the one of then, so it was alive in between.
    pub(crate) fn vouches_for(&self, incarnation: u64) -> bool {
        let live = !rules::holds(Rule::Fencing) || self.registration.live_as(incarnation, Instant::now());
        live && self.adopted.load(Acquire) == incarnation
    }

    /// Whether the lease is provably alive and the memory belongs to it.
    pub(crate) fn live(&self) -> bool {
        self.vouches_for(self.incarnation())
    }

    /// The registration's incarnation, if the memory does not belong to it yet.
    pub(crate) fn newborn(&self) -> Option<u64> {
        let incarnation = self.registration.incarnation();
        (incarnation != self.incarnation()).then_some(incarnation)
    }

    /// Notes that the memory, emptied, now belongs to this incarnation.
    pub(crate) fn adopt(&self, incarnation: u64) {
        self.adopted.store(incarnation, Release);
    }

    pub(crate) fn registration(&self) -> &Arc<dyn Registration> {
        &self.registration
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("adopted", &self.adopted).finish_non_exhaustive()
    }
}
