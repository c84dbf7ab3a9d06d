//! The freshness protocol, searched exhaustively for small clusters (stateright).
//!
//! The decisions are the real code's: who must acknowledge a removal (`ring::plan`, over real rings), what the gate lets in
//! (`memory::gate`), who serves, answers and takes (`memory::protocol`). The model is what stands around them: which
//! step follows which. `docs/proof.md` says what it leaves out.
//!
//! `FRESHLINE_MODEL=large` searches larger configurations too; `FRESHLINE_MODEL=traces` prints the counterexamples of the rules
//! that are taken out; `FRESHLINE_MODEL=off` skips all of it.

mod model {
    pub(crate) mod cluster;
    pub(crate) mod configurations;
    pub(crate) mod coverage;
    pub(crate) mod decisions;
    pub(crate) mod rings;
    pub(crate) mod rules;
    pub(crate) mod search;
    pub(crate) mod state;
    pub(crate) mod steps;
}

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};

use model::configurations::{Configuration, LARGE, SMALL};
use model::rules::{IMPLIED, IMPLIED_OF_MIRRORS, IMPLIED_WIDELY, REMOVALS};
use model::search::{Figures, promise_holds, promise_holds_without, violation_is_found};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let wish = std::env::var("FRESHLINE_MODEL").unwrap_or_default();
    let (large, traces) = (wish.contains("large"), wish.contains("traces"));
    let figures = Arc::new(Figures::default());
    let mut trials = Vec::new();
    for configuration in SMALL.iter().chain(LARGE.iter().filter(|_| large)) {
        let figures = figures.clone();
        let name = format!("holds::{}", named(configuration));
        trials.push(Trial::test(name, move || promise_holds(configuration, &figures)));
    }
    for removal in REMOVALS {
        let figures = figures.clone();
        let name = format!("without::{:?}::{}", removal.rule, named(&removal.configuration));
        trials.push(Trial::test(name, move || violation_is_found(removal, traces, &figures)));
    }
    for &rule in IMPLIED {
        for configuration in if large { IMPLIED_WIDELY } else { &IMPLIED_WIDELY[..1] } {
            let figures = figures.clone();
            let name = format!("implied::{rule:?}::{}", named(configuration));
            trials.push(Trial::test(name, move || promise_holds_without(rule, configuration, &figures)));
        }
    }
    for (rule, configuration) in IMPLIED_OF_MIRRORS {
        let figures = figures.clone();
        let name = format!("implied::{rule:?}::{}", named(configuration));
        trials.push(Trial::test(name, move || promise_holds_without(*rule, configuration, &figures)));
    }
    let off = wish == "off";
    if off {
        trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    }
    let began = Instant::now();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list && !off {
        println!("{}", figures.line(began.elapsed()));
    }
    conclusion.exit_code()
}

/// A configuration's name as a test's.
fn named(configuration: &Configuration) -> String {
    configuration.name.replace([' ', ',', ':'], "_").replace("__", "_")
}
