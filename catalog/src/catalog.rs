//! The catalog as a whole: keys to groups, tables to rules.

use std::sync::Arc;

use crate::group::{Group, GroupId};
use crate::key::{Key, KeyError};
use crate::report::{Problem, Report};
use crate::rules::TableRules;

/// All groups and rules of a file, checked.
#[derive(Debug)]
pub struct Catalog {
    groups: Vec<Arc<Group>>,
    warnings: Vec<Problem>,
}

/// Which table's changes make a group's keys stale, and how; for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// `database.table`, or the pattern of a written rule.
    pub table: String,
    /// The group.
    pub group: Arc<str>,
    /// The group's number.
    pub group_id: GroupId,
    /// Where the rule comes from.
    pub origin: Origin,
    /// What a change does.
    pub effect: Use,
    /// The columns of which one must have changed for an UPDATE to count; empty: any.
    pub when_changed: Vec<String>,
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The group's query.
    Query,
    /// A `[[rule]]` at this line.
    Rule(usize),
    /// The group's `ignore`.
    Ignore,
}

/// What a table's change does to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Removes the keys that this template makes of the row.
    Keys(String),
    /// Flushes the group.
    Flush,
    /// Nothing: the group accepts to miss it.
    Ignored,
}

impl Catalog {
    /// Reads and checks `[[group]]`, `[[rule]]` and `[catalog]` of a file; other sections are left alone.
    ///
    /// `file` is only for messages. All problems are reported at once.
    pub fn parse(file: &str, text: &str) -> Result<Self, Report> {
        let _ = (file, text);
        unimplemented!()
    }

    /// Sets the most bytes that a key may have; [`DEFAULT_MAX_KEY`](crate::DEFAULT_MAX_KEY) otherwise.
    #[must_use]
    pub fn with_max_key(self, bytes: usize) -> Self {
        let _ = bytes;
        self
    }

    /// The groups, in the order of the file; a [`GroupId`] is an index.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.iter().find(|group| &*group.name == name)
    }

    /// What the file has that is odd but not wrong.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Understands a key: the group whose template it matches, and its parameters.
    pub fn resolve(&self, key: &str) -> Result<Key, KeyError> {
        let _ = key;
        unimplemented!()
    }

    /// The rules of a table, patterns resolved; `None` when no rule and no query names it.
    pub fn table(&self, database: &str, table: &str) -> Option<Arc<TableRules>> {
        let _ = (database, table);
        unimplemented!()
    }

    /// Which table's changes make which group's keys stale.
    pub fn tables(&self) -> Vec<TableUse> {
        unimplemented!()
    }
}
