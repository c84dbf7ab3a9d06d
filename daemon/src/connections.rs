//! The connections of one port: how many there are, who has to go when there are too many, and how long they may keep others waiting.
//!
//! Whoever opens connections and says nothing takes from all others: descriptors, memory, tasks. So their number is bounded; the one that has
//! been silent for longest makes room for a new one, and one that takes nothing of what is written to it ends. Dead peers are found by
//! TCP keep-alive.

mod connection;
mod seats;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::net::{TcpListener, TcpStream};

pub use self::connection::Connection;
use self::seats::{Seats, Taken};
use crate::Paced;

/// After how long without a byte the system asks a peer whether it is still there, and how often until it is given up.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_mins(1), Duration::from_secs(15), 3);
/// How long accepting pauses after an error that the next attempt would meet as well, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How the connections of a port are kept.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many there may be at a time.
    pub most: usize,
    /// The setting that says so, for messages: `node.http_connections`.
    pub field: &'static str,
    /// How long a peer may take to send its first bytes, and then to take any of what is written to it.
    pub patience: Duration,
    /// How many bytes a peer has to send within `patience`, before it may be silent for as long as it likes.
    pub greeting: usize,
}

/// What the connections of all ports of a process are counted by.
#[derive(Debug, Clone)]
pub struct Metrics {
    open: Family<Port, Gauge>,
    accepted: Family<Port, Counter>,
    ended: Family<Ended, Counter>,
    failed: Family<Port, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Port {
    port: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    port: &'static str,
    reason: &'static str,
}

impl Metrics {
    /// Counts nothing that is shown yet.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            open: Family::default(),
            accepted: Family::default(),
            ended: Family::default(),
            failed: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("connections");
        registry.register("open", "Connections of a port", metrics.open.clone());
        registry.register("accepted", "Connections taken", metrics.accepted.clone());
        registry.register(
            "ended",
            "Connections that the process ended: too many (idle, or refused if none was), too slow to begin, or not taking replies",
            metrics.ended.clone(),
        );
        registry.register(
            "accept_failed",
            "Connections that could not be taken, most often for want of descriptors",
            metrics.failed.clone(),
        );
        metrics
    }
}

/// One port's connections. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    seats: Seats,
    open: Gauge,
    accepted: Counter,
    crowded: Counter,
    refused: Counter,
    late: Counter,
    stalled: Counter,
    failed: Counter,
    told: Paced,
    told_failed: Paced,
}

impl Connections {
    /// For the port that metrics and messages call `port`: `grpc`.
    pub fn new(port: &'static str, limits: Limits, metrics: &Metrics) -> Self {
        let ended = |reason| metrics.ended.get_or_create(&Ended { port, reason }).clone();
        let port = Port { port };
        Self(Arc::new(Shared {
            seats: Seats::new(limits.most),
            limits,
            open: metrics.open.get_or_create(&port).clone(),
            accepted: metrics.accepted.get_or_create(&port).clone(),
            crowded: ended("idle"),
            refused: ended("refused"),
            late: ended("late"),
            stalled: ended("stalled"),
            failed: metrics.failed.get_or_create(&port).clone(),
            told: Paced::new(1, Duration::from_secs(10)),
            told_failed: Paced::new(1, Duration::from_secs(10)),
        }))
    }

    /// Takes the next connection; tries for ever. Dropping the future loses none.
    pub async fn accept(&self, listener: &TcpListener) -> (Connection, SocketAddr) {
        loop {
            let (stream, address) = self.accept_any(listener).await;
            if let Some(connection) = self.admit(stream) {
                return (connection, address);
            }
        }
    }

    /// Takes the next connection without a place for it, for a port that refuses what is too much in its own words; tries for ever, with
    /// pauses. Dropping the future loses none.
    pub async fn accept_any(&self, listener: &TcpListener) -> (TcpStream, SocketAddr) {
        let shared = &self.0;
        let mut pause = PAUSES.0;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    prepare(&stream);
                    return (stream, address);
                }
                Err(error) if is_of_one(&error) => {}
                Err(error) => {
                    shared.failed.inc();
                    if let Some(untold) = shared.told_failed.due() {
                        tracing::warn!(
                            %error, untold, open = shared.seats.taken(), limit = shared.limits.field,
                            "a connection could not be taken: raise the limit of open files, or lower the limits of connections"
                        );
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Gives a connection its place, or another one's; none if all others are at work.
    fn admit(&self, stream: TcpStream) -> Option<Connection> {
        let shared = &self.0;
        let (seat, made_room) = match shared.seats.take() {
            Taken::Free(seat) => (seat, false),
            Taken::Of(seat) => (seat, true),
            Taken::None => {
                shared.refused.inc();
                self.tell_crowded("new ones are refused, for all others are in use");
                return None;
            }
        };
        if made_room {
            shared.crowded.inc();
            self.tell_crowded("the one that was silent for longest ends for each new one");
        }
        shared.accepted.inc();
        shared.open.inc();
        Some(Connection::new(stream, seat, shared.clone()))
    }

    fn tell_crowded(&self, what: &str) {
        let shared = &self.0;
        if let Some(untold) = shared.told.due() {
            tracing::warn!(
                limit = shared.limits.most,
                field = shared.limits.field,
                untold,
                "too many connections: {what}"
            );
        }
    }
}

fn prepare(stream: &TcpStream) {
    let keep = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE.0)
        .with_interval(KEEPALIVE.1)
        .with_retries(KEEPALIVE.2);
    // A socket that takes no option still works.
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keep);
    let _ = stream.set_nodelay(true);
}

/// Whether an error of accepting is of the one connection alone: its peer had gone.
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests;
