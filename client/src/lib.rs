//! Reaches the node that owns a key: routing, batching, deadlines, retries, a breaker per node.
//!
//! [`Client`] is what applications and tools use. It knows the ring, by watching the membership or by asking any node for it, and sends
//! each key to its owner; when a node fails, another one is asked, which forwards. [`Peers`] is what nodes and the sync service use among
//! themselves: one call to one member, no retries of its own. What they say to each other is the vocabulary of [`wire`].
//!
//! ```no_run
//! # async fn read() -> Result<(), client::Error> {
//! let client = client::Client::from_seeds(vec!["http://node-1:7400".to_owned()], client::Config::default()).await?;
//! let answer = client.get("user:42").await?;
//! match answer.value {
//!     Some(json) => println!("{} from {} after {:?}", json.len(), answer.node, answer.age),
//!     None => println!("no such row"),
//! }
//! # Ok(())
//! # }
//! ```

mod aside;
mod attempts;
mod breaker;
mod calls;
mod config;
mod connector;
mod error;
mod history;
mod hot;
pub mod identity;
mod link;
mod metrics;
mod peers;
mod plain;
mod replies;
mod routes;

pub use aside::LoadError;
pub use calls::Client;
pub use config::{Config, ReadFrom};
pub use connector::{Connecting, Connection, Connector};
pub use error::Error;
pub use history::{Compared, History, Moment, Unreachable};
pub use metrics::Metrics;
pub use peers::Peers;
// The words that calls and their answers are made of.
pub use wire::{
    Ack, Announcement, Answer, Apply, Clock, EntryState, Event, Explanation, GroupStats, Heartbeat,
    HeartbeatReply, Held, HolderToken, HotKey, HotKeys, Kept, Lifetime, MAX_MESSAGE, Merged, Mirrored,
    NodeStats, Of, Only, Ordered, Outcome, Page, PartitionName, Pull, Pulled, Put, ReadOptions, Removal,
    Scan, Set, Wanted, Watermark, Watermarks, Write, Written,
};
