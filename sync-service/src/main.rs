//! The `sync-service` binary.

use std::process::ExitCode;

use clap::Parser;
use daemon::cli::ConfigArgs;

/// Freshline's sync service: follows the database's changes and removes what they make stale.
#[derive(Debug, Parser)]
#[command(name = "sync-service", version, about)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    daemon::program::main::<sync_service::Settings>(&Args::parse().config)
}
