//! One message alone: what it would remove and flush, and why. Nothing is delivered.

use std::sync::Arc;

use catalog::Op;

use super::{Mapper, Stale};
use crate::decode::{Idle, Meaning, Reason, Scratch};
use crate::source::Message;

/// What one message means under a catalog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// `database.table`, as far as the message names them.
    pub table: Option<String>,
    /// What it is about.
    pub what: What,
    /// The keys that it would remove, each once, in the order in which its rows name them.
    pub keys: Vec<Arc<str>>,
    /// The tags whose entries it would remove, each once.
    pub tags: Vec<Arc<str>>,
    /// The groups that it would flush, each with the reason's name in metrics and logs.
    pub flushes: Vec<(Arc<str>, &'static str)>,
}

/// What a message is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// Rows of a table that has rules.
    Rows {
        /// What happened to them.
        op: Op,
        /// How many.
        rows: usize,
    },
    /// A change that does not tell its rows.
    Whole(Reason),
    /// Nothing that a cache could hold.
    Nothing(Idle),
    /// It can't be decoded; why, and what to do where that is known.
    Undecodable(String),
}

impl Mapper {
    /// Maps one message like a batch of its own, but keeps the reasons.
    pub(crate) fn told(&mut self, message: &Message<'_>) -> Told {
        let mut scratch = Scratch::default();
        let mut stale = Stale::default();
        let decoded = self.decoder.decode(message, &mut scratch);
        let (table, what) = match decoded {
            Ok(event) => {
                if let Some(restart) = self.streaks.restart(message, &event) {
                    self.restarted(message, &restart, &mut stale);
                }
                self.apply(&event.meaning, (&event.database, &event.table), message, &scratch, &mut stale);
                let what = match event.meaning {
                    Meaning::Rows { op, .. } => What::Rows { op, rows: scratch.data.len() },
                    Meaning::Whole { reason, .. } => What::Whole(reason),
                    Meaning::XaCommit => What::Whole(Reason::XaCommit),
                    Meaning::Beat => What::Nothing(Idle::Heartbeat),
                    Meaning::Nothing(idle) => What::Nothing(idle),
                };
                (named(&event.database, &event.table), what)
            }
            Err(error) => {
                let (table, reason) = (error.table.clone(), error.reason.clone());
                self.letter(message, error, &mut stale);
                (table.and_then(|(database, table)| named(&database, &table)), What::Undecodable(reason))
            }
        };
        let groups = self.catalog.groups();
        let flushes = stale.groups.iter();
        let flushes = flushes.map(|(group, reason)| (groups[usize::from(group.0)].name.clone(), *reason));
        Told { table, what, flushes: flushes.collect(), keys: stale.keys, tags: stale.tags }
    }
}

fn named(database: &str, table: &str) -> Option<String> {
    match (database, table) {
        ("", "") => None,
        (database, "") => Some(database.to_owned()),
        (database, table) => Some(format!("{database}.{table}")),
    }
}
