//! What the tour prints: titles, steps with their times, and lines between them; as JSON only the steps.

use std::time::Duration;

use client::{Answer, Outcome};
use serde_json::json;

use super::Tour;
use crate::output;

impl Tour<'_> {
    pub(super) fn title(&self, text: &str) -> anyhow::Result<()> {
        if self.output.json {
            return Ok(());
        }
        self.output.line("")?;
        self.output.line(self.output.bold(text))
    }

    pub(super) fn answered(
        &self,
        key: &str,
        answer: &Answer,
        how: &str,
        took: Duration,
    ) -> anyhow::Result<()> {
        let node = &answer.node;
        let what = match (&answer.value, answer.outcome) {
            (None, Outcome::NegativeHit) => format!("hit on node {node}: no such row"),
            (None, _) => format!("miss, node {node} finds no such row"),
            (Some(_), Outcome::Hit) => format!("hit on node {node}"),
            (Some(_), Outcome::Miss) => format!("miss, filled by node {node}"),
            (Some(_), Outcome::Shared) => format!("miss, shared on node {node}"),
            (Some(_), _) => format!("read through by node {node}"),
        };
        self.done(&format!("get {key}{how}: {what}"), took)
    }

    pub(super) fn show(&self, answer: &Answer) -> anyhow::Result<()> {
        self.aside(&String::from_utf8_lossy(answer.value.as_deref().unwrap_or_default()))
    }

    /// A line that is no step of its own.
    pub(super) fn aside(&self, text: &str) -> anyhow::Result<()> {
        if self.output.json { Ok(()) } else { self.output.line(format!("    {}", self.output.dim(text))) }
    }

    /// A step that went well.
    pub(super) fn done(&self, text: &str, took: Duration) -> anyhow::Result<()> {
        if self.output.json {
            let ms = took.as_secs_f64() * 1e3;
            return self.output.line(json!({ "step": text, "ms": ms }).to_string());
        }
        let (mark, time) = (self.output.green("✓"), output::duration(took));
        self.output.line(format!("  {mark} {text:<68} {time:>6}"))
    }
}
