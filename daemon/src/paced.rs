//! Log lines that a caller can cause at will: told at most once in a while, and how many were not.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets one line through in each interval.
#[derive(Debug)]
pub struct Paced {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    untold: u64,
}

impl Paced {
    /// At most one line in so long a time.
    pub fn new(every: Duration) -> Self {
        Self { every, state: Mutex::default() }
    }

    /// Whether to tell it now: then how many were not told since the last time.
    pub fn due(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.last.is_some_and(|last| last.elapsed() < self.every) {
            state.untold += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_each_interval_and_the_others_are_counted() {
        let paced = Paced::new(Duration::from_secs(1));
        assert_eq!(paced.due(), Some(0));
        for _ in 0..7 {
            assert_eq!(paced.due(), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(paced.due(), Some(7));
        assert_eq!(paced.due(), None);
    }
}
