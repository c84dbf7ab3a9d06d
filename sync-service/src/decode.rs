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
mod concerned;
mod ddl;
mod debezium;
mod event;
mod foreign;
mod json;
mod maxwell;
mod row;
mod topics;
mod zone;

use std::sync::Arc;

use catalog::{Catalog, TableRules};
use daemon::config::KafkaFormat;
use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

pub use columns::Columns;
pub use concerned::{Concerned, Named, Object};
use event::About;
pub use event::{Event, Idle, Meaning, Reason, Undecodable};
pub use row::{Cell, Image, Rows, Scratch};
pub use topics::Topics;
pub(crate) use zone::civil_from_days;
pub use zone::{Zone, ZoneError};

use crate::source::Message;

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

    /// By which format a topic's messages are decoded; `None` if none is named for it.
    pub(crate) fn format(&mut self, topic: &Arc<str>) -> Option<KafkaFormat> {
        self.topics.of(topic).format
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
        let decoded = match topic.format {
            Some(KafkaFormat::Canal) => canal::decode(self, value(message)?, named, scratch),
            Some(KafkaFormat::Aliyun) => aliyun::decode(self, value(message)?, scratch),
            Some(KafkaFormat::Maxwell) => maxwell::decode(self, value(message)?, scratch),
            Some(KafkaFormat::Debezium) => debezium::decode(self, message, scratch),
            Some(KafkaFormat::DebeziumUnwrapped) => debezium::unwrapped(self, message, named, scratch),
            None => Err(Undecodable::new(format!(
                "source.kafka.format names no format for the topic {:?}",
                &*message.partition.topic
            ))),
        };
        decoded.map_err(|error| foreign::explain(error, topic.format, message.payload))
    }

    /// Decodes one Canal message. The rows are left in `scratch`.
    pub fn canal<'a>(&mut self, message: &'a [u8], scratch: &mut Scratch<'a>) -> Result<Event, Undecodable> {
        canal::decode(self, message, None, scratch)
    }

    /// The columns of interest, which [`Image`]s are read by.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The rules for the rows of a message, its columns being of interest from here on; or, where no rule needs them, what it means.
    fn rules_for(&mut self, about: &About) -> Result<Arc<TableRules>, Meaning> {
        if self.is_heartbeat(&about.database, &about.table) {
            return Err(Meaning::Beat);
        }
        self.rules(&about.database, &about.table).0.ok_or(Meaning::Nothing(Idle::NoRules))
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
