//! Runs the checker and says what it found.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use stateright::{Checker, HasDiscoveries, Model, Path};

use super::cluster::{Cluster, PROMISE};
use super::configurations::Configuration;
use super::coverage::Seen;
use super::rings::NAMES;
use super::rules::{Removal, Rule};
use super::state::State;
use super::steps::Step;

/// What all searches of a run came to.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    configurations: AtomicUsize,
    states: AtomicUsize,
    depth: AtomicUsize,
    removals: AtomicUsize,
    violations: AtomicUsize,
    implied: AtomicUsize,
}

impl Figures {
    /// All of it in one line.
    pub(crate) fn line(&self, took: Duration) -> String {
        format!(
            "model: {} configurations hold, {} states, depth {}; {} times a rule taken out, {} violations found; {} more implied by others; {:.1} s",
            self.configurations.load(Relaxed),
            self.states.load(Relaxed),
            self.depth.load(Relaxed),
            self.removals.load(Relaxed),
            self.violations.load(Relaxed),
            self.implied.load(Relaxed),
            took.as_secs_f64()
        )
    }
}

/// Searches a configuration whole; fails with the shortest trace if the promise is broken.
pub(crate) fn promise_holds(configuration: &Configuration, figures: &Figures) -> Result<(), Failed> {
    let began = Instant::now();
    let cluster = Cluster::new(*configuration, None);
    let coverage = cluster.coverage.clone();
    let failures = HasDiscoveries::AnyOf(BTreeSet::from([PROMISE]));
    let checker = cluster.checker().threads(1).finish_when(failures).spawn_bfs().join();
    if let Some(path) = checker.discovery(PROMISE) {
        return Err(told(checker.model(), path).into());
    }
    let missing: Vec<_> = checker
        .model()
        .properties()
        .iter()
        .map(|property| property.name)
        .filter(|name| *name != PROMISE && checker.discovery(name).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(format!("never so: {missing:?}").into());
    }
    let unseen: Vec<_> = configuration.sees.iter().filter(|seen| coverage.count(**seen) == 0).collect();
    let counts: Vec<_> = Seen::ALL.iter().map(|seen| format!("{seen:?} {}", coverage.count(*seen))).collect();
    println!(
        "{}: {} states, {} steps, depth {}, {:.1} s; {}",
        configuration.name,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64(),
        counts.join(", ")
    );
    figures.configurations.fetch_add(1, Relaxed);
    figures.states.fetch_add(checker.unique_state_count(), Relaxed);
    figures.depth.fetch_max(checker.max_depth(), Relaxed);
    if unseen.is_empty() { Ok(()) } else { Err(format!("not once seen: {unseen:?}").into()) }
}

/// Searches with a rule out until the promise is broken; fails if it is not.
pub(crate) fn violation_is_found(removal: &Removal, traces: bool, figures: &Figures) -> Result<(), Failed> {
    let cluster = Cluster::new(removal.configuration, Some(removal.rule));
    let failures = HasDiscoveries::AnyOf(BTreeSet::from([PROMISE]));
    let checker = cluster.checker().threads(1).finish_when(failures).spawn_bfs().join();
    figures.removals.fetch_add(1, Relaxed);
    let Some(path) = checker.discovery(PROMISE) else {
        let states = checker.unique_state_count();
        return Err(format!("{}: the promise holds in all {states} states without it", removal.rule).into());
    };
    figures.violations.fetch_add(1, Relaxed);
    let length = path.clone().into_actions().len();
    println!("{}: broken after {length} steps, {} states", removal.rule, checker.unique_state_count());
    if traces {
        println!("{}", told(checker.model(), path));
    }
    Ok(())
}

/// Searches with a rule out whose place other rules take; fails if the promise is broken.
pub(crate) fn promise_holds_without(
    rule: Rule,
    configuration: &Configuration,
    figures: &Figures,
) -> Result<(), Failed> {
    let cluster = Cluster::new(*configuration, Some(rule));
    let failures = HasDiscoveries::AnyOf(BTreeSet::from([PROMISE]));
    let checker = cluster.checker().threads(1).finish_when(failures).spawn_bfs().join();
    figures.implied.fetch_add(1, Relaxed);
    figures.states.fetch_add(checker.unique_state_count(), Relaxed);
    println!("{rule}: implied by the others, {} states", checker.unique_state_count());
    match checker.discovery(PROMISE) {
        Some(path) => Err(format!("{rule} is needed after all: {}", told(checker.model(), path)).into()),
        None => Ok(()),
    }
}

/// A trace in words.
fn told(cluster: &Cluster, path: Path<State, Step>) -> String {
    let mut lines = vec![format!("counterexample in \"{}\":", cluster.configuration.name)];
    let mut end = None;
    for (at, (state, step)) in path.into_vec().into_iter().enumerate() {
        if let Some(step) = step {
            lines.push(format!("  {:2}. [epoch {}] {step}", at + 1, state.epoch));
        }
        end = Some(state);
    }
    if let Some(state) = end {
        let stale: Vec<_> = cluster.stale(&state).map(|node| NAMES[node]).collect();
        lines.push(format!("  now {} serves a value that lacks a delivered change", stale.join(" and ")));
        for (name, node) in NAMES.iter().zip(&state.nodes) {
            lines.push(format!("  {name}: {node:?}"));
        }
        lines.push(format!("  changes: {:?}", state.changes));
    }
    lines.join("\n")
}
