//! Change capture for SQLite: triggers that note each row change in an outbox table.
//!
//! SQLite has no binlog, and its update hook sees only its own process. Triggers are part of the file, so a change is
//! noted whoever makes it: a node, `freshline sql`, or a `sqlite3` shell. The notes and the change commit together.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

/// The table that the triggers write to.
pub(crate) const OUTBOX: &str = "_freshline_changes";
/// Every trigger that is ours begins with this.
const PREFIX: &str = "_freshline_";
/// `json_object` takes at most 127 arguments in older builds of SQLite, two for each column.
const COLUMNS_PER_OBJECT: usize = 60;

/// A user's table, as far as capture and Canal's messages need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// In the order of their declaration.
    pub(crate) columns: Vec<Column>,
    /// The sets of columns in which two rows can collide, the primary key among them.
    unique: Vec<Vec<String>>,
}

/// A column, as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The declared type, as written; empty if there is none.
    pub(crate) declared: String,
    /// Position in the primary key from 1; 0 if it is not part of it.
    pub(crate) primary_key: i64,
}

impl Table {
    /// A table of these columns, of which no two rows can collide but in the primary key.
    #[cfg(test)]
    pub(crate) fn of(name: &str, columns: Vec<Column>) -> Self {
        Self { name: name.to_owned(), columns, unique: Vec::new() }
    }

    /// The names of the primary key's columns, in the key's order.
    pub(crate) fn primary_key(&self) -> Vec<&str> {
        let mut parts: Vec<_> = self.columns.iter().filter(|c| c.primary_key > 0).collect();
        parts.sort_by_key(|c| c.primary_key);
        parts.iter().map(|c| c.name.as_str()).collect()
    }
}

/// Reads the user's tables from the file's schema, by name.
pub(crate) async fn tables(connection: &mut SqliteConnection) -> sqlx::Result<BTreeMap<String, Table>> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND name NOT LIKE '\\_freshline\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL TABLE%'",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut tables = BTreeMap::new();
    for name in names {
        let mut columns = Vec::new();
        // `hidden` is 1 for the hidden columns of virtual tables; 2 and 3 are generated columns, which Canal sends too.
        let rows =
            sqlx::query("SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid")
                .bind(&name)
                .fetch_all(&mut *connection)
                .await?;
        for row in rows {
            columns.push(Column { name: row.get(0), declared: row.get(1), primary_key: row.get(2) });
        }
        let mut table = Table { name: name.clone(), columns, unique: Vec::new() };
        let primary_key: Vec<String> = table.primary_key().into_iter().map(String::from).collect();
        if !primary_key.is_empty() {
            table.unique.push(primary_key);
        }
        let indexes: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM pragma_index_list(?) WHERE \"unique\" = 1 AND partial = 0 AND origin <> 'pk'",
        )
        .bind(&name)
        .fetch_all(&mut *connection)
        .await?;
        for index in indexes {
            let parts: Vec<Option<String>> = sqlx::query_scalar("SELECT name FROM pragma_index_info(?)")
                .bind(&index)
                .fetch_all(&mut *connection)
                .await?;
            // An index over an expression has a part without a name.
            if let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() {
                table.unique.push(parts);
            }
        }
        tables.insert(name, table);
    }
    Ok(tables)
}

/// Makes the file's triggers those that `tables` need, and returns the tables that were without all of theirs: what was written to them
/// meanwhile is not noted. *A table is renamed, and another one takes its name: the triggers went with the first.*
///
/// Runs in one transaction. Cancel safe: an unfinished one is rolled back.
pub(crate) async fn install(
    connection: &mut SqliteConnection,
    tables: &BTreeMap<String, Table>,
) -> sqlx::Result<BTreeSet<String>> {
    let wanted: BTreeMap<String, String> = tables.values().flat_map(triggers).collect();
    let present: BTreeMap<String, String> = sqlx::query_as::<_, (String, String)>(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE '\\_freshline\\_%' ESCAPE '\\'",
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .collect();
    if present == wanted {
        return Ok(BTreeSet::new());
    }
    let lacks = |table: &&Table| triggers(table).iter().any(|(name, sql)| present.get(name) != Some(sql));
    let uncaptured = tables.values().filter(lacks).map(|table| table.name.clone()).collect();
    let mut script = format!(
        "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS {OUTBOX} (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER, \
         tbl TEXT, op TEXT, before TEXT, after TEXT);"
    );
    for (name, sql) in &present {
        if wanted.get(name) != Some(sql) {
            script += "DROP TRIGGER ";
            script += &quoted(name);
            script += ";";
        }
    }
    for (name, sql) in &wanted {
        if present.get(name) != Some(sql) {
            script.push_str(sql);
            script.push(';');
        }
    }
    script.push_str("COMMIT;");
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *connection).await {
        // Without a transaction this is an error of its own, which says nothing new.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
        return Err(error);
    }
    Ok(uncaptured)
}

