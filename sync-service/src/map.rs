//! From a batch of messages to the keys, tags and groups that they make stale.

mod streak;
mod told;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Catalog, ColumnError, Effect, FlushReason, GroupId, Op, RowImage};
use hashbrown::{DefaultHashBuilder, HashSet};
use tokio::time::Instant;
use tracing::warn;

use self::streak::{Restart, Streaks};
pub use self::told::{Told, What};
use crate::beats::{Beats, Row};
use crate::config::OnCanalRestart;
use crate::decode::{
    Concerned, Decoder, Event, Idle, Meaning, Named, Object, Reason, Scratch, Topics, Undecodable, Zone,
};
use crate::deliver::Removals;
use crate::metrics::{PipelineMetrics, ReasonLabel};
use crate::offsets::Partition;
use crate::source::{Batch, Letter, Message};

/// Maps batches against one catalog.
pub(crate) struct Mapper {
    catalog: Arc<Catalog>,
    decoder: Decoder,
    metrics: PipelineMetrics,
    /// Heartbeat rows of this instance.
    beats: Option<Arc<Beats>>,
    streaks: Streaks,
    on_canal_restart: OnCanalRestart,
    /// When a group was last said to be flushed for a column's sake.
    told: Cell<Option<Instant>>,
    /// Tables of which was said that the source can't carry their characters.
    unreadable: RefCell<HashSet<(String, String), DefaultHashBuilder>>,
}

/// Tables of which it is said that their characters can't be carried.
const MAX_UNREADABLE: usize = 1000;

/// How often it is said.
const REMIND: Duration = Duration::from_secs(10);

/// What a batch came to.
pub(crate) struct Mapped {
    pub(crate) removals: Removals,
    pub(crate) letters: Vec<Letter>,
    /// Whether it flushes for changes that may have been missed, which nothing in the messages tells a second time.
    pub(crate) owed: bool,
    /// This instance's own heartbeat rows, in the order in which they came.
    pub(crate) beats: Vec<Beat>,
    /// Per message with changes: when its statement ran, and when its record was logged.
    pub(crate) times: Vec<(Option<i64>, Option<i64>)>,
}

/// A heartbeat row of this instance, and where it came.
pub(crate) struct Beat {
    pub(crate) partition: Partition,
    /// The first offset after it.
    pub(crate) next: i64,
    pub(crate) row: Row,
}

/// Keys, tags and groups of one batch, each once.
#[derive(Default)]
struct Stale {
    /// In the order in which the changes name them: what is sent does not depend on how a table hashes.
    keys: Vec<Arc<str>>,
    known: HashSet<Arc<str>, DefaultHashBuilder>,
    tags: Vec<Arc<str>>,
    known_tags: HashSet<Arc<str>, DefaultHashBuilder>,
    groups: BTreeMap<GroupId, &'static str>,
}

