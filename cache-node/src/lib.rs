//! A cache node: keeps values in memory, fills misses from the database, and drops what a change made stale.
//!
//! [`Node`] answers keys; [`Server`] puts it on the network; [`run`] is the whole process. An application embeds one by
//! [`Settings::start`], or gives it its [`Parts`] by itself.
//!
//! The path of a request: `node` looks into the [`store`] through the [`gate`]; on a miss of a slot that it holds
//! ([`slots`]) it fills (`fill`, `flight`), on one that it does not hold it asks the owner (`forward`). The gate is the
//! only way into the store: it refuses what a removal, a flush or the loss of a slot has overtaken, whatever the order
//! in which things happened. `life` says whether the node may speak for its memory at all; `apply` is how changes
//! reach it, and `watermarks` say how far that has come; `membership` is how it follows the ring. When that changes,
//! values move: `departures` and `pull` give, `warm` takes.

pub mod compress;
mod copies;
pub mod gate;
pub mod place;
pub mod protocol;
pub mod recorder;
pub mod resp;
pub mod slots;
pub mod store;

mod account;
mod agreement;
mod apply;
mod aside;
mod batch;
mod config;
mod departures;
mod error;
mod explain;
mod fill;
mod flight;
mod forward;
mod heartbeat;
mod hot;
mod life;
mod membership;
mod memory;
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
mod watermarks;

pub use config::{Config, Fenced};
pub use error::Error;
pub use node::{Hop, Node, Parts};
pub use run::{Settings, run};
pub use running::Running;
pub use serve::{Server, serve_connections};
pub use store::{Cause, Eviction};
