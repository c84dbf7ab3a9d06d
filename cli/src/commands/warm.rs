//! `warm`: fills keys of a group ahead of traffic, at a bounded rate, from a file or a query.

mod keys;
mod progress;
mod query;
mod run;
mod state;
mod tally;

use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgGroup, Args};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::{progress::Progress, run::Plan, state::State, tally::Tally};
use crate::{
    cli::Ended,
    connect::Connect,
    lines,
    output::{self, Output},
    setup::Setup,
};

pub(crate) use self::{keys::KeyMaker, tally::kind};

/// What `warm` is asked.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["from", "query"]))]
pub(crate) struct WarmArgs {
    /// The group
    pub(crate) group: String,
    /// A file with a key, or its parameters as CSV, on each line; - reads standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// A SELECT whose columns are named as the group's parameters
    #[arg(long, value_name = "SQL")]
    query: Option<String>,
    /// Keys in a second
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = rate)]
    rate: f64,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// Keys in one request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// Remember in this file how far it came, and go on from there
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// End at the first line or row that makes no key
    #[arg(long)]
    strict: bool,
    /// The database of --query; without it, [database] of --config
    #[arg(long, value_name = "URL", requires = "query")]
    database: Option<String>,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1_000_000.0 => Ok(rate),
        _ => Err("write a number of keys above 0, at most 1000000".to_owned()),
    }
}

/// A line or a row, and the key that it makes.
struct Record {
    /// Counted from 1; lines that say nothing count too.
    number: u64,
    key: Result<String, String>,
    /// How far a file has been read with it.
    end: u64,
}

type Records = mpsc::Receiver<anyhow::Result<Record>>;

/// Ends with [`Ended::Failed`] if it was interrupted, or if a key could not be filled.
pub(crate) async fn warm(args: WarmArgs, output: &Output) -> anyhow::Result<Ended> {
    let setup = Setup::find(&args.connect)?;
    let group = setup.group(&args.group)?.clone();
    anyhow::ensure!(
        group.is_filled(),
        "warm {}: it has no query that could fill it; applications set its values",
        group.name
    );
    let source = match (&args.from, &args.query) {
        (Some(file), _) => format!("file {}", file.display()),
        (None, query) => format!("query {}", query.as_deref().unwrap_or_default()),
    };
    let mut state = match &args.state {
        Some(file) => State::load(file, &group.name, &source)?,
        None => State::new(&group.name, &source),
    };
    if let Some(file) = args.state.as_ref().filter(|_| state.finished) {
        let text = format!(
            "finished before: {} of {} were read; remove {} to warm again",
            state.position,
            source,
            file.display()
        );
        if output.json {
            output.value(&json!({ "finished": true, "already": true, "position": state.position }))?;
        } else {
            output.line(text)?;
        }
        return Ok(Ended::Done);
    }
    let maker = KeyMaker::new(setup.catalog.clone(), group.clone());
    let mut size = None;
    let records = match (&args.from, &args.query) {
        (Some(file), _) => {
            size = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file).map(|data| data.len());
            from_lines(lines::read(file)?, maker, state.position)
        }
        (None, query) => {
            let query = query.as_deref().unwrap_or_default();
            anyhow::ensure!(
                args.state.is_none() || query.to_ascii_lowercase().contains("order by"),
                "resume a query by --state: its rows need one order each time, add ORDER BY"
            );
            let database = setup.database(args.database.as_deref())?;
            query::read(query, &database, maker, state.position).await?
        }
    };
    let client = args.connect.client().await?;
    let stop = CancellationToken::new();
    let signal = {
        let stop = stop.clone();
        let connect = args.connect.clone();
        tokio::spawn(async move {
            connect.interrupted().await;
            stop.cancel();
        })
    };
    let plan = Plan {
        rate: args.rate,
        parallel: usize::from(args.parallel),
        batch: usize::from(args.batch),
        strict: args.strict,
    };
    let resumed = state.position;
    if resumed > 0 {
        output.note(&format!("going on after {resumed} of {source}"));
    }
    let progress = Progress::start(size, output);
    let ran = run::run(&client, records, &plan, &mut state, args.state.as_deref(), &stop, &progress).await;
    signal.abort();
    progress.end();
    if let Some(file) = &args.state {
        state.store(file)?;
    }
    let tally = ran.with_context(|| format!("warm {} from {source}", group.name));
    let tally = tally.inspect_err(|_| hint(&args, &state, output))?;
    report(&tally, &state, output)?;
    if !state.finished {
        output.error(&format!("stopped after {} of {source}", state.position));
        hint(&args, &state, output);
    }
    Ok(if state.finished && tally.errors.is_empty() { Ended::Done } else { Ended::Failed })
}

/// How to go on after an early end.
fn hint(args: &WarmArgs, state: &State, output: &Output) {
    match &args.state {
        Some(_) => output.note("the same command goes on from there"),
        None if state.position > 0 => output.note("with --state FILE it could be gone on with from there"),
        None => {}
    }
}

fn from_lines(
    mut lines: mpsc::Receiver<anyhow::Result<lines::Line>>,
    mut maker: KeyMaker,
    skip: u64,
) -> Records {
    let (records, taken) = mpsc::channel(1024);
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            let record = match line {
                Ok(line) => {
                    let Some(key) = maker.of_line(&line.bytes, line.number == 1) else { continue };
                    if line.number <= skip {
                        continue;
                    }
                    Ok(Record { number: line.number, key, end: line.end })
                }
                Err(error) => Err(error),
            };
            if records.send(record).await.is_err() {
                return;
            }
        }
    });
    taken
}

fn report(tally: &Tally, state: &State, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.value(&json!({
            "group": state.group, "source": state.source, "finished": state.finished,
            "position": state.position, "seconds": tally.took.as_secs_f64(), "tally": tally,
        }));
    }
    let mut facts = vec![
        ("filled", tally.filled.to_string()),
        ("there already", tally.already.to_string()),
        ("no such row", tally.absent.to_string()),
    ];
    if tally.not_kept > 0 {
        facts.push(("read, not kept", tally.not_kept.to_string()));
    }
    if tally.bad > 0 {
        facts.push(("no key", tally.bad.to_string()));
    }
    for (kind, count) in &tally.errors {
        facts.push((*kind, count.to_string()));
    }
    for bad in &tally.bad_examples {
        output.note(bad);
    }
    let more = tally.bad - tally.bad_examples.len() as u64;
    if more > 0 {
        output.note(&format!("and {more} more that make no key"));
    }
    for error in tally.error_examples.values() {
        output.error(error);
    }
    output.facts(&facts)?;
    let rate = tally.keys() as f64 / tally.took.as_secs_f64().max(0.001);
    output.line(format!("{} keys in {}, {rate:.0}/s", tally.keys(), output::duration(tally.took)))
}
