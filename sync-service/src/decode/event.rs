//! What one message says: whose rows changed, what that means, or why it can't be told.

use std::sync::Arc;

use catalog::{Op, TableRules};

use super::Concerned;

/// What one message says. Its rows, if it has any, are in the [`Scratch`](super::Scratch) that it was decoded into.
#[derive(Debug)]
pub struct Event {
    /// The database that the message names.
    pub database: String,
    /// The table that the message names.
    pub table: String,
    /// When the statement ran on the server, in milliseconds since 1970; Canal knows only the second.
    pub executed_ms: Option<i64>,
    /// When the message was made, in milliseconds since 1970.
    pub written_ms: Option<i64>,
    /// The number of the batch that Canal sent it in. It grows until Canal is restarted; then it begins at 1 again.
    pub batch: Option<i64>,
    /// What it means.
    pub meaning: Meaning,
}

/// Whose rows a message is about, and when they changed: what goes into its [`Event`] beside the meaning, and into an error.
#[derive(Default)]
pub(super) struct About {
    pub(super) database: String,
    pub(super) table: String,
    pub(super) executed_ms: Option<i64>,
    pub(super) written_ms: Option<i64>,
}

impl About {
    pub(super) fn event(self, meaning: Meaning) -> Event {
        let Self { database, table, executed_ms, written_ms } = self;
        Event { database, table, executed_ms, written_ms, batch: None, meaning }
    }

    pub(super) fn bad(&self, reason: impl Into<String>) -> Undecodable {
        Undecodable::of(reason, &self.database, &self.table)
    }

    pub(super) fn names_a_table(&self) -> bool {
        !self.database.is_empty() && !self.table.is_empty()
    }

    pub(super) fn whole(&self, reason: Reason) -> Meaning {
        let concerned = Concerned::table(&self.database, &self.table);
        Meaning::Whole { concerned, reason }
    }
}

/// What a message means for the cache.
#[derive(Debug)]
pub enum Meaning {
    /// Rows of a table that has rules changed.
    Rows {
        /// The table's rules.
        rules: Arc<TableRules>,
        /// What happened to all rows of the message.
        op: Op,
    },
    /// Something changed without telling which rows.
    Whole {
        /// Where.
        concerned: Concerned,
        /// Why single keys can't be told.
        reason: Reason,
    },
    /// A prepared transaction was committed; its rows came long before, unmarked.
    XaCommit,
    /// Heartbeat rows were written.
    Beat,
    /// Nothing that a cache could hold has changed.
    Nothing(Idle),
}

/// Why whole groups are flushed. A closed set, for metrics and logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// TRUNCATE.
    Truncate,
    /// A table was made, changed, renamed or dropped.
    Ddl,
    /// A change was logged as a statement, without its rows.
    Statement,
    /// A prepared transaction was committed.
    XaCommit,
    /// A message could not be decoded.
    Undecodable,
    /// This consumer group has never committed the partition.
    FirstStart,
    /// Messages were lost: the offset to read next is not in the log.
    OutOfRange,
    /// Heartbeat rows that were committed never came: whoever follows the database has left a piece out.
    Skipped,
    /// The log was cut and written anew below the offset to read next.
    Truncated,
    /// The backlog was too long.
    Lag,
    /// A batch of messages is larger than what is read at once.
    TooLarge,
    /// Whoever had the partition before was to flush, and is not known to have done so.
    Owed,
    /// A partition was added to a topic that this consumer group follows.
    NewPartition,
    /// Canal was restarted.
    CanalRestart,
    /// A table is read anew from its beginning: what came before may have been missed.
    Snapshot,
    /// The part of the binlog to read next was purged.
    Purged,
    /// The server lacks transactions that were read already: it is another one, or was reset.
    OtherServer,
    /// A table's definition is newer than the rows that are read, so columns can't be told by name.
    Definition,
}

impl Reason {
    /// All of them, for metrics.
    pub(crate) const ALL: [Self; 18] = [
        Self::Truncate,
        Self::Ddl,
        Self::Statement,
        Self::XaCommit,
        Self::Undecodable,
        Self::FirstStart,
        Self::OutOfRange,
        Self::Skipped,
        Self::Truncated,
        Self::Lag,
        Self::TooLarge,
        Self::Owed,
        Self::NewPartition,
        Self::CanalRestart,
        Self::Snapshot,
        Self::Purged,
        Self::OtherServer,
        Self::Definition,
    ];

    /// Whether it tells of changes that were missed, or may have been.
    pub(crate) fn is_gap(self) -> bool {
        match self {
            Self::FirstStart
            | Self::OutOfRange
            | Self::Skipped
            | Self::Truncated
            | Self::Lag
            | Self::TooLarge
            | Self::Owed
            | Self::NewPartition
            | Self::CanalRestart
            | Self::Purged
            | Self::OtherServer => true,
            Self::Truncate
            | Self::Ddl
            | Self::Statement
            | Self::XaCommit
            | Self::Undecodable
            | Self::Snapshot
            | Self::Definition => false,
        }
    }

    /// The name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Truncate => "truncate",
            Self::Ddl => "ddl",
            Self::Statement => "statement",
            Self::XaCommit => "xa_commit",
            Self::Undecodable => "undecodable",
            Self::FirstStart => "first_start",
            Self::OutOfRange => "out_of_range",
            Self::Skipped => "skipped",
            Self::Truncated => "truncated",
            Self::Lag => "lag",
            Self::TooLarge => "too_large",
            Self::Owed => "owed",
            Self::NewPartition => "new_partition",
            Self::CanalRestart => "canal_restart",
            Self::Snapshot => "snapshot",
            Self::Purged => "purged",
            Self::OtherServer => "other_server",
            Self::Definition => "definition",
        }
    }
}

/// Why a message changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Idle {
    /// No rule and no query names its table.
    NoRules,
    /// A comment on the message after it (`QUERY` with `isDdl: false`).
    Comment,
    /// A prepared transaction was rolled back.
    XaRollback,
    /// A statement that changes no rows: an index, a routine, a new database.
    NoRowsTouched,
    /// A sign of life of the stream.
    Heartbeat,
    /// The beginning or the end of a transaction.
    Transaction,
    /// The second message about a deleted row, for compaction alone.
    Tombstone,
}

impl Idle {
    /// All of them, for metrics.
    pub(crate) const ALL: [Self; 7] = [
        Self::NoRules,
        Self::Comment,
        Self::XaRollback,
        Self::NoRowsTouched,
        Self::Heartbeat,
        Self::Transaction,
        Self::Tombstone,
    ];

    /// The name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoRules => "no_rules",
            Self::Comment => "comment",
            Self::XaRollback => "xa_rollback",
            Self::NoRowsTouched => "no_rows_touched",
            Self::Heartbeat => "heartbeat",
            Self::Transaction => "transaction",
            Self::Tombstone => "tombstone",
        }
    }
}

/// A message that can't be decoded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Undecodable {
    /// What is wrong, and what to do where that is known.
    pub reason: String,
    /// The table that it is about, as (database, table), if that much could be read.
    pub table: Option<(String, String)>,
}

impl Undecodable {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), table: None }
    }

    pub(super) fn of(reason: impl Into<String>, database: &str, table: &str) -> Self {
        let told = !database.is_empty() && !table.is_empty();
        Self { reason: reason.into(), table: told.then(|| (database.to_owned(), table.to_owned())) }
    }
}
