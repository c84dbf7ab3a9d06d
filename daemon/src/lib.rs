//! What every long-running binary of Freshline needs: layered configuration, telemetry, the admin port and bounded shutdown.
//!
//! A binary is a [`program::Program`]: [`cli::ConfigArgs`] loads [`config::Layers`], the binary takes its sections from
//! them, [`telemetry::init`] starts logging, [`bind`] holds every port before any work, and [`shutdown::signal`] tells
//! when to stop. [`connections`] are taken within [`files`], what a process may have open. [`tasks`] is about what ends by itself.

pub mod admin;
mod bind;
pub mod cli;
pub mod config;
pub mod connections;
pub mod files;
pub mod http;
pub mod metrics;
mod paced;
pub mod program;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;

pub use bind::bind;
pub use paced::Paced;
