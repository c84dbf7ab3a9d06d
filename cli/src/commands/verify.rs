//! `verify`: is what is cached what the database says?

use std::{cell::Cell, time::Duration};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use sync_service::verify::{self, AtAge, Checker, Plan, Report, Seen, Stale, nines};

use super::explain::timeline;
use crate::{
    cli::Ended,
    connect::Connect,
    output::{self, Output},
    progress,
    rows::RowsArgs,
};

/// What `verify` is asked.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// How many entries to compare
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    sample: u64,
    /// Compare every entry of every node
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// Only entries of this group; may be given more than once
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Entries compared in a second; each costs one row read
    #[arg(long, value_name = "N", default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    /// When a difference is looked at again; one that lasts to the end is stale
    #[arg(
        long,
        value_name = "TIMES",
        value_delimiter = ',',
        default_value = "1s,10s,60s",
        value_parser = humantime::parse_duration
    )]
    ages: Vec<Duration>,
    /// Remove stale keys from all nodes
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    rows: RowsArgs,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 100_000.0 => Ok(rate),
        _ => Err("write a number of entries above 0, at most 100000".to_owned()),
    }
}

/// Ends with [`Ended::Failed`] if an entry is stale, mended or not, or if not all could be looked at.
pub(crate) async fn verify(args: VerifyArgs, output: &Output) -> anyhow::Result<Ended> {
    let client = args.connect.client().await?;
    let (checker, database) = args.rows.checker(&args.connect, client).await?;
    let mut ages = args.ages;
    ages.sort_unstable();
    ages.dedup();
    let plan = Plan {
        sample: (!args.all).then_some(args.sample),
        groups: args.groups,
        rate: args.rate,
        ages,
        repair: args.repair,
    };
    compare(&checker, &plan, &database, output).await
}

/// A report, and whether all is well.
#[derive(Serialize)]
struct Told<'a> {
    ok: bool,
    #[serde(flatten)]
    report: &'a Report,
}

async fn compare(checker: &Checker, plan: &Plan, database: &str, output: &Output) -> anyhow::Result<Ended> {
    let looked_at = Cell::new(0);
    let announce = |seen: Seen<'_>| match seen {
        Seen::Stale(stale) => output.note(&format!("{} on {} is stale", stale.key, stale.node)),
        Seen::Counted(tally) => looked_at.set(tally.checked),
    };
    let most = plan.sample.map_or_else(String::new, |most| format!(" of at most {most}"));
    let told = || {
        (
            0,
            format!(
                "{} entries compared{most}; what differs is looked at again for a while",
                looked_at.get()
            ),
        )
    };
    // Boxed, since it follows many entries at a time.
    let run = Box::pin(verify::run(checker, plan, announce));
    let report = progress::during(output, None, told, run).await;
    let report = report.context("sample the nodes' memories")?;
    let ok = report.is_well();
    if output.json {
        output.value(&Told { ok, report: &report })?;
        return Ok(if ok { Ended::Done } else { Ended::Failed });
    }
    let tally = &report.tally;
    output.line(format!("{} entries compared with {database}", tally.checked))?;
    output.line("")?;
    output.table(&["looked at", "consistent", "different", "share", "nines"], tally.ages.iter().map(row))?;
    for (count, what) in [
        (tally.gone, "removed or filled anew before they could be compared"),
        (tally.no_query, "of groups without a query, which nothing can be compared with"),
        (tally.failed, "could not be compared, or not any more"),
        (tally.unsettled, "of these were different when they were last seen"),
    ] {
        if count > 0 {
            output.note(&format!("{count} {what}"));
        }
    }
    for error in report.errors.iter().chain(&report.unreachable) {
        output.error(error);
    }
    for stale in &report.stale {
        describe(stale, output)?;
    }
    output.line("")?;
    if !ok && report.stale.is_empty() {
        output.error("nothing was found to be stale, but not all could be looked at");
        return Ok(Ended::Failed);
    }
    output.line(ending(&report, plan, output))?;
    Ok(if ok { Ended::Done } else { Ended::Failed })
}

fn ending(report: &Report, plan: &Plan, output: &Output) -> String {
    let stale = report.stale.len();
    let last = plan.ages.last().copied().unwrap_or_default();
    if report.tally.checked == 0 {
        return "nothing was compared: no node has an entry in memory that could be; read some keys first"
            .to_owned();
    }
    if stale == 0 {
        return output.green(&format!("nothing is stale for {} or longer", output::duration(last)));
    }
    let what = if stale == 1 { "1 entry is stale".to_owned() } else { format!("{stale} entries are stale") };
    let repaired = report.stale.iter().filter(|stale| stale.repaired == Some(true)).count();
    if !plan.repair {
        format!("{what}; --repair removes them from all nodes")
    } else if repaired == stale {
        format!("{what}; removed from all nodes")
    } else {
        format!("{what}; {repaired} removed from all nodes, {} could not be: try again", stale - repaired)
    }
}

fn row(at: &AtAge) -> Vec<String> {
    let when =
        if at.age.is_zero() { "at once".to_owned() } else { format!("after {}", output::duration(at.age)) };
    let (share, nines) = if at.consistent + at.inconsistent == 0 {
        ("-".to_owned(), "-".to_owned())
    } else {
        let nines = nines(at.share()).map_or_else(|| "all".to_owned(), |nines| format!("{nines:.1}"));
        (format!("{:.4} %", at.share() * 100.0), nines)
    };
    vec![when, at.consistent.to_string(), at.inconsistent.to_string(), share, nines]
}

fn describe(stale: &Stale, output: &Output) -> anyhow::Result<()> {
    let value = |value: &Option<Box<serde_json::value::RawValue>>| {
        value.as_ref().map_or_else(|| "no such row".to_owned(), |value| value.get().to_owned())
    };
    output.line("")?;
    output.line(output.bold(&format!("{} on {}", stale.key, stale.node)))?;
    let mut facts = vec![("cached", value(&stale.cached)), ("database", value(&stale.database))];
    if let Some(history) = &stale.history {
        facts.push(("verdict", history.verdict.clone()));
    }
    if let Some(repaired) = stale.repaired {
        let said = if repaired { "removed from all nodes" } else { "could not be removed from all nodes" };
        facts.push(("repair", said.to_owned()));
    }
    output.facts(&facts)?;
    match &stale.history {
        Some(history) => timeline(history, output),
        None => Ok(()),
    }
}
