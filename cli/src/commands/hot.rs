//! `hot`: the keys that are read most.

use anyhow::Context as _;
use client::{Client, HotKey};
use ring::NodeId;
use serde_json::json;

use crate::{cli::Ended, output::Output};

pub(crate) async fn hot(
    client: &Client,
    node: Option<&str>,
    top: usize,
    output: &Output,
) -> anyhow::Result<Ended> {
    let node = node.map(NodeId::from);
    let merged = client.hot(node.as_ref(), top).await.context("ask for the hot keys")?;
    if output.json {
        output.value(&json!({
            "reads": merged.reads, "share": merged.share(), "nodes": merged.nodes,
            "unreachable": merged.unreachable, "keys": merged.keys,
        }))?;
    } else if merged.keys.is_empty() {
        output.line("no reads were counted in the last seconds")?;
    } else {
        output.table(
            &["key", "group", "reads/s", "share", "±", ""],
            merged.keys.iter().map(|k| row(k, merged.reads)),
        )?;
        let share = merged.share() * 100.0;
        output.line(format!(
            "{share:.0} % of {} reads/s go to {}; one read of many is counted, so these are estimates",
            rate(merged.reads),
            if merged.keys.len() == 1 {
                "this key".to_owned()
            } else {
                format!("these {} keys", merged.keys.len())
            },
        ))?;
    }
    for (node, error) in &merged.unreachable {
        output.error(&format!("failed to ask node {node} for its hot keys: {error}"));
    }
    Ok(if merged.unreachable.is_empty() { Ended::Done } else { Ended::Failed })
}

fn row(key: &HotKey, all: f64) -> Vec<String> {
    let mut notes = Vec::new();
    if key.hot {
        notes.push("hot".to_owned());
    }
    match key.mirrors {
        0 if key.mirrored => notes.push("mirrored".to_owned()),
        0 => {}
        1 => notes.push("1 mirror".to_owned()),
        more => notes.push(format!("{more} mirrors")),
    }
    vec![
        key.key.clone(),
        key.group.clone(),
        rate(key.reads),
        if all > 0.0 { format!("{:.1} %", (key.reads / all).min(1.0) * 100.0) } else { "-".to_owned() },
        rate(key.error),
        notes.join(", "),
    ]
}

fn rate(rate: f64) -> String {
    if rate >= 10.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}
