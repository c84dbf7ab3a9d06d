//! Removals, printed as they happen.

use std::sync::Arc;

use sync_service::Delivered;
use tokio::sync::broadcast::error::RecvError;

use super::stack::Stack;
use crate::output::{self, Output};

/// Keys that one line names, and tags.
const NAMED: usize = 6;

/// Prints a line for each batch of changes that all nodes have applied. Ends when the sync service does.
///
/// Safe to drop: only lines are lost.
pub(crate) async fn follow(stack: &Stack, output: &Output) -> anyhow::Result<()> {
    let mut delivered = stack.delivered().await;
    loop {
        match delivered.recv().await {
            Ok(batch) if batch.keys.is_empty() && batch.tags.is_empty() && batch.flushed.is_empty() => {}
            Ok(batch) if output.json => output.line(json(stack, &batch).to_string())?,
            Ok(batch) => output.line(line(stack, &batch, output))?,
            Err(RecvError::Lagged(missed)) => output.line(format!("  .. {missed} batches more"))?,
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

fn line(stack: &Stack, batch: &Delivered, output: &Output) -> String {
    let own = output::duration(batch.own_delay());
    let delay = match stack.sent.age(&batch.origin) {
        Some(age) => format!("{} after the change, {own} of it in the sync service", output::duration(age)),
        None => format!("{own} in the sync service"),
    };
    format!("  {}  {}", what(batch), output.dim(&delay))
}

/// `user:42, what carries shop.products.id=7, all of product`.
fn what(batch: &Delivered) -> String {
    let mut what = named(&batch.keys, "");
    what.extend(named(&batch.tags, "what carries "));
    what.extend(batch.flushed.iter().map(|group| format!("all of {group}")));
    what.join(", ")
}

/// The first of them, and how many more there are.
fn named(names: &[Arc<str>], as_what: &str) -> Vec<String> {
    let mut first: Vec<String> = names.iter().take(NAMED).map(|name| format!("{as_what}{name}")).collect();
    if names.len() > NAMED {
        first.push(format!("{as_what}{} more", names.len() - NAMED));
    }
    first
}

fn json(stack: &Stack, batch: &Delivered) -> serde_json::Value {
    let millis = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let names = |names: &[Arc<str>]| names.iter().map(|name| serde_json::json!(**name)).collect::<Vec<_>>();
    serde_json::json!({
        "removed": names(&batch.keys),
        "tags": names(&batch.tags),
        "flushed": names(&batch.flushed),
        "origin": &*batch.origin,
        "delay_ms": stack.sent.age(&batch.origin).map(millis),
        "own_delay_ms": millis(batch.own_delay()),
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_line_names_keys_tags_and_groups() {
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Arc<[Arc<str>]>>();
        let now = Instant::now();
        let batch = |keys: &[&str], tags: &[&str], flushed: &[&str]| Delivered {
            keys: names(keys),
            tags: names(tags),
            flushed: names(flushed),
            origin: "shop/0@0".into(),
            logged_ms: None,
            fetched_at: now,
            acknowledged_at: now,
        };
        let all = batch(&["product:7"], &["shop.products.id=7"], &["user"]);
        assert_eq!(what(&all), "product:7, what carries shop.products.id=7, all of user");
        let many = ["p=1", "p=2", "p=3", "p=4", "p=5", "p=6", "p=7", "p=8"];
        assert!(what(&batch(&[], &many, &[])).ends_with("what carries p=6, what carries 2 more"));
    }
}
