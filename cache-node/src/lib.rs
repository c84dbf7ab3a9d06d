//! A cache node: keeps values in memory, fills misses from the database, and drops what a change made stale.
//!
//! [`Node`] answers keys; [`Server`] puts it on the network; [`run`] is the whole process. An application embeds one by
//! [`Settings::start`], or gives it its [`Parts`] by itself.
//!
//! The path of a request: `node` looks into what is in [`memory`]; on a miss of a slot that it holds it fills (`fill`), on one that it does not
//! hold it asks the owner (`forward`). The gate is the only way into memory: it refuses what a removal, a flush or the loss of a slot has
//! overtaken, whatever the order in which things happened. `apply` is how changes reach a node; `membership` is how it follows the ring. When
//! that changes, values move: `departures` and `pull` give, `warm` takes.

mod copies;
pub mod resp;

mod account;
mod agreement;
mod answers;
mod apply;
mod aside;
mod batch;
mod config;
mod departures;
mod error;
mod explain;
mod fill;
mod forward;
mod heartbeat;
mod hot;
mod membership;
mod metrics;
mod mirror;
mod node;
mod plain;
mod pull;
mod replies;
mod run;
mod running;
mod scan;
mod serve;
mod stale;
mod stats;
mod switchover;
mod warm;

pub use config::{Config, Fenced};
pub use error::Error;
pub use memory::store::Eviction;
pub use node::{Hop, Node, Parts};
pub use run::{Settings, run};
pub use running::Running;
pub use serve::{Server, serve_connections};
