//! Rules: from a row change to the keys and groups that it makes stale.

pub(crate) mod pattern;

use std::fmt;
use std::sync::Arc;

use crate::group::GroupId;
use crate::normal::{Column, ColumnError, JsonForm, Normal};
use crate::param::ParamType;
use crate::query::TableColumn;
use crate::template::Template;
use crate::value::Value;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// It came: only an image after.
    Insert,
    /// It changed: an image before and one after.
    Update,
    /// It went: only an image before.
    Delete,
}

impl Op {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];
}

/// A row before or after a change.
pub trait RowImage {
    /// The column of that name, compared without regard to case; [`Column::Missing`] where the image lacks it.
    fn column(&self, name: &str) -> Column<'_>;
}

/// What a row change makes stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This key.
    Remove(String),
    /// All entries that carry this tag.
    RemoveTag(String),
    /// All keys of a group.
    Flush {
        /// The group.
        group: GroupId,
        /// Why not single keys.
        reason: FlushReason,
    },
}

/// Why a whole group must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushReason {
    /// A written rule says so.
    Rule,
    /// A row of a joined table that may join rows which no result has shown.
    Joined,
    /// The change came without the image that would tell the key.
    MissingImage {
        /// Whether it is the image before that lacks.
        before: bool,
    },
    /// The row image can't tell a part of the key.
    Column {
        /// The column.
        column: Box<str>,
        /// What is wrong with it.
        error: ColumnError,
    },
    /// The table was emptied.
    Truncate,
    /// The table was changed, renamed or dropped.
    Ddl,
    /// A change of the table could not be decoded.
    Undecodable,
}

impl FlushReason {
    /// All names that [`label`](Self::label) gives.
    pub const LABELS: [&'static str; 9] = [
        "rule",
        "joined",
        "missing_image",
        "missing_column",
        "unreadable",
        "bad_value",
        "truncate",
        "ddl",
        "undecodable",
    ];

    /// A short name from a closed set, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Joined => "joined",
            Self::MissingImage { .. } => "missing_image",
            Self::Column { error: ColumnError::Missing, .. } => "missing_column",
            Self::Column { error: ColumnError::Unreadable { .. }, .. } => "unreadable",
            Self::Column { .. } => "bad_value",
            Self::Truncate => "truncate",
            Self::Ddl => "ddl",
            Self::Undecodable => "undecodable",
        }
    }
}

impl fmt::Display for FlushReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule => f.write_str("a rule flushes the group"),
            Self::Joined => f.write_str("a row of a joined table may join rows that no result has shown"),
            Self::MissingImage { before: true } => f.write_str("the change came without the row before it"),
            Self::MissingImage { before: false } => f.write_str("the change came without the row after it"),
            Self::Column { column, error } => write!(f, "column {column}: {error}"),
            Self::Truncate => f.write_str("the table was truncated"),
            Self::Ddl => f.write_str("the table's definition changed"),
            Self::Undecodable => f.write_str("a change of the table could not be decoded"),
        }
    }
}

/// The kinds of row change that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ops {
    pub(crate) insert: bool,
    pub(crate) update: bool,
    pub(crate) delete: bool,
}

impl Ops {
    pub(crate) const ALL: Self = Self { insert: true, update: true, delete: true };

    /// Those that there are.
    pub(crate) fn kinds(self) -> Vec<Op> {
        Op::ALL.into_iter().filter(|op| self.has(*op)).collect()
    }

    fn has(self, op: Op) -> bool {
        match op {
            Op::Insert => self.insert,
            Op::Update => self.update,
            Op::Delete => self.delete,
        }
    }
}

/// One rule, ready to use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) on: Ops,
    /// An UPDATE counts only if one of these or a column of the key or tag changed; empty: always.
    pub(crate) when_changed: Vec<Box<str>>,
    /// The keys, with columns as parameters; `None`, and no tags: the groups are flushed.
    pub(crate) keys: Option<Template>,
    /// Or the tags.
    pub(crate) tags: Option<TagRule>,
    /// Whose keys or tags they are, or who is flushed.
    pub(crate) groups: Vec<GroupId>,
}

