//! The bytes of batches that wait to be decoded.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one permit: a semaphore counts to no more than 32 bits of them.
const PERMIT: u64 = 1 << 10;

/// Room for batches, in bytes. A batch larger than all of it takes all of it, so at most one such waits.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    all: u32,
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / PERMIT).unwrap_or(u32::MAX).max(1);
        Self { free: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits for room; it is given back when what is returned is dropped. Cancel safe. `None`: nobody gives any more.
    pub(super) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes as u64 / PERMIT).unwrap_or(u32::MAX).min(self.all);
        self.free.clone().acquire_many_owned(permits).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn what_is_larger_than_all_of_it_waits_for_all_of_it() {
        let memory = Memory::new(64 << 10);
        let small = memory.take(32 << 10).now_or_never().expect("there is room");
        let mut large = std::pin::pin!(memory.take(60 << 20));
        assert!(large.as_mut().now_or_never().is_none());
        drop(small);
        let _large = large.now_or_never().expect("it has all");
        assert!(memory.take(1 << 10).now_or_never().is_none(), "nothing is left beside it");
        assert!(memory.take(0).now_or_never().is_some(), "what has no messages needs no room");
    }
}
