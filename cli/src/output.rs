//! What the command prints: text for people, JSON for programs.

mod table;

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use serde::Serialize;

/// Where a command's answers go. Data on standard output, all else on standard error.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// `--json` was given.
    pub(crate) json: bool,
    colour: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        // https://no-color.org: set and not empty means no colour.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: !refused && io::stdout().is_terminal() }
    }

    /// The same with or without `--json`.
    pub(crate) fn with_json(&self, json: bool) -> Self {
        Self { json, ..self.clone() }
    }

    /// Whether colours may be used on standard output.
    pub(crate) fn is_coloured(&self) -> bool {
        self.colour
    }

    /// Prints one line of data.
    #[expect(clippy::unused_self, reason = "all that is printed goes through here")]
    pub(crate) fn line(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        written(writeln!(io::stdout().lock(), "{}", text.as_ref()))
    }

    /// Prints bytes as they are.
    #[expect(clippy::unused_self, reason = "all that is printed goes through here")]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        written(out.write_all(bytes).and_then(|()| out.flush()))
    }

    /// Prints a value as indented JSON.
    pub(crate) fn value(&self, value: &impl Serialize) -> anyhow::Result<()> {
        // Values from nodes are JSON text already; only this way they are indented too.
        self.line(indented(&serde_json::to_vec(value).context("write JSON")?))
    }

    /// Prints rows under a heading, in columns.
    pub(crate) fn table(
        &self,
        heading: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> anyhow::Result<()> {
        let rows: Vec<Vec<String>> = rows.into_iter().collect();
        self.line(table::laid_out(heading, &rows, table::terminal(), self.colour))
    }

    /// Prints names and values below each other.
    pub(crate) fn facts(&self, facts: &[(&str, String)]) -> anyhow::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in facts {
            self.line(format!("{}  {value}", self.dim(&format!("{name:<width$}"))))?;
        }
        Ok(())
    }

    /// Says something beside the data, on standard error.
    #[expect(clippy::unused_self, reason = "all that is printed goes through here")]
    pub(crate) fn note(&self, text: &str) {
        // Nobody is left to tell if standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Says what went wrong, on standard error, in one line.
    pub(crate) fn error(&self, text: &str) {
        self.note(&format!("freshline: {}", text.trim_end().replace('\n', "\n  ")));
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A duration in two units at most: `9m 58s`, `1.24s`, `3.4ms`.
pub(crate) fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 {
        let (big, small, names) = match seconds {
            86400.. => (seconds / 86400, seconds % 86400 / 3600, ("d", "h")),
            3600.. => (seconds / 3600, seconds % 3600 / 60, ("h", "m")),
            _ => (seconds / 60, seconds % 60, ("m", "s")),
        };
        return if small == 0 {
            format!("{big}{}", names.0)
        } else {
            format!("{big}{} {small}{}", names.0, names.1)
        };
    }
    let millis = duration.as_secs_f64() * 1e3;
    match millis {
        1000.0.. => format!("{:.1}s", millis / 1e3),
        10.0.. => format!("{millis:.0}ms"),
        _ => format!("{millis:.1}ms"),
    }
}

/// Bytes in the largest unit that leaves a whole part: `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// JSON with an indent, in the order and with the digits in which it came.
pub(crate) fn indented(json: &[u8]) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut opened, mut in_string, mut escaped) = (0_usize, false, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    for c in String::from_utf8_lossy(json).chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        // `{}` stays on one line.
        if opened != closes {
            line(&mut out, depth);
        }
        opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

/// A reader that has seen enough, such as `head`, is no failure.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("write the answer"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_read_well() {
        let cases = [
            (340, "0.3ms"),
            (12_300, "12ms"),
            (1_240_000, "1.2s"),
            (60_000_000, "1m"),
            (598_000_000, "9m 58s"),
            (7_260_000_000, "2h 1m"),
            (90_000_000_000, "1d 1h"),
        ];
        for (micros, expected) in cases {
            assert_eq!(duration(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn sizes_read_well() {
        for (size, expected) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (256 << 20, "256.0 MiB")] {
            assert_eq!(bytes(size), expected);
        }
    }

    #[test]
    fn indenting_changes_nothing_but_space() {
        let cases = [
            (
                r#"{"id":18446744073709551615,"d":1.10}"#,
                "{\n  \"id\": 18446744073709551615,\n  \"d\": 1.10\n}",
            ),
            ("[]", "[]"),
            (r#"[{"a":{}},null]"#, "[\n  {\n    \"a\": {}\n  },\n  null\n]"),
            (r#"{"t":"a, \"b\": {c} \\"}"#, "{\n  \"t\": \"a, \\\"b\\\": {c} \\\\\"\n}"),
            ("{ \"a\" : 1 }", "{\n  \"a\": 1\n}"),
        ];
        for (json, expected) in cases {
            assert_eq!(indented(json.as_bytes()), expected, "{json}");
        }
    }
}
