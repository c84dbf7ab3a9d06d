//! What is wrong with a catalog: every problem with its place and its remedy, all at once.

use std::fmt;
use std::ops::Range;

/// How grave a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Nothing may start with this catalog.
    Error,
    /// Works, but probably not as meant.
    Warning,
}

/// One thing that is wrong, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the file, as it was passed to [`Catalog::parse`](crate::Catalog::parse).
    pub file: String,
    /// Line in the file, counted from 1; `None` where no line is to blame.
    pub line: Option<usize>,
    /// Whether it stops the start.
    pub severity: Severity,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// All problems of a catalog, in the order of their lines. Displays one per line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The problems: errors and warnings.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing stops the start; there may be warnings.
    pub fn is_ok(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The problems that stop the start.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// The problems that don't.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Warning)
    }

    pub(crate) fn sort(&mut self) {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems.dedup();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Collects problems of one file.
pub(crate) struct Collector<'a> {
    file: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, problems: Vec::new() }
    }

    /// Line, counted from 1, of a byte offset.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        self.text.get(..end).map_or(0, |before| before.matches('\n').count()) + 1
    }

    pub(crate) fn error(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Severity::Error, span, message.into(), remedy.into());
    }

    pub(crate) fn warn(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Severity::Warning, span, message.into(), remedy.into());
    }

    fn push(&mut self, severity: Severity, span: &Range<usize>, message: String, remedy: String) {
        let line = Some(self.line(span.start));
        let remedy = (!remedy.is_empty()).then_some(remedy);
        self.problems.push(Problem { file: self.file.to_owned(), line, severity, message, remedy });
    }

    pub(crate) fn finish(self) -> Report {
        let mut report = Report { problems: self.problems };
        report.sort();
        report
    }
}

/// The candidate that `word` was probably meant to be, if one is near enough.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(word.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, with a swap of neighbours as one step.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = (0..=a.len()).map(|i| vec![i; b.len() + 1]).collect();
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_file_line_message_and_remedy() {
        let mut problems = Collector::new("shop.toml", "a\nb\nc");
        problems.error(&(2..3), "b is wrong", "write c");
        problems.warn(&(0..1), "a is odd", "");
        let report = problems.finish();
        assert_eq!(report.to_string(), "shop.toml:1: warning: a is odd\nshop.toml:2: b is wrong; write c");
        assert!(!report.is_ok());
    }

    #[test]
    fn a_typo_finds_its_word_and_nonsense_finds_none() {
        let words = ["name", "key", "query", "ttl", "negative_ttl"];
        assert_eq!(did_you_mean("qurey", words), Some("query"));
        assert_eq!(did_you_mean("negativ_ttl", words), Some("negative_ttl"));
        assert_eq!(did_you_mean("Name", words), Some("name"));
        assert_eq!(did_you_mean("colour", words), None);
    }
}
