//! What `replay` prints.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{
    compare::{Comparison, Difference},
    tally::{Broken, Changes, Side, Tally},
};
use crate::output::{self, Output};

/// All that is told of a replay.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    messages: u64,
    bytes: u64,
    tables: &'a BTreeMap<String, Changes>,
    groups: BTreeMap<Arc<str>, Removed>,
    fan_out: FanOut,
    /// How often what carries each tag would be removed.
    tags: &'a BTreeMap<Arc<str>, u64>,
    flushes: Vec<Flush<'a>>,
    ignored: &'a BTreeMap<&'static str, u64>,
    undecodable: Undecodable<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<BTreeMap<&'a str, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

/// What would go of one group.
#[derive(Default, Serialize)]
struct Removed {
    /// Distinct keys.
    keys: u64,
    /// How often any of them.
    removals: u64,
    /// How often a tag that its entries may carry.
    by_tag: u64,
    flushes: u64,
}

/// Keys for each message that has rows of tables with rules.
#[derive(Serialize)]
struct FanOut {
    messages: u64,
    p50: u64,
    p99: u64,
    max: u64,
}

#[derive(Serialize)]
struct Flush<'a> {
    group: &'a str,
    reason: &'static str,
    times: u64,
}

#[derive(Serialize)]
struct Undecodable<'a> {
    messages: u64,
    examples: &'a [Broken],
}

impl<'a> Report<'a> {
    pub(super) fn of(tally: &'a Tally, side: &'a Side, comparison: Option<Comparison>, keys: bool) -> Self {
        let mut groups: BTreeMap<Arc<str>, Removed> = side
            .catalog
            .groups()
            .iter()
            .map(|group| {
                let flushes = side.flushes_of(&group.name);
                (group.name.clone(), Removed { flushes, ..Removed::default() })
            })
            .collect();
        for (key, times) in &side.keys {
            let group = groups.entry(side.group_of(key)).or_default();
            group.keys += 1;
            group.removals += times;
        }
        for (tag, times) in &side.tags {
            for group in side.carriers(tag) {
                groups.entry(group).or_default().by_tag += times;
            }
        }
        let quantile = |q| side.fan_out.value_at_quantile(q);
        Self {
            messages: tally.messages,
            bytes: tally.bytes,
            tables: &tally.tables,
            groups,
            fan_out: FanOut {
                messages: side.fan_out.len(),
                p50: quantile(0.5),
                p99: quantile(0.99),
                max: side.fan_out.max(),
            },
            tags: &side.tags,
            flushes: side
                .flushes
                .iter()
                .map(|((group, reason), times)| Flush { group, reason, times: *times })
                .collect(),
            ignored: &tally.ignored,
            undecodable: Undecodable { messages: tally.undecodable, examples: &tally.broken },
            keys: keys.then(|| side.keys.iter().map(|(key, times)| (&**key, *times)).collect()),
            comparison,
        }
    }

    pub(super) fn print(&self, output: &Output) -> anyhow::Result<()> {
        if output.json {
            return output.value(self);
        }
        output.line(format!("{} messages, {}", self.messages, output::bytes(self.bytes)))?;
        section(
            output,
            &["table", "messages", "inserted", "updated", "deleted", "whole", "removals"],
            self.tables.iter().map(|(table, changes)| {
                let Changes { messages, inserted, updated, deleted, whole, removals } = changes;
                let counts = [messages, inserted, updated, deleted, whole, removals];
                [table.clone()].into_iter().chain(counts.map(u64::to_string)).collect()
            }),
        )?;
        section(
            output,
            &["group", "keys", "removals", "by tag", "flushes"],
            self.groups.iter().map(|(group, removed)| {
                let counts = [removed.keys, removed.removals, removed.by_tag, removed.flushes];
                [group.to_string()].into_iter().chain(counts.map(|count| count.to_string())).collect()
            }),
        )?;
        section(
            output,
            &["tag", "removals of what carries it"],
            self.tags.iter().map(|(tag, times)| vec![tag.to_string(), times.to_string()]),
        )?;
        section(
            output,
            &["flushed", "why", "times"],
            self.flushes
                .iter()
                .map(|flush| vec![flush.group.to_owned(), flush.reason.to_owned(), flush.times.to_string()]),
        )?;
        section(
            output,
            &["changes nothing", "messages"],
            self.ignored.iter().map(|(reason, messages)| vec![(*reason).to_owned(), messages.to_string()]),
        )?;
        section(
            output,
            &["can't be decoded", "why"],
            self.undecodable.examples.iter().map(|broken| vec![broken.at.clone(), broken.reason.clone()]),
        )?;
        let more = self.undecodable.messages - self.undecodable.examples.len() as u64;
        if more > 0 {
            output.line(format!("and {more} more"))?;
        }
        if self.fan_out.messages > 0 {
            let FanOut { p50, p99, max, messages } = &self.fan_out;
            output.line("")?;
            output.line(format!(
                "keys for each of the {messages} messages with rows: p50 {p50}, p99 {p99}, max {max}"
            ))?;
        }
        if let Some(keys) = &self.keys {
            let rows = keys.iter().map(|(key, times)| vec![(*key).to_owned(), times.to_string()]);
            section(output, &["key", "removals"], rows)?;
        }
        self.comparison.as_ref().map_or(Ok(()), |comparison| differences(comparison, output))
    }
}

fn differences(comparison: &Comparison, output: &Output) -> anyhow::Result<()> {
    output.line("")?;
    if comparison.groups.values().all(Difference::is_none) {
        return output.line(output.green(&format!("{} would do the same", comparison.against)));
    }
    output.line(output.bold(&format!("Against {}", comparison.against)))?;
    output.table(
        &["group", "both", "only here", "only there", "flushes here", "there"],
        comparison.groups.iter().map(|(group, difference)| {
            let Difference { keys, flushes_here, flushes_there, .. } = difference;
            let counts = [&keys.both, &keys.only_here, &keys.only_there, flushes_here, flushes_there];
            [group.to_string()].into_iter().chain(counts.map(u64::to_string)).collect()
        }),
    )?;
    let tagged = comparison.groups.iter().filter(|(_, difference)| !difference.tags.is_empty());
    section(
        output,
        &["tags of", "both", "only here", "only there"],
        tagged.map(|(group, Difference { tags, .. })| {
            let counts = [tags.both, tags.only_here, tags.only_there];
            [group.to_string()].into_iter().chain(counts.map(|count| count.to_string())).collect()
        }),
    )?;
    for (group, difference) in &comparison.groups {
        for names in [&difference.keys, &difference.tags] {
            for (place, examples) in [("here", &names.examples_here), ("there", &names.examples_there)] {
                if !examples.is_empty() {
                    output.line(format!("{group}, only {place}: {}", examples.join(", ")))?;
                }
            }
        }
    }
    Ok(())
}

/// A table under an empty line, if it has rows.
fn section(
    output: &Output,
    heading: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> anyhow::Result<()> {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    output.line("")?;
    output.table(heading, rows)
}
