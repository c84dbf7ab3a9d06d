//! Heartbeat rows: this instance's own writes to the database, found again in the stream (R9).
//!
//! All changes that were committed before the write of a beat *began* lie before it in the database's log, and so before its
//! message in each partition that one of its rows falls into. Once that message is acknowledged, the instant is the
//! partition's watermark: true from the database to the node, also for tables in which nothing happens.

mod order;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

pub use order::{Irregular, Order};

use crate::offsets::Partition;

/// Beats that are remembered; what comes later than so many others tells nothing any more.
const REMEMBERED: usize = 4096;
/// After how many intervals without a beat a partition counts as one that beats don't reach.
const MISSING: u32 = 10;

/// Where beats are written to: the heartbeat tables of the database.
#[async_trait]
pub trait BeatWriter: Send + Sync + 'static {
    /// Makes sure that there is something to write to.
    async fn prepare(&self) -> Result<(), loader::Error>;

    /// Writes a beat into all rows. `Ok` says that it is committed; after an error it may be, now or later.
    async fn write(&self, beat: i64) -> Result<(), loader::Error>;

    /// Removes the rows of writers that have ended.
    async fn clean(&self) -> Result<(), loader::Error>;

    /// Removes this writer's own rows, at its end.
    async fn leave(&self) -> Result<(), loader::Error>;
}

#[async_trait]
impl BeatWriter for loader::Heartbeat {
    async fn prepare(&self) -> Result<(), loader::Error> {
        Self::prepare(self).await
    }

    async fn write(&self, beat: i64) -> Result<(), loader::Error> {
        Self::write(self, beat).await
    }

    async fn clean(&self) -> Result<(), loader::Error> {
        Self::clean(self).await
    }

    async fn leave(&self) -> Result<(), loader::Error> {
        Self::leave(self).await
    }
}

/// The beats of this instance.
#[derive(Debug)]
pub struct Beats {
    writer: String,
    /// As (database, table).
    tables: Vec<(String, String)>,
    interval: Duration,
    /// Guards what was written.
    written: Mutex<VecDeque<Written>>,
    /// When a beat was last seen in each partition, or the partition was first looked for. Guards plain facts.
    seen: Mutex<BTreeMap<Partition, Instant>>,
}

#[derive(Debug)]
struct Written {
    beat: i64,
    begun: Instant,
    committed: bool,
}

/// One of this instance's own rows in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Which of [`Beats`]' tables.
    pub table: usize,
    /// Which row there.
    pub n: i64,
    /// What it was set to.
    pub beat: i64,
}

