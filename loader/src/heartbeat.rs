//! Heartbeat rows: small rows that are written again and again, so that a stream that follows the database shows that it does.
//!
//! One table has a few rows per writer, spread over the stream's partitions by their primary key. `docs/freshness.md` says what
//! the account must be allowed to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daemon::config::Database;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use crate::{
    Error,
    mysql::{
        options,
        pool::{Lease, Pool, reason, server_error},
    },
};

/// How long a writer's rows must have stood still before they are taken for those of one that has ended.
const ENDED: Duration = Duration::from_mins(10);

/// The heartbeat tables of one database, written by one writer.
pub struct Heartbeat {
    pool: Arc<Pool>,
    tables: Vec<Table>,
    writer: String,
    rows: u32,
    deadline: Duration,
    /// The rows of other writers, by table and writer: what they showed, and since when. Guards plain facts.
    others: Mutex<BTreeMap<(usize, String), (i64, Instant)>>,
}

struct Table {
    /// Quoted: `shop`.`freshline_heartbeat`.
    name: String,
    /// As configured.
    plain: String,
}

impl Heartbeat {
    /// Prepares for these tables, each `database.table`, of the database of `config`. Connects to nothing yet; fails for a URL that
    /// is none of MySQL's and for a name that is none of a table.
    pub fn connect(config: &Database, tables: &[String], writer: &str, rows: u32) -> Result<Self, Error> {
        let options = options(&config.url).map_err(|error| {
            unavailable(format!(
                "heartbeat rows need MySQL, and database.url is not a URL of it: {error}, write it like mysql://user:password@host:3306/shop"
            ))
        })?;
        let tables = tables.iter().map(|name| Table::parse(name)).collect::<Result<_, _>>()?;
        Ok(Self {
            pool: Pool::new(options, 1, config.deadline, config.max_lifetime),
            tables,
            writer: writer.to_owned(),
            rows: rows.max(1),
            deadline: config.deadline,
            others: Mutex::default(),
        })
    }

    /// Makes the tables that are not there.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]; where the account may not do it, the text says which statements to run instead.
    pub async fn prepare(&self) -> Result<(), Error> {
        for table in &self.tables {
            let look = format!("SELECT beat FROM {} LIMIT 1", table.name);
            match self.run(look, &[]).await {
                Ok(()) => {}
                // No such table.
                Err(Failure::Sql(error)) if server_error(&error) == Some(1146) => {
                    self.run(table.create(), &[]).await.map_err(|failure| explain(table, failure))?;
                    info!(table = table.plain, "made the table for heartbeat rows");
                }
                Err(failure) => return Err(explain(table, failure)),
            }
        }
        Ok(())
    }

    /// Writes a beat into all rows of all tables. When this returns without an error, all of it is committed.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: some of it may be committed all the same, or be later.
    pub async fn write(&self, beat: i64) -> Result<(), Error> {
        let beat = beat.to_string();
        for table in &self.tables {
            let rows = (0..self.rows).map(|n| format!("(?, {n}, ?)")).collect::<Vec<_>>().join(", ");
            let statement = format!(
                "INSERT INTO {} (writer, n, beat) VALUES {rows} ON DUPLICATE KEY UPDATE beat = VALUES(beat)",
                table.name
            );
            // The same text each time, so that it is prepared once.
            let values = [self.writer.as_str(), &beat].repeat(self.rows as usize);
            self.run(statement, &values).await.map_err(|failure| explain(table, failure))?;
        }
        Ok(())
    }

    /// Deletes the rows of writers that have ended: those that have not changed for ten minutes, as seen by this one.
    pub async fn clean(&self) -> Result<(), Error> {
        for (index, table) in self.tables.iter().enumerate() {
            let look = format!("SELECT writer, MAX(beat) AS beat FROM {} GROUP BY writer", table.name);
            let rows = self.fetch(look).await.map_err(|failure| explain(table, failure))?;
            for (writer, beat) in self.stood_still(index, rows) {
                let statement = format!("DELETE FROM {} WHERE writer = ? AND beat <= ?", table.name);
                self.run(statement, &[&writer, &beat.to_string()])
                    .await
                    .map_err(|failure| explain(table, failure))?;
                debug!(table = table.plain, writer, "deleted the rows of a writer that has ended");
            }
        }
        Ok(())
    }

    /// Deletes this writer's own rows, at its end.
    pub async fn leave(&self) -> Result<(), Error> {
        for table in &self.tables {
            let statement = format!("DELETE FROM {} WHERE writer = ?", table.name);
            self.run(statement, &[&self.writer]).await.map_err(|failure| explain(table, failure))?;
        }
        Ok(())
    }

    /// Notes what other writers' rows show, and returns those that have not changed for long.
    fn stood_still(&self, table: usize, rows: Vec<(String, i64)>) -> Vec<(String, i64)> {
        let now = Instant::now();
        let mut others = self.others.lock();
        others.retain(|(of, writer), _| *of != table || rows.iter().any(|(known, _)| known == writer));
        let mut ended = Vec::new();
        for (writer, beat) in rows {
            if writer == self.writer {
                continue;
            }
            let known = others.entry((table, writer.clone())).or_insert((beat, now));
            if known.0 != beat {
                *known = (beat, now);
            } else if now.saturating_duration_since(known.1) >= ENDED {
                ended.push((writer, beat));
            }
        }
        ended
    }

