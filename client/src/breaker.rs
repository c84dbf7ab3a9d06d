//! Leaves a node alone that can't be reached.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// Closed: calls pass. Open: they don't, until the cool-down is over; then one call at a time probes, one per cool-down.
///
/// A healthy node costs one relaxed load. What the loads race about is only how many calls notice first.
#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    cool_down: Duration,
    born: Instant,
    failures: AtomicU32,
    /// Nanoseconds since `born` until which it is open; 0 is closed.
    open_until: AtomicU64,
}

impl Breaker {
    pub(crate) fn new(limit: u32, cool_down: Duration) -> Self {
        let born = Instant::now();
        Self {
            limit: limit.max(1),
            cool_down,
            born,
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
        }
    }

    /// Whether a call may pass. After the cool-down this call is the probe, and others wait for another cool-down.
    pub(crate) fn admits(&self) -> bool {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return true;
        }
        let now = self.now();
        now >= until
            && self.open_until.compare_exchange(until, self.after_cool_down(now), Relaxed, Relaxed).is_ok()
    }

    /// Whether calls pass, without becoming a probe.
    pub(crate) fn is_closed(&self) -> bool {
        self.open_until.load(Relaxed) == 0
    }

    /// The node was reached.
    pub(crate) fn success(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.open_until.store(0, Relaxed);
        }
    }

    /// The node was not reached; tells whether that opened a closed breaker.
    pub(crate) fn failure(&self) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        failures >= self.limit && self.open_until.swap(self.after_cool_down(self.now()), Relaxed) == 0
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn after_cool_down(&self, now: u64) -> u64 {
        now.saturating_add(u64::try_from(self.cool_down.as_nanos()).unwrap_or(u64::MAX)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_lets_one_probe_pass_per_cool_down() {
        let breaker = Breaker::new(3, Duration::from_secs(1));
        assert!(!breaker.failure());
        assert!(!breaker.failure());
        breaker.success();
        assert!(!breaker.failure());
        assert!(!breaker.failure());
        assert!(breaker.admits());
        assert!(breaker.failure(), "the third in a row opens");
        assert!(!breaker.failure(), "it opens once");
        assert!(!breaker.admits());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(breaker.admits(), "the probe");
        assert!(!breaker.admits(), "one probe at a time");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(breaker.admits(), "a probe that was dropped blocks nobody for long");
        assert!(!breaker.is_closed());
        breaker.success();
        assert!(breaker.admits() && breaker.admits() && breaker.is_closed());
    }
}
