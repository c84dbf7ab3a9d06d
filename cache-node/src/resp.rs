//! Redis clients: RESP2 and RESP3, with the ring told as a Redis Cluster (`docs/redis.md`).
//!
//! A room of its own: [`codec`] understands requests and `reply` writes replies; `connection` moves bytes, `session` is what a connection
//! is to the node, `table` lists the commands, which are carried out by family in `reads`, `keys`, `transaction`, `server`, `client`, `cluster`,
//! and, for tools, in `info`, `commands`, `listing` and `tools`.
//! `topology` is the ring in Redis's words. `tracking` is about what clients keep in memories of their own.
//!
//! Requests of one connection are answered in their order. Hits are answered where they are read, without a wait; the misses of
//! pipelined requests wait together, and all replies of what was read at once are written at once. Replies that a client does not take are
//! kept in the connection's output, as one stream with what it is to be told; `flow` says how many.

#![expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "lengths and numbers of connections are small"
)]

pub mod codec;

mod client;
mod clients;
mod cluster;
mod commands;
mod connection;
mod error;
mod flow;
mod glob;
mod info;
#[cfg(test)]
mod interleavings;
mod keys;
mod listing;
mod metrics;
mod ops;
mod pace;
mod parts;
mod reads;
mod reply;
mod routes;
mod server;
mod session;
mod table;
mod tokens;
mod tools;
mod topology;
mod tracking;
mod transaction;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use daemon::{Paced, connections::Connections};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    clients::{Client, Clients},
    metrics::Metrics,
    tracking::{Post, Tracking},
};
use crate::{config::Config, node::Node};

/// How often the lease is looked at for clients that hold values, and a part of the table for what has expired. Far less than the
/// margin that a lease is counted with.
const TICK: Duration = Duration::from_millis(32);

/// In which so many lines of a kind are logged.
const PACE: Duration = Duration::from_secs(10);

/// What a node knows of its Redis clients.
#[derive(Debug)]
pub(crate) struct Resp {
    clients: Clients,
    tracking: Tracking,
    topology: topology::Cache,
    metrics: Metrics,
    pace: pace::Pace,
    /// Bytes that all clients together may have the node hold.
    most: usize,
    /// Of clients that were closed: a caller can have that happen at any rate.
    told_slow: Paced,
    told_evicted: Paced,
    told_attacks: Paced,
    /// Where this node serves, should the ring not say.
    address: parking_lot::Mutex<String>,
}

impl Resp {
    pub(crate) fn register(config: &Config, registry: &mut Registry) -> Self {
        Self {
            clients: Clients::default(),
            tracking: Tracking::new(config.tracking_keys, config.tracking_queue),
            topology: topology::Cache::default(),
            metrics: Metrics::register(registry),
            pace: pace::Pace::default(),
            most: usize::try_from(config.resp_memory.0).unwrap_or(usize::MAX),
            told_slow: Paced::new(10, PACE),
            told_evicted: Paced::new(10, PACE),
            told_attacks: Paced::new(10, PACE),
            address: parking_lot::Mutex::default(),
        }
    }

    /// A key was removed, or is set anew: clients that hold it are told. To be called once no reader gets the old value any more,
    /// and before the removal is acknowledged.
    pub(crate) fn removed(&self, key: &str) {
        if self.clients.trackers() > 0 {
            self.tracking.removed(self.post(), key);
        }
    }

    /// All keys of a group are invalid, or may be: it was flushed, or something that its entries are tagged with has changed.
    pub(crate) fn invalidated_group(&self, group: u16) {
        if self.clients.trackers() > 0 {
            self.tracking.removed_where(self.post(), |place| place.group == group);
        }
    }

    /// Slots were lost: nobody tells this node of their removals any more.
    pub(crate) fn slots_lost(&self, holds: impl Fn(u16) -> bool) {
        if self.clients.trackers() > 0 {
            self.tracking.removed_where(self.post(), |place| !holds(place.slot));
        }
    }

    /// Nothing that clients hold by this node can be vouched for.
    pub(crate) fn invalidated_all(&self) {
        if self.clients.trackers() > 0 {
            self.tracking.removed_all(self.post());
        }
    }

    /// Notes how much a client's requests and replies hold; if all of them hold too much, who holds most is closed.
    fn holds(&self, client: &Client, bytes: usize) {
        if self.clients.hold(client, bytes) <= self.most {
            return;
        }
        for (evicted, held) in self.clients.evict(self.most) {
            self.metrics.memory_evictions.inc();
            if let Some(untold) = self.told_evicted.due() {
                tracing::warn!(
                    client = evicted.id, address = %evicted.address, held, limit = self.most, untold,
                    "a Redis client was closed: all together held more than node.resp_memory, and it most"
                );
            }
        }
    }

    /// A client takes no replies, and so many wait for it already: its connection ends.
    fn overflowed(&self, client: &Client, waiting: usize) {
        self.metrics.output_overflows.inc();
        if let Some(untold) = self.told_slow.due() {
            tracing::warn!(
                client = client.id, address = %client.address, waiting, untold,
                "a Redis client was closed: it takes no replies, and as many wait as may (node.resp_output_limit)"
            );
        }
    }

    /// A client speaks HTTP: its connection ends.
    fn attacked(&self, client: &Client) {
        self.metrics.cross_protocol.inc();
        if let Some(untold) = self.told_attacks.due() {
            tracing::warn!(
                client = client.id, address = %client.address, untold,
                "possible SECURITY ATTACK: somebody sends HTTP (POST or Host:) to the port of Redis clients, as a web page does that wants \
                 commands carried out; the connection was closed"
            );
        }
    }

    fn post(&self) -> Post<'_> {
        Post { clients: &self.clients, metrics: &self.metrics }
    }
}

/// Serves Redis clients until `close`, then until those that are served have their replies; the caller bounds that.
///
/// Dropping the future takes no new connections; those that are open are served on until `close`.
pub(crate) async fn serve(
    listener: TcpListener,
    taken: Connections,
    node: Arc<Node>,
    close: CancellationToken,
) -> anyhow::Result<()> {
    *node.resp.address.lock() = listener.local_addr().context("read the bound RESP port")?.to_string();
    let connections = TaskTracker::new();
    let watch = watch(&node);
    let accept = async {
        loop {
            let (stream, address) = taken.accept_any(&listener).await;
            connections.spawn(connection::run(node.clone(), stream, address, close.clone()));
        }
    };
    tokio::select! { // what is dropped takes no more connections
        () = close.cancelled() => {}
        () = async { tokio::join!(accept, watch); } => {}
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Tells clients to forget all when the lease is over, and each key when its entry has expired; drops clients that are gone from the table.
async fn watch(node: &Node) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut live, mut part) = (node.life.live(), 0);
    loop {
        ticks.tick().await;
        let resp = &node.resp;
        let lives = node.life.live();
        if live && !lives {
            resp.invalidated_all();
        }
        live = lives;
        if resp.tracking.keys() > 0 {
            resp.tracking.tidy(resp.post(), part, Instant::now());
            part = (part + 1) % resp.tracking.parts();
        }
        let metrics = &resp.metrics;
        resp.pace.look(|| [metrics.all_commands(), metrics.received.get(), metrics.sent.get()]);
        resp.metrics.memory.set(resp.clients.held() as u64);
        resp.metrics.tracked.set(resp.tracking.keys());
        resp.metrics.registrations.set(resp.tracking.registrations());
    }
}
