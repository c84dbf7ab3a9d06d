//! Log lines that a caller can cause at will: so many in a while are told, and how many were not.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets so many lines through in each interval.
#[derive(Debug)]
pub struct Paced {
    lines: u32,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the interval began.
    began: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Paced {
    /// At most so many lines in so long a time.
    pub fn new(lines: u32, every: Duration) -> Self {
        Self { lines, every, state: Mutex::default() }
    }

    /// Whether to tell it now: then how many were not told since the last time.
    pub fn due(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.began.is_none_or(|began| began.elapsed() >= self.every) {
            (state.began, state.told) = (Some(Instant::now()), 0);
        }
        if state.told >= self.lines {
            state.untold += 1;
            return None;
        }
        state.told += 1;
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_lines_in_each_interval_and_the_others_are_counted() {
        let paced = Paced::new(2, Duration::from_secs(1));
        assert_eq!((paced.due(), paced.due()), (Some(0), Some(0)));
        for _ in 0..7 {
            assert_eq!(paced.due(), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((paced.due(), paced.due(), paced.due()), (Some(7), Some(0), None));
    }
}
