//! From a message's bytes to what it says about rows and tables.
//!
//! Decoding borrows from the message and keeps only the columns that some rule needs. The columns of interest are
//! learnt: the first message of a table that has rules adds that table's columns, and is read once more.
//!
//! There is a module for each format. All of them leave the same behind: an [`Event`], which says what a message means, and rows in a
//! [`Scratch`], whose cells become key parts by the catalog's own rules, whatever program wrote them.

mod aliyun;
pub mod canal;
mod columns;
mod ddl;
mod debezium;
mod json;
mod maxwell;
mod row;
mod topics;
mod zone;

use std::sync::Arc;

use catalog::{Catalog, Op, TableRules};
use daemon::config::KafkaFormat;
use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

pub use columns::Columns;
pub use row::{Cell, Image, Rows, Scratch};
pub use topics::Topics;
pub(crate) use zone::civil_from_days;
pub use zone::{Zone, ZoneError};

use crate::source::Message;

/// What one message says. Its rows, if it has any, are in the [`Scratch`] that it was decoded into.
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

/// What may have changed as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Concerned {
    /// These tables, as (database, table).
    Tables(Vec<(String, String)>),
    /// All tables of a database.
    Database(String),
    /// Any table.
    Everything,
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
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), table: None }
    }

    fn of(reason: impl Into<String>, database: &str, table: &str) -> Self {
        let told = !database.is_empty() && !table.is_empty();
        Self { reason: reason.into(), table: told.then(|| (database.to_owned(), table.to_owned())) }
    }
}

/// Decodes messages against one catalog, each by the format of its topic.
pub struct Decoder {
    catalog: Arc<Catalog>,
    columns: Columns,
    tables: HashMap<u64, Known>,
    zone: Zone,
    /// Tables of heartbeat rows, as (database, table).
    heartbeats: Vec<(String, String)>,
    memos: canal::quick::Memos,
    topics: Topics,
    schemas: debezium::Schemas,
    /// Tables that Debezium is reading from their beginning.
    snapshots: HashSet<(String, String)>,
}

struct Known {
    database: Box<str>,
    table: Box<str>,
    rules: Option<Arc<TableRules>>,
}

/// Tables kept in the decoder's own cache; a catalog with patterns may match any number of them.
const MAX_KNOWN: usize = 65_536;

impl Decoder {
    /// Makes a decoder. `zone` is the time zone that the stream's TIMESTAMP columns are written in.
    pub fn new(catalog: Arc<Catalog>, zone: Zone) -> Self {
        Self {
            catalog,
            columns: Columns::default(),
            tables: HashMap::new(),
            zone,
            heartbeats: Vec::new(),
            memos: canal::quick::Memos::default(),
            topics: Topics::default(),
            schemas: debezium::Schemas::default(),
            snapshots: HashSet::new(),
        }
    }

    /// Goes by these formats and table names of topics; otherwise everything is Canal's and names its table.
    #[must_use]
    pub fn with_topics(mut self, topics: Topics) -> Self {
        self.topics = topics;
        self
    }

    /// Takes these tables, as (database, table), for tables of heartbeat rows, whatever the catalog says of them.
    #[must_use]
    pub fn with_heartbeats(mut self, tables: &[(String, String)]) -> Self {
        self.heartbeats = tables.to_vec();
        self
    }

    /// Decodes one message by the format of its topic. The rows are left in `scratch`.
    pub fn decode<'a>(
        &mut self,
        message: &Message<'a>,
        scratch: &mut Scratch<'a>,
    ) -> Result<Event, Undecodable> {
        scratch.clear();
        let topic = self.topics.of(&message.partition.topic);
        let named = topic.table.as_ref().map(|(database, table)| (&**database, &**table));
        match topic.format {
            Some(KafkaFormat::Canal) => canal::decode(self, value(message)?, named, scratch),
            Some(KafkaFormat::Aliyun) => aliyun::decode(self, value(message)?, scratch),
            Some(KafkaFormat::Maxwell) => maxwell::decode(self, value(message)?, scratch),
            Some(KafkaFormat::Debezium) => debezium::decode(self, message, scratch),
            Some(KafkaFormat::DebeziumUnwrapped) => debezium::unwrapped(self, message, named, scratch),
            None => Err(Undecodable::new(format!(
                "source.kafka.format names no format for the topic {:?}",
                &*message.partition.topic
            ))),
        }
    }

    /// Decodes one Canal message. The rows are left in `scratch`.
    pub fn canal<'a>(&mut self, message: &'a [u8], scratch: &mut Scratch<'a>) -> Result<Event, Undecodable> {
        canal::decode(self, message, None, scratch)
    }

    /// The columns of interest, which [`Image`]s are read by.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The rules of a table, its columns being of interest from here on.
    fn learn(&mut self, database: &str, table: &str) -> Option<Arc<TableRules>> {
        self.rules(database, table).0
    }

    fn is_heartbeat(&self, database: &str, table: &str) -> bool {
        let is = |(of, name): &(String, String)| {
            name.eq_ignore_ascii_case(table) && of.eq_ignore_ascii_case(database)
        };
        self.heartbeats.iter().any(is)
    }

    /// The rules of a table, and whether its columns were already of interest.
    fn rules(&mut self, database: &str, table: &str) -> (Option<Arc<TableRules>>, bool) {
        let hash = xxh3_64(database.as_bytes()).rotate_left(1) ^ xxh3_64(table.as_bytes());
        if let Some(known) = self.tables.get(&hash)
            && *known.database == *database
            && *known.table == *table
        {
            return (known.rules.clone(), true);
        }
        let rules = self.catalog.table(database, table);
        let mut complete = true;
        for column in rules.iter().flat_map(|rules| rules.columns()) {
            complete &= !self.columns.add(column);
        }
        if self.tables.len() >= MAX_KNOWN {
            self.tables.clear();
        }
        let known = Known { database: database.into(), table: table.into(), rules: rules.clone() };
        self.tables.insert(hash, known);
        (rules, complete)
    }
}

fn value<'a>(message: &Message<'a>) -> Result<&'a [u8], Undecodable> {
    message.payload.ok_or_else(|| {
        Undecodable::new(
            "message has no value, as a tombstone; of this format none has: see source.kafka.format",
        )
    })
}
