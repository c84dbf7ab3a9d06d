//! Removals, printed as they happen.

use sync_service::Delivered;
use tokio::sync::broadcast::error::RecvError;

use super::stack::Stack;
use crate::output::{self, Output};

/// Keys that one line names.
const NAMED: usize = 6;

/// Prints a line for each batch of changes that all nodes have applied. Ends when the sync service does.
///
/// Safe to drop: only lines are lost.
pub(crate) async fn follow(stack: &Stack, output: &Output) -> anyhow::Result<()> {
    let mut delivered = stack.delivered().await;
    loop {
        match delivered.recv().await {
            Ok(batch) if batch.keys.is_empty() && batch.flushed.is_empty() => {}
            Ok(batch) if output.json => output.line(json(stack, &batch).to_string())?,
            Ok(batch) => output.line(line(stack, &batch, output))?,
            Err(RecvError::Lagged(missed)) => output.line(format!("  .. {missed} batches more"))?,
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

fn line(stack: &Stack, batch: &Delivered, output: &Output) -> String {
    let mut what: Vec<String> = batch.keys.iter().take(NAMED).map(ToString::to_string).collect();
    if batch.keys.len() > NAMED {
        what.push(format!("{} more", batch.keys.len() - NAMED));
    }
    what.extend(batch.flushed.iter().map(|group| format!("all of {group}")));
    let own = output::duration(batch.own_delay());
    let delay = match stack.sent.age(&batch.origin) {
        Some(age) => format!("{} after the change, {own} of it in the sync service", output::duration(age)),
        None => format!("{own} in the sync service"),
    };
    format!("  {}  {}", what.join(", "), output.dim(&delay))
}

fn json(stack: &Stack, batch: &Delivered) -> serde_json::Value {
    let millis = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    serde_json::json!({
        "removed": batch.keys.iter().map(|key| &**key).collect::<Vec<_>>(),
        "flushed": batch.flushed.iter().map(|group| &**group).collect::<Vec<_>>(),
        "origin": &*batch.origin,
        "delay_ms": stack.sent.age(&batch.origin).map(millis),
        "own_delay_ms": millis(batch.own_delay()),
    })
}
