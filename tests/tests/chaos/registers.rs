//! The table: a register per row, whose value tells which write left it, with a digest that shows a damaged one.

use sqlx::MySqlPool;
use tests::{history::Seen, stack::Stack};
use xxhash_rust::xxh3::xxh3_64;

/// Rows of the table, numbered from 0.
pub(crate) const ROWS: u32 = 240;

/// The body of a write; its length changes, as real values' do.
pub(crate) fn body(row: u32, version: u32) -> String {
    format!("{row}.").repeat(1 + version as usize % 40)
}

/// The digest of a write.
pub(crate) fn digest(row: u32, version: u32, body: &str) -> u64 {
    xxh3_64(format!("{row}/{version}/{body}").as_bytes())
}

/// The key of a row.
pub(crate) fn key(row: u32) -> String {
    format!("register:{row}")
}

/// The group.
pub(crate) fn catalog(name: &str) -> String {
    format!(
        "[[group]]\nname = \"register\"\nkey = \"register:{{id:u64}}\"\nttl = \"1h\"\nnegative_ttl = \"1h\"\n\
         query = \"SELECT version, digest, body FROM {name}.registers WHERE id = {{id}}\"\n"
    )
}

/// Makes the database `name` and its table with version 0 of every row.
pub(crate) async fn create(stack: &Stack, name: &str) -> MySqlPool {
    let mut rows = Vec::new();
    for row in 0..ROWS {
        let body = body(row, 0);
        rows.push(format!("({row}, 0, {}, '{body}')", digest(row, 0, &body)));
    }
    let table = "CREATE TABLE registers (id BIGINT UNSIGNED PRIMARY KEY, version INT UNSIGNED NOT NULL, digest BIGINT UNSIGNED NOT NULL, body VARCHAR(250) NOT NULL)";
    stack.database(name, &[table, &format!("INSERT INTO registers VALUES {}", rows.join(", "))]).await
}

/// Which write a value shows.
pub(crate) fn seen(row: u32, value: Option<&[u8]>) -> Seen {
    #[derive(serde::Deserialize)]
    struct Value {
        version: u32,
        digest: u64,
        body: String,
    }
    let Some(value) = value else { return Seen::Absent };
    match serde_json::from_slice::<Value>(value) {
        Ok(value) if digest(row, value.version, &value.body) == value.digest => Seen::Version(value.version),
        _ => Seen::Damaged,
    }
}

/// What the database shows of every row.
pub(crate) async fn all(database: &MySqlPool) -> Vec<Seen> {
    let rows: Vec<(u64, u32)> = sqlx::query_as("SELECT id, version FROM registers")
        .fetch_all(database)
        .await
        .unwrap_or_else(|error| panic!("read all registers: {error}"));
    let mut all = vec![Seen::Absent; ROWS as usize];
    for (row, version) in rows {
        all[usize::try_from(row).expect("rows are few")] = Seen::Version(version);
    }
    all
}
