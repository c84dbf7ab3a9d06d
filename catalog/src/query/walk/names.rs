//! Which column a name means.

use std::collections::HashMap;

use super::{Source, Walk};
use crate::query::derive::Term;

/// The columns that a table or a subquery offers, as columns of tables.
#[derive(Clone, Debug, Default)]
pub(in crate::query) struct Outputs {
    named: HashMap<String, Term>,
    /// All columns of this place.
    place: Option<usize>,
    first: Option<Term>,
}

impl Outputs {
    pub(super) fn all_of(place: usize) -> Self {
        Self { place: Some(place), ..Self::default() }
    }

    pub(super) fn named(named: HashMap<String, Term>, first: Option<Term>) -> Self {
        Self { named, place: None, first }
    }

    pub(super) fn get(&self, name: &str) -> Option<Term> {
        let name = name.to_lowercase();
        match self.place {
            Some(place) => Some(Term::Column(place, name)),
            None => self.named.get(&name).cloned(),
        }
    }

    pub(super) fn first(&self) -> Option<Term> {
        self.first.clone()
    }
}

impl Walk<'_> {
    /// A name without a table: clear only where the innermost FROM has one source.
    ///
    /// A name that belongs to an outer table is taken for one of the inner; the table's rows then lack the column, which
    /// flushes instead of missing a change.
    pub(super) fn unqualified(&self, column: &str) -> Option<Term> {
        match self.scopes.iter().rev().find(|sources| !sources.is_empty())?.as_slice() {
            [only] => only.outputs.get(column),
            _ => None,
        }
    }

    pub(super) fn qualified(&self, database: Option<&str>, table: &str, column: &str) -> Option<Term> {
        let table = table.to_lowercase();
        let means = |source: &&Source| {
            source.alias == table
                && database.is_none_or(|database| {
                    source.table.as_ref().is_some_and(|table| table.database.eq_ignore_ascii_case(database))
                })
        };
        self.scopes.iter().rev().find_map(|sources| sources.iter().find(means))?.outputs.get(column)
    }
}
