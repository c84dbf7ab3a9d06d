//! A thread of its own for what keeps leases and follows members.
//!
//! *A node gets a request that keeps its threads busy for longer than its lease lasts: nothing keeps the lease alive meanwhile, the node comes back
//! in a new life, and its memory is empty.* The system shares the processors between threads; a runtime does not between tasks that
//! don't wait. What a lease proves then is told by a [`Pulse`](super::pulse::Pulse) of the runtime that it stands for.

use std::{io, sync::mpsc, thread};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// A runtime on a thread of its own, until this is dropped.
pub(super) struct Apart {
    handle: Handle,
    stop: CancellationToken,
}

impl Apart {
    /// # Errors
    ///
    /// The system's, which has no thread to give.
    pub(super) fn begin() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (tell, told) = mpsc::channel();
        // Ends with its tasks; nobody waits for it, since what is dropped may be dropped by one of them. The runtime is made and dropped
        // there: not in a caller's, which forbids it.
        thread::Builder::new().name("etcd".to_owned()).spawn(move || {
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = tell.send(Ok(runtime.handle().clone()));
                    runtime.block_on(stopped.cancelled());
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        let handle = told.recv().map_err(io::Error::other)??;
        Ok(Self { handle, stop })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
