//! The freshness protocol in simulation: the real node, client and sync service on simulated machines, clocks, network and membership.
//!
//! Each seed is one cluster with its load and its faults, and replays exactly. Read [`scenario`] for what a seed stands for, [`truth`] for
//! what is checked at every read, [`host`] and [`network`] for how the world is simulated; `tests/README.md` says how to replay a seed.
//!
//! - `FRESHLINE_SEEDS=n`: how many seeds (400; `./test.sh simulation` runs 2000)
//! - `FRESHLINE_FIRST=k`: the first of them (1)
//! - `FRESHLINE_PLAIN=1`: with plain groups, which a quarter of the seeds are run with besides
//! - `FRESHLINE_SEED=k`: this one alone, with its trace on standard error; `FRESHLINE_WITHOUT=R5` takes a rule out

#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "offsets are small and not negative")]

use std::{env, process::ExitCode, thread, time::Instant};

use batch::{Groups, Without};
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
#[path = "simulation/plain.rs"]
mod plain;
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
        Trial::test("no_seed_serves_a_stale_value", || promise_holds(Groups::OfRows)),
        Trial::test("no_seed_breaks_the_promise_of_plain_groups", || promise_holds(Groups::PlainToo)),
    ];
    for without in Without::all() {
        let name = format!("without_{}_some_seed_serves_a_stale_value", without.name());
        trials.push(Trial::test(name, move || rule_is_needed(without, Groups::OfRows)));
    }
    for without in Without::plain() {
        let name = format!("without_{}_some_seed_breaks_the_promise", without.name());
        trials.push(Trial::test(name, move || rule_is_needed(without, Groups::PlainToo)));
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
        .spawn(move || {
            let plain = Groups::wanted() == Groups::PlainToo;
            world::run(Scenario { plain, ..Scenario::draw(seed) }, without)
        })
        .expect("start a thread")
        .join();
    let Ok(ended) = ended else { return ExitCode::FAILURE };
    println!("{}", serde_json::to_string(&ended).expect("plain figures"));
    ExitCode::SUCCESS
}

/// Runs one seed and shows what happens.
fn replay(seed: u64) -> ExitCode {
    let without = Without::parse(&env::var("FRESHLINE_WITHOUT").unwrap_or_default());
    let process = &mut batch::process(seed, without, Groups::wanted());
    let status = process.env("FRESHLINE_TRACE", "1").status().expect("start a process");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds twice, the second time with their traces as a replay does.
fn replays_exactly() -> Result<(), Failed> {
    for (seed, groups) in (first()..).take(12).zip([Groups::OfRows, Groups::PlainToo].into_iter().cycle()) {
        let once = batch::simulate(seed, Without::Nothing, groups)?;
        let again = &mut batch::process(seed, Without::Nothing, groups);
        let again = batch::simulate_by(again.env("FRESHLINE_TRACE", "1"), seed)?;
        if once.hash != again.hash {
            return Err(format!("seed {seed} does not replay: {:x} and {:x}", once.hash, again.hash).into());
        }
    }
    Ok(())
}

fn promise_holds(groups: Groups) -> Result<(), Failed> {
    let results = batch::simulate_all(seeds(groups), Without::Nothing, groups, |_| false);
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
        "{} of {} seeds failed; replay one by {}FRESHLINE_SEED=.. cargo test -p tests --test simulation\n{told}",
        failures.len(),
        results.len(),
        if groups == Groups::PlainToo { "FRESHLINE_PLAIN=1 " } else { "" }
    )
    .into())
}

fn rule_is_needed(without: Without, groups: Groups) -> Result<(), Failed> {
    let broken = |result: &Result<world::Ended, String>| {
        result.as_ref().is_ok_and(|ended| !ended.seen.broken.is_empty())
    };
    let results = batch::simulate_all(seeds(groups), without, groups, broken);
    let Some((seed, Ok(ended))) = results.iter().find(|(_, result)| broken(result)) else {
        return Err(format!("{} seeds do not show what {} is for", results.len(), without.name()).into());
    };
    figures::caught(without, *seed, &ended.seen.broken[0]);
    Ok(())
}

/// Seeds with plain groups come to a quarter of the others.
fn seeds(groups: Groups) -> std::ops::Range<u64> {
    let count = if groups == Groups::PlainToo { count().div_ceil(4) } else { count() };
    first()..first() + count
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
