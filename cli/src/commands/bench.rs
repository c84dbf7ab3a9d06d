//! `bench`: reads from running nodes as an application would, for a bounded time, and tells what that was like.

mod change;
mod choice;
mod measure;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use catalog::{Group, ParamType, Value};
use clap::{Args, ValueEnum};
use client::{Client, Scan};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::{
    change::Changer,
    choice::Choice,
    measure::{Measured, Quantiles},
};
use super::warm::KeyMaker;
use crate::{
    cli::Ended,
    connect::Connect,
    lines,
    output::{self, Output},
    progress,
    setup::Setup,
};

/// What `bench` is asked.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The group that is read; without it the first whose key is one number
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// How many different keys
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Take the keys from this file, as `warm --from` does; - reads standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// How the reads are spread over the keys
    #[arg(long, value_enum, default_value_t = Distribution::Zipf)]
    distribution: Distribution,
    /// How uneven zipf is
    #[arg(long, value_name = "S", default_value_t = 0.99, value_parser = skew)]
    skew: f64,
    /// Readers at a time, each with one request under way
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    readers: u16,
    /// Keys in one request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// How long, at most 10m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    time: Duration,
    /// An UPDATE for the keys that are drawn, such as "UPDATE users SET city = 'Rome' WHERE id = {id}"; only with `freshline dev`
    #[arg(long, value_name = "SQL")]
    change: Option<String>,
    /// Changes in a second
    #[arg(long, value_name = "N", default_value_t = 10, requires = "change", value_parser = clap::value_parser!(u16).range(1..=1000))]
    changes: u16,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

/// How the reads are spread over the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Distribution {
    /// A few keys get most of the reads
    Zipf,
    /// All keys alike
    Uniform,
}

fn skew(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(skew) if skew > 0.0 && skew <= 5.0 => Ok(skew),
        _ => Err("write a number above 0, at most 5".to_owned()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() && time <= Duration::from_mins(10) => Ok(time),
        _ => Err("write a time above 0, at most 10m, like 10s".to_owned()),
    }
}

/// All that is told of a run.
#[derive(Serialize)]
struct Report {
    group: Arc<str>,
    keys: usize,
    distribution: Distribution,
    readers: u16,
    batch: u16,
    seconds: f64,
    requests: u64,
    reads: u64,
    reads_per_second: f64,
    latency_us: Quantiles,
    hit_ratio: f64,
    outcomes: BTreeMap<&'static str, u64>,
    errors: BTreeMap<&'static str, u64>,
    freshness_us: Quantiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<change::Changes>,
}

/// Ends with [`Ended::Failed`] if reads or changes failed.
pub(crate) async fn bench(args: BenchArgs, output: &Output) -> anyhow::Result<Ended> {
    let setup = Setup::find(&args.connect)?;
    let group = match &args.group {
        Some(name) => setup.group(name)?.clone(),
        None => setup
            .catalog
            .groups()
            .iter()
            .find(|group| group.is_filled() && is_numbered(group))
            .cloned()
            .context("find a group whose key is one number: name another with --group")?,
    };
    let client = args.connect.client().await?;
    ours(&client, &args.connect)?;
    let keys = Arc::new(keys(&args, &setup, &group, &client).await?);
    let changer = match &args.change {
        Some(sql) => {
            let dev = setup
                .dev
                .as_ref()
                .context("change rows: only the database of a running `freshline dev` is changed")?;
            Some(Changer::open(sql, dev, setup.catalog.clone(), &group).await?)
        }
        None => None,
    };
    let choice = Arc::new(match args.distribution {
        Distribution::Zipf => Choice::zipf(keys.len(), args.skew),
        Distribution::Uniform => Choice::uniform(keys.len()),
    });
    output.note(&format!(
        "{} keys of {}, {} readers, {}; Ctrl-C ends it early",
        keys.len(),
        group.name,
        args.readers,
        output::duration(args.time)
    ));
    let stop = CancellationToken::new();
    let ends = {
        let (stop, time, connect) = (stop.clone(), args.time, args.connect.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = connect.interrupted() => {}
            }
            stop.cancel();
        })
    };
    let began = tokio::time::Instant::now();
    let writer = changer.map(|changer| {
        tokio::spawn(changer.run(keys.clone(), choice.clone(), f64::from(args.changes), stop.clone()))
    });
    let readers: Vec<_> = (0..args.readers)
        .map(|_| {
            let batch = usize::from(args.batch);
            tokio::spawn(measure::read(client.clone(), keys.clone(), choice.clone(), batch, stop.clone()))
        })
        .collect();
    let all = async {
        let mut measured = Measured::new();
        for reader in readers {
            measured.add(&reader.await.context("read")?);
        }
        anyhow::Ok(measured)
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let told = || (millis(began.elapsed()), format!("reading {}", group.name));
    let measured = progress::during(output, Some(millis(args.time)), told, all).await?;
    let took = began.elapsed();
    stop.cancel();
    let written = match writer {
        Some(writer) => Some(writer.await.context("change rows")??),
        None => None,
    };
    ends.abort();
    let report = Report {
        group: group.name.clone(),
        keys: keys.len(),
        distribution: args.distribution,
        readers: args.readers,
        batch: args.batch,
        seconds: took.as_secs_f64(),
        requests: measured.latency.len(),
        reads: measured.reads(),
        reads_per_second: measured.reads() as f64 / took.as_secs_f64().max(1e-9),
        latency_us: Quantiles::of(&measured.latency),
        hit_ratio: measured.hit_ratio(),
        freshness_us: Quantiles::of(&measured.freshness),
        outcomes: measured.outcomes,
        errors: measured.errors,
        changes: written,
    };
    report.print(output)?;
    for error in measured.examples.values() {
        output.error(error);
    }
    Ok(if report.errors.is_empty() { Ended::Done } else { Ended::Failed })
}

