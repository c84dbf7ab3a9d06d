//! Real servers in containers, real Freshline processes beside them, and what the suites share.
//!
//! Read [`engine`] first (is there a container engine, and may the tests do without?), then [`stack`] (the servers) and [`cluster`]
//! (cache nodes and sync service). [`network`] gives processes hosts of their own whose links can be cut, and [`history`] judges what readers
//! saw. The suites are in `tests/tests`.

pub mod cluster;
pub mod engine;
pub mod history;
pub mod images;
pub mod network;
pub mod node;
pub mod port;
pub mod process;
pub mod server;
pub mod small;
pub mod sources;
pub mod stack;
pub mod wait;
