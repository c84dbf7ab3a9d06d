//! Verify: does the cache say what the database says?
//!
//! Keys are sampled from the nodes' memories ([`Sampler`]); each entry is compared with its row, read by the same loader
//! that fills it, and a difference is followed until it is gone or old enough to be called stale ([`Checker`]). A
//! [`Tally`] counts how many entries were consistent at each age: the "nines". [`run`] does it once, [`Watch`] all the
//! time at a low rate.

mod checker;
mod sampler;
mod tally;
mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use client::History;
use futures_util::{Stream, StreamExt as _, stream};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

pub use self::checker::{Checker, Compare, Difference, Error, Followed};
pub use self::sampler::{Sampler, Target};
pub use self::tally::{AtAge, Tally, nines};
pub use self::watch::{Settings, Watch};

/// How long after it was first seen a difference is looked at again: a removal under way takes milliseconds, a slow node
/// or a sync service that is taken over takes seconds.
pub const AGES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_mins(1)];
/// Entries that are compared or followed at one time. More differences than that slow the sampling down.
const OPEN: usize = 256;

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many entries to compare; `None` for all.
    pub sample: Option<u64>,
    /// Groups to take them from; empty for all.
    pub groups: Vec<String>,
    /// Entries compared in a second.
    pub rate: f64,
    /// When differences are looked at again, counted from the first look.
    pub ages: Vec<Duration>,
    /// Whether stale keys are removed from all nodes.
    pub repair: bool,
}

/// What a run has found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The counts.
    #[serde(flatten)]
    pub tally: Tally,
    /// Entries that were still different at the end.
    pub stale: Vec<Stale>,
    /// Nodes that could not be sampled, with why.
    pub unreachable: Vec<String>,
    /// Some of what kept entries from being compared.
    pub errors: Vec<String>,
}

impl Report {
    /// Whether all that was to be looked at was, and nothing is stale or may be.
    pub fn is_well(&self) -> bool {
        let blind = self.tally.checked == 0 && self.tally.failed > 0;
        self.stale.is_empty() && self.tally.unsettled == 0 && self.unreachable.is_empty() && !blind
    }
}

/// An entry that is not what the database says, and was not at every look.
#[derive(Debug, Serialize)]
pub struct Stale {
    /// The node that has it.
    pub node: String,
    /// Its key.
    pub key: String,
    /// What the node would serve; `null` for "no such row".
    pub cached: Option<Box<RawValue>>,
    /// What the database says; `null` for "no such row".
    pub database: Option<Box<RawValue>>,
    /// What all nodes remember of the key; absent if none could be asked.
    pub history: Option<History>,
    /// Whether it was removed from all nodes; absent if that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<bool>,
}

/// Errors that a report names; more of them say the same.
const NAMED_ERRORS: usize = 10;

/// What is told of a run while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// One more entry has been followed to its end.
    Counted(&'a Tally),
    /// An entry is stale.
    Stale(&'a Stale),
}

/// Compares entries once, as `plan` says; `told` hears of each stale entry as soon as it is known.
///
/// Safe to drop.
///
/// # Errors
///
/// Only if nothing could be sampled at all; what goes wrong with single entries is counted.
pub async fn run(checker: &Checker, plan: &Plan, mut told: impl FnMut(Seen<'_>)) -> Result<Report, Error> {
    let mut sampler = Sampler::once(checker.client().clone(), plan.groups.clone(), plan.sample).await?;
    let mut report = Report {
        tally: Tally::new(&plan.ages),
        stale: Vec::new(),
        unreachable: Vec::new(),
        errors: Vec::new(),
    };
    {
        let done = followed(checker, &mut sampler, plan);
        let mut done = std::pin::pin!(done);
        while let Some((followed, stale)) = done.next().await {
            report.tally.count(&followed);
            told(Seen::Counted(&report.tally));
            if let Followed::Failed { error, .. } = &followed {
                let error = error.to_string();
                if report.errors.len() < NAMED_ERRORS && !report.errors.contains(&error) {
                    report.errors.push(error);
                }
            }
            if let Some(stale) = stale {
                told(Seen::Stale(&stale));
                report.stale.push(stale);
            }
        }
    }
    report.unreachable = sampler.unreachable();
    Ok(report)
}

/// Follows what the sampler gives, at the plan's rate, many at a time; an entry that is being followed is not begun with
/// again.
fn followed<'a>(
    checker: &'a Checker,
    sampler: &'a mut Sampler,
    plan: &'a Plan,
) -> impl Stream<Item = (Followed, Option<Stale>)> + 'a {
    let pace = Pace::new(plan.rate);
    let open = Arc::new(Mutex::new(HashSet::new()));
    stream::unfold((sampler, pace), async |(sampler, mut pace)| {
        pace.turn().await;
        let target = sampler.next().await?;
        Some((target, (sampler, pace)))
    })
    .map(move |target: Target| {
        let open = open.clone();
        async move {
            if !open.lock().insert(target.clone()) {
                return None;
            }
            let followed = checker.follow(&target, &plan.ages).await;
            let stale = match &followed {
                Followed::Stale(difference) => Some(checker.stale(&target, difference, plan.repair).await),
                _ => None,
            };
            open.lock().remove(&target);
            Some((followed, stale))
        }
    })
    .buffer_unordered(OPEN)
    .filter_map(std::future::ready)
}

/// Lets things happen so many times in a second, without catching up on what was missed.
#[derive(Debug)]
struct Pace {
    each: Duration,
    next: Instant,
}

impl Pace {
    /// `rate` must be more than zero.
    fn new(rate: f64) -> Self {
        let each = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::from_secs(1));
        Self { each, next: Instant::now() }
    }

    async fn turn(&mut self) {
        // A timer is a millisecond coarse: what a faster pace owes for that is made up for, and no more.
        let slack = Duration::from_millis(10);
        let now = Instant::now();
        self.next = self.next.max(now.checked_sub(slack).unwrap_or(now));
        tokio::time::sleep_until(self.next).await;
        self.next += self.each;
    }
}

/// A value as the JSON that it is; one that is not shows as a string.
fn raw(value: Option<&bytes::Bytes>) -> Option<Box<RawValue>> {
    let text = String::from_utf8_lossy(value?);
    match RawValue::from_string(text.clone().into_owned()) {
        Ok(raw) => Some(raw),
        Err(_) => serde_json::value::to_raw_value(&text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(100.0);
        let begun = Instant::now();
        for _ in 0..=100 {
            pace.turn().await;
        }
        assert_eq!(begun.elapsed().as_millis(), 1000);
        tokio::time::advance(Duration::from_mins(1)).await;
        let again = Instant::now();
        for _ in 0..=100 {
            pace.turn().await;
        }
        assert!(again.elapsed() >= Duration::from_millis(980), "{:?}", again.elapsed());
    }

    #[test]
    fn a_value_keeps_its_digits_and_what_is_no_json_shows_as_text() {
        let shown = |value: &'static [u8]| raw(Some(&bytes::Bytes::from_static(value))).unwrap().to_string();
        assert_eq!(shown(b"{\"price\":1.10}"), "{\"price\":1.10}");
        assert_eq!(shown(b"plain"), "\"plain\"");
        assert!(raw(None).is_none());
    }
}
