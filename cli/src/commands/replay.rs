//! `replay`: what messages would remove under this catalog. Nothing is removed, committed or written.

mod compare;
mod kafka;
mod report;
mod tally;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use catalog::Catalog;
use clap::Args;
use daemon::config::KafkaSource;
use sync_service::{
    config::Sync,
    decode::{Topics, Zone},
    offsets::Partition,
    replay::Replay,
    source::{Headers, Message},
};
use tokio::sync::mpsc;

use self::{
    compare::Comparison,
    kafka::Range,
    report::Report,
    tally::{Side, Tally},
};
use crate::{cli::Ended, lines, output::Output, setup::Setup};

/// What `replay` is asked.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Recorded messages, one JSON object a line; - reads standard input
    #[arg(value_name = "FILE", required_unless_present = "from_kafka", conflicts_with = "from_kafka")]
    file: Option<PathBuf>,
    /// Read what Kafka has retained; nothing is committed, no consumer group is joined
    #[arg(long)]
    from_kafka: bool,
    #[command(flatten)]
    range: Range,
    /// Most messages to read
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Another catalog: show which keys only one of the two would remove
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// List every key that would be removed
    #[arg(long)]
    keys: bool,
    /// The catalog; without it that of the running `freshline dev`, or ./freshline.toml
    #[arg(long, short, value_name = "FILE", env = "FRESHLINE__CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// A message that was read, from wherever.
struct Fetched {
    partition: Partition,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Fetched {
    fn message(&self) -> Message<'_> {
        Message {
            partition: &self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            payload: self.payload.as_deref(),
            headers: Headers::of(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))),
        }
    }
}

pub(crate) async fn replay(args: ReplayArgs, output: &Output) -> anyhow::Result<Ended> {
    let setup = Setup::by(args.config.as_deref())?;
    let source: KafkaSource = setup.section("source.kafka")?;
    let sync: Sync = setup.section("sync")?;
    let zone: Zone = source.time_zone.parse().context("read source.kafka.time_zone")?;
    // A file's topic is its name, which is in the default format unless a topic of that name has another.
    let topics = Topics::new(&source).map_err(anyhow::Error::msg).context("read source.kafka")?;
    let side = |catalog: &Arc<Catalog>| {
        let replay = Replay::new(catalog.clone(), topics.clone(), zone, sync.on_canal_restart);
        Side::new(catalog.clone(), replay)
    };
    let mut tally = Tally::default();
    let mut here = side(&setup.catalog);
    let mut there = match &args.against {
        Some(file) => Some((file.as_path(), side(&Setup::of(file)?.catalog))),
        None => None,
    };
    let mut messages = match &args.file {
        Some(file) => from_file(file)?,
        None => kafka::read(source, setup.dev.as_ref(), &args.range, args.limit)?,
    };
    let mut more = false;
    while let Some(fetched) = messages.recv().await {
        if tally.messages == args.limit {
            more = true;
            break;
        }
        let fetched = fetched?;
        let told = here.note(&fetched.message());
        tally.note(&fetched, &told);
        if let Some((_, there)) = &mut there {
            there.note(&fetched.message());
        }
        // Maps of many messages must not keep the runtime from hearing that it is enough.
        tokio::task::coop::consume_budget().await;
    }
    if more {
        output.note(&format!("stopped after {} messages; there are more (--limit)", args.limit));
    }
    let comparison = there.as_ref().map(|(file, there)| Comparison::of(&here, there, file));
    let report = Report::of(&tally, &here, comparison, args.keys);
    report.print(output)?;
    Ok(Ended::Done)
}

/// Each line is a message; its number is its offset.
fn from_file(file: &Path) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Fetched>>> {
    let mut lines = lines::read(file)?;
    let name = if lines::is_stdin(file) { "stdin".into() } else { file.display().to_string() };
    let partition = Partition::new(name, 0);
    let (messages, taken) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            let message = match line {
                Ok(line) if line.bytes.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(line) => Ok(Fetched {
                    partition: partition.clone(),
                    offset: i64::try_from(line.number).unwrap_or(i64::MAX),
                    timestamp_ms: None,
                    key: None,
                    payload: Some(line.bytes),
                    headers: Vec::new(),
                }),
                Err(error) => Err(error),
            };
            if messages.send(message).await.is_err() {
                return;
            }
        }
    });
    Ok(taken)
}
