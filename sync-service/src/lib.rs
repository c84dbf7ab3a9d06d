//! The sync service: follows the database's change stream and removes from the cache exactly what a change makes stale.
//!
//! `source -> decode -> map -> deliver`, with a bounded queue between each two. [`source`] reads batches of messages from
//! Kafka; [`decode`] borrows the needed columns from them; a catalog's rules map rows to keys; [`deliver`] sends the keys
//! to everybody who may hold them and waits until all have acknowledged. Only then does [`offsets`] let the messages'
//! offsets be committed: what a crash leaves uncommitted is delivered again, and removals may be repeated.

pub mod beats;
pub mod config;
pub mod decode;
pub mod deliver;
mod map;
mod metrics;
pub mod offsets;
pub mod replay;
mod run;
mod service;
pub mod source;
pub mod verify;
pub mod watermarks;

pub use run::{Settings, run};
pub use service::{Delivered, Service};
