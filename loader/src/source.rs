use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Group, Key, Report};
use daemon::admin::Warnings;
use tokio::sync::watch;

use crate::{Error, Loaded, Server};

/// Where the row of a missing key comes from.
#[async_trait]
pub trait RowSource: Send + Sync + 'static {
    /// Whether one call of [`load`](Self::load) may carry several keys of `group` at the cost of about one query.
    fn batches(&self, _group: &Group) -> bool {
        true
    }

    /// Waits until the database answers and the catalog's queries are checked; `Err` has every problem of every group.
    ///
    /// A database that is down is asked again with backoff, and the log says which one is waited for.
    async fn ready(&self) -> Result<(), Report> {
        Ok(())
    }

    /// Checks the catalog's queries now: all problems at once, errors and warnings. Fails only if the database can't be asked.
    async fn check(&self) -> Result<Report, Error> {
        Ok(Report::default())
    }

    /// What is known of the server behind it, and each change of that; nothing ever, by default.
    fn server(&self) -> watch::Receiver<Server> {
        watch::channel(Server::default()).1
    }

    /// What a person should know of it, for `/readyz`.
    fn warnings(&self) -> Warnings {
        Warnings::new()
    }

    /// Looks after the server for as long as it is polled, so that [`server`](Self::server) is true also while nothing is read. Never returns.
    async fn attend(&self) {
        std::future::pending::<()>().await;
    }

    /// Reads the current rows of `keys`, all of `group`, from the primary.
    ///
    /// Answers in the order of `keys`, one for each: a JSON object (or an array of them, for a group with many rows), or `None`
    /// where there is no such row; with the tags of its rows, if the group has tags. The read begins after the call and sees everything that was committed before it.
    ///
    /// Dropping the future is safe: the read is abandoned, and nothing of it reaches a later caller.
    async fn load(&self, group: &Arc<Group>, keys: &[Key]) -> Result<Vec<Loaded>, Error>;
}
