//! Side-by-side measurements: `cargo run --release -p freshline-bench` lists them, `... -- NAME` runs one.
//!
//! Each sets up what it compares with, in the same run and on the same cores, bounds its time, and prints a Markdown table that ends in
//! lines `ratio NAME VALUE`.

mod abuse;
mod catalog_file;
mod codec;
mod compression;
mod constant;
mod core;
mod decode;
mod delay;
mod follower;
mod get;
mod hits;
mod kafka;
mod messages;
mod nodes;
mod report;
mod resp;
mod side;
mod spread;
mod store;
mod stores;
mod sync;
mod traces;
mod zipf;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use report::Report;

#[derive(Debug, Parser)]
#[command(
    name = "freshline-bench",
    about = "Side-by-side measurements of Freshline; without a name, the list of them"
)]
struct Args {
    #[command(subcommand)]
    measurement: Option<Measurement>,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// Commit-to-remove delay through real MySQL, Canal, Kafka, etcd and 3 nodes; Freshline's own part apart
    Delay(delay::Options),
    /// Canal messages per second of the sync service on one core, against a bare Kafka consumer of the same topic
    Sync(sync::Options),
    /// gRPC Gets of one and of many keys from a node, against a bare tonic service that returns a constant
    Get(get::Options),
    /// Canal messages decoded and mapped to keys per second on one core, against `serde_json` reading them
    Decode(decode::Options),
    /// Redis commands at a node, against redis-server, by redis-benchmark
    Resp(resp::Options),
    /// Requests of Redis clients parsed by the node's parser, against the crate `redis-protocol`
    Codec(codec::Options),
    /// What hostile callers do to a node: memory, open files and valid reads before, during and after each kind of input
    Abuse(abuse::Options),
    /// The node's store beside `quick_cache`, moka and foyer: bytes for each entry, gets and inserts per second
    Store(store::Options),
    /// Hit ratio of each eviction policy by trace, beside moka, `quick_cache` and the optimum
    Hits(hits::Options),
    /// Size and speed of each codec for JSON rows
    Compression(compression::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(measurement) = args.measurement else {
        list();
        return ExitCode::SUCCESS;
    };
    if cfg!(debug_assertions) {
        eprintln!(
            "warning: this is a development build, so nothing that it prints is a figure; run it with --release"
        );
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into()),
        )
        .init();
    match measure(measurement) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("freshline-bench: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(measurement: Measurement) -> anyhow::Result<Report> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    #[cfg(feature = "rule-switches")]
    if let Measurement::Delay(options) = &measurement
        && !options.phases()
    {
        // Rules are taken out thread by thread.
        runtime.on_thread_start(|| ring::rules::take_out(Some(ring::rules::Rule::Phases)));
    }
    let runtime = runtime.enable_all().build()?;
    // What is dropped at a Ctrl-C removes its containers.
    let report = runtime.block_on(async {
        tokio::select! {
            () = daemon::shutdown::signal() => Err(anyhow::anyhow!("measure: interrupted")),
            report = async {
                match measurement {
                    Measurement::Delay(options) => delay::measure(options).await,
                    Measurement::Sync(options) => sync::measure(options).await,
                    Measurement::Get(options) => get::measure(options).await,
                    Measurement::Decode(options) => decode::measure(options).await,
                    Measurement::Resp(options) => resp::measure(options).await,
                    Measurement::Codec(options) => codec::measure(options).await,
                    Measurement::Abuse(options) => abuse::measure(options).await,
                    Measurement::Store(options) => store::measure(&options),
                    Measurement::Hits(options) => hits::measure(&options),
                    Measurement::Compression(options) => compression::measure(&options),
                }
            } => report,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    report
}

/// Prints what there is to measure.
fn list() {
    println!("Measurements, each run with `cargo run --release -p freshline-bench -- NAME`:\n");
    for measurement in Args::command().get_subcommands() {
        println!("{:11} {}", measurement.get_name(), measurement.get_about().unwrap_or_default());
    }
    println!(
        "\n`NAME --help` shows what can be set. `delay` and `sync` need the container engine and the images of deploy/images."
    );
}