/// How a rule removes by tags.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TagRule {
    /// The tag, with columns as parameters.
    pub(crate) template: Template,
    /// `Some` for a table that a plain JOIN reads: an INSERT, and an UPDATE of one of these columns, flushes the groups.
    pub(crate) joining: Option<Vec<Box<str>>>,
    /// For a derived tag: what each of its columns is compared with.
    pub(crate) against: Vec<TableColumn>,
}

/// All rules of one table, compiled.
#[derive(Debug, Default)]
pub struct TableRules {
    rules: Vec<Arc<Rule>>,
    columns: Vec<Box<str>>,
    readers: Vec<GroupId>,
}

impl TableRules {
    pub(crate) fn new(rules: Vec<Arc<Rule>>) -> Self {
        let mut columns: Vec<Box<str>> = Vec::new();
        let mut readers = Vec::new();
        for rule in &rules {
            let joining = rule.tags.iter().flat_map(|tags| tags.joining.iter().flatten());
            for column in rule.params().chain(&rule.when_changed).chain(joining) {
                if !columns.iter().any(|known| known.eq_ignore_ascii_case(column)) {
                    columns.push(column.clone());
                }
            }
            readers.extend(&rule.groups);
        }
        readers.sort_unstable();
        readers.dedup();
        Self { rules, columns, readers }
    }

    /// The only columns that a decoder must keep, each once, compared without regard to case.
    pub fn columns(&self) -> &[Box<str>] {
        &self.columns
    }

    /// The groups to flush when the table changes without rows: TRUNCATE, DDL, rows that can't be decoded.
    pub fn readers(&self) -> &[GroupId] {
        &self.readers
    }

    /// Emits what a change of a row makes stale: keys of both images, or groups where keys can't be told.
    ///
    /// The image before an UPDATE must be the whole old row (Canal: `data` overlaid with `old`); pass `None` where it
    /// isn't known. One change may emit an effect more than once.
    pub fn map(
        &self,
        op: Op,
        before: Option<&dyn RowImage>,
        after: Option<&dyn RowImage>,
        emit: &mut dyn FnMut(Effect),
    ) {
        for rule in self.rules.iter().filter(|rule| rule.on.has(op)) {
            let flush = |reason: FlushReason, emit: &mut dyn FnMut(Effect)| {
                rule.groups
                    .iter()
                    .for_each(|group| emit(Effect::Flush { group: *group, reason: reason.clone() }));
            };
            if let (Op::Update, Some(before), Some(after)) = (op, before, after)
                && !rule.concerns(before, after)
            {
                continue;
            }
            let Some(template) = rule.template() else {
                flush(FlushReason::Rule, emit);
                continue;
            };
            if rule.tags.as_ref().is_some_and(|tags| tags.may_join(op, before, after)) {
                flush(FlushReason::Joined, emit);
                continue;
            }
            let needed: &[(bool, Option<&dyn RowImage>)] = match op {
                Op::Insert => &[(false, after)],
                Op::Delete => &[(true, before)],
                Op::Update => &[(true, before), (false, after)],
            };
            let mut keys: Vec<String> = Vec::new();
            for (is_before, image) in needed {
                let told = keys.len();
                let read = match image {
                    None => Err(FlushReason::MissingImage { before: *is_before }),
                    Some(image) => keys_of(template, *image, &mut keys),
                };
                if let Err(reason) = read {
                    flush(reason, emit);
                    break;
                }
                for at in told..keys.len() {
                    if keys[..told].contains(&keys[at]) {
                        continue;
                    }
                    let key = keys[at].clone();
                    emit(if rule.tags.is_some() { Effect::RemoveTag(key) } else { Effect::Remove(key) });
                }
            }
        }
    }
}

impl Rule {
    /// What its keys or tags look like.
    pub(crate) fn template(&self) -> Option<&Template> {
        self.keys.as_ref().or(self.tags.as_ref().map(|tags| &tags.template))
    }

    /// The columns of its keys or tags.
    fn params(&self) -> impl Iterator<Item = &Box<str>> {
        self.template().into_iter().flat_map(Template::params).map(|param| &param.name)
    }

