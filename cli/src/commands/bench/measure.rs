//! One reader, and what it measures.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{Client, Outcome};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use crate::commands::warm::kind;

/// What was measured. Times in microseconds.
pub(super) struct Measured {
    /// Of each request.
    pub(super) latency: Histogram<u64>,
    /// How old each answer could be at worst.
    pub(super) freshness: Histogram<u64>,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// One error of each kind.
    pub(super) examples: BTreeMap<&'static str, String>,
}

/// Times in microseconds.
#[derive(Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

impl Quantiles {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}

impl Measured {
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are within the histogram's range");
        Self {
            latency: histogram(),
            freshness: histogram(),
            outcomes: BTreeMap::new(),
            errors: BTreeMap::new(),
            examples: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        // Both were made with the same precision and grow by themselves.
        self.latency.add(&other.latency).expect("the histogram grows");
        self.freshness.add(&other.freshness).expect("the histogram grows");
        for (name, count) in &other.outcomes {
            *self.outcomes.entry(name).or_default() += count;
        }
        for (name, count) in &other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        for (name, example) in &other.examples {
            self.examples.entry(name).or_insert_with(|| example.clone());
        }
    }

    /// Keys that were answered or failed.
    pub(super) fn reads(&self) -> u64 {
        self.outcomes.values().chain(self.errors.values()).sum()
    }

    /// Answers from memory among all answers.
    pub(super) fn hit_ratio(&self) -> f64 {
        let from = |outcome: Outcome| self.outcomes.get(outcome.as_str()).copied().unwrap_or_default();
        let answers: u64 = self.outcomes.values().sum();
        (from(Outcome::Hit) + from(Outcome::NegativeHit)) as f64 / answers.max(1) as f64
    }
}

/// Reads until `stop`.
pub(super) async fn read(
    client: Client,
    keys: Arc<Vec<String>>,
    choice: Arc<Choice>,
    batch: usize,
    stop: CancellationToken,
) -> Measured {
    let mut measured = Measured::new();
    while !stop.is_cancelled() {
        let drawn: Vec<&str> = (0..batch).map(|_| keys[choice.at(rand::random())].as_str()).collect();
        let began = Instant::now();
        // A request under way at the end is waited for: its time is measured too.
        let answers =
            if let [key] = drawn[..] { vec![client.get(key).await] } else { client.get_many(&drawn).await };
        note(&mut measured.latency, began.elapsed());
        for (key, answer) in drawn.iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    note(&mut measured.freshness, answer.freshness);
                    *measured.outcomes.entry(answer.outcome.as_str()).or_default() += 1;
                }
                Err(error) => {
                    let kind = kind(&error);
                    *measured.errors.entry(kind).or_default() += 1;
                    measured.examples.entry(kind).or_insert_with(|| format!("failed to get {key}: {error}"));
                }
            }
        }
    }
    measured
}

fn note(histogram: &mut Histogram<u64>, time: Duration) {
    // It grows as far as there are hours; what is beyond was no measurement.
    let _ = histogram.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_size_are_told_apart() {
        let mut measured = Measured::new();
        for millis in 1..=1000 {
            note(&mut measured.latency, Duration::from_millis(millis));
        }
        let mut all = Measured::new();
        all.add(&measured);
        let Quantiles { p50, p99, max, .. } = Quantiles::of(&all.latency);
        let near = |told: u64, true_: u64| told.abs_diff(true_) <= true_ / 500;
        assert!(near(p50, 500_000) && near(p99, 990_000) && near(max, 1_000_000), "{p50} {p99} {max}");
    }
}
