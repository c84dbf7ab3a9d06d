//! What can be set.

use std::time::Duration;

use crate::{Connector, Metrics};

/// Which of the holders of a key's slot a client reads from first. The others are asked when that one fails, whatever is set here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// The owner: each key is in one node's memory as long as that node is there.
    #[default]
    Owner,
    /// The owner or a replica, of two taken at random the one that has fewer of this client's calls under way: the load of a hot key is
    /// shared by all its holders. A removal is delivered when all of them have applied it, so none serves anything older than another may.
    Any,
}

/// How calls are made.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a whole call may take, retries and pauses included. Nodes are told, and stop working on it too. Default 1 s.
    pub deadline: Duration,
    /// How long a node may say nothing at all, to this call or to any other, while a call waits for it. Halfway it is asked for a sign of
    /// life; without one it counts as unavailable, and another node is asked. So one that hangs costs this much of the deadline, and one
    /// whose database is slow, which says so, costs no second read of the database. Default 300 ms.
    pub silence: Duration,
    /// Whom to ask for a key first. Default the owner.
    pub read_from: ReadFrom,
    /// How often a call is tried again after its first attempt. Default 3.
    pub retries: u32,
    /// The first pause before a retry; it doubles each time, with jitter of the same size on top. Default 10 ms.
    pub backoff: Duration,
    /// The longest pause before a retry. Default 200 ms.
    pub max_backoff: Duration,
    /// How long opening a connection may take. Default 500 ms.
    pub connect_timeout: Duration,
    /// How often an idle connection is probed. Default 10 s.
    pub keep_alive: Duration,
    /// How long a probe may stay unanswered before the connection is given up. Default 5 s.
    pub keep_alive_timeout: Duration,
    /// After how many failures in a row to reach a node it is left alone for a while. Default 5.
    pub breaker_failures: u32,
    /// How long it is left alone before one call probes it. Default 1 s.
    pub breaker_cool_down: Duration,
    /// How often the ring is asked for when nothing hints at a change; only with seeds. Default 30 s.
    pub refresh: Duration,
    /// Most keys of one request; longer lists are split. Default 1000.
    pub batch: usize,
    /// The cluster's name: nodes of another one are not believed. Default: empty, which is the cluster of the first node that answers.
    pub cluster: String,
    /// How connections are opened. Default: TCP.
    pub connector: Option<Connector>,
    /// Where calls are counted. Not registered by default.
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(1),
            silence: Duration::from_millis(300),
            read_from: ReadFrom::Owner,
            retries: 3,
            backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(200),
            connect_timeout: Duration::from_millis(500),
            keep_alive: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            breaker_failures: 5,
            breaker_cool_down: Duration::from_secs(1),
            refresh: Duration::from_secs(30),
            batch: 1000,
            cluster: String::new(),
            connector: None,
            metrics: Metrics::default(),
        }
    }
}