    /// Whether an UPDATE changed something that the rule cares about. What can't be compared counts as changed.
    fn concerns(&self, before: &dyn RowImage, after: &dyn RowImage) -> bool {
        self.when_changed.is_empty()
            || self
                .when_changed
                .iter()
                .chain(self.params())
                .any(|name| differ(before.column(name), after.column(name)))
    }
}

impl TagRule {
    /// Whether a row may now be in results that carry no tag of it.
    fn may_join(&self, op: Op, before: Option<&dyn RowImage>, after: Option<&dyn RowImage>) -> bool {
        let Some(joining) = &self.joining else { return false };
        match (op, before, after) {
            (Op::Delete, ..) => false,
            (Op::Update, Some(before), Some(after)) => {
                joining.iter().any(|name| differ(before.column(name), after.column(name)))
            }
            (Op::Insert | Op::Update, ..) => true,
        }
    }
}

/// Whether a column has changed, or may have: signs in the place of lost characters, and true in the place of numbers, look alike.
fn differ(before: Column<'_>, after: Column<'_>) -> bool {
    let is_lossy = |column: Column<'_>| match column {
        Column::Json { text, form: JsonForm::Boolean } => text != "0",
        Column::Text { text, .. } | Column::Json { text, .. } => text.contains(char::REPLACEMENT_CHARACTER),
        _ => false,
    };
    match (before, after) {
        (before, _) if is_lossy(before) => true,
        (Column::Text { text: before, .. }, Column::Text { text: after, .. }) => before != after,
        (Column::Json { text: before, form: one }, Column::Json { text: after, form: other }) => {
            before != after || (one == JsonForm::Null) != (other == JsonForm::Null)
        }
        (Column::Missing, _) | (_, Column::Missing) => true,
        (before, after) => before != after,
    }
}

/// Keys that one row may stand for, where values can be read in several ways; beyond it the group is flushed.
const READINGS: usize = 16;

/// Adds the keys that a row may stand for: one, or none, or several where a value can be read in several ways.
fn keys_of(template: &Template, image: &dyn RowImage, keys: &mut Vec<String>) -> Result<(), FlushReason> {
    let params = template.params();
    let mut values: Vec<Value> = Vec::with_capacity(params.len());
    // Other readings of a parameter, by its place.
    let mut others: Vec<(usize, Vec<Value>)> = Vec::new();
    let mut no_key = false;
    for (place, param) in params.iter().enumerate() {
        let fail = |error| FlushReason::Column { column: param.name.clone(), error };
        let column = image.column(&param.name);
        // What a join compares may be text or bytes, where the column's type is not told.
        let unclear = match column {
            Column::Json { .. } => true,
            Column::Text { mysql_type: None, .. } => param.kind == ParamType::Compared,
            _ => false,
        };
        if unclear {
            let mut readings = param.kind.readings(column).map_err(fail)?.into_iter();
            match readings.next() {
                Some(value) => values.push(value),
                None => no_key = true,
            }
            let rest: Vec<Value> = readings.collect();
            if !rest.is_empty() {
                others.push((place, rest));
            }
        } else {
            match param.kind.normalize(column).map_err(fail)? {
                Normal::Value(value) => values.push(value),
                Normal::NoKey => no_key = true,
            }
        }
    }
    if no_key {
        return Ok(());
    }
    let from = keys.len();
    keys.push(template.render(&values));
    let mut rows = vec![values];
    for (place, readings) in others {
        for reading in readings {
            for at in 0..rows.len() {
                // Rows with another reading of this place are told already.
                if rows[at][place] != rows[0][place] {
                    continue;
                }
                let mut row = rows[at].clone();
                row[place] = reading.clone();
                keys.push(template.render(&row));
                rows.push(row);
            }
        }
        if rows.len() > READINGS {
            keys.truncate(from);
            let param = &params[place];
            let text = "text that may be bytes, too often in one row".to_owned();
            let error = ColumnError::Value { text, expected: param.kind.describe() };
            return Err(FlushReason::Column { column: param.name.clone(), error });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
