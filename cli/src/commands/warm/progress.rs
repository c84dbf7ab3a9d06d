//! How far it is: a bar on a terminal, a line now and then elsewhere; always on standard error, and never with `--json`.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;

use super::tally::Tally;
use crate::{output::Output, progress};

/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Shows how far it is.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    said: Cell<Instant>,
    output: Output,
}

impl Progress {
    /// `size` is that of the file, where there is one.
    pub(super) fn start(size: Option<u64>, output: &Output) -> Self {
        let bar = progress::is_seen(output).then(|| progress::bar(size));
        Self { bar, said: Cell::new(Instant::now()), output: output.clone() }
    }

    /// The file has been read up to `end`.
    pub(super) fn note(&self, end: u64, tally: &Tally) {
        match &self.bar {
            Some(bar) => {
                progress::show(bar);
                bar.set_position(end);
                bar.set_message(told(tally));
            }
            None if !self.output.json && self.said.get().elapsed() >= LINE => {
                self.said.set(Instant::now());
                self.output.note(&told(tally));
            }
            None => {}
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn told(tally: &Tally) -> String {
    let bad = match tally.bad + tally.failed() {
        0 => String::new(),
        bad => format!(", {bad} bad"),
    };
    format!(
        "{} keys: {} filled, {} there already, {} without a row{bad}",
        tally.keys(),
        tally.filled,
        tally.already,
        tally.absent
    )
}
