//! The `cache-node` binary: arguments, configuration, exit code.

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
    let args = Args::parse();
    let layers = match args.config.load() {
        Ok(layers) => layers,
        Err(problems) => return refuse(&problems),
    };
    let settings = match cache_node::Settings::load(&layers) {
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
            eprintln!("cache-node: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(settings: cache_node::Settings) -> anyhow::Result<()> {
    daemon::telemetry::init(&settings.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { settings.run(daemon::shutdown::token()).await })
}

fn refuse(problems: &daemon::config::Problems) -> ExitCode {
    eprintln!("cache-node: the configuration is not fit to run on\n{problems}");
    ExitCode::from(2)
}
