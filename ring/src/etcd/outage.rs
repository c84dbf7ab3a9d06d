//! Pauses between attempts, and a log that tells each outage once.

use std::fmt::Display;
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;
use tracing::{debug, info, warn};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What one task knows about how it gets on with etcd.
pub(super) struct Outage {
    /// What fails, as a clause: "following the members".
    what: &'static str,
    endpoints: String,
    since: Option<Instant>,
    pause: Duration,
}

impl Outage {
    pub(super) fn new(what: &'static str, endpoints: &str) -> Self {
        Self { what, endpoints: endpoints.to_owned(), since: None, pause: FIRST_PAUSE }
    }

    /// Notes a failed attempt; returns how long to wait before the next one.
    pub(super) fn failed(&mut self, error: &dyn Display) -> Duration {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            warn!(etcd = self.endpoints, %error, "waiting for etcd: {} does not work; trying until it does", self.what);
        } else {
            debug!(etcd = self.endpoints, %error, "still waiting for etcd: {}", self.what);
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// Notes a success.
    pub(super) fn over(&mut self) {
        self.pause = FIRST_PAUSE;
        if let Some(since) = self.since.take() {
            info!(etcd = self.endpoints, lasted = ?since.elapsed(), "etcd is back: {} works", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_success() {
        let mut outage = Outage::new("a test", "nowhere");
        let pauses: Vec<_> = (0..10).map(|_| outage.failed(&"no")).collect();
        assert!(pauses[0] <= FIRST_PAUSE && pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(pauses[9] >= LONGEST_PAUSE / 2);
        outage.over();
        assert!(outage.failed(&"no") <= FIRST_PAUSE);
    }
}
