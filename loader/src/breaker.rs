//! The database's circuit breaker: once most reads fail, asking stops for a while, and then a few probes decide.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{Error, Metrics};

/// The window is counted in so many parts; the oldest part falls out as a whole.
const PARTS: usize = 10;

/// When a loader stops asking its database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerLimits {
    /// Which share of reads has to fail, above 0 to 1; 0 turns the breaker off.
    pub failures: f64,
    /// Fewer reads than this within the window open nothing.
    pub least: u32,
    /// Over how long reads are counted.
    pub window: Duration,
    /// How long nothing is asked once it is open.
    pub pause: Duration,
    /// Reads that try the database after that; all of them must do well.
    pub probes: u32,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            failures: 0.5,
            least: 20,
            window: Duration::from_secs(10),
            pause: Duration::from_secs(1),
            probes: 3,
        }
    }
}

/// What a read says about the database.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It answers, if only with an error of the query's.
    Good,
    /// It doesn't.
    Bad(Arc<str>),
    /// The read was given up before it could say anything.
    Unknown,
}

/// One database's breaker.
pub(crate) struct Breaker {
    limits: BreakerLimits,
    metrics: Metrics,
    /// Never held while anything waits.
    state: Mutex<State>,
}

enum State {
    Closed(Window),
    Open { until: Instant, reason: Arc<str> },
    Probing { running: u32, good: u32, reason: Arc<str> },
}

impl Breaker {
    pub(crate) fn new(limits: BreakerLimits, metrics: Metrics) -> Self {
        let limits = BreakerLimits { probes: limits.probes.max(1), least: limits.least.max(1), ..limits };
        Self { limits, metrics, state: Mutex::new(State::Closed(Window::new())) }
    }

    /// Refuses what would only wait to be refused.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &*self.state.lock() {
            State::Open { until, reason } if Instant::now() < *until => Err(refused(*until, reason)),
            _ => Ok(()),
        }
    }

    /// Lets a read begin; what it says about the database is told to the pass.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, Error> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let probe = match &mut *state {
            State::Closed(_) => false,
            State::Open { until, reason } if now < *until => return Err(refused(*until, reason)),
            State::Open { reason, .. } => {
                *state = State::Probing { running: 1, good: 0, reason: reason.clone() };
                self.metrics.breaker.set(1);
                true
            }
            State::Probing { running, good, reason } => {
                // Never more probes than it takes: a database that has just come back is not to be met by the whole queue.
                if *running + *good >= self.limits.probes {
                    return Err(refused(now, reason));
                }
                *running += 1;
                true
            }
        };
        Ok(Pass { breaker: self, probe, told: false })
    }

    fn tell(&self, probe: bool, verdict: Verdict) {
        let now = Instant::now();
        let mut state = self.state.lock();
        match (&mut *state, verdict) {
            (State::Closed(window), verdict) if !probe => {
                let bad = match verdict {
                    Verdict::Good => None,
                    Verdict::Bad(reason) => Some(reason),
                    Verdict::Unknown => return,
                };
                let part = self.limits.window / PARTS as u32;
                let (good_count, bad_count) =
                    window.count(now, part.max(Duration::from_millis(1)), bad.is_some());
                let all = good_count + bad_count;
                if let Some(reason) = bad
                    && self.limits.failures > 0.0
                    && all >= self.limits.least
                    && f64::from(bad_count) >= self.limits.failures * f64::from(all)
                {
                    warn!(%reason, failed = bad_count, of = all, "most reads fail, the database is left alone for {:?}", self.limits.pause);
                    *state = self.opened(now, reason);
                }
            }
            (State::Probing { running, good, .. }, verdict) if probe => {
                *running = running.saturating_sub(1);
                match verdict {
                    Verdict::Good => {
                        *good += 1;
                        if *good >= self.limits.probes {
                            info!("the database does well again, it is asked as before");
                            self.metrics.breaker.set(0);
                            *state = State::Closed(Window::new());
                        }
                    }
                    Verdict::Bad(reason) => *state = self.opened(now, reason),
                    Verdict::Unknown => {}
                }
            }
            // Told by a read that began before the breaker turned.
            _ => {}
        }
    }

    fn opened(&self, now: Instant, reason: Arc<str>) -> State {
        self.metrics.breaker.set(2);
        self.metrics.breaker_opened.inc();
        State::Open { until: now + self.limits.pause, reason }
    }
}

