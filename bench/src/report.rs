//! What a measurement prints: facts, a Markdown table, and ratios that a script can read.

use std::{fmt, time::Duration};

use crate::core;

/// The outcome of a measurement.
#[derive(Debug)]
pub(crate) struct Report {
    title: String,
    facts: Vec<String>,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    ratios: Vec<(String, f64)>,
    load: Option<f64>,
}

impl Report {
    /// Begins a report, and looks at the machine's load before anything is measured.
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            facts: Vec::new(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
            ratios: Vec::new(),
            load: core::load(),
        }
    }

    /// Adds what a reader must know to judge the table.
    pub(crate) fn fact(&mut self, fact: impl Into<String>) {
        self.facts.push(fact.into());
    }

    /// Adds a row; the first cell names it.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Adds a ratio. Its name is one word.
    pub(crate) fn ratio(&mut self, name: impl Into<String>, value: f64) {
        self.ratios.push((name.into(), value));
    }

    fn line(f: &mut fmt::Formatter<'_>, cells: &[String], widths: &[usize]) -> fmt::Result {
        for (index, width) in widths.iter().enumerate() {
            let cell = cells.get(index).map_or("", String::as_str);
            // The first column is text, the others are figures.
            if index == 0 { write!(f, "| {cell:width$} ")? } else { write!(f, "| {cell:>width$} ")? }
        }
        writeln!(f, "|")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n", self.title)?;
        if cfg!(debug_assertions) {
            writeln!(f, "**Not figures: a development build. Run it with `--release`.**\n")?;
        }
        let load = self.load.map_or_else(String::new, |load| format!(", load {load:.2} before the run"));
        writeln!(f, "- {}{load}", core::machine())?;
        for fact in &self.facts {
            writeln!(f, "- {fact}")?;
        }
        writeln!(f)?;
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let cells = self.rows.iter().filter_map(|row| row.get(index));
                cells.chain(self.columns.get(index)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        Self::line(f, &self.columns, &widths)?;
        let rules: Vec<String> =
            widths
                .iter()
                .enumerate()
                .map(|(index, &width)| {
                    if index == 0 { "-".repeat(width) } else { format!("{}:", "-".repeat(width.max(2) - 1)) }
                })
                .collect();
        Self::line(f, &rules, &widths)?;
        for row in &self.rows {
            Self::line(f, row, &widths)?;
        }
        writeln!(f)?;
        if cfg!(debug_assertions) {
            return writeln!(f, "no ratios: a development build claims none");
        }
        for (name, value) in &self.ratios {
            writeln!(f, "ratio {name} {value:.3}")?;
        }
        Ok(())
    }
}

/// A count or rate, its digits in groups of three.
pub(crate) fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.3} ms") } else { format!("{millis:.1} ms") }
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// One quantity divided by another; 0 if there is nothing to divide by.
pub(crate) fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_markdown_table_that_ends_in_ratios_unless_the_build_can_claim_none() {
        let mut report = Report::new("get", &["call", "ops/s"]);
        report.fact("one fact");
        report.row(["Get", "1 000"]);
        report.ratio("get", 0.5);
        let text = report.to_string();
        assert!(text.starts_with("## get\n"), "{text}");
        assert!(text.contains("| call | ops/s |\n| ---- | ----: |\n| Get  | 1 000 |\n"), "{text}");
        let last = text.lines().last().unwrap();
        if cfg!(debug_assertions) {
            assert!(!text.contains("\nratio "), "{text}");
        } else {
            assert_eq!(last, "ratio get 0.500");
        }
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        for (value, text) in [(0.0, "0"), (999.4, "999"), (1000.0, "1 000"), (1_234_567.0, "1 234 567")] {
            assert_eq!(count(value), text);
        }
    }
}