impl Mapper {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        zone: Zone,
        metrics: PipelineMetrics,
        on_canal_restart: OnCanalRestart,
    ) -> Self {
        let decoder = Decoder::new(catalog.clone(), zone);
        let streaks = Streaks::default();
        Self {
            catalog,
            decoder,
            metrics,
            beats: None,
            streaks,
            on_canal_restart,
            told: Cell::new(None),
            unreadable: RefCell::default(),
        }
    }

    /// Decodes messages by these formats of their topics.
    pub(crate) fn with_topics(mut self, topics: Topics) -> Self {
        self.decoder = self.decoder.with_topics(topics);
        self
    }

    /// Finds these heartbeat rows in the stream.
    pub(crate) fn with_beats(mut self, beats: Option<Arc<Beats>>) -> Self {
        if let Some(beats) = &beats {
            self.decoder = self.decoder.with_heartbeats(beats.tables());
        }
        self.beats = beats;
        self
    }

    /// Maps one batch. What can't be decoded becomes a letter, and a flush of all that it may concern.
    pub(crate) fn map(&mut self, batch: &Batch) -> Mapped {
        let mut scratch = Scratch::default();
        let mut stale = Stale::default();
        let mut letters = Vec::new();
        let mut times = Vec::with_capacity(batch.len());
        let mut beats = Vec::new();
        let mut owed = false;
        for message in batch.messages() {
            let payload = message.payload.unwrap_or_default();
            self.metrics.bytes.inc_by(payload.len() as u64);
            match self.decoder.decode(&message, &mut scratch) {
                Ok(event) => {
                    if let Some(restart) = self.streaks.restart(&message, &event) {
                        owed |= self.restarted(&message, &restart, &mut stale);
                    }
                    if let Meaning::Beat = event.meaning {
                        self.beat(&event, &message, payload, &mut beats);
                    } else if self.apply(
                        &event.meaning,
                        (&event.database, &event.table),
                        &message,
                        &scratch,
                        &mut stale,
                    ) {
                        times.push((event.executed_ms, message.timestamp_ms));
                    }
                }
                Err(error) => {
                    let format = self.decoder.format(&message.partition.topic);
                    self.metrics.undecodable(format);
                    letters.push(self.letter(&message, error, &mut stale));
                }
            }
        }
        self.metrics.messages.inc_by(batch.len() as u64);
        self.metrics.batch_messages.observe(batch.len() as f64);
        self.metrics.batch_keys.observe((stale.keys.len() + stale.tags.len()) as f64);
        Mapped { removals: self.removals(stale, batch.origin()), letters, owed, beats, times }
    }

    /// Notes the heartbeat rows of a message; those of other instances are theirs.
    fn beat(&self, event: &Event, message: &Message<'_>, payload: &[u8], beats: &mut Vec<Beat>) {
        self.metrics.ignored.get_or_create(&ReasonLabel { reason: Idle::Heartbeat.label() }).inc();
        let rows = self.beats.as_ref().map(|own| own.rows(&event.database, &event.table, payload));
        beats.extend(rows.unwrap_or_default().into_iter().map(|row| Beat {
            partition: message.partition.clone(),
            next: message.offset + 1,
            row,
        }));
    }

    /// What a gap makes stale: everything.
    pub(crate) fn everything(&self, reason: Reason, origin: String) -> Removals {
        let mut stale = Stale::default();
        self.flush(&Concerned::Everything, reason, &mut stale);
        self.removals(stale, origin)
    }

    /// Notes what an event makes stale; says whether it may have changed anything.
    fn apply(
        &self,
        meaning: &Meaning,
        (database, table): (&str, &str),
        message: &Message<'_>,
        scratch: &Scratch<'_>,
        stale: &mut Stale,
    ) -> bool {
        match meaning {
            Meaning::Rows { rules, op } => {
                let columns = self.decoder.columns();
                let rows = scratch.data.len();
                self.metrics.rows.inc_by(rows as u64);
                let mut emit = |effect: Effect| match effect {
                    Effect::Remove(key) => {
                        if !stale.known.contains(key.as_str()) {
                            let key: Arc<str> = key.into();
                            stale.keys.push(key.clone());
                            stale.known.insert(key);
                        }
                    }
                    Effect::RemoveTag(tag) => {
                        if !stale.known_tags.contains(tag.as_str()) {
                            let tag: Arc<str> = tag.into();
                            stale.tags.push(tag.clone());
                            stale.known_tags.insert(tag);
                        }
                    }
                    Effect::Flush { group, reason } => {
                        let known = self.told.get().is_some_and(|told| told.elapsed() < REMIND);
                        if let FlushReason::Column { column, error: ColumnError::Unreadable { .. } } = &reason
                        {
                            self.unreadable(database, table, column, message);
                        } else if !known && matches!(reason, FlushReason::Column { .. }) {
                            self.told.set(Some(Instant::now()));
                            let group = &*self.catalog.groups()[usize::from(group.0)].name;
                            warn!(partition = %message.partition, offset = message.offset, database, group, %reason, "a row does not tell its keys: flushing the group");
                        }
                        stale.groups.entry(group).or_insert(reason.label());
                    }
                };
                for row in 0..rows {
                    // A row of nulls or of nothing at all has no images: the rules flush what reads the table.
                    let image = scratch.data.any(row).then(|| scratch.image(row, columns));
                    let image = image.as_ref().map(|image| image as &dyn RowImage);
                    match op {
                        Op::Insert => rules.map(*op, None, image, &mut emit),
                        Op::Delete => rules.map(*op, image, None, &mut emit),
                        Op::Update => {
                            let before = scratch.before(row, columns);
                            rules.map(
                                *op,
                                before.as_ref().map(|before| before as &dyn RowImage),
                                image,
                                &mut emit,
                            );
                        }
                    }
                }
                true
            }
            Meaning::Whole { concerned, reason } => {
                let groups = self.flush(concerned, *reason, stale);
                if groups > 0 {
                    let partition = message.partition.to_string();
                    warn!(
                        partition,
                        offset = message.offset,
                        reason = reason.label(),
                        database,
                        %concerned,
                        groups,
                        "flushing groups"
                    );
                }
                groups > 0
            }
            // The rows came when the transaction was prepared, unmarked, any time ago and perhaps to another instance.
            Meaning::XaCommit => {
                let groups = self.flush(&Concerned::Everything, Reason::XaCommit, stale);
                warn!(partition = %message.partition, offset = message.offset, groups, "prepared transaction committed: flushing all groups");
                true
            }
            // Looked at by `map`.
            Meaning::Beat => false,
            Meaning::Nothing(idle) => {
                self.metrics.ignored.get_or_create(&ReasonLabel { reason: idle.label() }).inc();
                false
            }
        }
    }

    /// Says once of a table that the source can't carry the characters of one of its key columns.
    fn unreadable(&self, database: &str, table: &str, column: &str, message: &Message<'_>) {
        let mut told = self.unreadable.borrow_mut();
        if told.len() < MAX_UNREADABLE && told.insert((database.to_owned(), table.to_owned())) {
            warn!(
                partition = %message.partition,
                offset = message.offset,
                database,
                table,
                column,
                "a key column has U+FFFD in the place of characters that the source can't carry: flushing the groups concerned, whenever it comes; `freshline check --database` names such columns (told once per table)"
            );
        }
    }

    /// Canal was restarted. It goes on where it had stopped or a little before, unless it keeps its position nowhere: its messages
    /// don't tell. Says whether all groups are flushed.
    fn restarted(&self, message: &Message<'_>, restart: &Restart, stale: &mut Stale) -> bool {
        let reason = Reason::CanalRestart;
        self.metrics.gaps.get_or_create(&ReasonLabel { reason: reason.label() }).inc();
        let flush = self.on_canal_restart == OnCanalRestart::Flush;
        if flush {
            self.flush(&Concerned::Everything, reason, stale);
        }
        if restart.tell {
            let done = if flush { "flushing all groups" } else { "trusting that it skipped nothing" };
            warn!(
                partition = %message.partition,
                offset = message.offset,
                reason = reason.label(),
                batch_before = restart.before.batch,
                batch = restart.now.batch,
                es_before = restart.before.executed_ms,
                es = restart.now.executed_ms,
                "canal counts its batches from the beginning: it was restarted; {done} (if this is told again and again, two canals write to this partition)"
            );
        }
        flush
    }

    fn letter(&self, message: &Message<'_>, error: Undecodable, stale: &mut Stale) -> Letter {
        let concerned = match &error.table {
            Some((database, table)) => Concerned::Tables(vec![Named::table(database, table)]),
            None => Concerned::Everything,
        };
        let groups = self.flush(&concerned, Reason::Undecodable, stale);
        let table = error.table.map(|(database, table)| format!("{database}.{table}"));
        warn!(
            partition = %message.partition,
            offset = message.offset,
            reason = error.reason,
            table = table.as_deref().unwrap_or("unknown"),
            groups,
            "message can't be decoded: it goes to the dead letters, and the groups that it may concern are flushed"
        );
        Letter {
            partition: message.partition.clone(),
            offset: message.offset,
            timestamp_ms: message.timestamp_ms,
            reason: error.reason,
            table,
            key: message.key.map(<[u8]>::to_vec),
            payload: message.payload.map(<[u8]>::to_vec),
        }
    }

    /// The groups that read a table or view as a whole.
    fn readers(&self, named: &Named) -> Vec<GroupId> {
        let Named { database, table, object } = named;
        let mut groups = match database {
            Some(database) => {
                self.catalog.table(database, table).map_or_else(Vec::new, |rules| rules.readers().to_vec())
            }
            None => self.catalog.readers_named(table),
        };
        // Views are read by groups that ignore them and have rules for their tables; these rules know nothing of other definitions.
        match object {
            Object::Table => {}
            Object::Either => groups.extend(self.catalog.ignoring(database.as_deref(), table)),
            Object::View => groups.extend(self.catalog.ignoring_anything()),
        }
        groups
    }

    /// Notes the groups that read what is concerned, and returns how many they are.
    fn flush(&self, concerned: &Concerned, reason: Reason, stale: &mut Stale) -> usize {
        let mut groups: Vec<GroupId> = match concerned {
            Concerned::Tables(tables) => tables.iter().flat_map(|table| self.readers(table)).collect(),
            Concerned::Database(name) => self.catalog.readers_in(name),
            Concerned::Everything => self.catalog.reached(),
        };
        groups.sort_unstable();
        groups.dedup();
        for group in &groups {
            stale.groups.entry(*group).or_insert(reason.label());
        }
        groups.len()
    }

    /// What goes to the nodes. Keys and tags of groups that are flushed go too: one costs little, and finding its group more.
    fn removals(&self, stale: Stale, origin: String) -> Removals {
        let mut groups = Vec::with_capacity(stale.groups.len());
        for (group, reason) in stale.groups {
            self.metrics.flushed(reason, 1);
            groups.push(self.catalog.groups()[usize::from(group.0)].name.clone());
        }
        Removals { keys: stale.keys, tags: stale.tags, groups, origin: origin.into() }
    }
}

#[cfg(test)]
mod tests;