fn refused(until: Instant, reason: &Arc<str>) -> Error {
    let retry_after = until.saturating_duration_since(Instant::now());
    Error::BreakerOpen { reason: reason.clone(), retry_after }
}

/// A read that may begin. Dropped without a word it says nothing, and gives a probe's place free.
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
    told: bool,
}

impl Pass<'_> {
    pub(crate) fn ended(mut self, verdict: Verdict) {
        self.told = true;
        self.breaker.tell(self.probe, verdict);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.breaker.tell(self.probe, Verdict::Unknown);
        }
    }
}

/// Good and bad reads of the last while.
struct Window {
    parts: [(u32, u32); PARTS],
    at: usize,
    since: Instant,
}

impl Window {
    fn new() -> Self {
        Self { parts: [(0, 0); PARTS], at: 0, since: Instant::now() }
    }

    /// Counts one more, and returns all good and bad ones.
    fn count(&mut self, now: Instant, part: Duration, bad: bool) -> (u32, u32) {
        for _ in 0..PARTS {
            if now.saturating_duration_since(self.since) < part {
                break;
            }
            self.at = (self.at + 1) % PARTS;
            self.parts[self.at] = (0, 0);
            self.since += part;
        }
        // After a long silence all parts are empty, and counting begins now.
        if now.saturating_duration_since(self.since) >= part {
            self.since = now;
        }
        let (good_count, bad_count) = &mut self.parts[self.at];
        *(if bad { bad_count } else { good_count }) += 1;
        self.parts.iter().fold((0, 0), |(good, bad), part| (good + part.0, bad + part.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        let limits = BreakerLimits { least: 4, probes: 2, ..BreakerLimits::default() };
        Breaker::new(limits, Metrics::default())
    }

    fn bad() -> Verdict {
        Verdict::Bad("gone".into())
    }

    fn tell(breaker: &Breaker, verdict: Verdict) {
        breaker.enter().expect("it is asked").ended(verdict);
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_at_its_share_and_no_sooner() {
        let breaker = breaker();
        for verdict in [bad(), bad(), Verdict::Good, Verdict::Unknown] {
            tell(&breaker, verdict);
        }
        assert!(breaker.check().is_ok(), "3 reads are fewer than 4");
        tell(&breaker, Verdict::Good);
        assert!(breaker.check().is_ok(), "a good read opens nothing");
        tell(&breaker, bad());
        let Err(Error::BreakerOpen { reason, retry_after }) = breaker.check() else {
            panic!("3 of 5 failed")
        };
        assert_eq!((&*reason, retry_after), ("gone", Duration::from_secs(1)));
        assert!(breaker.enter().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_long_ago_count_no_more() {
        let breaker = breaker();
        for _ in 0..3 {
            tell(&breaker, bad());
        }
        tokio::time::advance(Duration::from_secs(11)).await;
        tell(&breaker, bad());
        assert!(breaker.check().is_ok());
        for _ in 0..3 {
            tell(&breaker, bad());
        }
        assert!(breaker.check().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn probes_close_it_and_one_that_fails_opens_it_again() {
        let breaker = breaker();
        for _ in 0..4 {
            tell(&breaker, bad());
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        let (first, second) = (breaker.enter().unwrap(), breaker.enter().unwrap());
        assert!(breaker.enter().is_err(), "two probes and no more");
        first.ended(Verdict::Good);
        assert!(breaker.enter().is_err(), "the second is still out");
        second.ended(bad());
        assert!(breaker.check().is_err());

        tokio::time::advance(Duration::from_secs(1)).await;
        drop(breaker.enter().unwrap());
        tell(&breaker, Verdict::Good);
        tell(&breaker, Verdict::Good);
        for _ in 0..3 {
            tell(&breaker, bad());
        }
        assert!(breaker.check().is_ok(), "closed, and what was before is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_zero_turns_it_off() {
        let breaker =
            Breaker::new(BreakerLimits { failures: 0.0, ..BreakerLimits::default() }, Metrics::default());
        for _ in 0..1000 {
            tell(&breaker, bad());
        }
        assert!(breaker.check().is_ok());
    }
}
