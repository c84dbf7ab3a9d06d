//! How many database reads run at once: from `min` to `max`, by how fast the database answers.
//!
//! A database that is asked too much at once gets slower, not faster. The budget compares the time of reads with what was usual: when it
//! is far above, the budget shrinks in proportion; when reads fail it shrinks at once; when all is well and the budget is used up, it grows
//! step by step. It never exceeds `max`, whatever it sees.

#![expect(clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "limits are small and not negative")]

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Metrics;

/// Reads that are faster than this are fast, whatever is usual.
const FAST: Duration = Duration::from_millis(5);
/// Reads that are looked at together, at least.
const SAMPLES: usize = 16;
/// A failure takes this off, once for each window of reads.
const AFTER_FAILURES: f64 = 0.7;

/// Turns for database reads, given in the order in which they are asked for.
pub(crate) struct Budget {
    turns: Arc<Semaphore>,
    min: f64,
    max: f64,
    /// How much slower than usual is still good.
    tolerance: f64,
    metrics: Metrics,
    /// Never held while anything waits.
    state: Mutex<State>,
}

struct State {
    limit: f64,
    /// Turns that are given back into nothing, because the limit fell while they were out.
    owed: usize,
    running: usize,
    /// The usual time of a read in seconds; 0 while it is unknown.
    usual: f64,
    window: Window,
}

#[derive(Default)]
struct Window {
    seconds: f64,
    reads: usize,
    failed: bool,
    /// Most that ran at once.
    peak: usize,
}

/// How a read ended, for the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// The database answered after so long.
    Answered(Duration),
    /// It did not answer.
    Failed,
}

impl Budget {
    /// Starts at `max`.
    pub(crate) fn new(min: usize, max: usize, tolerance: f64, metrics: Metrics) -> Arc<Self> {
        let max = max.clamp(1, Semaphore::MAX_PERMITS.min(1 << 20));
        let min = min.clamp(1, max);
        metrics.limit.set(max as i64);
        Arc::new(Self {
            turns: Arc::new(Semaphore::new(max)),
            min: min as f64,
            max: max as f64,
            tolerance: if tolerance.is_finite() { tolerance.max(1.0) } else { f64::MAX },
            metrics,
            state: Mutex::new(State {
                limit: max as f64,
                owed: 0,
                running: 0,
                usual: 0.0,
                window: Window::default(),
            }),
        })
    }

    /// Waits for a turn. Dropping the future is safe.
    pub(crate) async fn turn(self: &Arc<Self>) -> Turn {
        let permit = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .expect("the budget is never closed while the loader lives");
        let mut state = self.state.lock();
        state.running += 1;
        state.window.peak = state.window.peak.max(state.running);
        drop(state);
        Turn { budget: Arc::clone(self), permit: Some(permit) }
    }

    /// Looks at one more read, and at the limit once enough have been.
    pub(crate) fn observe(&self, took: Took) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        match took {
            Took::Answered(time) => state.window.seconds += time.as_secs_f64(),
            Took::Failed => state.window.failed = true,
        }
        state.window.reads += 1;
        if state.window.reads < SAMPLES.max(state.limit as usize) {
            return;
        }
        let running = state.running;
        let window = std::mem::replace(&mut state.window, Window { peak: running, ..Window::default() });
        let limit = next(&mut state.usual, state.limit, &window, self.tolerance).clamp(self.min, self.max);
        self.turn_to(state, limit);
    }

    fn turn_to(&self, state: &mut State, limit: f64) {
        let (before, now) = (state.limit as usize, limit as usize);
        state.limit = limit;
        if now > before {
            let forgiven = state.owed.min(now - before);
            state.owed -= forgiven;
            self.turns.add_permits(now - before - forgiven);
        } else {
            state.owed += before - now;
            let idle = self.turns.forget_permits(state.owed);
            state.owed -= idle;
        }
        self.metrics.limit.set(now as i64);
    }

    #[cfg(test)]
    fn limit(&self) -> usize {
        self.state.lock().limit as usize
    }
}

/// The limit after a window of reads.
fn next(usual: &mut f64, limit: f64, window: &Window, tolerance: f64) -> f64 {
    if window.failed {
        return limit * AFTER_FAILURES;
    }
    let now = window.seconds / window.reads as f64;
    // Down fast, up slowly: what lasts becomes usual, a surge doesn't.
    *usual = match *usual {
        0.0 => now,
        known if now < known => f64::midpoint(known, now),
        known => known + (now - known) * 0.02,
    };
    let good = tolerance * usual.max(FAST.as_secs_f64());
    if now > good {
        limit * (good / now).max(0.5)
    } else if window.peak as f64 >= limit / 2.0 {
        limit + limit.sqrt()
    } else {
        limit // nobody asks for more
    }
}

/// One read's turn; over when dropped.
pub(crate) struct Turn {
    budget: Arc<Budget>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        state.running -= 1;
        let Some(permit) = self.permit.take() else { return };
        if state.owed > 0 {
            state.owed -= 1;
            permit.forget();
        }
        // Else it goes back by itself, still under the lock: what is owed and what is free are one count.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(min: usize, max: usize) -> Arc<Budget> {
        Budget::new(min, max, 2.0, Metrics::default())
    }

    fn observe(budget: &Budget, took: Took) {
        for _ in 0..64 {
            budget.observe(took);
        }
    }

    fn after(millis: u64) -> Took {
        Took::Answered(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_reads_shrink_it_fast_ones_let_it_grow_and_its_bounds_hold() {
        let budget = budget(4, 64);
        observe(&budget, after(10));
        assert_eq!(budget.limit(), 64);
        for _ in 0..20 {
            observe(&budget, after(200));
        }
        assert_eq!(budget.limit(), 4, "the least is kept");
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(budget.turn().await);
        }
        for _ in 0..40 {
            observe(&budget, after(10));
            // Whoever asks for as many as there are has a use for more.
            while turns.len() < budget.limit() {
                turns.push(budget.turn().await);
            }
        }
        assert_eq!(budget.limit(), 64);
        assert_eq!(budget.turns.available_permits(), 0);
        drop(turns);
        assert_eq!(budget.turns.available_permits(), 64, "all turns come back");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_shrink_it_and_turns_that_are_out_are_owed() {
        let budget = budget(1, 10);
        let mut turns = Vec::new();
        for _ in 0..10 {
            turns.push(budget.turn().await);
        }
        observe(&budget, Took::Failed);
        let limit = budget.limit();
        assert!(limit < 10);
        drop(turns.split_off(limit));
        assert_eq!(budget.turns.available_permits(), 0, "what is above the limit is not given again");
        drop(turns.pop());
        assert_eq!(budget.turns.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn fast_reads_are_fast_whatever_is_usual_and_an_idle_budget_stays() {
        let budget = budget(1, 64);
        observe(&budget, Took::Answered(Duration::from_micros(50)));
        for _ in 0..10 {
            observe(&budget, after(4));
        }
        assert_eq!(budget.limit(), 64);
        observe(&budget, Took::Failed);
        let shrunk = budget.limit();
        observe(&budget, after(1));
        assert_eq!(budget.limit(), shrunk, "nobody asks for more");
    }
}
