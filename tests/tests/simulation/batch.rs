//! Many simulations: each in a process of its own, as many at a time as there are cores.
//!
//! A simulation must not depend on anything but its seed. Hash tables, tokio's `select!` and jitter draw from the system's randomness, and
//! tokio counts its runtimes for the whole process; a process for each seed, with the randomness of `steady.c` preloaded, settles all of it.

use std::{
    env,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use ring::rules::Rule;

use crate::world::Ended;

/// How long one simulation may take of real time.
const LIMIT: Duration = Duration::from_mins(2);

/// What is taken out of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Without {
    Nothing,
    /// R2, which is a setting.
    Quarantine,
    Rule(Rule),
}

impl Without {
    /// The rule's name in the design.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "-",
            Self::Quarantine => "R2",
            Self::Rule(rule) => rule.name(),
        }
    }

    /// What plain groups rest on.
    pub(crate) fn plain() -> Vec<Self> {
        Rule::PLAIN.into_iter().map(Self::Rule).collect()
    }

    /// All that can be taken out of the protocol for rows.
    pub(crate) fn all() -> Vec<Self> {
        let mut all: Vec<_> = Rule::ALL.into_iter().map(Self::Rule).collect();
        all.push(Self::Quarantine);
        all.sort_by_key(|without| without.name());
        all
    }

    /// The one of this name, or nothing.
    pub(crate) fn parse(name: &str) -> Self {
        let mut all = Self::all().into_iter().chain(Self::plain());
        all.find(|without| without.name() == name).unwrap_or(Self::Nothing)
    }
}

/// Which groups a simulation has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Groups {
    /// Groups of rows alone.
    OfRows,
    /// Plain groups too, which applications write.
    PlainToo,
}

impl Groups {
    /// What the environment asks for.
    pub(crate) fn wanted() -> Self {
        if env::var_os("FRESHLINE_PLAIN").is_some() { Self::PlainToo } else { Self::OfRows }
    }
}

/// The simulation that this process is to run, if it is one for that.
pub(crate) fn assigned() -> Option<(u64, Without)> {
    let seed = env::var("FRESHLINE_SIMULATE").ok()?.parse().ok()?;
    Some((seed, Without::parse(&env::var("FRESHLINE_WITHOUT").unwrap_or_default())))
}

/// Ends this process when a simulation takes too long: it would run for ever.
pub(crate) fn watch_over() {
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("the simulation has taken {LIMIT:?} of real time and does not end");
        std::process::exit(99);
    });
}

/// A process for one simulation.
pub(crate) fn process(seed: u64, without: Without, groups: Groups) -> Command {
    let steady = env!("FRESHLINE_STEADY");
    assert!(
        !steady.is_empty(),
        "tests/build.rs could not build steady.c: install a C compiler and build again"
    );
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command
        .env("LD_PRELOAD", steady)
        .env("FRESHLINE_STEADY_SEED", seed.to_string())
        .env("FRESHLINE_SIMULATE", seed.to_string())
        .env("FRESHLINE_WITHOUT", without.name())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    match groups {
        Groups::OfRows => command.env_remove("FRESHLINE_PLAIN"),
        Groups::PlainToo => command.env("FRESHLINE_PLAIN", "1"),
    };
    command
}

/// Runs one simulation; `Err` has what a process said that did not end well.
pub(crate) fn simulate(seed: u64, without: Without, groups: Groups) -> Result<Ended, String> {
    simulate_by(&mut process(seed, without, groups), seed)
}

/// Runs the simulation that `process` stands for.
pub(crate) fn simulate_by(process: &mut Command, seed: u64) -> Result<Ended, String> {
    let output = process.output().map_err(|error| format!("seed {seed}: can't be started: {error}"))?;
    if output.status.success()
        && let Some(ended) =
            output.stdout.split(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice(line).ok())
    {
        return Ok(ended);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = said.lines().rev().take(6).collect();
    let last: Vec<_> = last.into_iter().rev().collect();
    Err(format!("seed {seed}: {}: {}", output.status, last.join("\n")))
}

/// Runs the simulations of `seeds` until `enough` says so, and returns what they came to, in the order of the seeds.
pub(crate) fn simulate_all(
    seeds: impl Iterator<Item = u64> + Send,
    without: Without,
    groups: Groups,
    enough: impl Fn(&Result<Ended, String>) -> bool + Sync,
) -> Vec<(u64, Result<Ended, String>)> {
    let seeds = Mutex::new((seeds, false));
    let results = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = {
                        let mut seeds = seeds.lock().expect("no worker panics");
                        if seeds.1 { None } else { seeds.0.next() }
                    };
                    let Some(seed) = seed else { return };
                    let result = simulate(seed, without, groups);
                    if enough(&result) {
                        seeds.lock().expect("no worker panics").1 = true;
                    }
                    results.lock().expect("no worker panics").push((seed, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no worker panics");
    results.sort_by_key(|(seed, _)| *seed);
    results
}
