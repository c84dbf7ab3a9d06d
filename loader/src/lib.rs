//! Fills a miss: reads the current row of a key from the database and renders it as JSON.
//!
//! A [`Loader`] stands between a node's misses and a [`RowSource`]. It keeps the node's budget of concurrent database reads,
//! loads concurrent misses of one group together, and bounds every wait. Sources are MySQL ([`mysql`]), SQLite for the
//! embedded stack ([`sqlite`]) and a map for tests ([`memory`]). Beside fills it writes [`Heartbeat`] rows for the sync service.
//!
//! What the freshness protocol needs of this crate: **a database read begins after the [`Loader::load`] that it answers.** A
//! key never joins a query that was already sent, and nothing is kept between loads.

pub mod memory;
pub mod mysql;
pub mod sqlite;

mod assign;
mod breaker;
mod budget;
mod cell;
mod error;
mod fills;
mod heartbeat;
mod lanes;
mod loaded;
mod metrics;
mod plan;
mod server;
mod source;

use std::sync::Arc;

use catalog::Catalog;
use daemon::config::Database;

pub use breaker::BreakerLimits;
pub use error::Error;
pub use fills::{Limits, Loader};
pub use heartbeat::Heartbeat;
pub use loaded::{Loaded, Untagged};
pub use metrics::Metrics;
pub use server::Server;
pub use source::RowSource;

/// Opens the database of `config`, by the scheme of its URL: `mysql://..` or `sqlite:path`.
///
/// Connects to nothing yet; await [`RowSource::ready`] before keys are served.
pub fn open(config: &Database, catalog: &Arc<Catalog>) -> Result<Arc<dyn RowSource>, Error> {
    match config.url.expose().strip_prefix("sqlite:") {
        Some(path) => Ok(sqlite::Sqlite::open(path.strip_prefix("//").unwrap_or(path), catalog)?),
        None => Ok(mysql::Mysql::connect(config, catalog)?),
    }
}
