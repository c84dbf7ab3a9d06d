//! `abuse`: a node in a process of its own, valid reads by all three ports, and hostile input beside them.
//!
//! Each input has a node of its own. What is compared is the node with itself, before: resident memory, open files, the p99 of valid reads.

mod inputs;
mod reads;
mod victim;

use std::time::Duration;

use tokio::time::sleep;

use crate::report::{self, Report};
use inputs::Input;
use reads::Reads;
use victim::Victim;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Seconds of valid reads alone, before and after each input
    #[arg(long, default_value_t = 3.0)]
    quiet: f64,
    /// Seconds that an input goes on at most
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Only inputs whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// Is the node that the others measure
    #[arg(long, hide = true)]
    serve: bool,
}

const COLUMNS: [&str; 10] = [
    "input",
    "MiB before",
    "at most",
    "after",
    "files before",
    "at most",
    "after",
    "p99 before / during / after",
    "slowest",
    "reads, failed",
];

pub(crate) async fn measure(options: Options) -> anyhow::Result<Report> {
    if options.serve {
        victim::serve().await?;
        std::process::exit(0); // the report is the other process's
    }
    // This process opens as many connections as the node takes.
    daemon::files::raise();
    let mut report = Report::new("abuse: a node under hostile input", &COLUMNS);
    report.fact("one node with its default settings, a process of its own for each input; rows in memory");
    report.fact(format!(
        "valid reads beside it, one after the other by gRPC, HTTP (a connection for each) and RESP; {} s before, at most {} s during, {} s after",
        options.quiet, options.seconds, options.quiet
    ));
    let quiet = Duration::from_secs_f64(options.quiet);
    let most = Duration::from_secs_f64(options.seconds);
    for input in Input::ALL {
        if options.only.as_ref().is_some_and(|only| !input.name().contains(only.as_str())) {
            continue;
        }
        let victim = Victim::start().await?;
        let reads = Reads::start(victim.addresses);
        sleep(quiet / 2).await;
        reads.take(); // connections are made, memory is warm
        sleep(quiet).await;
        let (before, held) = (reads.take(), victim.holds()?);
        let watched = victim.watch();
        let _ = tokio::time::timeout(most, input.run(victim.addresses)).await;
        let during = reads.take();
        let peak = watched.stop().await?;
        sleep(quiet).await;
        let (after, left) = (reads.take(), victim.holds()?);
        reads.stop().await;
        let failed = before.failed + during.failed + after.failed;
        let all = before.took.len() + during.took.len() + after.took.len();
        report.row([
            input.name().to_owned(),
            held.mib().to_string(),
            peak.mib().to_string(),
            left.mib().to_string(),
            held.files.to_string(),
            peak.files.to_string(),
            left.files.to_string(),
            [&before, &during, &after].map(|came| report::millis(came.took.at(99.0))).join(" / "),
            report::millis(during.took.max()),
            format!("{all}, {failed}"),
        ]);
        report.ratio(format!("abuse_{}_memory", input.name()), peak.mib() as f64 / held.mib().max(1) as f64);
        victim.stop().await?;
    }
    Ok(report)
}
