//! Follows the members: reads once, then watches from the next revision on.

use std::sync::Arc;

use etcd_client::{GetOptions, WatchOptions, WatchStream};
use tokio::time::sleep;
use tracing::{error, info};

use super::Shared;
use super::link::{self, CALL};
use super::outage::Outage;
use super::view::Entry;
use crate::Error;

/// Why a watch ended.
enum End {
    /// etcd has forgotten the revision that we were to go on from: everything must be read again.
    Compacted,
    Broken(Error),
}

/// Follows the members for ever. Safe to drop at any point: the view is changed in one step.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut outage = Outage::new("following the members", shared.link.endpoints());
    let mut read_first = true;
    let mut told_that_history_went_back = false;
    loop {
        match follow_once(&shared, read_first, &mut outage).await {
            End::Compacted => {
                info!(
                    revision = shared.view.lock().known(),
                    "etcd compacted the changes that were to come next; reading all members"
                );
                read_first = true;
            }
            End::Broken(error) => {
                if matches!(error, Error::WentBack { .. })
                    && !std::mem::replace(&mut told_that_history_went_back, true)
                {
                    error!(%error, "the members can't be followed any more");
                }
                read_first = shared.view.lock().known() == 0;
                sleep(outage.failed(&error)).await;
            }
        }
    }
}

/// Follows the members until the watch ends. After a broken watch it goes on from the revision that it knows, without a read, so that each
/// change keeps the epoch that it happened at.
async fn follow_once(shared: &Shared, read_first: bool, outage: &mut Outage) -> End {
    let begun = if read_first { shared.read().await.map(|_| ()) } else { same_history(shared).await };
    let known = shared.view.lock().known();
    let stream = match begun {
        Ok(()) => open(shared, known + 1).await,
        Err(error) => return End::Broken(error),
    };
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => return End::Broken(error),
    };
    loop {
        let broken = |reason: String| {
            End::Broken(Error::Unavailable { endpoints: shared.link.endpoints().to_owned(), reason })
        };
        // No time limit: silence means that nothing changes. The connection is probed, and a node that hears nothing is protected by its lease.
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return broken("the watch ended".to_owned()),
            Err(error) => return broken(format!("the watch broke: {}", link::CallError::Etcd(error))),
        };
        if message.compact_revision() > 0 {
            return End::Compacted;
        }
        if message.canceled() {
            return broken(format!("the watch was refused: {}", message.cancel_reason()));
        }
        outage.over();
        if message.created() {
            continue;
        }
        if message.events().is_empty() {
            // The header of any other message tells how far etcd is, not how far this watch is.
            shared.update(|view| view.progress(link::revision(message.header())));
            continue;
        }
        let events =
            message.events().iter().filter_map(|event| Entry::of_event(&shared.prefix, event)).collect();
        shared.update(|view| view.events(events));
    }
}

/// Fails if etcd is behind what we know. It would accept a watch from a revision that it has not reached, and be silent.
async fn same_history(shared: &Shared) -> Result<(), Error> {
    let known = shared.view.lock().known();
    let options = GetOptions::new().with_prefix().with_count_only();
    let answer = shared
        .link
        .call("ask for the revision", async |client| {
            client.kv_client().get(&*shared.prefix, Some(options)).await
        })
        .await?;
    shared.check_history(known, link::revision(answer.header()))
}

async fn open(shared: &Shared, revision: u64) -> Result<WatchStream, Error> {
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    let options = WatchOptions::new().with_prefix().with_start_revision(revision).with_progress_notify();
    let opened = shared
        .link
        .try_call(CALL, async |client| client.watch_client().watch(&*shared.prefix, Some(options)).await)
        .await;
    opened.map_err(|error| shared.link.unavailable("watch the members", &error))
}
