//! What may have changed as a whole: tables, views, databases, as far as a message names them.

use std::fmt;

/// What may have changed as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Concerned {
    /// These tables and views.
    Tables(Vec<Named>),
    /// All tables of a database.
    Database(String),
    /// Any table.
    Everything,
}

impl Concerned {
    /// One table.
    pub(super) fn table(database: &str, table: &str) -> Self {
        Self::Tables(vec![Named::table(database, table)])
    }
}

/// A table or view that a message names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its database; `None` where nobody can tell it: then it is of any.
    pub database: Option<String>,
    /// Its name.
    pub table: String,
    /// What it may be.
    pub object: Object,
}

/// What may be behind a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Object {
    /// A table.
    Table,
    /// A table or a view.
    Either,
    /// A view, of which other views may be made.
    View,
}

impl Named {
    pub(crate) fn table(database: &str, table: &str) -> Self {
        Self { database: Some(database.to_owned()), table: table.to_owned(), object: Object::Table }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database.as_deref().unwrap_or("*"), self.table)
    }
}

/// A list for people and logs: `shop.users, *.orders`, `shop.*`, `everything`.
impl fmt::Display for Concerned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    write!(f, "{}{table}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Database(name) => write!(f, "{name}.*"),
            Self::Everything => f.write_str("everything"),
        }
    }
}
