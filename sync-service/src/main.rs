//! The `sync-service` binary: arguments, configuration, exit code.

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
    let args = Args::parse();
    let layers = match args.config.load() {
        Ok(layers) => layers,
        Err(problems) => return refuse(&problems),
    };
    let settings = match sync_service::Settings::load(&layers) {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    if args.config.print_config {
        print!("{}", settings.effective());
        return ExitCode::SUCCESS;
    }
    if args.config.check_config {
        println!("the configuration is fit to run on");
        return ExitCode::SUCCESS;
    }
    match start(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sync-service: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(settings: sync_service::Settings) -> anyhow::Result<()> {
    daemon::telemetry::init(&settings.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { settings.run(daemon::shutdown::token()).await })
}

fn refuse(problems: &daemon::config::Problems) -> ExitCode {
    eprintln!("sync-service: the configuration is not fit to run on\n{problems}");
    ExitCode::from(2)
}
