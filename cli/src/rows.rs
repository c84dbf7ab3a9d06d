//! The rows behind the cache: which database the nodes fill from, and how it is read as they read it.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use catalog::Catalog;
use clap::Args;
use client::Client;
use daemon::config::Database;
use loader::{Limits, Loader};
use sync_service::verify::Checker;

use crate::{connect::Connect, setup::Setup};

/// How long a live database may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most database reads that a command has running, so that it does no harm.
const READS: usize = 4;

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct RowsArgs {
    /// The database that the nodes fill from; without it, [database] of --config, or the running `freshline dev`
    #[arg(
        long,
        value_name = "URL",
        help = "The nodes' database, mysql://user:password@host/database; without it, [database] of --config"
    )]
    pub(crate) database: Option<String>,
}

impl RowsArgs {
    /// Opens the database of the nodes, and compares entries of `client` with it.
    ///
    /// Catalog and database are those of `--config`; without it those of the running `freshline dev`, unless nodes are
    /// named; else of `./freshline.toml`.
    pub(crate) async fn checker(
        &self,
        connect: &Connect,
        client: Client,
    ) -> anyhow::Result<(Checker, String)> {
        let setup = Setup::find(connect)?;
        let database = setup.database(self.database.as_deref())?;
        let catalog = setup.catalog;
        let named = database.url.to_string();
        let loader = open(&database, &catalog).await?;
        Ok((Checker::new(client, loader, catalog), named))
    }
}

async fn open(database: &Database, catalog: &Arc<Catalog>) -> anyhow::Result<Arc<Loader>> {
    let database = Database { pool: database.pool.min(READS as u32), ..database.clone() };
    let source = loader::open(&database, catalog).context("open the database")?;
    tokio::time::timeout(PATIENCE, source.ready())
        .await
        .with_context(|| format!("reach {}: it did not answer within {PATIENCE:?}", database.url))?
        .map_err(|report| anyhow::anyhow!("run the catalog's queries against {}:\n{report}", database.url))?;
    let limits = Limits { max_fills: READS, ..Limits::from(&database) };
    Ok(Loader::new(source, limits, loader::Metrics::default()))
}
