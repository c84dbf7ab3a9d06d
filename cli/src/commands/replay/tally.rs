//! What is counted while messages are replayed.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc};

use catalog::{Catalog, Op};
use hdrhistogram::Histogram;
use serde::Serialize;
use sync_service::{
    decode::Idle,
    replay::{Replay, Told, What},
    source::Message,
};

use super::Fetched;

/// Messages that can't be decoded and are shown.
const EXAMPLES: usize = 10;

/// What the messages are.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) tables: BTreeMap<String, Changes>,
    pub(super) ignored: BTreeMap<&'static str, u64>,
    pub(super) undecodable: u64,
    pub(super) broken: Vec<Broken>,
}

/// The changes of one table.
#[derive(Default, Serialize)]
pub(super) struct Changes {
    pub(super) messages: u64,
    /// Rows.
    pub(super) inserted: u64,
    pub(super) updated: u64,
    pub(super) deleted: u64,
    /// Messages that do not tell their rows.
    pub(super) whole: u64,
    /// Removals of keys and of tags.
    pub(super) removals: u64,
}

/// A message that can't be decoded.
#[derive(Serialize)]
pub(super) struct Broken {
    pub(super) at: String,
    pub(super) reason: String,
}

impl Tally {
    pub(super) fn note(&mut self, fetched: &Fetched, told: &Told) {
        self.messages += 1;
        self.bytes += fetched.payload.as_ref().map_or(0, |payload| payload.len() as u64);
        match &told.what {
            What::Nothing(idle) => {
                *self.ignored.entry(idle.label()).or_default() += 1;
                if *idle != Idle::NoRules {
                    return;
                }
            }
            What::Undecodable(reason) => {
                self.undecodable += 1;
                if self.broken.len() < EXAMPLES {
                    let at = format!("{}@{}", fetched.partition, fetched.offset);
                    self.broken.push(Broken { at, reason: reason.clone() });
                }
            }
            What::Rows { .. } | What::Whole(_) => {}
        }
        let Some(table) = &told.table else { return };
        let changes = self.tables.entry(table.clone()).or_default();
        changes.messages += 1;
        changes.removals += (told.keys.len() + told.tags.len()) as u64;
        match told.what {
            What::Rows { op: Op::Insert, rows } => changes.inserted += rows as u64,
            What::Rows { op: Op::Update, rows } => changes.updated += rows as u64,
            What::Rows { op: Op::Delete, rows } => changes.deleted += rows as u64,
            What::Whole(_) => changes.whole += 1,
            What::Nothing(_) | What::Undecodable(_) => {}
        }
    }
}

/// What one catalog makes of the messages.
pub(super) struct Side {
    pub(super) catalog: Arc<Catalog>,
    replay: Replay,
    /// Distinct keys, and how often each would be removed.
    pub(super) keys: HashMap<Arc<str>, u64>,
    /// Distinct tags, and how often what carries each would be removed.
    pub(super) tags: BTreeMap<Arc<str>, u64>,
    /// Flushes by group and reason.
    pub(super) flushes: BTreeMap<(Arc<str>, &'static str), u64>,
    /// Keys for each message that has rows of tables with rules.
    pub(super) fan_out: Histogram<u64>,
}

impl Side {
    pub(super) fn new(catalog: Arc<Catalog>, replay: Replay) -> Self {
        let fan_out = Histogram::new(3).expect("three digits are within the histogram's range");
        Self {
            catalog,
            replay,
            keys: HashMap::new(),
            tags: BTreeMap::new(),
            flushes: BTreeMap::new(),
            fan_out,
        }
    }

    pub(super) fn note(&mut self, message: &Message<'_>) -> Told {
        let told = self.replay.message(message);
        for key in &told.keys {
            *self.keys.entry(key.clone()).or_default() += 1;
        }
        for tag in &told.tags {
            *self.tags.entry(tag.clone()).or_default() += 1;
        }
        for flush in &told.flushes {
            *self.flushes.entry(flush.clone()).or_default() += 1;
        }
        if matches!(told.what, What::Rows { .. }) {
            // The histogram grows with what is recorded.
            let _ = self.fan_out.record(told.keys.len() as u64);
        }
        told
    }

    /// The group of a key that this catalog has made.
    pub(super) fn group_of(&self, key: &str) -> Arc<str> {
        self.catalog.resolve(key).map_or_else(|_| "?".into(), |key| key.group.name.clone())
    }

    /// The groups whose entries may carry a tag that this catalog has made.
    pub(super) fn carriers(&self, tag: &str) -> impl Iterator<Item = Arc<str>> {
        let groups = self.catalog.groups();
        self.catalog.carriers(tag).into_iter().map(|group| groups[usize::from(group.0)].name.clone())
    }

    /// How often a group would be flushed.
    pub(super) fn flushes_of(&self, group: &str) -> u64 {
        self.flushes.iter().filter(|((name, _), _)| **name == *group).map(|(_, times)| times).sum()
    }
}
