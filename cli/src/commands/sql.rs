//! `sql`: plain SQL on the embedded stack's database.

use std::path::Path;

use anyhow::Context;
use futures_util::TryStreamExt;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Column, Either, Row, TypeInfo, ValueRef, sqlite::SqliteRow};

use crate::{
    cli::Ended,
    dev::{database, state::State},
    output::Output,
};

/// Runs statements; prints the rows of the last one that has any, and else how many rows changed.
pub(crate) async fn sql(sql: &str, dir: Option<&Path>, output: &Output) -> anyhow::Result<Ended> {
    let state = State::find(dir)?;
    let mut connection = database::open_as(&state.database, &state.schema).await?;
    let (mut rows, mut changed) = (Vec::<SqliteRow>::new(), 0);
    // The user's own SQL, on the user's own file.
    let mut results = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_many(&mut connection);
    while let Some(result) =
        results.try_next().await.map_err(|error| plain(&error)).context("run the statement")?
    {
        match result {
            Either::Left(done) => changed += done.rows_affected(),
            Either::Right(row) => rows.push(row),
        }
    }
    drop(results);
    let stray: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM main.sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap_or_default();
    if let Some(name) = stray.first() {
        // Names that exist mean the database's; a new one has none to mean.
        let schema = &state.schema;
        anyhow::bail!(
            "run the statement: {name} was made in a scratch database that is gone now; write {schema}.{name} to make it in {schema}"
        );
    }
    let columns: Vec<String> = rows
        .first()
        .map(|row| row.columns().iter().map(|c| c.name().to_owned()).collect())
        .unwrap_or_default();
    if output.json {
        let object = |row| columns.iter().cloned().zip(cells(row)).collect();
        let rows: Vec<Map<String, Value>> = rows.iter().map(object).collect();
        output.value(&serde_json::json!({ "rows": rows, "changed": changed }))?;
    } else if rows.is_empty() {
        output.line(format!("{changed} {} changed", if changed == 1 { "row" } else { "rows" }))?;
    } else {
        let heading: Vec<&str> = columns.iter().map(String::as_str).collect();
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::Null => "NULL".to_owned(),
            other => other.to_string(),
        };
        output.table(&heading, rows.iter().map(|row| cells(row).into_iter().map(text).collect()))?;
    }
    Ok(Ended::Done)
}

/// A row's values in the statement's order.
fn cells(row: &SqliteRow) -> Vec<Value> {
    (0..row.columns().len()).map(|at| value(row, at)).collect()
}

fn value(row: &SqliteRow, at: usize) -> Value {
    let Ok(raw) = row.try_get_raw(at) else { return Value::Null };
    if raw.is_null() {
        return Value::Null;
    }
    match raw.type_info().name() {
        "INTEGER" => row.try_get_unchecked::<i64, _>(at).map(Value::from),
        "REAL" => row.try_get_unchecked::<f64, _>(at).map(Value::from),
        "BLOB" => row.try_get_unchecked::<Vec<u8>, _>(at).map(|bytes| {
            let hex = bytes.iter().fold(String::from("x'"), |text, byte| text + &format!("{byte:02x}"));
            Value::from(hex + "'")
        }),
        _ => row.try_get_unchecked::<String, _>(at).map(Value::from),
    }
    .unwrap_or(Value::Null)
}

/// SQLite's own words, without the code in front of them.
fn plain(error: &sqlx::Error) -> anyhow::Error {
    match error {
        sqlx::Error::Database(error) => anyhow::anyhow!("{}", error.message()),
        other => anyhow::anyhow!("{other}"),
    }
}
