//! The `freshline` command: the embedded stack, and tools that talk to running nodes.
//!
//! [`main`] is all that the binary does; the crate is a library so that its parts are tested where they stand.

mod cli;
mod commands;
mod connect;
mod dev;
mod lines;
mod output;
mod progress;
mod rows;
mod setup;
mod shell;
mod sqlite;

use std::process::ExitCode;

use clap::CommandFactory;

/// Runs the command line and returns what the process exits with: 0 done, 1 failed, 2 not understood.
pub fn main() -> ExitCode {
    daemon::tasks::end_on_panic();
    let cli = match cli::parse(cli::Cli::command(), std::env::args_os()) {
        Ok(cli) => cli,
        // Help and version too.
        Err(error) => error.exit(),
    };
    let output = output::Output::new(cli.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&format!("failed to start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli::run(cli.command, &output));
    // A blocking call may still wait for a socket or a file; nothing that it does matters any more.
    runtime.shutdown_background();
    match ended {
        Ok(cli::Ended::Done) => ExitCode::SUCCESS,
        Ok(cli::Ended::Failed) => ExitCode::FAILURE,
        Err(error) => {
            output.error(&format!("failed to {error:#}"));
            ExitCode::FAILURE
        }
    }
}
