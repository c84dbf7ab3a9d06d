//! Rules: from a row change to the keys and groups that it makes stale.

use std::fmt;

use crate::group::GroupId;
use crate::normal::{Column, ColumnError};

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
    /// A short name from a closed set, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::MissingImage { .. } => "missing_image",
            Self::Column { error: ColumnError::Missing, .. } => "missing_column",
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
            Self::MissingImage { before: true } => f.write_str("the change came without the row before it"),
            Self::MissingImage { before: false } => f.write_str("the change came without the row after it"),
            Self::Column { column, error } => write!(f, "column {column}: {error}"),
            Self::Truncate => f.write_str("the table was truncated"),
            Self::Ddl => f.write_str("the table's definition changed"),
            Self::Undecodable => f.write_str("a change of the table could not be decoded"),
        }
    }
}

/// All rules of one table, compiled.
#[derive(Debug, Default)]
pub struct TableRules {
    columns: Vec<Box<str>>,
    readers: Vec<GroupId>,
}

impl TableRules {
    /// The only columns that a decoder must keep, each once, compared without regard to case.
    pub fn columns(&self) -> &[Box<str>] {
        &self.columns
    }

    /// The groups to flush when the table changes without rows: TRUNCATE, DDL, rows that can't be decoded.
    pub fn readers(&self) -> &[GroupId] {
        &self.readers
    }

    /// Emits what a change of a row makes stale: keys of both images, or groups where keys can't be told.
    pub fn map(
        &self,
        op: Op,
        before: Option<&dyn RowImage>,
        after: Option<&dyn RowImage>,
        emit: &mut dyn FnMut(Effect),
    ) {
        let _ = (op, before, after, emit);
        unimplemented!()
    }
}
