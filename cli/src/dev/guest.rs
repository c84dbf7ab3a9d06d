//! In a database that is not the stack's own: says what is done to it, and takes all of it back at the end.
//!
//! Triggers and two tables whose names begin with `_freshline_`, and the journal mode. What a stack that was killed has left is taken back
//! by the next one on the same file: triggers are made what they are to be, and the mode that was found first stays written down.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use anyhow::{Context, bail};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::{capture, database, files::Files};
use crate::output::Output;

/// Where the journal mode is written down that the file had.
const BEFORE: &str = "_freshline_before";

/// A stack's stay in somebody else's database.
pub(crate) struct Guest<'a> {
    file: &'a Path,
    /// Open until the end: it is locked, and to close it while the stack has the file open would end SQLite's own locks.
    _alone: File,
}

impl<'a> Guest<'a> {
    /// Says what will be done and writes down what has to be restored; nothing of it if the database is the sample.
    pub(crate) async fn enter(files: &'a Files, output: &Output) -> anyhow::Result<Option<Self>> {
        if files.sample {
            return Ok(None);
        }
        let file = &files.database;
        // A lock of another kind than SQLite's, which does not see it.
        let alone = File::open(file).with_context(|| format!("open {}", file.display()))?;
        if let Err(TryLockError::WouldBlock) = alone.try_lock() {
            bail!(
                "follow {}: another `freshline dev --config` follows it, and would lose its triggers to this one; end that, or work on a copy",
                file.display()
            );
        }
        output.note(&format!(
            "{}: to follow its changes, triggers and tables named _freshline_... are put in, and its journal mode is WAL \
             meanwhile; all of it is taken back at the end. Take a copy if nothing of yours may see them.",
            file.display()
        ));
        let mut connection = database::open_untouched(file).await?;
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut connection)
            .await
            .with_context(|| format!("read the journal mode of {}", file.display()))?;
        let note = format!(
            "CREATE TABLE IF NOT EXISTS {BEFORE} (journal_mode TEXT); \
             INSERT INTO {BEFORE} SELECT '{}' WHERE NOT EXISTS (SELECT * FROM {BEFORE})",
            mode.replace('\'', "")
        );
        sqlx::raw_sql(AssertSqlSafe(note))
            .execute(&mut connection)
            .await
            .with_context(|| format!("write to {}", file.display()))?;
        connection.close().await.context("close the database")?;
        Ok(Some(Self { file, _alone: alone }))
    }

    /// Takes everything back. All other connections of the stack are to be closed before.
    pub(crate) async fn leave(self, output: &Output) {
        match self.restore().await {
            Ok(()) => output.note(&format!("{} is as it was, but for your changes", self.file.display())),
            Err(error) => output.error(&format!(
                "failed to {error:#}; the next `freshline dev --config` on this file takes back what is left"
            )),
        }
    }

    async fn restore(&self) -> anyhow::Result<()> {
        let mut connection = database::open_untouched(self.file).await?;
        let before: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT journal_mode FROM {BEFORE}")))
                .fetch_optional(&mut connection)
                .await
                .context("read how the file was")?;
        capture::uninstall(&mut connection, &[BEFORE]).await.context("remove the triggers and tables")?;
        if let Some(mode) = before.filter(|mode| mode != "wal") {
            journal(&mut connection, &mode).await?;
        }
        connection.close().await.context("close the database")
    }
}

async fn journal(connection: &mut SqliteConnection, mode: &str) -> anyhow::Result<()> {
    let now: String = sqlx::query_scalar(AssertSqlSafe(format!("PRAGMA journal_mode = {mode}")))
        .fetch_one(connection)
        .await
        .with_context(|| format!("set the journal mode back to {mode}"))?;
    anyhow::ensure!(now == mode, "set the journal mode back to {mode}: another program has the file open");
    Ok(())
}
