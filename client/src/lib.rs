//! Reaches the node that owns a key: routing, batching, deadlines, retries, a breaker per node.
//!
//! [`Client`] is what applications and tools use. It knows the ring, by watching the membership or by asking any node for it, and sends
//! each key to its owner; when a node fails, another one is asked, which forwards. [`Peers`] is what nodes and the sync service use among
//! themselves: one call to one member, no retries of its own.
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

mod answer;
mod aside;
mod attempts;
mod breaker;
mod calls;
mod config;
mod connector;
mod error;
mod explanation;
mod history;
mod hot;
pub mod identity;
mod link;
mod metrics;
mod options;
mod peers;
mod plain;
mod pull;
mod routes;
mod scan;
mod stats;
mod watermark;
mod wire;

pub use answer::{Answer, Outcome};
pub use aside::{LoadError, Set};
pub use calls::Client;
pub use config::{Config, MAX_MESSAGE, ReadFrom};
pub use connector::{Connecting, Connection, Connector};
pub use error::Error;
pub use explanation::{EntryState, Event, Explanation, Removal};
pub use history::{Compared, History, Moment, Unreachable};
pub use hot::{HotKey, HotKeys, Merged, Mirrored};
pub use metrics::Metrics;
pub use options::ReadOptions;
pub use peers::{Ack, Apply, Peers};
pub use plain::{HolderToken, Kept, Lifetime, Only, Ordered, Put, Write, Written};
pub use pull::{Announcement, Of, Pull, Pulled, Wanted};
pub use scan::{Held, Page, Scan};
pub use stats::{GroupStats, NodeStats};
pub use watermark::{Clock, Heartbeat, HeartbeatReply, PartitionName, Watermark, Watermarks};
pub use wire::ring_reply;
