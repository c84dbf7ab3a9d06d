//! The columns of tables: their names and types, which rows in the binlog don't carry.
//!
//! They are read from the server as it is now, and the row may be older. So each reading comes with the place at which the binlog ended
//! just after it: before the reader has come so far, a change of the definition may still lie ahead, and what was read with it must not
//! leave before that is known.

use std::sync::Arc;

use hashbrown::HashMap;
use mysql_async::Conn;

use super::server::{LogPlace, Server, ask};
use crate::source::Error;

/// A table's columns, in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Definition {
    pub(super) columns: Vec<ColumnInfo>,
    /// Where the binlog ended after the definition was read.
    pub(super) until: LogPlace,
}

/// One column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ColumnInfo {
    pub(super) name: String,
    /// As the server writes it: `bigint unsigned`.
    pub(super) mysql_type: String,
    pub(super) charset: Option<String>,
    /// Of an ENUM or SET whose labels have signs that the type's text writes otherwise.
    pub(super) labels: Option<Vec<String>>,
}

impl ColumnInfo {
    pub(super) fn new(name: String, mysql_type: String, charset: Option<String>) -> Self {
        let lower = mysql_type.to_ascii_lowercase();
        let escaped = (lower.starts_with("enum(") || lower.starts_with("set(")) && mysql_type.contains('\\');
        let labels = escaped.then(|| labels(&mysql_type));
        Self { name, mysql_type, charset, labels }
    }

    /// The type to tell beside the values. Those of labels are told as text.
    pub(super) fn told_type(&self) -> &str {
        if self.labels.is_some() { "varchar(255)" } else { &self.mysql_type }
    }
}

/// The labels in `COLUMN_TYPE`, which escapes as strings do, whatever the server's `sql_mode` is.
fn labels(mysql_type: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let mut letters = mysql_type.chars().skip_while(|letter| *letter != '\'').peekable();
    while letters.next() == Some('\'') {
        let mut label = String::new();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => match letters.next() {
                    Some('0') => label.push('\0'),
                    Some('n') => label.push('\n'),
                    Some('r') => label.push('\r'),
                    Some(other) => label.push(other),
                    None => {}
                },
                '\'' if letters.peek() == Some(&'\'') => {
                    letters.next();
                    label.push('\'');
                }
                '\'' => break,
                other => label.push(other),
            }
        }
        labels.push(label);
        while letters.peek().is_some_and(|letter| *letter != '\'') {
            letters.next();
        }
    }
    labels
}

/// Definitions that were read.
#[derive(Default)]
pub(super) struct Definitions(HashMap<(String, String), Option<Arc<Definition>>>);

/// Tables remembered.
const MAX_KNOWN: usize = 10_000;

impl Definitions {
    /// Forgets all: a definition was changed.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets one table.
    pub(super) fn forget(&mut self, database: &str, table: &str) {
        self.0.remove(&(database.to_owned(), table.to_owned()));
    }

    /// A table's definition; `None` if there is no such table any more.
    pub(super) async fn of(
        &mut self,
        conn: &mut Conn,
        server: &Server,
        database: &str,
        table: &str,
    ) -> Result<Option<Arc<Definition>>, Error> {
        let name = (database.to_owned(), table.to_owned());
        if let Some(known) = self.0.get(&name) {
            return Ok(known.clone());
        }
        let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "''");
        let question = format!(
            "SELECT COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), CHARACTER_SET_NAME FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = '{}' ORDER BY ORDINAL_POSITION",
            quote(database),
            quote(table)
        );
        let rows: Vec<(String, String, Option<String>)> = ask(conn, &question).await?;
        let until = server.place(conn).await?;
        let columns =
            rows.into_iter().map(|(name, mysql_type, charset)| ColumnInfo::new(name, mysql_type, charset));
        let columns: Vec<_> = columns.collect();
        let definition = (!columns.is_empty()).then(|| Arc::new(Definition { columns, until }));
        if self.0.len() >= MAX_KNOWN {
            self.0.clear();
        }
        self.0.insert(name, definition.clone());
        Ok(definition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_the_server_escapes_them() {
        let of = |mysql_type: &str| ColumnInfo::new("c".to_owned(), mysql_type.to_owned(), None).labels;
        assert_eq!(
            of("enum('a\\\\b','x\\'y','it''s','n\\n')"),
            Some(vec!["a\\b".into(), "x'y".into(), "it's".into(), "n\n".into()])
        );
        assert_eq!(of("enum('a','b')"), None);
        assert_eq!(of("varchar(5)"), None);
    }
}
