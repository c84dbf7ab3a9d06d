//! Freshline for applications: a cache that is kept true to its MySQL database.
//!
//! [`Client`] reads keys from the nodes. It knows who owns which key, asks another node when one fails, and tells how old an answer can be:
//!
//! ```no_run
//! # async fn read() -> Result<(), freshline::Error> {
//! let seeds = vec!["http://localhost:7400".to_owned()];
//! let client = freshline::Client::from_seeds(seeds, freshline::Config::default()).await?;
//! let answer = client.get("user:42").await?;
//! match answer.value {
//!     Some(json) => println!("{} bytes from {}", json.len(), answer.node),
//!     None => println!("no such row"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `node` a cache node runs inside the application (`freshline::node`), with `etcd` clients and nodes find each other there
//! (`freshline::etcd`). [`catalog`] reads and checks what is declared to be cached.

/// What values and tokens are made of.
pub use bytes::Bytes;
pub use catalog;
pub use client::{
    Answer, Client, Config, Error, Lifetime, LoadError, MAX_MESSAGE, Metrics, Only, Outcome, Put, ReadFrom,
    ReadOptions, Set, Written,
};

/// Who the members of a cluster are, and who holds which key.
pub mod ring {
    pub use ring::{Member, Membership, NodeId, Ring, fixed::Fixed, slot_of};
}

/// A cluster's members, followed in etcd: hand it to [`Client::from_membership`].
#[cfg(feature = "etcd")]
pub mod etcd {
    pub use ring::etcd::{EtcdMembership, Options};
}

/// A cache node inside the application.
///
/// Call [`end_on_panic`](node::end_on_panic) first: a node that went on without a part of itself might serve what nobody removes any more.
///
/// It is configured as the `cache-node` binary is, by a text or a file, and is the same code:
///
/// ```no_run
/// # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
/// freshline::node::end_on_panic();
/// let mut node = freshline::node::Settings::read("freshline.toml")?.start()?;
/// node.ready().await?;
/// let answer = node.get("user:42").await?;
/// # node.stop().await?;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "node")]
pub mod node {
    pub use cache_node::{Config, Error, Hop, Node, Running, Settings};
    pub use daemon::{
        config::{Layers, Problems},
        tasks::end_on_panic,
    };
}
