//! `ring` and `stats`.

use anyhow::Context;
use client::{Client, GroupStats, NodeStats};
use ring::SLOTS;
use serde_json::{Value, json};

use crate::{
    cli::Ended,
    output::{self, Output},
};

pub(crate) fn ring(client: &Client, output: &Output) -> anyhow::Result<Ended> {
    let ring = client.ring();
    if output.json {
        let members: Vec<Value> = ring
            .members()
            .iter()
            .map(|m| {
                json!({
                    "id": m.id.as_str(), "state": m.state.as_str(), "grpc": m.grpc, "http": m.http,
                    "weight": m.weight, "incarnation": m.incarnation, "slots": ring.owned_by(&m.id),
                })
            })
            .collect();
        output.value(&json!({ "epoch": ring.epoch().0, "replicas": ring.replicas(), "members": members }))?;
        return Ok(Ended::Done);
    }
    let rows = ring.members().iter().map(|m| {
        let slots = ring.owned_by(&m.id);
        vec![
            m.id.to_string(),
            m.state.as_str().to_owned(),
            m.grpc.clone(),
            m.http.clone(),
            m.weight.to_string(),
            format!("{slots} ({:.1} %)", slots as f64 * 100.0 / f64::from(SLOTS)),
        ]
    });
    output.table(&["node", "state", "grpc", "http", "weight", "slots owned"], rows)?;
    let copies = match ring.replicas() {
        1 => "one copy".to_owned(),
        more => format!("{more} copies"),
    };
    output.line(format!("epoch {}, {copies} of each slot", ring.epoch().0))?;
    Ok(Ended::Done)
}

pub(crate) async fn stats(client: &Client, groups: bool, output: &Output) -> anyhow::Result<Ended> {
    let answers = client.stats().await;
    let nodes: Vec<&NodeStats> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
    if output.json {
        let answers: Vec<Value> = answers
            .iter()
            .map(|(node, answer)| match answer {
                Ok(stats) => serde_json::to_value(stats).context("write JSON"),
                Err(error) => Ok(json!({ "node": node, "error": error.to_string() })),
            })
            .collect::<anyhow::Result<_>>()?;
        output.value(&answers)?;
    } else if !nodes.is_empty() {
        output.table(
            &[
                "node",
                "up",
                "entries",
                "negative",
                "memory",
                "hit ratio",
                "hits",
                "misses",
                "fills",
                "refused",
                "removes",
                "slots",
            ],
            nodes.iter().map(|n| row(n)),
        )?;
        if groups {
            output.line("")?;
            let mut totals: Vec<GroupStats> = Vec::new();
            for group in nodes.iter().flat_map(|n| &n.groups) {
                match totals.iter_mut().find(|total| total.name == group.name) {
                    Some(total) => {
                        total.hits += group.hits;
                        total.misses += group.misses;
                        total.fills += group.fills;
                    }
                    None => totals.push(group.clone()),
                }
            }
            let rows = totals.iter().map(|g| {
                vec![
                    g.name.clone(),
                    ratio(g.hits, g.hits + g.misses),
                    g.hits.to_string(),
                    g.misses.to_string(),
                    g.fills.to_string(),
                ]
            });
            output.table(&["group", "hit ratio", "hits", "misses", "fills"], rows)?;
        }
    }
    let mut ended = Ended::Done;
    for (node, error) in answers.iter().filter_map(|(node, answer)| Some((node, answer.as_ref().err()?))) {
        output.error(&format!("failed to ask node {node} for its stats: {error}"));
        ended = Ended::Failed;
    }
    Ok(ended)
}

fn row(n: &NodeStats) -> Vec<String> {
    let served = n.hits + n.negative_hits;
    vec![
        if n.fenced { format!("{} (fenced)", n.node) } else { n.node.clone() },
        output::duration(n.uptime),
        n.entries.to_string(),
        n.negative_entries.to_string(),
        format!("{} of {}", output::bytes(n.bytes), output::bytes(n.capacity_bytes)),
        ratio(served, served + n.misses + n.shared),
        served.to_string(),
        (n.misses + n.shared).to_string(),
        n.fills.to_string(),
        n.fills_refused.to_string(),
        (n.removes + n.tag_removes).to_string(),
        n.slots.to_string(),
    ]
}

fn ratio(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}
