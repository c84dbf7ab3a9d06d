//! What happened, in order: a hash of all of it, and the lines themselves when a seed is replayed.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::clock::{self, Party};

#[derive(Default)]
struct Trace {
    hasher: DefaultHasher,
    line: String,
}

static SHOWN: AtomicBool = AtomicBool::new(false);

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

/// Shows the lines on standard error from now on, with what the code under test logs.
///
/// Not on the simulation's own thread, from whose randomness the hash tables of what prints the log would draw.
pub(crate) fn show() {
    SHOWN.store(true, Relaxed);
    let filter = tracing_subscriber::EnvFilter::try_from_env("FRESHLINE_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("cache_node=debug,client=debug,sync_service=debug")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_timer(Timer)
        .init();
}

/// Notes what happened.
pub(crate) fn note(what: fmt::Arguments<'_>) {
    TRACE.with_borrow_mut(|trace| {
        trace.line.clear();
        let _ = write!(trace.line, "{:>6} {what}", clock::now());
        let Trace { hasher, line } = trace;
        line.hash(hasher);
        if SHOWN.load(Relaxed) {
            eprintln!("{line}");
        }
    });
}

/// Notes that a packet has arrived. Not shown; there are too many.
pub(crate) fn network(from: Party, to: Party, what: &str) {
    TRACE.with_borrow_mut(|trace| (clock::now(), from, to, what).hash(&mut trace.hasher));
}

/// The hash of all that happened so far.
pub(crate) fn hash() -> u64 {
    TRACE.with_borrow(|trace| trace.hasher.finish())
}

struct Timer;

impl tracing_subscriber::fmt::time::FormatTime for Timer {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> fmt::Result {
        match clock::running() {
            Some(party) => write!(w, "{:>6} {party:<3}", clock::now()),
            None => write!(w, "{:>6} -  ", clock::now()),
        }
    }
}
