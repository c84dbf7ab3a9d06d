//! `put`.

use std::{io::Read as _, time::Duration};

use anyhow::Context;
use clap::Args;
use client::{Lifetime, Only, Put};
use serde_json::json;

use crate::{cli::Ended, connect::Connect, output::Output};

/// What is put where.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The key, of a group with kind = "plain"
    pub(crate) key: String,
    /// The value, or - for what comes on standard input
    pub(crate) value: String,
    /// How long it is to be there, the group's ttl at most: 30s, 10m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// Only if the key has no value
    #[arg(long, conflicts_with = "if_present")]
    pub(crate) if_absent: bool,
    /// Only if the key has a value
    #[arg(long)]
    pub(crate) if_present: bool,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

/// Ends with [`Ended::Failed`] if the condition does not hold, or the value is refused.
pub(crate) async fn put(args: PutArgs, output: &Output) -> anyhow::Result<Ended> {
    let PutArgs { key, value, ttl, if_absent, if_present, connect } = args;
    let value = if value == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("read the value from standard input")?;
        bytes
    } else {
        value.into_bytes()
    };
    let only = match (if_absent, if_present) {
        (true, _) => Only::IfAbsent,
        (false, true) => Only::IfPresent,
        (false, false) => Only::Always,
    };
    let put = Put { value: value.into(), lifetime: ttl.map_or(Lifetime::Group, Lifetime::For), only };
    let written = connect.client().await?.put_with(&key, put).await.with_context(|| format!("put {key}"))?;
    if output.json {
        output.value(&json!({ "key": key, "stored": written.is_done(), "refused": written.refused, "node": written.node }))?;
    }
    match written.refused.as_deref() {
        None if output.json => {}
        None => output.line(format!("put {key}, at all its holders; ordered by node {}", written.node))?,
        Some("exists") => output.error(&format!("not put: {key} has a value")),
        Some("absent") => output.error(&format!("not put: {key} has no value")),
        Some("too_large") => {
            output.error("not put: the value is larger than its group or the node takes (max_value)");
        }
        Some(why) => output.error(&format!("not put: {why}")),
    }
    Ok(if written.is_done() { Ended::Done } else { Ended::Failed })
}
