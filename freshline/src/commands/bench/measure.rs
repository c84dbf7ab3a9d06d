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
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
}

impl Quantiles {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), max_us: histogram.max() }
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
        measured.latency.saturating_record(micros(began.elapsed()));
        for (key, answer) in drawn.iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    measured.freshness.saturating_record(micros(answer.freshness));
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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
