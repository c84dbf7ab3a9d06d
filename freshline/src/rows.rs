//! The rows behind the cache: which database the nodes fill from, and how it is read as they read it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use catalog::Catalog;
use clap::Args;
use client::Client;
use daemon::config::{Database, DatabaseUrl, Layers, Problems};
use loader::{Limits, Loader};
use sync_service::verify::Checker;

use crate::{connect::Connect, dev::state::State};

const DEFAULT_FILE: &str = "freshline.toml";
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
    database: Option<String>,
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
        let dev = if connect.names_nodes() { None } else { State::running() };
        let (file, stack) = match (connect.config(), dev) {
            (Some(file), _) => (file.to_owned(), None),
            (None, Some(dev)) if dev.catalog.is_file() => (dev.catalog.clone(), Some(dev)),
            _ => (PathBuf::from(DEFAULT_FILE), None),
        };
        anyhow::ensure!(
            file.is_file(),
            "find the catalog and the database: there is no {}; name the nodes' configuration with --config",
            file.display()
        );
        let (catalog, mut database) = load(&file)?;
        if let Some(url) = &self.database {
            database.url = DatabaseUrl::new(url);
        } else if let Some(dev) = stack {
            database.url = DatabaseUrl::new(format!("sqlite:{}", dev.database.display()));
        }
        anyhow::ensure!(
            !database.url.expose().is_empty(),
            "find the database: {} has no [database] url; name it with --database",
            file.display()
        );
        let named = database.url.to_string();
        let loader = open(&database, &catalog).await?;
        Ok((Checker::new(client, loader, catalog), named))
    }
}

fn load(file: &Path) -> anyhow::Result<(Arc<Catalog>, Database)> {
    let read = |problems: Problems| anyhow::anyhow!("read the configuration:\n{problems}");
    let layers = Layers::load(Some(file)).map_err(read)?;
    let mut problems = Problems::default();
    let database: Database = layers.section("database", &mut problems);
    problems.into_result().map_err(read)?;
    let catalog = Catalog::parse(layers.file_name(), layers.text())
        .map_err(|report| anyhow::anyhow!("read the catalog:\n{report}"))?;
    Ok((Arc::new(catalog), database))
}

async fn open(database: &Database, catalog: &Arc<Catalog>) -> anyhow::Result<Arc<Loader>> {
    if let Some(path) = database.url.expose().strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        anyhow::ensure!(Path::new(path).is_file(), "open the database: there is no file {path}");
    }
    let database = Database { pool: database.pool.min(READS as u32), ..database.clone() };
    let source = loader::open(&database, catalog).context("open the database")?;
    tokio::time::timeout(PATIENCE, source.ready())
        .await
        .with_context(|| format!("reach {}: it did not answer within {PATIENCE:?}", database.url))?
        .map_err(|report| anyhow::anyhow!("run the catalog's queries against {}:\n{report}", database.url))?;
    let limits = Limits { max_fills: READS, ..Limits::from(&database) };
    Ok(Loader::new(source, limits, loader::Metrics::default()))
}
