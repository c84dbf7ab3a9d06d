//! One moment by all of a host's clocks, so that time which one of them does not see is counted all the same.

use std::time::Duration;

use tokio::time::Instant;

use crate::clocks::{Clocks, HostClocks};

/// A moment on the monotonic clock and on two that go on when that one may stand still: see [`passed_since`](Self::passed_since).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub(crate) monotonic: Instant,
    /// Milliseconds of a clock that also counts while the host is suspended.
    pub(crate) boot: u64,
    /// Milliseconds of the wall clock.
    pub(crate) wall: u64,
}

impl Moment {
    /// This moment by the host's clocks.
    pub(crate) fn now() -> Self {
        Self::by(&HostClocks)
    }

    /// This moment by these clocks.
    pub(crate) fn by(clocks: &impl Clocks) -> Self {
        Self { monotonic: Instant::now(), boot: clocks.boot(), wall: clocks.wall() }
    }

    /// A moment of the monotonic clock alone.
    pub fn monotonic(now: Instant) -> Self {
        Self { monotonic: now, boot: 0, wall: 0 }
    }

    /// How long ago `earlier` was, by the clock that saw the most time pass. The monotonic clock stands still while a host is suspended; a
    /// virtual machine that was frozen from outside may find only its wall clock changed.
    pub fn passed_since(&self, earlier: &Self) -> Duration {
        let boot = Duration::from_millis(self.boot.saturating_sub(earlier.boot));
        let wall = Duration::from_millis(self.wall.saturating_sub(earlier.wall));
        self.monotonic.saturating_duration_since(earlier.monotonic).max(boot).max(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_saw_the_most_time_pass_is_believed() {
        let now = Instant::now();
        let at = |monotonic: u64, boot: u64, wall: u64| Moment {
            monotonic: now + Duration::from_millis(monotonic),
            boot,
            wall,
        };
        let began = at(0, 500, 9000);
        assert_eq!(at(20, 520, 9020).passed_since(&began), Duration::from_millis(20));
        assert_eq!(at(20, 3500, 9020).passed_since(&began), Duration::from_secs(3), "suspended");
        assert_eq!(at(20, 520, 19_000).passed_since(&began), Duration::from_secs(10), "frozen from outside");
        assert_eq!(at(20, 520, 4000).passed_since(&began), Duration::from_millis(20), "set back");
    }
}