    async fn run(&self, statement: String, values: &[&str]) -> Result<(), Failure> {
        let mut lease = self.take().await?;
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            query = query.bind(*value);
        }
        let done = timeout(self.deadline, query.execute(&mut lease.connection)).await;
        self.finish(lease, done).await.map(drop)
    }

    async fn fetch(&self, statement: String) -> Result<Vec<(String, i64)>, Failure> {
        let mut lease = self.take().await?;
        let query = sqlx::query(AssertSqlSafe(statement));
        let rows = timeout(self.deadline, query.fetch_all(&mut lease.connection)).await;
        let rows = self.finish(lease, rows).await?;
        let one = |row: &sqlx::mysql::MySqlRow| Ok((row.try_get("writer")?, row.try_get("beat")?));
        rows.iter().map(one).collect::<Result<_, _>>().map_err(Failure::Sql)
    }

    async fn take(&self) -> Result<Lease, Failure> {
        self.pool.take().await.map_err(Failure::Ours)
    }

    async fn finish<T>(
        &self,
        lease: Lease,
        done: Result<sqlx::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failure> {
        match done {
            Ok(Ok(done)) => {
                lease.finish().await;
                Ok(done)
            }
            Ok(Err(error)) => {
                if matches!(error, sqlx::Error::Database(_)) {
                    lease.finish().await;
                } else {
                    self.pool.forget_idle();
                }
                Err(Failure::Sql(error))
            }
            Err(_) => {
                Err(Failure::Ours(self.pool.unavailable(&format!("no answer within {:?}", self.deadline))))
            }
        }
    }
}

impl Table {
    fn parse(name: &str) -> Result<Self, Error> {
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '-'))
        };
        match name.split_once('.') {
            Some((database, table)) if plain(database) && plain(table) => {
                Ok(Self { name: format!("`{database}`.`{table}`"), plain: name.to_owned() })
            }
            _ => Err(unavailable(format!(
                "`{name}` is no table for heartbeat rows, write it like shop.freshline_heartbeat"
            ))),
        }
    }

    fn create(&self) -> String {
        format!(
            "CREATE TABLE {} (writer VARCHAR(64) NOT NULL, n INT NOT NULL, beat BIGINT NOT NULL, PRIMARY KEY (writer, n))",
            self.name
        )
    }
}

enum Failure {
    Sql(sqlx::Error),
    Ours(Error),
}

/// What went wrong, and what to do where only a person can.
fn explain(table: &Table, failure: Failure) -> Error {
    match failure {
        Failure::Ours(error) => error,
        // Access denied to the server's database, for a command or a column; no such table or database.
        Failure::Sql(error)
            if matches!(server_error(&error), Some(1044 | 1045 | 1142 | 1143 | 1146 | 1049)) =>
        {
            unavailable(format!(
                "heartbeat table {}: {}; run `{}` and `GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO ...` for the account of database.url",
                table.plain,
                reason(&error),
                table.create(),
                table.name
            ))
        }
        Failure::Sql(error) => unavailable(format!("heartbeat table {}: {}", table.plain, reason(&error))),
    }
}

fn unavailable(text: String) -> Error {
    Error::Unavailable(text.into())
}

#[cfg(test)]
mod tests {
    use daemon::config::DatabaseUrl;

    use super::*;

    fn heartbeat() -> Heartbeat {
        let config =
            Database { url: DatabaseUrl::new("mysql://app:secret@127.0.0.1:1/shop"), ..Database::default() };
        Heartbeat::connect(&config, &["shop.freshline_heartbeat".to_owned()], "me", 2).expect("a table")
    }

    #[tokio::test(start_paused = true)]
    async fn rows_of_another_writer_go_once_they_have_stood_still_for_long() {
        let heartbeat = heartbeat();
        let rows = |beat| vec![("me".to_owned(), 1), ("dead".to_owned(), 7), ("alive".to_owned(), beat)];
        for beat in 0..10 {
            assert_eq!(heartbeat.stood_still(0, rows(beat)), []);
            tokio::time::advance(Duration::from_mins(1)).await;
        }
        assert_eq!(heartbeat.stood_still(0, rows(10)), [("dead".to_owned(), 7)]);
    }

    #[tokio::test]
    async fn a_name_that_is_no_table_is_refused() {
        let config =
            Database { url: DatabaseUrl::new("mysql://app@127.0.0.1:1/shop"), ..Database::default() };
        for bad in ["freshline_heartbeat", "shop.", "a.b.c", "shop.x`; DROP TABLE users"] {
            let refused = Heartbeat::connect(&config, &[bad.to_owned()], "me", 2).err().expect(bad);
            assert!(refused.to_string().contains("shop.freshline_heartbeat"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_database_that_is_down_is_an_error_that_names_it() {
        let error = heartbeat().write(1).await.expect_err("nobody listens there");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}