impl Report {
    fn print(&self, output: &Output) -> anyhow::Result<()> {
        if output.json {
            return output.value(self);
        }
        let quantiles = |q: &Quantiles| {
            let Quantiles { p50, p99, p999, max } = *q;
            let [p50, p99, p999, max] =
                [p50, p99, p999, max].map(|us| output::duration(Duration::from_micros(us)));
            format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")
        };
        let outcomes: Vec<String> =
            self.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let mut facts = vec![
            ("reads", format!("{} in {:.1}s, {:.0}/s", self.reads, self.seconds, self.reads_per_second)),
            ("a request took", quantiles(&self.latency_us)),
            ("hit ratio", format!("{:.1} % ({})", self.hit_ratio * 100.0, outcomes.join(", "))),
            ("old at worst", quantiles(&self.freshness_us)),
        ];
        if let Some(changes) = &self.changes {
            facts.push(("changes", format!("{} made, {} rows", changes.made, changes.rows)));
        }
        for (kind, count) in &self.errors {
            facts.push((kind, format!("{count} reads")));
        }
        output.facts(&facts)
    }
}

/// Load is put on nodes of this machine, and on those of a configuration that was named on purpose.
fn ours(client: &Client, connect: &Connect) -> anyhow::Result<()> {
    if connect.config().is_some() {
        return Ok(());
    }
    for member in client.ring().members() {
        anyhow::ensure!(
            is_loopback(&member.grpc),
            "put load on node {} at {}: it is on another machine; name the cluster's own configuration with --config",
            member.id,
            member.grpc
        );
    }
    Ok(())
}

fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether its keys are one number each.
fn is_numbered(group: &Group) -> bool {
    matches!(group.template.params(), [param] if matches!(param.kind, ParamType::U64 | ParamType::I64))
}

/// The keys to read: those of a file; 1 to N where the key is a number; else those that are in memory.
async fn keys(
    args: &BenchArgs,
    setup: &Setup,
    group: &Arc<Group>,
    client: &Client,
) -> anyhow::Result<Vec<String>> {
    let most = args.keys as usize;
    if let Some(file) = &args.from {
        let (mut maker, mut keys) = (KeyMaker::new(setup.catalog.clone(), group.clone()), Vec::new());
        let mut lines = lines::read(file)?;
        while let Some(line) = lines.recv().await {
            let line = line?;
            match maker.of_line(&line.bytes, line.number == 1) {
                Some(Ok(key)) => keys.push(key),
                Some(Err(error)) => anyhow::bail!("read {}: {}: {error}", file.display(), line.number),
                None => {}
            }
            if keys.len() == most {
                break;
            }
        }
        anyhow::ensure!(!keys.is_empty(), "read {}: it has no keys", file.display());
        return Ok(keys);
    }
    if is_numbered(group) {
        let kind = &group.template.params()[0].kind;
        let value = |id: u32| match kind {
            ParamType::U64 => Value::U64(id.into()),
            _ => Value::I64(id.into()),
        };
        return Ok((1..=args.keys).map(|id| group.template.render(&[value(id)])).collect());
    }
    let mut keys = Vec::new();
    for member in client.ring().members() {
        let mut scan = Scan { groups: vec![group.name.to_string()], ..Scan::default() };
        loop {
            let page = client.scan(&member.id, scan.clone()).await.context("look for keys")?;
            keys.extend(page.entries.into_iter().map(|held| held.key));
            scan.cursor = page.cursor;
            if scan.cursor == 0 || keys.len() >= 2 * most {
                break;
            }
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys.truncate(most);
    anyhow::ensure!(
        !keys.is_empty(),
        "find keys of {}: none is in memory; name them with --from, or warm the group first",
        group.name
    );
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for url in ["http://127.0.0.1:7400", "http://localhost:1", "http://[::1]:7400", "127.0.0.9:1"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1:7400", "http://node-1:7400", "http://127.0.0.1.example.com:1"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