impl Beats {
    /// Beats of `writer`, unique to this life of the process, written into `tables` (`database.table`) at each interval.
    pub fn new(writer: String, tables: &[String], interval: Duration) -> Self {
        let parts = |name: &String| {
            let (database, table) = name.split_once('.').unwrap_or(("", name));
            (database.to_owned(), table.to_owned())
        };
        Self {
            writer,
            tables: tables.iter().map(parts).collect(),
            interval,
            written: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// The tables, as (database, table).
    pub fn tables(&self) -> &[(String, String)] {
        &self.tables
    }

    /// How often a beat is written.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Begins a beat: to be called before anything of it is written.
    pub fn begin(&self) -> i64 {
        let mut written = self.written.lock();
        let beat = written.back().map_or(1, |last| last.beat + 1);
        if written.len() >= REMEMBERED {
            written.pop_front();
        }
        written.push_back(Written { beat, begun: Instant::now(), committed: false });
        beat
    }

    /// Notes that a beat is committed in all rows.
    pub fn committed(&self, beat: i64) {
        if let Some(written) = self.written.lock().iter_mut().rev().find(|written| written.beat == beat) {
            written.committed = true;
        }
    }

    /// When the write of a beat began; `None` if that is not remembered any more.
    pub fn begun(&self, beat: i64) -> Option<Instant> {
        self.written.lock().iter().rev().find(|written| written.beat == beat).map(|written| written.begun)
    }

    /// Whether a beat is known to have been committed in all rows.
    pub fn is_committed(&self, beat: i64) -> bool {
        self.written.lock().iter().rev().any(|written| written.beat == beat && written.committed)
    }

    /// The rows of this writer in a message about `database.table`; none if the message has none, whatever else it is.
    pub fn rows(&self, database: &str, table: &str, payload: &[u8]) -> Vec<Row> {
        let is = |(of, name): &(String, String)| {
            of.eq_ignore_ascii_case(database) && name.eq_ignore_ascii_case(table)
        };
        let Some(table) = self.tables.iter().position(is) else { return Vec::new() };
        let Ok(message) = serde_json::from_slice::<Value>(payload) else { return Vec::new() };
        // The rows of a writer that has ended are deleted with their last beat.
        if message["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("delete")) {
            return Vec::new();
        }
        let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
        // Debezium wraps what it says in `payload` where it carries a schema; its unwrapped rows stand alone.
        let message = message.get("payload").filter(|payload| payload.is_object()).unwrap_or(&message);
        let gone = |field: &str, sign: &str| message[field].as_str() == Some(sign);
        if gone("op", "d") || gone("__op", "d") || gone("__deleted", "true") {
            return Vec::new();
        }
        let rows = match (&message["data"], &message["after"]) {
            (Value::Array(rows), _) => rows.as_slice(),
            (row @ Value::Object(_), _) | (_, row @ Value::Object(_)) => std::slice::from_ref(row),
            _ => std::slice::from_ref(message),
        };
        let own = rows.iter().filter(|row| row["writer"].as_str() == Some(&self.writer));
        own.filter_map(|row| Some(Row { table, n: number(&row["n"])?, beat: number(&row["beat"])? }))
            .collect()
    }

    /// Notes that a beat came in a partition.
    pub fn saw(&self, partition: &Partition) {
        self.seen.lock().insert(partition.clone(), Instant::now());
    }

    /// Those of the owned partitions in which no beat has come for ten intervals.
    pub fn missing(&self, owned: &[Partition]) -> Vec<Partition> {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        seen.retain(|partition, _| owned.contains(partition));
        let late = |at: Instant| now.saturating_duration_since(at) >= self.interval * MISSING;
        let mut missing = Vec::new();
        for partition in owned {
            if late(*seen.entry(partition.clone()).or_insert(now)) {
                missing.push(partition.clone());
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats() -> Beats {
        Beats::new("me".to_owned(), &["shop.freshline_heartbeat".to_owned()], Duration::from_secs(1))
    }

    #[test]
    fn own_rows_are_found_in_whatever_form_they_come() {
        let beats = beats();
        let rows = |payload: &str| beats.rows("shop", "freshline_heartbeat", payload.as_bytes());
        let canal = r#"{"data":[{"writer":"me","n":"3","beat":"17"},{"writer":"other","n":"3","beat":"99"}],"type":"UPDATE"}"#;
        assert_eq!(rows(canal), [Row { table: 0, n: 3, beat: 17 }]);
        let native = r#"{"type":"INSERT","data":[{"beat":17,"n":3,"writer":"me"}]}"#;
        assert_eq!(rows(native), [Row { table: 0, n: 3, beat: 17 }]);
        let row = r#"{"beat":17,"n":3,"writer":"me"}"#;
        for other in [
            format!(r#"{{"type":"update","data":{row},"old":{{"beat":16}}}}"#),
            format!(r#"{{"op":"u","before":null,"after":{row}}}"#),
            format!(r#"{{"schema":null,"payload":{{"op":"c","after":{row}}}}}"#),
            row.to_owned(),
        ] {
            assert_eq!(rows(&other), [Row { table: 0, n: 3, beat: 17 }], "{other}");
        }
        assert_eq!(rows(&format!(r#"{{"op":"d","before":{row},"after":null}}"#)), []);
        for none in [
            r#"{"data":null}"#,
            "{",
            r#"{"data":[{"writer":"me"}]}"#,
            "[]",
            &canal.replace("UPDATE", "DELETE"),
        ] {
            assert_eq!(rows(none), [], "{none}");
        }
        assert_eq!(beats.rows("shop", "users", canal.as_bytes()), []);
        assert_eq!(beats.rows("SHOP", "FRESHLINE_HEARTBEAT", canal.as_bytes()).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_counts_from_the_beginning_of_its_write() {
        let beats = beats();
        let before = Instant::now();
        let beat = beats.begin();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(beats.begun(beat), Some(before));
        assert!(!beats.is_committed(beat));
        beats.committed(beat);
        assert!(beats.is_committed(beat));
        assert_eq!(beats.begun(beat + 1), None);
        assert_eq!(beats.begin(), beat + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_without_beats_is_missed_after_ten_intervals() {
        let (beats, owned) = (beats(), [Partition::new("shop", 0), Partition::new("shop", 1)]);
        assert_eq!(beats.missing(&owned), []);
        tokio::time::advance(Duration::from_secs(9)).await;
        beats.saw(&owned[0]);
        assert_eq!(beats.missing(&owned), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(beats.missing(&owned), owned[1..]);
        assert_eq!(beats.missing(&owned[..1]), [], "what is not owned is not missed");
    }
}
