//! Until when a lease is provably alive (rule R6). Pure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Not alive, and may be again.
const ENDED: u64 = 0;
/// Not alive, and never again.
const LEFT: u64 = u64::MAX;

/// A deadline that readers check with one atomic load.
///
/// The clock is the system's monotonic one. It must not stand still while etcd's runs on: a host that is suspended as a whole, and whose
/// monotonic clock stops meanwhile, would believe in its lease for too long when it wakes. A stopped process is no such case.
#[derive(Debug)]
pub(super) struct Alive {
    base: Instant,
    /// Milliseconds after `base`, or [`ENDED`] or [`LEFT`].
    until: AtomicU64,
}

impl Alive {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), until: AtomicU64::new(ENDED) }
    }

    /// Whether the lease is provably alive at `now`.
    pub(super) fn at(&self, now: Instant) -> bool {
        // Loads and stores are ordered, so who sees this deadline also sees the incarnation that was published before it.
        let until = self.until.load(Ordering::Acquire);
        until != LEFT && self.millis(now) < until
    }

    /// Notes that etcd has answered a request which was sent at `sent`, and that the lease lives for `ttl` from when etcd took it.
    pub(super) fn extend(&self, sent: Instant, ttl: Duration) {
        let until = self.millis(sent + ttl.saturating_sub(margin(ttl))).max(ENDED + 1);
        let _ = self
            .until
            .fetch_update(Ordering::Release, Ordering::Relaxed, |before| (before != LEFT).then_some(until));
    }

    /// Notes that the lease has ended.
    pub(super) fn end(&self) {
        let _ = self
            .until
            .fetch_update(Ordering::Release, Ordering::Relaxed, |before| (before != LEFT).then_some(ENDED));
    }

    /// Ends it for good.
    pub(super) fn leave(&self) {
        self.until.store(LEFT, Ordering::Release);
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_millis()).unwrap_or(LEFT - 1)
    }
}

/// Taken off each lease: for clocks that run at different speeds, and for an answer that is under way while the lease ends.
fn margin(ttl: Duration) -> Duration {
    (ttl / 10).max(Duration::from_millis(500)).min(ttl / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_lease_counts_from_its_sending_less_a_margin() {
        let alive = Alive::new();
        let sent = Instant::now() + Duration::from_secs(5);
        assert!(!alive.at(sent));
        alive.extend(sent, TTL);
        assert!(alive.at(sent) && alive.at(sent + Duration::from_millis(8_999)));
        assert!(!alive.at(sent + Duration::from_secs(9)));
        alive.end();
        assert!(!alive.at(sent));
    }

    #[tokio::test(start_paused = true)]
    async fn a_keep_alive_answered_after_leaving_revives_nothing() {
        let alive = Alive::new();
        let sent = Instant::now();
        alive.extend(sent, TTL);
        alive.leave();
        alive.extend(sent, TTL);
        alive.end();
        assert!(!alive.at(sent));
    }

    #[test]
    fn the_margin_leaves_something_of_a_short_lease() {
        assert_eq!(margin(TTL), Duration::from_secs(1));
        assert_eq!(margin(Duration::from_secs(2)), Duration::from_millis(500));
        assert_eq!(margin(Duration::from_millis(600)), Duration::from_millis(300));
    }
}
