//! `[database]`: where misses are filled from, and how hard it may be pressed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::positive;
use crate::config::{DatabaseUrl, Layers, Problems, duration};

/// `[database]`: the database behind the cache and the limits of fills.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `mysql://user:password@host:3306/database` or `sqlite:path`. No default.
    pub url: DatabaseUrl,
    /// Most connections. Default 16.
    pub pool: u32,
    /// How long a connection is used at most, so that one to a server that is not the primary any more ends. Default `"1m"`.
    #[serde(with = "duration")]
    pub max_lifetime: Duration,
    /// Fills (batches) running at once on a node. Default 64.
    pub max_fills: usize,
    /// How far that number is lowered at most while the database is slow. Default 8.
    pub min_fills: usize,
    /// How many times slower than usual the database may answer before the number is lowered. Default 2.
    pub tolerance: f64,
    /// Keys waiting for the budget; more is answered as an overload. Default 10000.
    pub max_waiting: usize,
    /// How long a fill may take, waiting included. Default `"2s"`.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// Most keys of one `IN` query; 1 turns batching off. Default 64.
    pub batch: usize,
    /// When the database is left alone.
    pub breaker: Breaker,
}

/// `[database.breaker]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Which share of reads has to fail; 0 turns the breaker off. Default 0.5.
    pub failures: f64,
    /// Fewer reads than this within the window open nothing. Default 20.
    pub least: u32,
    /// Over how long reads are counted. Default `"10s"`.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How long nothing is asked. Default `"1s"`.
    #[serde(with = "duration")]
    pub pause: Duration,
    /// Reads that then try the database; all of them must do well. Default 3.
    pub probes: u32,
}

impl Default for Breaker {
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

impl Default for Database {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::default(),
            pool: 16,
            max_lifetime: Duration::from_mins(1),
            max_fills: 64,
            min_fills: 8,
            tolerance: 2.0,
            max_waiting: 10_000,
            deadline: Duration::from_secs(2),
            batch: 64,
            breaker: Breaker::default(),
        }
    }
}

impl Database {
    /// Pushes what is wrong beyond single fields.
    pub fn check(&self, layers: &Layers, problems: &mut Problems) {
        let url = self.url.expose();
        let place = layers.place("database.url");
        if url.is_empty() {
            problems
                .push(format!("{place}: is not set, write it like \"mysql://user:password@host:3306/shop\""));
        } else if !url.starts_with("mysql://") && !url.starts_with("sqlite:") {
            problems.push(format!(
                "{place}: `{}` is no database that is known, write mysql:// or sqlite:",
                self.url
            ));
        }
        for problem in self.url.mysql_problems() {
            problems.push(format!("{place}: {problem}"));
        }
        positive(layers, problems, "database.pool", self.pool > 0);
        positive(layers, problems, "database.max_fills", self.max_fills > 0);
        positive(layers, problems, "database.min_fills", self.min_fills > 0);
        positive(layers, problems, "database.breaker.least", self.breaker.least > 0);
        positive(layers, problems, "database.breaker.probes", self.breaker.probes > 0);
        positive(layers, problems, "database.breaker.window", !self.breaker.window.is_zero());
        positive(layers, problems, "database.breaker.pause", !self.breaker.pause.is_zero());
        if self.tolerance.is_nan() || self.tolerance < 1.0 {
            let place = layers.place("database.tolerance");
            problems.push(format!("{place}: is {}, write a number of 1 or more, like 2.0", self.tolerance));
        }
        if !(0.0..=1.0).contains(&self.breaker.failures) {
            let place = layers.place("database.breaker.failures");
            problems.push(format!("{place}: is {}, write a share from 0 to 1", self.breaker.failures));
        }
        positive(layers, problems, "database.max_lifetime", !self.max_lifetime.is_zero());
        positive(layers, problems, "database.deadline", !self.deadline.is_zero());
        positive(layers, problems, "database.batch", self.batch > 0);
    }
}
