//! Rows of a query become the values of the keys that asked for it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use catalog::{Group, Key, Normal, Rows, TagSource, Value, part_of};

use crate::{Error, Loaded, Untagged, cell::Cell};

/// Bytes at which a value is given up on while its rows still arrive, where the group sets no limit of its own.
const MOST_BYTES: usize = 64 << 20;

/// Most bytes of a value of `group`.
pub(crate) fn most_bytes(group: &Group) -> usize {
    group.max_value.map_or(MOST_BYTES, |limit| usize::try_from(limit).unwrap_or(usize::MAX).min(MOST_BYTES))
}

/// Collects the rows of one key: the first row, or all of them as an array.
pub(crate) struct Collected {
    rows: Rows,
    json: Vec<u8>,
    count: usize,
    tags: Result<BTreeSet<Arc<str>>, Untagged>,
}

impl Collected {
    pub(crate) fn new(rows: Rows) -> Self {
        Self { rows, json: Vec::new(), count: 0, tags: Ok(BTreeSet::new()) }
    }

    /// Appends a row, written by `write`, to a value that isn't complete; and takes the row's tags in any case: each row that the
    /// query shows may decide which one is the first. `part` is the value that a part of a tag is made of.
    pub(crate) fn push<'a>(
        &mut self,
        group: &Group,
        part: impl Fn(&TagSource) -> Result<Cell<'a>, String>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), Error> {
        self.tag(group, part)?;
        if self.rows == Rows::One && self.count > 0 {
            return Ok(());
        }
        if self.rows == Rows::Many {
            self.json.push(if self.count == 0 { b'[' } else { b',' });
        }
        self.count += 1;
        write(&mut self.json).map_err(|reason| Error::query(&group.name, reason))?;
        let limit = most_bytes(group);
        if self.json.len() > limit {
            return Err(Error::TooLarge { group: Arc::clone(&group.name), size: self.json.len(), limit });
        }
        Ok(())
    }

    fn tag<'a>(
        &mut self,
        group: &Group,
        part: impl Fn(&TagSource) -> Result<Cell<'a>, String>,
    ) -> Result<(), Error> {
        let Ok(tags) = &mut self.tags else { return Ok(()) };
        for tag in &group.tagging.tags {
            let mut missing = None;
            let rendered = tag.render(|source, kind| match part(source) {
                Ok(cell) => cell.with_column(|column| part_of(kind, column)),
                Err(reason) => {
                    missing = Some(reason.clone());
                    Err(reason)
                }
            });
            if tag.also_of_key && missing.is_some() {
                continue;
            }
            if let Some(reason) = missing {
                return Err(Error::query(&group.name, reason));
            }
            match rendered {
                Ok(Some(tag)) => {
                    tags.insert(tag);
                }
                Ok(None) => {}
                Err(bad) => {
                    self.tags = Err(bad.into());
                    return Ok(());
                }
            }
        }
        let limit = group.tagging.max_tags;
        if tags.len() > limit {
            self.tags = Err(Untagged::TooMany { limit });
        }
        Ok(())
    }

    /// The value, an object or `None`, or an array that may be empty; and its tags.
    pub(crate) fn finish(mut self) -> Loaded {
        let tags = std::mem::replace(&mut self.tags, Ok(BTreeSet::new()));
        Loaded { value: self.value(), tags: tags.map(|tags| tags.into_iter().collect()) }
    }

    fn value(mut self) -> Option<Bytes> {
        match (self.rows, self.count) {
            (Rows::One, 0) => None,
            (Rows::Many, 0) => Some(Bytes::from_static(b"[]")),
            (Rows::One, _) => Some(self.json.into()),
            (Rows::Many, _) => {
                self.json.push(b']');
                Some(self.json.into())
            }
        }
    }
}

/// Assigns rows to the keys that they belong to, by the columns that the catalog adds to a batched query.
///
/// A database may find `Ann` when asked for `ann`. A change of that row removes the key of `Ann` alone, so the row must not
/// become the value of `ann`, where it would grow old unnoticed: it belongs to no key that was asked for, and is dropped.
pub(crate) struct Assignment<'k> {
    group: &'k Group,
    params: &'k [usize],
    index: HashMap<Vec<&'k Value>, usize>,
    /// For each key its place in `collected`; keys that the query can't tell apart share one.
    places: Vec<usize>,
    collected: Vec<Collected>,
    strays: usize,
}

impl<'k> Assignment<'k> {
    /// `params` are the parameters that rows carry, in the order of their columns.
    pub(crate) fn new(group: &'k Group, keys: &'k [Key], params: &'k [usize]) -> Self {
        let mut index = HashMap::with_capacity(keys.len());
        let mut collected = Vec::with_capacity(keys.len());
        let places = keys
            .iter()
            .map(|key| {
                *index.entry(params.iter().map(|param| &key.params[*param]).collect()).or_insert_with(|| {
                    collected.push(Collected::new(group.rows));
                    collected.len() - 1
                })
            })
            .collect();
        Self { group, params, index, places, collected, strays: 0 }
    }

    /// Adds a row. `cell(i)` is the value of the i-th key column, `part` that of a part of a tag, `write` renders the row.
    pub(crate) fn push<'a>(
        &mut self,
        cell: impl Fn(usize) -> Result<Cell<'a>, String>,
        part: impl Fn(&TagSource) -> Result<Cell<'a>, String>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), Error> {
        let mut values = Vec::with_capacity(self.params.len());
        for (at, param) in self.params.iter().enumerate() {
            let cell = cell(at).map_err(|reason| Error::query(&self.group.name, reason))?;
            let kind = &self.group.template.params()[*param].kind;
            match cell.with_column(|column| kind.normalize(column)) {
                Ok(Normal::Value(value)) => values.push(value),
                Ok(Normal::NoKey) | Err(_) => break,
            }
        }
        if let Some(at) = self.index.get(&values.iter().collect::<Vec<_>>()) {
            return self.collected[*at].push(self.group, part, write);
        }
        self.strays += 1;
        Ok(())
    }

    /// Rows that the database found for another spelling of a key.
    pub(crate) fn strays(&self) -> usize {
        self.strays
    }

    pub(crate) fn finish(self) -> Vec<Loaded> {
        let values: Vec<_> = self.collected.into_iter().map(Collected::finish).collect();
        self.places.into_iter().map(|place| values[place].clone()).collect()
    }
}
