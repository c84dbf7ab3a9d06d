//! Until when a lease is provably alive (rule R6). Pure but for the [`Clocks`], which tests replace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::Moment;
use crate::clocks::{Clocks, HostClocks};

/// Not alive, and may be again.
const ENDED: u64 = 0;
/// Not alive, and never again.
const LEFT: u64 = u64::MAX;

/// A deadline that readers check at the price of three atomic loads and two readings of the clock.
///
/// As much time has passed as the clock says that saw the most of it. The monotonic clock stands still while the host is suspended, so a
/// node that woke up by it alone would believe in a lease that ended long ago; the boot-time clock counts that too. A virtual machine that
/// its hypervisor froze may wake up with both where they were; then the wall clock, once it is set right, ends the lease. A wall clock that
/// jumps forward for another reason fences the node until the next keep-alive, which costs misses and no truth; one that jumps back says
/// nothing, and the others decide.
#[derive(Debug)]
pub(super) struct Alive<C = HostClocks> {
    clocks: C,
    base: Instant,
    /// Milliseconds after `base`, or [`ENDED`] or [`LEFT`]. Written after the other two and read before them, so that a reader never holds
    /// an older keep-alive's wall clock against a newer one's deadline.
    until: AtomicU64,
    /// By the clocks of their names.
    until_boot: AtomicU64,
    until_wall: AtomicU64,
}

impl Alive {
    /// Not alive yet; by the host's clocks.
    pub(super) fn new() -> Self {
        Self::by(HostClocks)
    }
}

impl<C: Clocks> Alive<C> {
    /// Not alive yet.
    pub(super) fn by(clocks: C) -> Self {
        Self {
            clocks,
            base: Instant::now(),
            until: AtomicU64::new(ENDED),
            until_boot: AtomicU64::new(0),
            until_wall: AtomicU64::new(0),
        }
    }

    /// This moment; to be taken before a keep-alive is sent.
    pub(super) fn moment(&self) -> Moment {
        Moment::by(&self.clocks)
    }

    /// Whether the lease is provably alive at `now`, and by the other clocks at the time of the call.
    pub(super) fn at(&self, now: Instant) -> bool {
        // Loads and stores are ordered, so who sees this deadline also sees the incarnation that was published before it.
        let until = self.until.load(Ordering::Acquire);
        until != LEFT
            && self.millis(now) < until
            && self.clocks.boot() < self.until_boot.load(Ordering::Acquire)
            && self.clocks.wall() < self.until_wall.load(Ordering::Acquire)
    }

    /// Whether the lease is provably alive now and will be for so long, by all clocks.
    pub(super) fn lasts(&self, now: Moment, span: Duration) -> bool {
        let until = self.until.load(Ordering::Acquire);
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        until != LEFT
            && self.millis(now.monotonic).saturating_add(millis) < until
            && now.boot.saturating_add(millis) < self.until_boot.load(Ordering::Acquire)
            && now.wall.saturating_add(millis) < self.until_wall.load(Ordering::Acquire)
    }

    /// Notes that etcd has answered a request which was sent at `sent`, and that the lease lives for `ttl` from when etcd took it.
    pub(super) fn extend(&self, sent: Moment, ttl: Duration) {
        let life = ttl.saturating_sub(margin(ttl));
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        self.until_wall.store(sent.wall.saturating_add(millis), Ordering::Release);
        self.until_boot.store(sent.boot.saturating_add(millis), Ordering::Release);
        let until = self.millis(sent.monotonic + life).max(ENDED + 1);
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
mod tests;
