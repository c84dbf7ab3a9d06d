//! `[sync]`: how the sync service reads, batches and delivers.

mod catch_up;
mod heartbeat;

use std::net::SocketAddr;
use std::time::Duration;

use daemon::config::{Layers, Problems, duration};
use serde::{Deserialize, Serialize};

pub(crate) use self::catch_up::Backlog;
pub use self::catch_up::{CatchUp, OnLag};
pub use self::heartbeat::Heartbeat;

use crate::verify;

/// `[sync]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// Where `/metrics`, `/healthz` and `/readyz` are served. Default `"0.0.0.0:7402"`.
    pub http: SocketAddr,
    /// The most messages that are decoded and delivered as one batch. Default 500.
    pub batch_messages: usize,
    /// How long a batch waits for more messages while earlier ones are still under way; when there is nothing under way
    /// it doesn't wait. Default `"2ms"`.
    #[serde(with = "duration")]
    pub batch_wait: Duration,
    /// The most batches that wait for nodes that keep up. Default 64.
    pub in_flight: usize,
    /// The most batches that wait for anything, slow nodes and etcd included; beyond it reading pauses. Default 20000.
    pub max_unacknowledged: usize,
    /// The most keys in one request to a node. Default 1000.
    pub request_keys: usize,
    /// How long a node may take to answer before the request is repeated. Default `"2s"`.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// The most keys that wait for one node. A node that keeps up slows reading down at that point; of a slow one the
    /// waiting keys are replaced by flushes of their groups. Default 100000.
    pub backlog_keys: usize,
    /// After how long without an answer a node counts as slow. Default `"500ms"`.
    #[serde(with = "duration")]
    pub slow_after: Duration,
    /// How often nodes are told how fresh they are, and the log is asked for its ends. Default `"500ms"`.
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
    /// `[sync.heartbeat]`: rows that make freshness true from the database on. Not written by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// How often offsets are committed. Default `"1s"`.
    #[serde(with = "duration")]
    pub commit_interval: Duration,
    /// How long a shutdown waits for removes under way. Default `"10s"`.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// After how long without any node in the membership the service stops with an error, for fear of a wrong `cluster.name`. Default `"0s"`:
    /// never; it warns and is not ready.
    #[serde(with = "duration")]
    pub halt_without_members: Duration,
    /// What to do with a partition that this consumer group has never committed. Default `"flush"`.
    pub on_first_start: OnFirstStart,
    /// What to do when the next message to read is not in the log any more. Default `"latest"`.
    pub on_out_of_range: OnOutOfRange,
    /// What to do with a message that can't be decoded. Default `"dead_letter"`.
    pub on_undecodable: OnUndecodable,
    /// What to do when Canal was restarted, as far as its messages tell. Default `"trust"`.
    pub on_canal_restart: OnCanalRestart,
    /// `[sync.catch_up]`.
    pub catch_up: CatchUp,
    /// `[sync.verify]`: comparing what is cached with the database, all the time. Default: off.
    pub verify: verify::Settings,
}

/// What to do with a partition that this consumer group has never committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFirstStart {
    /// Start at the log's end and flush all groups: what is cached may be of any age.
    #[default]
    Flush,
    /// Start at the log's beginning, and flush all groups too.
    Replay,
    /// Stop with an error.
    Halt,
}

/// What to do when the next message to read is not in the log any more. All groups are flushed in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOutOfRange {
    /// Go on at the log's end.
    #[default]
    Latest,
    /// Go on with the oldest message that is left.
    Earliest,
    /// Stop with an error.
    Halt,
}

/// What to do with a message that can't be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUndecodable {
    /// Send it to the dead-letter topic, flush the groups that it may concern, and go on.
    #[default]
    DeadLetter,
    /// Stop with an error, its offset uncommitted.
    Halt,
}

