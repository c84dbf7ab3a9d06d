//! Simulated time, and who is running.

use std::{cell::Cell, fmt, str::FromStr};

/// Milliseconds since the simulation began.
pub(crate) type Millis = u64;

/// Somebody on the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Party {
    /// Keeps the members and their leases.
    Etcd,
    /// Keeps the log of changes, and who reads it.
    Kafka,
    /// Keeps the rows.
    Database,
    /// A cache node.
    Node(u8),
    /// An instance of the sync service.
    Sync(u8),
    /// A process of an application.
    Client(u8),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd => f.write_str("etcd"),
            Self::Kafka => f.write_str("kafka"),
            Self::Database => f.write_str("db"),
            Self::Node(number) => write!(f, "n{number}"),
            Self::Sync(number) => write!(f, "s{number}"),
            Self::Client(number) => write!(f, "c{number}"),
        }
    }
}

/// Nodes are all that anybody connects to by name: `n1`, or `n1:7400`.
impl FromStr for Party {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let name = name.split(':').next().unwrap_or_default();
        name.strip_prefix('n').and_then(|number| number.parse().ok()).map(Self::Node).ok_or(())
    }
}

thread_local! {
    static NOW: Cell<Millis> = const { Cell::new(0) };
    static RUNNING: Cell<Option<Party>> = const { Cell::new(None) };
}

/// The time everywhere but on hosts that are paused.
pub(crate) fn now() -> Millis {
    NOW.get()
}

/// Sets the time.
pub(crate) fn set(now: Millis) {
    NOW.set(now);
}

/// Whose code is running; `None` between hosts.
pub(crate) fn running() -> Option<Party> {
    RUNNING.get()
}

/// Notes whose code is running.
pub(crate) fn run_as(party: Option<Party>) {
    RUNNING.set(party);
}
