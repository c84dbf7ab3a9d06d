//! The host's clocks beside tokio's monotonic one.

/// The clocks that bear witness beside tokio's monotonic one, which stands still while the host is suspended.
pub(crate) trait Clocks: Send + Sync + 'static {
    /// Milliseconds of a clock that also counts while the host is suspended.
    fn boot(&self) -> u64;

    /// Milliseconds of the wall clock. After a virtual machine was frozen from outside it may be the only one that jumps.
    fn wall(&self) -> u64;
}

/// The host's own clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostClocks;

#[cfg(target_os = "linux")]
impl Clocks for HostClocks {
    fn boot(&self) -> u64 {
        millis_of(rustix::time::ClockId::Boottime)
    }

    fn wall(&self) -> u64 {
        // As of the last timer tick, at most 10 ms ago, which the margin covers: half the price of the exact one.
        millis_of(rustix::time::ClockId::RealtimeCoarse)
    }
}

#[cfg(target_os = "linux")]
fn millis_of(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec.cast_unsigned().wrapping_mul(1000).wrapping_add(time.tv_nsec.cast_unsigned() / 1_000_000)
}

/// Elsewhere the wall clock alone, which goes on while a host is suspended, stands beside the monotonic one.
#[cfg(not(target_os = "linux"))]
impl Clocks for HostClocks {
    fn boot(&self) -> u64 {
        self.wall()
    }

    fn wall(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
