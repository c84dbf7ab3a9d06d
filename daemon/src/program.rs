//! What the `main` of every long-running binary does: configuration, telemetry, runtime, exit code.

use std::{
    fmt,
    future::Future,
    io::{self, Write as _},
    process::ExitCode,
};

use tokio_util::sync::CancellationToken;

use crate::{
    cli::ConfigArgs,
    config::{Layers, Problems, Telemetry},
    shutdown, tasks, telemetry,
};

/// A binary, from its checked settings to its end.
pub trait Program: Sized {
    /// The binary's name, as its messages give it.
    const NAME: &'static str;

    /// Reads and checks all sections that the binary uses; reports everything that is wrong at once.
    fn load(layers: &Layers) -> Result<Self, Problems>;

    /// The settings in effect, secrets hidden, as TOML.
    fn effective(&self) -> impl fmt::Display;

    /// How it logs.
    fn telemetry(&self) -> &Telemetry;

    /// Works until `stop`. An error is a verb phrase: it is printed after "failed to".
    fn run(self, stop: CancellationToken) -> impl Future<Output = anyhow::Result<()>>;
}

/// Runs a program: exit code 0 after an orderly stop, 1 after a failure, 2 for a configuration that is not fit to run on.
///
/// A panic of any part ends the process ([`tasks::end_on_panic`]), with exit code 101.
pub fn main<P: Program>(args: &ConfigArgs) -> ExitCode {
    tasks::end_on_panic();
    let program = match args.load().and_then(|layers| P::load(&layers)) {
        Ok(program) => program,
        Err(problems) => {
            eprintln!("{}: the configuration is not fit to run on\n{problems}", P::NAME);
            return ExitCode::from(2);
        }
    };
    if args.print_config {
        return said(&program.effective().to_string());
    }
    if args.check_config {
        return said("the configuration is fit to run on\n");
    }
    match start(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: failed to {error:#}", P::NAME);
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output. A reader that has seen enough, such as `head`, is no failure, and no panic.
fn said(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("failed to write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn start<P: Program>(program: P) -> anyhow::Result<()> {
    telemetry::init(program.telemetry())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { program.run(shutdown::token()).await })
}
