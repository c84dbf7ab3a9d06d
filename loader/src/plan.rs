//! A group's query, ready to run.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use catalog::{
    Dialect, Group, Key, TableColumn, Value,
    schema::{Field, Schema},
};
use tracing::warn;

/// Most keys of one statement.
pub(crate) const MOST_KEYS: usize = 256;
/// Batches are filled up to a power of two, so that a connection prepares few statements per group: 1, 2, 4 .. 256.
const SIZES: usize = MOST_KEYS.ilog2() as usize + 1;

/// The statements of one group.
#[derive(Debug)]
pub(crate) struct Plan {
    dialect: Dialect,
    single: Arc<str>,
    /// For each placeholder of `single` the index of its parameter.
    params: Box<[usize]>,
    batched: [OnceLock<Arc<str>>; SIZES],
    warned: AtomicBool,
}

/// One statement and what it is asked.
pub(crate) struct Statement<'k> {
    pub(crate) sql: Arc<str>,
    /// For each placeholder the index of its parameter, and its value.
    pub(crate) values: Vec<(usize, &'k Value)>,
    /// How many of the last result columns tell whose row it is; not part of the value.
    pub(crate) key_columns: usize,
}

impl Plan {
    /// `None` for a look-aside group: it has nothing to run.
    pub(crate) fn new(group: &Group, dialect: Dialect) -> Option<Self> {
        let (single, params) = group.query.as_ref()?.render();
        Some(Self {
            dialect,
            single: single.into(),
            params: params.into(),
            batched: Default::default(),
            warned: AtomicBool::new(false),
        })
    }

    /// The statement for `keys`. With more than one key the group's query must have a batched form.
    ///
    /// That form is used for one key too: it tells whether the row is the key's own.
    pub(crate) fn statement<'k>(&self, group: &'k Group, keys: &'k [Key]) -> Statement<'k> {
        let Some(batched) = group.batched() else {
            let key = &keys[0];
            let values = self.params.iter().map(|param| (*param, &key.params[*param])).collect();
            return Statement { sql: Arc::clone(&self.single), values, key_columns: 0 };
        };
        let size = keys.len().next_power_of_two();
        let sql = self.batched[size.ilog2() as usize].get_or_init(|| batched.sql(self.dialect, size).into());
        // Asking for the last key more than once changes nothing.
        let padded = keys.iter().chain(std::iter::repeat(&keys[keys.len() - 1])).take(size);
        let values = padded
            .flat_map(|key| batched.params().iter().map(|param| (*param, &key.params[*param])))
            .collect();
        Statement { sql: Arc::clone(sql), values, key_columns: batched.key_columns().len() }
    }

    /// Says once per group that its column equates what keys don't.
    pub(crate) fn warn_of_strays(&self, group: &Group) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                group = %group.name,
                template = group.template.text(),
                "the query found a row under another spelling of its key; it is not served there, since its changes remove \
                 the other key: give the parameter a filter like |lower, or the column a binary collation"
            );
        }
    }
}

/// Statements carry at most [`MOST_KEYS`] keys, or one where the query has no batched form.
pub(crate) fn chunks<'k>(group: &Group, keys: &'k [Key]) -> std::slice::Chunks<'k, Key> {
    keys.chunks(if group.batched().is_some() { MOST_KEYS } else { 1 })
}

/// The columns that a group's query compares a parameter with, as far as the schema has them.
pub(crate) fn compared<'s>(group: &Group, param: usize, schema: &'s Schema) -> Vec<&'s Field> {
    let compared = group.query.as_ref().and_then(|query| query.compared().get(param));
    let names = compared.map_or(&[][..], Vec::as_slice);
    names.iter().filter_map(|name| find(name, schema)).collect()
}

fn find<'s>(name: &TableColumn, schema: &'s Schema) -> Option<&'s Field> {
    let table = schema.tables.iter().find(|table| {
        table.database.eq_ignore_ascii_case(&name.table.database)
            && table.name.eq_ignore_ascii_case(&name.table.table)
    })?;
    table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(&name.column))
}

/// The place of the column that a tag names.
pub(crate) fn named<'n>(mut names: impl Iterator<Item = &'n str>, wanted: &str) -> Result<usize, String> {
    names.position(|name| name.eq_ignore_ascii_case(wanted)).ok_or_else(|| {
        format!("the result has no column {wanted}, which a tag is made of; add it to the SELECT")
    })
}
