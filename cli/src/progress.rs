//! How far a command is: told on standard error, on a terminal alone, and not before it has taken a second. With `--json` nobody is told.

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior};

use crate::output::Output;

/// What is over sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

/// Whether anybody sees it.
pub(crate) fn is_seen(output: &Output) -> bool {
    !output.json && io::stderr().is_terminal()
}

/// A bar of this length, or a spinner without one; it draws from the second second on.
pub(crate) fn bar(length: Option<u64>) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = match length {
        Some(_) => "{bar:30} {percent:>3} %  {msg}  {eta} left",
        None => "{spinner} {elapsed}  {wide_msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_draw_target(ProgressDrawTarget::hidden());
    bar
}

/// Lets a hidden bar be seen, once it has gone on for long enough.
pub(crate) fn show(bar: &ProgressBar) {
    if bar.is_hidden() && bar.elapsed() >= PATIENCE {
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    }
}

/// Runs `work` and meanwhile says what `told` says: how far it is, if that is known, and a few words.
///
/// Dropped, it leaves no line behind.
pub(crate) async fn during<T>(
    output: &Output,
    length: Option<u64>,
    told: impl Fn() -> (u64, String),
    work: impl Future<Output = T>,
) -> T {
    if !is_seen(output) {
        return work.await;
    }
    let bar = Cleared(bar(length));
    let mut ticks = tokio::time::interval_at(Instant::now() + PATIENCE, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => {
                let (position, words) = told();
                show(&bar.0);
                bar.0.set_message(words);
                if length.is_some() { bar.0.set_position(position) } else { bar.0.tick() }
            }
        }
    }
}

struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
