//! A live schema, and what of it a catalog can't live with.

mod check;
mod stream;

use crate::query::TableName;
pub use check::check;
pub use stream::Stream;

/// What must be known of a database; whoever does the I/O fills it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// At least the tables that the catalog's queries and rules name, those that exist.
    pub tables: Vec<Table>,
    /// Foreign keys of these tables and to them.
    pub foreign_keys: Vec<ForeignKey>,
    /// `@@binlog_row_image`, where known.
    pub row_image: Option<RowImageMode>,
    /// Whether rows that foreign keys change are in the binlog: MySQL from 9.6 on.
    pub logs_cascades: bool,
}

/// A table or a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Whether it is a view, which has no row changes.
    pub view: bool,
    /// Its columns.
    pub columns: Vec<Field>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its whole type: `bigint unsigned`, `enum('a','b')` (`COLUMN_TYPE` of `information_schema.COLUMNS`).
    pub mysql_type: String,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Its collation, for text.
    pub collation: Option<String>,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The constraint's name.
    pub name: String,
    /// The database of the child, which has the key.
    pub database: String,
    /// The child.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The database of the parent.
    pub parent_database: String,
    /// The parent.
    pub parent_table: String,
    /// The parent's columns, in the same order.
    pub parent_columns: Vec<String>,
    /// What the parent's deletion does.
    pub on_delete: Action,
    /// What a change of the parent's columns does.
    pub on_update: Action,
}

/// What a foreign key does to child rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing, or it refuses: RESTRICT, NO ACTION.
    #[default]
    Restrict,
    /// Deletes or changes them.
    Cascade,
    /// Sets their columns to NULL.
    SetNull,
    /// Sets their columns to the default.
    SetDefault,
}

/// `binlog_row_image`: which columns a row change carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowImageMode {
    /// All.
    Full,
    /// All but unchanged BLOB and TEXT.
    NoBlob,
    /// The primary key before, what changed after.
    Minimal,
}

impl Schema {
    pub(crate) fn table(&self, name: &TableName) -> Option<&Table> {
        self.tables.iter().find(|table| table.table_name().is(name))
    }
}

impl Table {
    pub(crate) fn table_name(&self) -> TableName {
        TableName::new(&self.database, &self.name)
    }

    pub(crate) fn column(&self, name: &str) -> Option<&Field> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

impl Action {
    /// Reads `DELETE_RULE` and `UPDATE_RULE` of `information_schema.REFERENTIAL_CONSTRAINTS`.
    pub fn from_name(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "CASCADE" => Self::Cascade,
            "SET NULL" => Self::SetNull,
            "SET DEFAULT" => Self::SetDefault,
            _ => Self::Restrict,
        }
    }
}

impl RowImageMode {
    /// Reads `@@binlog_row_image`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "FULL" => Some(Self::Full),
            "NOBLOB" => Some(Self::NoBlob),
            "MINIMAL" => Some(Self::Minimal),
            _ => None,
        }
    }
}
