//! `[sync.heartbeat]`: the optional rows that make freshness true from the database on.

use std::time::Duration;

use daemon::config::{Layers, Problems, duration};
use serde::{Deserialize, Serialize};

/// `[sync.heartbeat]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// The table, `database.table`. It is made if it is not there.
    pub table: String,
    /// Several tables instead of one: for topics or partitions that one table's rows don't reach.
    pub tables: Vec<String>,
    /// How often the rows are written. Default `"1s"`.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How many rows each table has; more reach more partitions. Default 64.
    pub rows: u32,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { table: String::new(), tables: Vec::new(), interval: Duration::from_secs(1), rows: 64 }
    }
}

impl Heartbeat {
    /// All tables.
    pub fn all(&self) -> Vec<String> {
        let one = (!self.table.is_empty()).then(|| self.table.clone());
        one.into_iter().chain(self.tables.iter().cloned()).collect()
    }

    /// Pushes what is wrong beyond single fields.
    pub(super) fn check(&self, layers: &Layers, problems: &mut Problems) {
        let mut bad = |field: &str, what: String| {
            problems.push(format!("{}: {what}", layers.place(&format!("sync.heartbeat.{field}"))));
        };
        let all = self.all();
        if all.is_empty() {
            bad(
                "table",
                "is not set; write the table for heartbeat rows, like \"shop.freshline_heartbeat\"".into(),
            );
        }
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '-'))
        };
        for table in all {
            if !table.split_once('.').is_some_and(|(database, table)| plain(database) && plain(table)) {
                bad("table", format!("{table:?} is no table; write it like \"shop.freshline_heartbeat\""));
            }
        }
        if self.interval < Duration::from_millis(10) {
            bad(
                "interval",
                "is less than 10ms, which would load the database for nothing; write \"1s\"".into(),
            );
        }
        if !(1..=1024).contains(&self.rows) {
            bad("rows", format!("is {}; write a number from 1 to 1024", self.rows));
        }
    }
}
