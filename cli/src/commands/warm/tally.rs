//! What became of the keys.

use std::{collections::BTreeMap, time::Duration};

use client::{Answer, Error, Outcome};
use serde::Serialize;

/// Bad lines that are shown.
const EXAMPLES: usize = 10;

/// Counts of one run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Read from the database and kept.
    pub(super) filled: u64,
    /// In memory before.
    pub(super) already: u64,
    /// The database has no such row; kept too.
    pub(super) absent: u64,
    /// Read but not kept, because a removal was just before.
    pub(super) not_kept: u64,
    /// Lines or rows that make no key.
    pub(super) bad: u64,
    pub(super) bad_examples: Vec<String>,
    /// Keys that could not be filled, by kind of error.
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// One error of each kind.
    #[serde(skip)]
    pub(super) error_examples: BTreeMap<&'static str, String>,
    #[serde(skip)]
    pub(super) took: Duration,
}

impl Tally {
    pub(super) fn note(&mut self, key: &str, result: &Result<Answer, Error>) {
        match result {
            Ok(answer) => match answer.outcome {
                Outcome::Hit | Outcome::NegativeHit => self.already += 1,
                Outcome::ReadThrough | Outcome::Stale | Outcome::Token | Outcome::Absent => {
                    self.not_kept += 1;
                }
                Outcome::Miss | Outcome::Shared if answer.value.is_none() => self.absent += 1,
                Outcome::Miss | Outcome::Shared => self.filled += 1,
            },
            Err(error) => {
                let kind = kind(error);
                *self.errors.entry(kind).or_default() += 1;
                self.error_examples.entry(kind).or_insert_with(|| format!("failed to fill {key}: {error}"));
            }
        }
    }

    pub(super) fn bad(&mut self, number: u64, reason: &str) {
        self.bad += 1;
        if self.bad_examples.len() < EXAMPLES {
            self.bad_examples.push(format!("{number}: {reason}"));
        }
    }

    /// Keys that nodes were asked for.
    pub(super) fn keys(&self) -> u64 {
        self.filled + self.already + self.absent + self.not_kept + self.failed()
    }

    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// One or two words for an error.
pub(crate) fn kind(error: &Error) -> &'static str {
    match error {
        Error::InvalidKey { .. } => "refused",
        Error::Unavailable { .. } => "unavailable",
        Error::Deadline { .. } => "too late",
        Error::Overloaded { .. } => "overloaded",
        Error::LookAside { .. } => "look-aside",
        Error::LeftOut { .. } => "left out",
        Error::NoNodes { .. } => "no node",
        Error::Internal { .. } => "node failed",
    }
}
