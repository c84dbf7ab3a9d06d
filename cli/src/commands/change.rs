//! `del` and `flush`.

use anyhow::Context;
use client::Client;
use serde_json::json;

use crate::{cli::Ended, output::Output};

pub(crate) async fn del(
    client: &Client,
    keys: &[String],
    tags: &[String],
    output: &Output,
) -> anyhow::Result<Ended> {
    if !tags.is_empty() {
        client.remove_tags(tags).await.context("remove tags on every node")?;
        if keys.is_empty() {
            if output.json {
                output.value(&json!({ "tags": tags }))?;
            } else {
                output.line(carried(tags))?;
            }
            return Ok(Ended::Done);
        }
    }
    let removed = client.remove(keys).await.context("remove from every node")?;
    if output.json {
        output.value(&json!({ "keys": keys.len(), "tags": tags, "removed": removed }))?;
        return Ok(Ended::Done);
    }
    if !tags.is_empty() {
        output.line(carried(tags))?;
    }
    output.line(match removed {
        0 => "nothing to remove: not in memory on any node".to_owned(),
        1 => "removed 1 entry from memory".to_owned(),
        more => format!("removed {more} entries from memory"),
    })?;
    Ok(Ended::Done)
}

/// What is told of removed tags; how many entries carried them is not known.
fn carried(tags: &[String]) -> String {
    format!("removed what carries {}, on every node", tags.join(", "))
}

/// `groups` empty means all.
pub(crate) async fn flush(client: &Client, groups: &[String], output: &Output) -> anyhow::Result<Ended> {
    client.flush(groups).await.context("flush on every node")?;
    if output.json {
        output.value(&json!({ "flushed": groups, "all": groups.is_empty() }))?;
    } else if groups.is_empty() {
        output.line("flushed every group")?;
    } else {
        output.line(format!("flushed {}", groups.join(", ")))?;
    }
    Ok(Ended::Done)
}