/// Removes all triggers that are ours, the outbox, and these tables; in one transaction.
pub(crate) async fn uninstall(connection: &mut SqliteConnection, tables: &[&str]) -> sqlx::Result<()> {
    let triggers: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '\\_freshline\\_%' ESCAPE '\\'",
    )
    .fetch_all(&mut *connection)
    .await?;
    let triggers = triggers.iter().map(|name| format!("DROP TRIGGER IF EXISTS {};", quoted(name)));
    let tables = tables.iter().chain([&OUTBOX]).map(|name| format!("DROP TABLE IF EXISTS {};", quoted(name)));
    let script = format!("BEGIN IMMEDIATE;{}COMMIT;", triggers.chain(tables).collect::<String>());
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *connection).await {
        // Without a transaction this is an error of its own, which says nothing new.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
        return Err(error);
    }
    Ok(())
}

/// The triggers of one table: name and statement.
///
/// `REPLACE` deletes the rows that stand in the way without firing their DELETE triggers, so what is about to collide is
/// noted as deleted before each write that can collide. If the write then fails or does nothing, the note is one
/// removal too many, or is rolled back with it.
fn triggers(table: &Table) -> Vec<(String, String)> {
    let on = quoted(&table.name);
    let old = image("OLD", &table.columns);
    let new = image("NEW", &table.columns);
    let changed = join(table.columns.iter().map(|c| differs(&c.name)), " OR ");
    let mut triggers = Vec::new();
    let mut add = |suffix: &str, event: &str, body: String| {
        let name = format!("{PREFIX}{}_{suffix}", table.name);
        let sql = format!("CREATE TRIGGER {} {event} BEGIN {body} END", quoted(&name));
        triggers.push((name, sql));
    };
    add("insert", &format!("AFTER INSERT ON {on}"), note(&table.name, "INSERT", "NULL", &new, ""));
    add("delete", &format!("AFTER DELETE ON {on}"), note(&table.name, "DELETE", &old, "NULL", ""));
    add(
        "update",
        &format!("AFTER UPDATE ON {on} WHEN {changed}"),
        note(&table.name, "UPDATE", &old, &new, ""),
    );
    if !table.unique.is_empty() {
        let row = image(&on, &table.columns);
        let collides =
            |set: &Vec<String>| join(set.iter().map(|c| format!("{on}.{0} = NEW.{0}", quoted(c))), " AND ");
        let any = join(table.unique.iter().map(|set| format!("({})", collides(set))), " OR ");
        let from = format!(" FROM {on} WHERE {any}");
        add("replace", &format!("BEFORE INSERT ON {on}"), note(&table.name, "DELETE", &row, "NULL", &from));
        // Of an UPDATE only a row other than itself can collide, so only where a unique column changes.
        let moved = join(
            table.unique.iter().map(|set| {
                let moves = join(set.iter().map(|c| differs(c)), " OR ");
                format!("({} AND ({moves}))", collides(set))
            }),
            " OR ",
        );
        let keys = join(table.unique.iter().flatten().map(|c| differs(c)), " OR ");
        add(
            "displace",
            &format!("BEFORE UPDATE ON {on} WHEN {keys}"),
            note(&table.name, "DELETE", &row, "NULL", &format!(" FROM {on} WHERE {moved}")),
        );
    }
    triggers
}

/// A statement that adds rows to the outbox. `at` is in milliseconds since 1970.
fn note(table: &str, op: &str, before: &str, after: &str, from: &str) -> String {
    format!(
        "INSERT INTO {OUTBOX}(at, tbl, op, before, after) SELECT \
         CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), {}, '{op}', {before}, {after}{from};",
        literal(table)
    )
}

/// An expression for a row as a JSON array of objects, which together hold all columns. A blob is `{"hex": ".."}`, a number that JSON has
/// not, an infinity, `{}`. Text is as it is: its bytes need not be UTF-8, and then the JSON's are not either.
fn image(row: &str, columns: &[Column]) -> String {
    let objects = columns.chunks(COLUMNS_PER_OBJECT).map(|chunk| {
        let members = chunk.iter().map(|column| {
            let value = format!("{row}.{}", quoted(&column.name));
            format!(
                "{}, CASE WHEN typeof({value}) = 'blob' THEN json_object('hex', hex({value})) \
                 WHEN {value} IN (9e999, -9e999) THEN json_object() ELSE {value} END",
                literal(&column.name)
            )
        });
        format!("json_object({})", join(members, ", "))
    });
    format!("json_array({})", join(objects, ", "))
}

fn differs(column: &str) -> String {
    // Byte for byte: by NOCASE a name that was written in capitals would not have changed.
    format!("OLD.{0} IS NOT NEW.{0} COLLATE BINARY", quoted(column))
}

