//! Bytes that many hold together, within a bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

/// What all hold.
#[derive(Debug)]
pub(crate) struct Account {
    limit: u64,
    used: AtomicU64,
    /// Shows what is held.
    bytes: Gauge,
    /// Counts who found no room.
    refused: Counter,
}

impl Account {
    pub(crate) fn new(limit: u64, bytes: Gauge, refused: Counter) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), bytes, refused })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { of: self.clone(), bytes: AtomicU64::new(0) }
    }
}

/// What one holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Account>,
    bytes: AtomicU64,
}

/// All together hold too much.
#[derive(Debug)]
pub(crate) struct Full;

impl Share {
    /// Adds bytes, or none if there is no room for all of them.
    pub(crate) fn add(&self, bytes: u64) -> Result<(), Full> {
        let used = self.of.used.fetch_add(bytes, Relaxed) + bytes;
        if used > self.of.limit {
            self.of.used.fetch_sub(bytes, Relaxed);
            self.of.refused.inc();
            return Err(Full);
        }
        self.bytes.fetch_add(bytes, Relaxed);
        self.of.bytes.set(used.cast_signed());
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = self.bytes();
        if bytes > 0 {
            let used = self.of.used.fetch_sub(bytes, Relaxed) - bytes;
            self.of.bytes.set(used.cast_signed());
        }
    }
}
