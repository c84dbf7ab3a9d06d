//! Keys from a query's rows, as they come: the result is never in memory as a whole.

use std::path::Path;

use anyhow::Context;
use catalog::Column;
use daemon::config::Database;
use futures_util::{StreamExt as _, stream::BoxStream};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row, TypeInfo as _, ValueRef as _,
    mysql::{MySqlConnection, MySqlRow},
    sqlite::{SqliteConnection, SqliteRow},
};
use tokio::sync::{mpsc, oneshot};

use super::{KeyMaker, Record, Records};
use crate::{dev::database, sqlite};

/// Runs the query in a read-only session; returns when its first row is there or it has failed.
pub(super) async fn read(
    sql: &str,
    database: &Database,
    maker: KeyMaker,
    skip: u64,
) -> anyhow::Result<Records> {
    let (records, taken) = mpsc::channel(1024);
    let (begun, begins) = oneshot::channel();
    let sql = sql.to_owned();
    if let Some(path) = sqlite::file(database.url.expose(), Path::new("")) {
        let mut connection = open_sqlite(&path, &maker).await?;
        tokio::spawn(async move {
            let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut connection).boxed();
            send(rows, sqlite_cells, &maker, skip, &records, begun).await;
        });
    } else {
        let mut connection = open_mysql(database).await?;
        tokio::spawn(async move {
            let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut connection).boxed();
            send(rows, mysql_cells, &maker, skip, &records, begun).await;
            // What is left of the result is of no use; the server notices that nobody reads it.
            drop(connection);
        });
    }
    begins.await.unwrap_or_else(|_| Ok(())).context("run the query")?;
    Ok(taken)
}

async fn open_sqlite(path: &Path, maker: &KeyMaker) -> anyhow::Result<SqliteConnection> {
    let mut connection = database::open_as(path, maker.schema()).await?;
    connection.execute("PRAGMA query_only = ON").await.context("make the session read-only")?;
    Ok(connection)
}

async fn open_mysql(database: &Database) -> anyhow::Result<MySqlConnection> {
    let options = loader::mysql::options(&database.url).context("read the database's URL")?;
    let mut connection = tokio::time::timeout(std::time::Duration::from_secs(15), options.connect())
        .await
        .with_context(|| format!("reach {}", database.url))?
        .with_context(|| format!("reach {}", database.url))?;
    connection.execute("SET SESSION TRANSACTION READ ONLY").await.context("make the session read-only")?;
    connection.ping().await.context("ask the database")?;
    Ok(connection)
}

/// A value as the database wrote it.
enum Cell {
    Null,
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    fn column(&self) -> Column<'_> {
        match self {
            Self::Null => Column::Null,
            Self::Text(text) => Column::Text { text, mysql_type: None },
            Self::Bytes(bytes) => Column::Bytes(bytes),
        }
    }
}

async fn send<R: Row>(
    mut rows: BoxStream<'_, sqlx::Result<R>>,
    cells: fn(&R, &[usize]) -> sqlx::Result<Vec<Cell>>,
    maker: &KeyMaker,
    skip: u64,
    records: &mpsc::Sender<anyhow::Result<Record>>,
    begun: oneshot::Sender<anyhow::Result<()>>,
) {
    let (mut begun, mut places, mut number) = (Some(begun), Vec::new(), 0);
    while let Some(row) = rows.next().await {
        let read = row.map_err(|error| plain(&error)).and_then(|row| {
            if number == 0 {
                places = find(&row, maker)?;
            }
            cells(&row, &places).map_err(|error| plain(&error))
        });
        number += 1;
        let record = match (read, begun.take()) {
            (Err(error), Some(begun)) => {
                // Nobody waits if the command is over.
                let _ = begun.send(Err(error));
                return;
            }
            (read, begun) => {
                if let Some(begun) = begun {
                    let _ = begun.send(Ok(()));
                }
                read.map(|cells| {
                    let columns: Vec<Column<'_>> = cells.iter().map(Cell::column).collect();
                    Record { number, key: maker.of_columns(&columns), end: 0 }
                })
            }
        };
        let failed = record.is_err();
        if !failed && number <= skip {
            continue;
        }
        if records.send(record).await.is_err() || failed {
            return;
        }
    }
}

/// Where each parameter is among the columns.
fn find<R: Row>(row: &R, maker: &KeyMaker) -> anyhow::Result<Vec<usize>> {
    let columns: Vec<&str> = row.columns().iter().map(sqlx::Column::name).collect();
    let find = |name: &str| {
        columns.iter().position(|column| column.eq_ignore_ascii_case(name)).with_context(|| {
            format!(
                "the query has no column {name}, which the group's key needs; it has {}: write {} AS {name}",
                columns.join(", "),
                columns.first().unwrap_or(&"...")
            )
        })
    };
    maker.params().iter().map(|param| find(&param.name)).collect()
}

fn sqlite_cells(row: &SqliteRow, places: &[usize]) -> sqlx::Result<Vec<Cell>> {
    let cell = |at: &usize| {
        let raw = row.try_get_raw(*at)?;
        Ok(if raw.is_null() {
            Cell::Null
        } else {
            match raw.type_info().name() {
                "INTEGER" => Cell::Text(row.try_get_unchecked::<i64, _>(*at)?.to_string()),
                "REAL" => Cell::Text(row.try_get_unchecked::<f64, _>(*at)?.to_string()),
                "BLOB" => Cell::Bytes(row.try_get_unchecked::<Vec<u8>, _>(*at)?),
                _ => Cell::Text(row.try_get_unchecked::<String, _>(*at)?),
            }
        })
    };
    places.iter().map(cell).collect()
}

/// A plain query's values come as text; only those of binary columns are bytes.
fn mysql_cells(row: &MySqlRow, places: &[usize]) -> sqlx::Result<Vec<Cell>> {
    let cell = |at: &usize| {
        let raw = row.try_get_raw(*at)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        let binary = {
            let info = raw.type_info();
            let name = info.name();
            name.ends_with("BLOB") || name.ends_with("BINARY") || name == "BIT"
        };
        let bytes = row.try_get_unchecked::<Vec<u8>, _>(*at)?;
        Ok(if binary {
            Cell::Bytes(bytes)
        } else {
            String::from_utf8(bytes).map_or_else(|error| Cell::Bytes(error.into_bytes()), Cell::Text)
        })
    };
    places.iter().map(cell).collect()
}

/// The database's own words.
fn plain(error: &sqlx::Error) -> anyhow::Error {
    match error {
        sqlx::Error::Database(error) => anyhow::anyhow!("{}", error.message()),
        other => anyhow::anyhow!("{other}"),
    }
}
