//! How fast Redis clients ask, for tools that show it: looked at about once a second.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Rates per second: commands, bytes in, bytes out.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rates: [AtomicU64; 3],
    last: Mutex<Option<(Instant, [u64; 3])>>,
}

impl Pace {
    /// Looks at the counters, if it is time to.
    pub(super) fn look(&self, counters: impl FnOnce() -> [u64; 3]) {
        let mut last = self.last.lock();
        let now = Instant::now();
        match &*last {
            Some((at, _)) if now.duration_since(*at) < EVERY => return,
            _ => {}
        }
        let counts = counters();
        if let Some((at, before)) = last.replace((now, counts)) {
            let millis = u64::try_from(now.duration_since(at).as_millis()).unwrap_or(u64::MAX).max(1);
            for ((rate, count), before) in self.rates.iter().zip(counts).zip(before) {
                rate.store(count.saturating_sub(before).saturating_mul(1000) / millis, Relaxed);
            }
        }
    }

    pub(super) fn commands(&self) -> u64 {
        self.rates[0].load(Relaxed)
    }

    pub(super) fn kilobytes_in(&self) -> String {
        kilobytes(&self.rates[1])
    }

    pub(super) fn kilobytes_out(&self) -> String {
        kilobytes(&self.rates[2])
    }
}

/// With two digits behind the point, as Redis writes it.
fn kilobytes(rate: &AtomicU64) -> String {
    let hundredths = rate.load(Relaxed).saturating_mul(100) / 1024;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rates_are_of_the_last_second_or_so() {
        let pace = Pace::default();
        pace.look(|| [10, 0, 0]);
        pace.look(|| panic!("it was looked at just now"));
        tokio::time::advance(Duration::from_secs(2)).await;
        pace.look(|| [110, 2048, 3072]);
        assert_eq!(
            (pace.commands(), pace.kilobytes_in(), pace.kilobytes_out()),
            (50, "1.00".into(), "1.50".into())
        );
    }
}
