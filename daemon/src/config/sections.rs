//! The sections that more than one binary reads. Each `check` pushes what no single field can tell.

use super::{Layers, Problems};

mod binlog;
mod cluster;
mod database;
mod kafka;

pub use binlog::BinlogSource;
pub use cluster::{Cluster, FixedMember, is_host_port};
pub use database::Database;
pub use kafka::{KafkaFormat, KafkaFormats, KafkaSource, Properties};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// `[client]`: how nodes, tools and applications call nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSection {
    /// How long a whole call may take, retries included. Default `"1s"`.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How long a node may say nothing at all while a call waits for it, before another is asked. Default `"300ms"`.
    #[serde(with = "duration")]
    pub silence: Duration,
    /// Whom tools and applications ask for a key first. Default `"owner"`.
    pub read_from: ReadFrom,
    /// How often a call that is safe to repeat is tried again after its first attempt. Default 3.
    pub retries: u32,
    /// How long opening a connection may take. Default `"500ms"`.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// After how many failures in a row a node is left alone for a while. Default 5.
    pub breaker_failures: u32,
    /// How long such a node is left alone before one call probes it. Default `"1s"`.
    #[serde(with = "duration")]
    pub breaker_cool_down: Duration,
}

impl Default for ClientSection {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(1),
            silence: Duration::from_millis(300),
            read_from: ReadFrom::Owner,
            retries: 3,
            connect_timeout: Duration::from_millis(500),
            breaker_failures: 5,
            breaker_cool_down: Duration::from_secs(1),
        }
    }
}

impl ClientSection {
    /// Pushes what is wrong beyond single fields.
    pub fn check(&self, layers: &Layers, problems: &mut Problems) {
        positive(layers, problems, "client.deadline", !self.deadline.is_zero());
        positive(layers, problems, "client.silence", !self.silence.is_zero());
        positive(layers, problems, "client.connect_timeout", !self.connect_timeout.is_zero());
        positive(layers, problems, "client.breaker_failures", self.breaker_failures > 0);
    }
}

/// Which of the holders of a key's slot is read from first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadFrom {
    /// The owner.
    #[default]
    Owner,
    /// The owner or a replica, whichever has less to do.
    Any,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people: one compact line each, coloured on a terminal.
    #[default]
    Text,
    /// For collectors: one JSON object per line.
    Json,
}

/// `[telemetry]`: logging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// What to log: a level, or levels per module, `"info,ring=debug"`. Default `"info"`.
    pub log: String,
    /// `"text"` or `"json"`. Default `"text"`.
    pub format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Telemetry {
    /// Pushes a filter that can't be read.
    pub fn check(&self, layers: &Layers, problems: &mut Problems) {
        if let Err(error) = crate::telemetry::filter(&self.log) {
            problems.push(format!("{}: {error}", layers.place("telemetry.log")));
        }
    }
}

/// Pushes "must be more than zero" for a field that isn't.
fn positive(layers: &Layers, problems: &mut Problems, path: &str, holds: bool) {
    if !holds {
        problems.push(format!("{}: must be more than zero", layers.place(path)));
    }
}

#[cfg(test)]
mod tests;