/// What to do when Canal was restarted: its batches are numbered from 1 again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCanalRestart {
    /// Trust that it went on where it had stopped, or earlier; count it and say so.
    #[default]
    Trust,
    /// Flush all groups: for a Canal that keeps its position nowhere, and begins at the binlog's end.
    Flush,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([0, 0, 0, 0], 7402)),
            batch_messages: 500,
            batch_wait: Duration::from_millis(2),
            in_flight: 64,
            max_unacknowledged: 20_000,
            request_keys: 1000,
            request_timeout: Duration::from_secs(2),
            backlog_keys: 100_000,
            slow_after: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(500),
            heartbeat: None,
            commit_interval: Duration::from_secs(1),
            drain: Duration::from_secs(10),
            halt_without_members: Duration::ZERO,
            on_first_start: OnFirstStart::default(),
            on_out_of_range: OnOutOfRange::default(),
            on_undecodable: OnUndecodable::default(),
            on_canal_restart: OnCanalRestart::default(),
            catch_up: CatchUp::default(),
            verify: verify::Settings::default(),
        }
    }
}

impl Sync {
    /// Pushes what is wrong beyond single fields.
    pub fn check(&self, layers: &Layers, problems: &mut Problems) {
        let mut positive = |field: &str, holds: bool| {
            if !holds {
                problems.push(format!("{}: must be more than zero", layers.place(&format!("sync.{field}"))));
            }
        };
        positive("batch_messages", self.batch_messages > 0);
        positive("in_flight", self.in_flight > 0);
        positive("max_unacknowledged", self.max_unacknowledged > 0);
        positive("request_keys", self.request_keys > 0);
        positive("request_timeout", !self.request_timeout.is_zero());
        positive("backlog_keys", self.backlog_keys > 0);
        positive("slow_after", !self.slow_after.is_zero());
        positive("heartbeat_interval", !self.heartbeat_interval.is_zero());
        positive("commit_interval", !self.commit_interval.is_zero());
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.check(layers, problems);
        }
        self.catch_up.check(layers, problems);
        self.verify.check(layers, problems);
        if self.max_unacknowledged < self.in_flight {
            problems.push(format!(
                "{}: is {}, less than sync.in_flight ({}); raise it",
                layers.place("sync.max_unacknowledged"),
                self.max_unacknowledged,
                self.in_flight
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_the_section_is_reported() {
        let text = "[sync]\nbatch_messages = 0\nin_flight = 9\nmax_unacknowledged = 3\nslow_after = \"0s\"\non_first_start = \"forget\"\n[sync.catch_up]\nmax_messages = 7\n";
        let layers = Layers::from_text("freshline.toml", text, []).expect("toml");
        let mut problems = Problems::default();
        let section: Sync = layers.section("sync", &mut problems);
        section.check(&layers, &mut problems);
        let text = problems.to_string();
        for part in
            ["batch_messages", "max_unacknowledged", "slow_after", "on_first_start", "catch_up.max_messages"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(problems.len(), 5, "{text}");
    }

    #[test]
    fn heartbeat_rows_need_a_table_and_sane_numbers() {
        let check = |section: &str| {
            let text = format!("[sync.heartbeat]\n{section}");
            let layers = Layers::from_text("freshline.toml", &text, []).expect("toml");
            let mut problems = Problems::default();
            let sync: Sync = layers.section("sync", &mut problems);
            sync.check(&layers, &mut problems);
            (sync.heartbeat, problems)
        };
        let (heartbeat, problems) = check("table = \"shop.freshline_heartbeat\"");
        assert!(problems.is_empty(), "{problems}");
        let heartbeat = heartbeat.expect("the section");
        assert_eq!((heartbeat.interval, heartbeat.rows), (Duration::from_secs(1), 64));
        assert_eq!(heartbeat.all(), ["shop.freshline_heartbeat"]);
        let (_, problems) = check("rows = 0\ninterval = \"0s\"\ntables = [\"beat\"]");
        assert_eq!(problems.len(), 3, "{problems}");
        assert_eq!(check("").1.len(), 1);
    }
}
