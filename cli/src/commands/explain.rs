//! `explain`: what all nodes know about one key, as one story.

use anyhow::Context;
use client::{Client, EntryState, Explanation, History, Moment};
use serde::Serialize;
use sync_service::verify::{Checker, Difference};

use crate::{
    cli::Ended,
    output::{self, Output},
};

/// Events that are printed as text; JSON has all.
const SHOWN: usize = 30;

/// A history, and the row when the database was asked.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    history: &'a History,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<Shown>>,
}

/// An entry that differs from its row.
#[derive(Serialize)]
struct Shown {
    node: String,
    cached: serde_json::Value,
    database: serde_json::Value,
}

/// Ends with [`Ended::Failed`] if the database was asked and an entry differs from it.
pub(crate) async fn explain(
    client: &Client,
    key: &str,
    checker: Option<&Checker>,
    output: &Output,
) -> anyhow::Result<Ended> {
    let mut history = client.history(key).await.with_context(|| format!("explain {key}"))?;
    let mut differences = None;
    if let Some(checker) = checker {
        let compared = checker.compare_all(&history).await.with_context(|| format!("compare {key}"))?;
        let shown = |(compared, difference): &(client::Compared, Option<Difference>)| {
            let difference = difference.as_ref()?;
            Some(Shown {
                node: compared.node.clone(),
                cached: json(difference.cached()),
                database: json(difference.row()),
            })
        };
        differences = Some(compared.iter().filter_map(shown).collect::<Vec<_>>());
        history = history.with_compared(compared.into_iter().map(|(compared, _)| compared).collect());
    }
    let failed = differences.as_ref().is_some_and(|differences| !differences.is_empty());
    if output.json {
        output.value(&Told { history: &history, differences })?;
    } else {
        output.facts(&facts(&history))?;
        for difference in differences.iter().flatten() {
            output.line("")?;
            output.facts(&[
                ("cached on", format!("{}  {}", difference.node, difference.cached)),
                ("database", difference.database.to_string()),
            ])?;
        }
        output.line("")?;
        nodes(&history, output)?;
        if !history.timeline.is_empty() {
            output.line("")?;
            timeline(&history, output)?;
        }
    }
    Ok(if failed { Ended::Failed } else { Ended::Done })
}

/// A value as JSON; one that is not shows as text, "no such row" as null.
fn json(value: Option<&bytes::Bytes>) -> serde_json::Value {
    let Some(value) = value else { return serde_json::Value::Null };
    serde_json::from_slice(value).unwrap_or_else(|_| String::from_utf8_lossy(value).into_owned().into())
}

fn facts(history: &History) -> Vec<(&'static str, String)> {
    let mut holders = if history.owner.is_empty() { "nobody".to_owned() } else { history.owner.clone() };
    if !history.replicas.is_empty() {
        holders += ", replicas ";
        holders += &history.replicas.join(", ");
    }
    let mut facts = vec![
        ("key", history.key.clone()),
        ("group", history.group.clone()),
        ("slot", format!("{}, epoch {}", history.slot, history.epoch)),
        ("owner", holders),
    ];
    let query = if history.query.is_empty() {
        "none: applications set its values".to_owned()
    } else {
        history.query.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    facts.push(("query", query));
    facts.push(("verdict", history.verdict.clone()));
    facts
}

fn nodes(history: &History, output: &Output) -> anyhow::Result<()> {
    let mut rows: Vec<Vec<String>> = history.nodes.iter().map(|node| row(history, node)).collect();
    rows.extend(history.unreachable.iter().map(|node| vec![node.node.clone(), node.error.clone()]));
    output.table(&["node", "entry", "read", "to live", "old at worst", "last removal", "note"], rows)
}

fn row(history: &History, node: &Explanation) -> Vec<String> {
    let time = |time: Option<std::time::Duration>| time.map_or_else(|| "-".to_owned(), output::duration);
    let entry = match node.entry {
        EntryState::Absent => "-".to_owned(),
        EntryState::Value => format!("value, {}", output::bytes(node.size)),
        EntryState::Negative => "no such row".to_owned(),
    };
    let removal = node.last_removal.as_ref().map_or_else(
        || "-".to_owned(),
        |removal| format!("{} ago, {}", output::duration(removal.age), removal.origin),
    );
    let mut notes = Vec::new();
    if !node.holds {
        notes.push("not a holder");
    }
    if node.fill_in_flight {
        notes.push("fill under way");
    }
    if let Some(compared) = history.compared.iter().find(|compared| compared.node == node.node) {
        notes.push(if compared.same { "same as database" } else { "not the database's" });
    }
    let freshness = (node.entry != EntryState::Absent).then_some(node.freshness);
    let read = node.age.map_or_else(|| "-".to_owned(), |age| format!("{} ago", output::duration(age)));
    vec![node.node.clone(), entry, read, time(node.ttl), time(freshness), removal, notes.join(", ")]
}

/// Prints what happened on all nodes, newest first.
pub(crate) fn timeline(history: &History, output: &Output) -> anyhow::Result<()> {
    let runs: Vec<&[Moment]> = history.timeline.chunk_by(same).take(SHOWN).collect();
    output.table(&["when", "node", "what", "detail"], runs.iter().map(|run| told(run)))?;
    let older = history.timeline.len() - runs.iter().map(|run| run.len()).sum::<usize>();
    match older {
        0 => {}
        1 => output.note("1 older event is told with --json"),
        _ => output.note(&format!("{older} older events are told with --json")),
    }
    Ok(())
}

/// Whether one event is the other once more, such as one refusal of many.
fn same(a: &Moment, b: &Moment) -> bool {
    (&a.node, &a.what, &a.detail) == (&b.node, &b.what, &b.detail)
}

/// The line of one event, or of the same one several times in a row.
fn told(run: &[Moment]) -> Vec<String> {
    let ([newest, ..], [.., oldest]) = (run, run) else { return Vec::new() };
    let ago = |moment: &Moment| format!("{} ago", output::duration(moment.age));
    let mut details = vec![newest.detail.clone()];
    details.retain(|detail| !detail.is_empty());
    if run.len() > 1 {
        details.push(format!("{} times since {}", run.len(), ago(oldest)));
    }
    vec![ago(newest), newest.node.clone(), newest.what.clone(), details.join(", ")]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_happens_many_times_in_a_row_is_one_line() {
        let moment = |age, node: &str, what: &str, detail: &str| Moment {
            age: Duration::from_millis(age),
            node: node.into(),
            what: what.into(),
            detail: detail.into(),
        };
        let timeline = [
            moment(8, "b", "refused", "quarantine"),
            moment(20, "b", "refused", "quarantine"),
            moment(56, "b", "refused", "quarantine"),
            moment(60, "a", "refused", "quarantine"),
            moment(68, "b", "removed", ""),
            moment(70, "b", "removed", ""),
        ];
        let lines: Vec<String> = timeline.chunk_by(same).map(|run| told(run).join(" | ")).collect();
        assert_eq!(
            lines,
            [
                "8.0ms ago | b | refused | quarantine, 3 times since 56ms ago",
                "60ms ago | a | refused | quarantine",
                "68ms ago | b | removed | 2 times since 70ms ago",
            ]
        );
    }
}
