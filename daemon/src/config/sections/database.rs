//! `[database]`: where misses are filled from, and how hard it may be pressed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::positive;
use crate::config::{DatabaseUrl, Layers, Problems, duration};

/// `[database]`: the database behind the cache and the limits of fills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `mysql://user:password@host:3306/database` or `sqlite:path`. No default.
    pub url: DatabaseUrl,
    /// Most connections. Default 16.
    pub pool: u32,
    /// Fills (batches) running at once on a node. Default 64.
    pub max_fills: usize,
    /// Keys waiting for the budget; more is answered as an overload. Default 10000.
    pub max_waiting: usize,
    /// How long a fill may take, waiting included. Default `"2s"`.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// Most keys of one `IN` query; 1 turns batching off. Default 64.
    pub batch: usize,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::default(),
            pool: 16,
            max_fills: 64,
            max_waiting: 10_000,
            deadline: Duration::from_secs(2),
            batch: 64,
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
        positive(layers, problems, "database.pool", self.pool > 0);
        positive(layers, problems, "database.max_fills", self.max_fills > 0);
        positive(layers, problems, "database.deadline", !self.deadline.is_zero());
        positive(layers, problems, "database.batch", self.batch > 0);
    }
}
