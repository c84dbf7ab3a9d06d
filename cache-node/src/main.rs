//! The `cache-node` binary.

use std::process::ExitCode;

use clap::Parser;
use daemon::cli::ConfigArgs;

/// A Freshline cache node.
#[derive(Debug, Parser)]
#[command(name = "cache-node", version, about)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    daemon::program::main::<cache_node::Settings>(&Args::parse().config)
}
