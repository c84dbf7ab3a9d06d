//! What to try first with a catalog that is not the sample's: a key that there is a row for, and a change of that row.

use std::path::Path;

use catalog::{Catalog, Origin, TableUse, Use};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::database;

/// A key, and a statement that makes it stale, where one is found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) key: String,
    pub(crate) change: Option<String>,
}

impl Trial {
    pub(crate) fn of_the_sample() -> Self {
        let change = "UPDATE users SET city = 'Reykjavik' WHERE id = 42";
        Self { key: "user:42".to_owned(), change: Some(change.to_owned()) }
    }
}

/// The first key that a row of the database makes, by the catalog's own rules; `None` if no group has one.
pub(crate) async fn find(catalog: &Catalog, file: &Path, schema: &str) -> Option<Trial> {
    let mut connection = database::open_as(file, schema).await.ok()?;
    let uses = catalog.tables();
    // A group's own table makes its keys; of another one's rule the key may have no row.
    for use_ in uses.iter().filter(|use_| use_.origin == Origin::Query) {
        if let Use::Keys(template) = &use_.effect
            && let Some(trial) = try_row(&mut connection, catalog, use_, template).await
        {
            return Some(trial);
        }
    }
    None
}

/// A key of one row of the table, whose columns the template names.
async fn try_row(
    connection: &mut SqliteConnection,
    catalog: &Catalog,
    use_: &TableUse,
    template: &str,
) -> Option<Trial> {
    let columns: Vec<&str> =
        template.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect();
    let table = use_.table.split('.').map(quoted).collect::<Vec<_>>().join(".");
    let texts = columns.iter().map(|column| format!("CAST({} AS TEXT)", quoted(column)));
    let present = columns.iter().map(|column| format!("{} IS NOT NULL", quoted(column))).collect::<Vec<_>>();
    let sql = format!(
        "SELECT {} FROM {table} WHERE {} LIMIT 1",
        texts.collect::<Vec<_>>().join(", "),
        present.join(" AND ")
    );
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut *connection).await.ok()??;
    let mut key = template.to_owned();
    let mut place = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let value: String = row.try_get(at).ok()?;
        key = key.replace(&format!("{{{column}}}"), &value);
        place.push(format!("{column} = {}", literal(&value)));
    }
    // What a key may hold is the catalog's to say.
    catalog.resolve(&key).ok()?;
    // Words of a shell and of SQL at once are no use as an example.
    let simple = |text: &str| !text.contains(['"', '$', '`', '\\', '!', '\n']);
    let place = place.join(" AND ");
    let mut change = None;
    for column in use_.when_changed.iter().filter(|column| !columns.contains(&column.as_str())) {
        let kind = format!("SELECT typeof({}) FROM {table} WHERE {place} LIMIT 1", quoted(column));
        let kind: String = sqlx::query_scalar(AssertSqlSafe(kind)).fetch_one(&mut *connection).await.ok()?;
        let value = match kind.as_str() {
            "integer" | "real" => format!("{column} + 1"),
            "text" => format!("{column} || '.'"),
            _ => continue,
        };
        change = Some(format!("UPDATE {} SET {column} = {value} WHERE {place}", use_.table));
        break;
    }
    simple(&key).then(|| Trial { change: change.filter(|change| simple(change)), key })
}

fn quoted(name: impl AsRef<str>) -> String {
    format!("\"{}\"", name.as_ref().replace('"', "\"\""))
}

/// A number as it is, text in quotes.
fn literal(value: &str) -> String {
    if value.parse::<i64>().is_ok() { value.to_owned() } else { format!("'{}'", value.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    async fn trial(schema: &'static str, catalog: &str) -> Option<Trial> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.db");
        database::create(&file, || schema.to_owned()).await.unwrap();
        database::open(&file).await.unwrap().close().await.unwrap();
        find(&Catalog::parse("app.toml", catalog).unwrap(), &file, "app").await
    }

    const NOTES: &str = "[[group]]\nname = \"tag\"\nkey = \"tag:{name:str}\"\n\
         query = \"SELECT name FROM app.tags WHERE name = {name}\"\n\
         [[group]]\nname = \"note\"\nkey = \"note:{owner:str}:{id:u64}\"\n\
         query = \"SELECT owner, id, body FROM app.notes WHERE owner = {owner} AND id = {id}\"\n";

    #[tokio::test]
    async fn a_key_of_a_row_that_is_there_and_a_change_of_it() {
        let found = trial(
            "CREATE TABLE tags (name TEXT); CREATE TABLE notes (owner TEXT, id INTEGER, body TEXT); \
             INSERT INTO notes VALUES ('o''neil', 7, 'hello')",
            NOTES,
        )
        .await;
        let change = "UPDATE app.notes SET body = body || '.' WHERE owner = 'o''neil' AND id = 7".to_owned();
        assert_eq!(found, Some(Trial { key: "note:o'neil:7".to_owned(), change: Some(change) }));
    }

    #[tokio::test]
    async fn without_a_row_there_is_nothing_to_try() {
        let schema = "CREATE TABLE tags (name TEXT); CREATE TABLE notes (owner TEXT, id INTEGER, body TEXT)";
        assert_eq!(trial(schema, NOTES).await, None);
    }
}
