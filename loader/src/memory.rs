//! A [`RowSource`] in memory, for unit tests: rows in a map, and a gate that holds a load between its read and its answer.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use catalog::{Group, Key};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{Error, Loaded, RowSource, Server, Untagged};

/// Rows by key text. Cheap to clone; clones share everything.
///
/// [`hold`](Self::hold) makes loads stop after they have read their rows: `reached` is notified, and each held load goes on with
/// what it read when `release` is notified.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    shared: Arc<Shared>,
    /// Notified once for each load that was held.
    pub reached: Arc<Notify>,
    /// Lets one held load go on.
    pub release: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Shared {
    rows: Mutex<HashMap<String, Loaded>>,
    failure: Mutex<Option<Error>>,
    calls: Mutex<Vec<Vec<String>>>,
    holding: AtomicBool,
    single: AtomicBool,
    server: watch::Sender<Server>,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

impl Memory {
    /// An empty database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the row of a key, as the JSON that a load answers.
    pub fn put(&self, key: &str, json: impl Into<Bytes>) {
        self.put_tagged(key, json, &[]);
    }

    /// Sets the row of a key, and the tags that a load makes of it.
    pub fn put_tagged(&self, key: &str, json: impl Into<Bytes>, tags: &[&str]) {
        let tags = Ok(tags.iter().map(|tag| Arc::from(*tag)).collect());
        self.shared.rows.lock().insert(key.to_owned(), Loaded { value: Some(json.into()), tags });
    }

    /// Has the tags of a key's row not be told.
    pub fn put_untagged(&self, key: &str, json: impl Into<Bytes>, why: Untagged) {
        self.shared.rows.lock().insert(key.to_owned(), Loaded { value: Some(json.into()), tags: Err(why) });
    }

    /// Deletes the row of a key.
    pub fn delete(&self, key: &str) {
        self.shared.rows.lock().remove(key);
    }

    /// Makes every load from now on fail, until `None` is set.
    pub fn fail(&self, error: Option<Error>) {
        *self.shared.failure.lock() = error;
    }

    /// Holds loads from now on, or no more. Loads that are held already still wait for `release`.
    pub fn hold(&self, hold: bool) {
        self.shared.holding.store(hold, Ordering::SeqCst);
    }

    /// Makes [`RowSource::batches`] answer `false`.
    pub fn load_singly(&self) {
        self.shared.single.store(true, Ordering::SeqCst);
    }

    /// Says that the server behind it is another one now.
    pub fn switch(&self) {
        self.shared.server.send_modify(|server| server.switches += 1);
    }

    /// Says how long its changes are in the stream before they are seen.
    pub fn hide_for(&self, unseen_for: Duration) {
        self.shared.server.send_modify(|server| server.unseen_for = unseen_for);
    }

    /// The keys of every load so far, in the order in which the loads began.
    pub fn calls(&self) -> Vec<Vec<String>> {
        self.shared.calls.lock().clone()
    }

    /// The most loads that ran at one time.
    pub fn most_running(&self) -> usize {
        self.shared.most_running.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl RowSource for Memory {
    fn batches(&self, _group: &Group) -> bool {
        !self.shared.single.load(Ordering::SeqCst)
    }

    fn server(&self) -> watch::Receiver<Server> {
        self.shared.server.subscribe()
    }

    async fn load(&self, _group: &Arc<Group>, keys: &[Key]) -> Result<Vec<Loaded>, Error> {
        let shared = &self.shared;
        let _running = Running::start(shared);
        shared.calls.lock().push(keys.iter().map(|key| key.text.to_string()).collect());
        let rows = {
            let rows = shared.rows.lock();
            keys.iter().map(|key| rows.get(&*key.text).cloned().unwrap_or_else(|| None.into())).collect()
        };
        let failure = shared.failure.lock().clone();
        if shared.holding.load(Ordering::SeqCst) {
            let mut released = std::pin::pin!(self.release.notified());
            released.as_mut().enable(); // in the queue before anybody knows: loads go on in the order in which they were held
            self.reached.notify_one();
            released.await;
        }
        failure.map_or(Ok(rows), Err)
    }
}

struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn start(shared: &'a Shared) -> Self {
        let now = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_running.fetch_max(now, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
