//! The embedded stack's database file, and how every part of the stack opens it.

use std::{path::Path, time::Duration};

use anyhow::Context;
use sqlx::{
    AssertSqlSafe, ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

/// Opens the file as it is. Writers wait for each other instead of failing; readers never wait.
pub(crate) async fn open(file: &Path) -> anyhow::Result<SqliteConnection> {
    options()
        .filename(file)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .connect()
        .await
        .with_context(|| format!("open the database {}", file.display()))
}

/// Opens the file without a change of its settings.
pub(crate) async fn open_untouched(file: &Path) -> anyhow::Result<SqliteConnection> {
    SqliteConnectOptions::new()
        .busy_timeout(Duration::from_secs(5))
        .filename(file)
        .create_if_missing(false)
        .connect()
        .await
        .with_context(|| format!("open the database {}", file.display()))
}

/// Opens the file under the name of its schema, so that `users` and `shop.users` are the same table, as in MySQL.
pub(crate) async fn open_as(file: &Path, schema: &str) -> anyhow::Result<SqliteConnection> {
    let mut connection = options().filename(":memory:").connect().await.context("open SQLite")?;
    let attach = format!("ATTACH ? AS \"{}\"", schema.replace('"', "\"\""));
    sqlx::query(AssertSqlSafe(attach))
        .bind(file.to_string_lossy().into_owned())
        .execute(&mut connection)
        .await
        .with_context(|| format!("open the database {}", file.display()))?;
    Ok(connection)
}

/// Creates the file, if it is missing, with what `script` makes; returns whether it was missing.
pub(crate) async fn create(file: &Path, script: impl FnOnce() -> String) -> anyhow::Result<bool> {
    if file.exists() {
        return Ok(false);
    }
    let mut connection = options()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .connect()
        .await
        .with_context(|| format!("create the database {}", file.display()))?;
    sqlx::raw_sql(AssertSqlSafe(script()))
        .execute(&mut connection)
        .await
        .with_context(|| format!("fill the database {}", file.display()))?;
    Ok(true)
}

fn options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        .synchronous(SqliteSynchronous::Normal)
}
