//! Whether the runtime that a lease stands for still does anything.
//!
//! A lease that is kept on a thread of its own says that the process is there, and nothing of whether its work goes on. *All threads of a node
//! hang; its lease is kept; removals wait for its acknowledgement, and commits, for ever.* So a task of that runtime says now and then that it
//! ran, and a lease is not kept for one that has not for long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

/// How often the task says so.
const EVERY: Duration = Duration::from_secs(1);

/// When a runtime was last seen to work.
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    /// Milliseconds from then on.
    last: AtomicU64,
}

impl Pulse {
    /// Of the runtime that this is called in, until `stop`; of none, one that is never silent is not made.
    pub(super) fn of_this_runtime(stop: CancellationToken) -> Option<Arc<Self>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let pulse = Arc::new(Self { began: Instant::now(), last: AtomicU64::new(0) });
        let beating = pulse.clone();
        runtime.spawn(stop.run_until_cancelled_owned(async move {
            loop {
                beating.last.store(beating.now(), Relaxed);
                tokio::time::sleep(EVERY).await;
            }
        }));
        Some(pulse)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// For how long it has not been seen to.
    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last.load(Relaxed)))
    }
}
