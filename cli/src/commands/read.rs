//! `get` and `get-many`.

use anyhow::Context;
use client::{Answer, Client, Outcome, ReadOptions};
use serde::Serialize;

use crate::{
    cli::Ended,
    output::{self, Output},
};

pub(crate) async fn get(
    client: &Client,
    key: &str,
    options: ReadOptions,
    raw: bool,
    verbose: bool,
    output: &Output,
) -> anyhow::Result<Ended> {
    let answer = client.get_with(key, options).await.with_context(|| format!("get {key}"))?;
    if verbose {
        output.note(&provenance(&answer));
    }
    if output.json {
        output.value(&Keyed { key, answer: Some(&answer), error: None })?;
    }
    let Some(value) = &answer.value else {
        if answer.outcome == Outcome::Absent {
            output.error(&format!("no value: {key} (nobody has put one, or its time is over)"));
            return Ok(Ended::Failed);
        }
        let kept = answer.ttl.map_or_else(
            || "not cached".to_owned(),
            |ttl| format!("negative entry on {}, for {} more", answer.node, output::duration(ttl)),
        );
        output.error(&format!("no such row: {key} ({kept})"));
        return Ok(Ended::Failed);
    };
    if raw {
        output.bytes(value)?;
    } else if !output.json {
        // Numbers keep their digits: the text is indented, not read as numbers.
        output.line(shown(value, output::indented))?;
    }
    Ok(Ended::Done)
}

pub(crate) async fn get_many(
    client: &Client,
    keys: &[String],
    options: ReadOptions,
    verbose: bool,
    output: &Output,
) -> anyhow::Result<Ended> {
    let keys_text: Vec<&str> = keys.iter().map(String::as_str).collect();
    let answers = client.get_many_with(&keys_text, options).await;
    let failed = answers.iter().any(Result::is_err);
    if output.json {
        let objects: Vec<Keyed<'_>> = keys
            .iter()
            .zip(&answers)
            .map(|(key, answer)| Keyed {
                key,
                answer: answer.as_ref().ok(),
                error: answer.as_ref().err().map(ToString::to_string),
            })
            .collect();
        output.value(&objects)?;
    } else {
        for (key, answer) in keys.iter().zip(&answers) {
            match answer {
                Ok(answer) => {
                    let value = answer
                        .value
                        .as_deref()
                        .map_or_else(|| output.dim(nothing(answer)), |value| shown(value, compact));
                    output.line(format!("{}  {value}", output.bold(key)))?;
                    if verbose {
                        output.note(&format!("  {}", provenance(answer)));
                    }
                }
                Err(error) => output.error(&format!("failed to get {key}: {error}")),
            }
        }
    }
    Ok(if failed { Ended::Failed } else { Ended::Done })
}

fn nothing(answer: &Answer) -> &'static str {
    if answer.outcome == Outcome::Absent { "no value" } else { "no such row" }
}

/// `hit from node b, read 1m 2s ago, 350ms old at worst, 9m 58s to live`.
pub(crate) fn provenance(answer: &Answer) -> String {
    let ttl =
        answer.ttl.map_or_else(|| "not kept".to_owned(), |ttl| format!("{} to live", output::duration(ttl)));
    let (age, freshness) = (output::duration(answer.age), output::duration(answer.freshness));
    format!("{} from node {}, read {age} ago, {freshness} old at worst, {ttl}", answer.outcome, answer.node)
}

/// The answer's own fields, and the key before them.
#[derive(Serialize)]
struct Keyed<'a> {
    key: &'a str,
    #[serde(flatten)]
    answer: Option<&'a Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// JSON as `json` writes it. What applications set may be anything: nothing of it may reach the terminal as a command.
fn shown(value: &[u8], json: impl FnOnce(&[u8]) -> String) -> String {
    if serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok() {
        return json(value);
    }
    match std::str::from_utf8(value) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => format!("{} bytes that are no text; --raw prints them as they are", value.len()),
    }
}

fn compact(json: &[u8]) -> String {
    String::from_utf8_lossy(json).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_can_not_drive_the_terminal() {
        assert_eq!(shown(b"{\"a\":1}", compact), "{\"a\":1}");
        assert_eq!(shown("caf\u{e9}\u{1b}[2J".as_bytes(), compact), "caf\u{e9}\\u{1b}[2J");
        assert!(shown(b"\xff\xfe\x1b", compact).starts_with("3 bytes"));
    }
}
