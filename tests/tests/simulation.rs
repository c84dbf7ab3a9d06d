//! The freshness protocol in simulation: the real node, client and sync service on simulated machines, clocks, network and membership.
//!
//! Each seed is one cluster with its load and its faults, and replays exactly. Read [`scenario`] for what a seed stands for, [`truth`] for
//! what is checked at every read, [`host`] and [`network`] for how the world is simulated; `tests/README.md` says how to replay a seed.
//!
//! - `FRESHLINE_SEEDS=n`: how many seeds (400; `./test.sh simulation` runs 2000)
//! - `FRESHLINE_FIRST=k`: the first of them (1)
//! - `FRESHLINE_SEED=k`: this one alone, with its trace on standard error; `FRESHLINE_WITHOUT=R5` takes a rule out

#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "offsets are small and not negative")]

use std::{env, process::ExitCode, thread, time::Instant};

use batch::Without;
use libtest_mimic::{Arguments, Failed, Trial};
use scenario::Scenario;

#[path = "simulation/batch.rs"]
mod batch;
#[path = "simulation/clock.rs"]
mod clock;
#[path = "simulation/database.rs"]
mod database;
#[path = "simulation/direct.rs"]
mod direct;
#[path = "simulation/etcd.rs"]
mod etcd;
#[path = "simulation/figures.rs"]
mod figures;
#[path = "simulation/host.rs"]
mod host;
#[path = "simulation/kafka.rs"]
mod kafka;
#[path = "simulation/membership.rs"]
mod membership;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/processes.rs"]
mod processes;
#[path = "simulation/registration.rs"]
mod registration;
#[path = "simulation/scenario.rs"]
mod scenario;
#[path = "simulation/stream.rs"]
mod stream;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/truth.rs"]
mod truth;
#[path = "simulation/world.rs"]
mod world;

/// The stack of a simulation's thread, in bytes.
const STACK: usize = 16 << 20;

fn main() -> ExitCode {
    if let Some((seed, without)) = batch::assigned() {
        return simulate(seed, without);
    }
    if let Some(seed) = number("FRESHLINE_SEED") {
        return replay(seed);
    }
    if env::var("FRESHLINE_SIMULATION").is_ok_and(|wish| wish == "off") {
        println!("simulation: switched off by FRESHLINE_SIMULATION=off");
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Each test uses all cores by itself.
    arguments.test_threads = Some(1);
    let mut trials = vec![
        Trial::test("a_seed_replays_exactly", replays_exactly),
        Trial::test("no_seed_serves_a_stale_value", promise_holds),
    ];
    for without in Without::all() {
        let name = format!("without_{}_some_seed_serves_a_stale_value", without.name());
        trials.push(Trial::test(name, move || rule_is_needed(without)));
    }
    let begun = Instant::now();
    let conclusion = libtest_mimic::run(&arguments, trials);
    figures::tell(begun.elapsed());
    conclusion.exit_code()
}

/// Runs one simulation in this process and tells how it ended.
fn simulate(seed: u64, without: Without) -> ExitCode {
    batch::watch_over();
    if env::var_os("FRESHLINE_TRACE").is_some() {
        trace::show();
    }
    // On a thread of its own, whose randomness begins with the seed: what this one has drawn, more of it with a trace, changes nothing.
    let ended = thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || world::run(Scenario::draw(seed), without))
        .expect("start a thread")
        .join();
    let Ok(ended) = ended else { return ExitCode::FAILURE };
    println!("{}", serde_json::to_string(&ended).expect("plain figures"));
    ExitCode::SUCCESS
}

/// Runs one seed and shows what happens.
fn replay(seed: u64) -> ExitCode {
    let without = Without::parse(&env::var("FRESHLINE_WITHOUT").unwrap_or_default());
    let status = batch::process(seed, without).env("FRESHLINE_TRACE", "1").status().expect("start a process");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds twice, the second time with their traces as a replay does.
fn replays_exactly() -> Result<(), Failed> {
    for seed in first()..first() + 12 {
        let once = batch::simulate(seed, Without::Nothing)?;
        let again =
            batch::simulate_by(batch::process(seed, Without::Nothing).env("FRESHLINE_TRACE", "1"), seed)?;
        if once.hash != again.hash {
            return Err(format!("seed {seed} does not replay: {:x} and {:x}", once.hash, again.hash).into());
        }
    }
    Ok(())
}

fn promise_holds() -> Result<(), Failed> {
    let seeds = first()..first() + count();
    let results = batch::simulate_all(seeds, Without::Nothing, |_| false);
    let mut failures = Vec::new();
    for (seed, result) in &results {
        match result {
            Ok(ended) if ended.seen.broken.is_empty() => {}
            Ok(ended) => failures.push(format!("seed {seed}: {}", ended.seen.broken.join("\n  "))),
            Err(error) => failures.push(error.clone()),
        }
    }
    figures::add(&results);
    if failures.is_empty() {
        return Ok(());
    }
    let told = failures.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    Err(format!(
        "{} of {} seeds failed; replay one by FRESHLINE_SEED=.. cargo test -p tests --test simulation\n{told}",
        failures.len(),
        results.len()
    )
    .into())
}

fn rule_is_needed(without: Without) -> Result<(), Failed> {
    let broken = |result: &Result<world::Ended, String>| {
        result.as_ref().is_ok_and(|ended| !ended.seen.broken.is_empty())
    };
    let seeds = first()..first() + count();
    let results = batch::simulate_all(seeds, without, broken);
    let Some((seed, Ok(ended))) = results.iter().find(|(_, result)| broken(result)) else {
        return Err(format!("{} seeds do not show what {} is for", results.len(), without.name()).into());
    };
    figures::caught(without, *seed, &ended.seen.broken[0]);
    Ok(())
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn count() -> u64 {
    number("FRESHLINE_SEEDS").unwrap_or(400)
}

fn first() -> u64 {
    number("FRESHLINE_FIRST").unwrap_or(1)
}