fn join(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;

    async fn notes(connection: &mut SqliteConnection) -> Vec<(String, Option<String>, Option<String>)> {
        sqlx::query_as("SELECT op, before, after FROM _freshline_changes ORDER BY seq")
            .fetch_all(connection)
            .await
            .unwrap()
    }

    async fn database(schema: &'static str) -> SqliteConnection {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql(schema).execute(&mut connection).await.unwrap();
        let tables = tables(&mut connection).await.unwrap();
        assert_eq!(install(&mut connection, &tables).await.unwrap().len(), tables.len());
        assert!(
            install(&mut connection, &tables).await.unwrap().is_empty(),
            "a second time there is nothing to do"
        );
        connection
    }

    async fn run(connection: &mut SqliteConnection, sql: &'static str) {
        sqlx::raw_sql(sql).execute(connection).await.unwrap();
    }

    #[tokio::test]
    async fn each_row_change_leaves_its_images() {
        let mut db = database("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, b BLOB)").await;
        run(&mut db, "INSERT INTO t VALUES (1, 'a', x'00ff'); UPDATE t SET v = 'b'; UPDATE t SET v = 'b'; DELETE FROM t")
            .await;
        let a = r#"[{"id":1,"v":"a","b":{"hex":"00FF"}}]"#.to_owned();
        let b = r#"[{"id":1,"v":"b","b":{"hex":"00FF"}}]"#.to_owned();
        assert_eq!(
            notes(&mut db).await,
            [
                ("INSERT".into(), None, Some(a.clone())),
                ("UPDATE".into(), Some(a), Some(b.clone())),
                ("DELETE".into(), Some(b), None),
            ]
        );
    }

    #[tokio::test]
    async fn a_replaced_row_is_noted_as_deleted() {
        let mut db = database("CREATE TABLE t (id INTEGER PRIMARY KEY, mail TEXT UNIQUE)").await;
        run(&mut db, "INSERT INTO t VALUES (1, 'a'), (2, 'b'); DELETE FROM _freshline_changes").await;
        run(&mut db, "REPLACE INTO t VALUES (3, 'a')").await;
        run(&mut db, "UPDATE OR REPLACE t SET mail = 'a' WHERE id = 2").await;
        let ops: Vec<_> = notes(&mut db).await.into_iter().map(|(op, before, _)| (op, before)).collect();
        assert_eq!(
            ops,
            [
                ("DELETE".into(), Some(r#"[{"id":1,"mail":"a"}]"#.into())),
                ("INSERT".into(), None),
                ("DELETE".into(), Some(r#"[{"id":3,"mail":"a"}]"#.into())),
                ("UPDATE".into(), Some(r#"[{"id":2,"mail":"b"}]"#.into())),
            ]
        );
    }

    #[tokio::test]
    async fn cascades_and_deletes_of_all_rows_are_noted_row_by_row() {
        let mut db = database(
            "PRAGMA foreign_keys = ON; CREATE TABLE p (id INTEGER PRIMARY KEY); \
             CREATE TABLE c (p INTEGER REFERENCES p(id) ON DELETE CASCADE)",
        )
        .await;
        run(&mut db, "INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1), (2), (2)").await;
        run(&mut db, "DELETE FROM _freshline_changes; DELETE FROM p").await;
        assert_eq!(notes(&mut db).await.len(), 5);
    }

    #[tokio::test]
    async fn awkward_names_and_wide_tables_are_captured() {
        let columns: Vec<String> = (0..150).map(|i| format!("c{i} INT DEFAULT {i}")).collect();
        let mut db = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let schema = format!(
            "CREATE TABLE \"it's \"\"odd\"\"\" (id INTEGER PRIMARY KEY, \"a b\" TEXT, {})",
            columns.join(", ")
        );
        sqlx::raw_sql(AssertSqlSafe(schema)).execute(&mut db).await.unwrap();
        let found = tables(&mut db).await.unwrap();
        install(&mut db, &found).await.unwrap();
        run(&mut db, "INSERT INTO \"it's \"\"odd\"\"\"(id, \"a b\") VALUES (1, 'x')").await;
        let after = notes(&mut db).await.remove(0).2.unwrap();
        let objects: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&after).unwrap();
        assert_eq!(objects.iter().map(serde_json::Map::len).sum::<usize>(), 152);
    }

    #[tokio::test]
    async fn a_renamed_table_gets_triggers_of_its_new_name() {
        let mut db = database("CREATE TABLE a (id INTEGER PRIMARY KEY)").await;
        run(&mut db, "ALTER TABLE a RENAME TO b").await;
        let found = tables(&mut db).await.unwrap();
        assert_eq!(install(&mut db, &found).await.unwrap(), BTreeSet::from(["b".to_owned()]));
        run(&mut db, "INSERT INTO b VALUES (1)").await;
        let table: String =
            sqlx::query_scalar("SELECT tbl FROM _freshline_changes").fetch_one(&mut db).await.unwrap();
        assert_eq!(table, "b");
    }
}
