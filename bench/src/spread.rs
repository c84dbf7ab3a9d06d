//! How durations spread: percentiles of many.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest duration that is told apart.
const MOST: Duration = Duration::from_secs(100);

/// Durations, counted to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Spread(Histogram<u64>);

impl Spread {
    /// Without any durations yet.
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, MOST.as_nanos() as u64, 3).expect("the bounds are in order"))
    }

    /// Counts one.
    pub(crate) fn record(&mut self, duration: Duration) {
        self.0.saturating_record(duration.as_nanos() as u64);
    }

    /// Counts all of another spread too.
    pub(crate) fn add(&mut self, other: &Spread) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The duration that `percent` of all do not exceed.
    pub(crate) fn at(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent))
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}

impl FromIterator<Duration> for Spread {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let mut spread = Self::new();
        durations.into_iter().for_each(|duration| spread.record(duration));
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_true_to_three_digits() {
        let spread: Spread = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(spread.len(), 1000);
        for (percent, micros) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1000.0)] {
            let at = spread.at(percent).as_secs_f64() * 1e6;
            assert!((at - micros).abs() <= micros / 900.0, "{percent}: {at}");
        }
    }
}
