//! Real processes, servers and networks, broken on purpose under load. Ends with its figures in one line.
//!
//! Three nodes with two copies of each slot and two sync services, each a process on a host of its own (a network namespace), work on real
//! MySQL, Canal, Kafka and a cluster of three etcd members, while many clients read and a writer per row changes rows, until the time is
//! over. Meanwhile processes are killed, restarted and frozen, links are cut, and etcd loses its leader. What every reader saw is judged by
//! [`tests::history`]; at the end everything is mended, the stream drained, and each node's answer for every row compared with the database.
//!
//! - `FRESHLINE_CHAOS=30m`: for how long to break things; 2 minutes otherwise. `FRESHLINE_CHAOS_SEED=7`: the faults of an earlier run, in
//!   their order and kind; what else happens is the machine's.
//! - Needs a container engine and root, for the namespaces; without them it says so and skips, or fails under
//!   `FRESHLINE_CONTAINERS=required`.
//!
//! A shorter trial does the same to nodes of a fixed list, without etcd. Another one shows that the judge can find something: it loses changes by moving the consumer group's offset, and has to be caught.

use std::{pin::Pin, process::ExitCode, sync::Arc, time::Duration};

use libtest_mimic::{Arguments, Trial};
use tests::engine::{self, Engine};
use tokio::{runtime::Runtime, sync::OnceCell};

use fleet::Members;
use servers::Servers;

#[path = "chaos/deliveries.rs"]
mod deliveries;
#[path = "chaos/etcd.rs"]
mod etcd;
#[path = "chaos/faults.rs"]
mod faults;
#[path = "chaos/fleet.rs"]
mod fleet;
#[path = "chaos/load.rs"]
mod load;
#[path = "chaos/outages.rs"]
mod outages;
#[path = "chaos/readers.rs"]
mod readers;
#[path = "chaos/registers.rs"]
mod registers;
#[path = "chaos/report.rs"]
mod report;
#[path = "chaos/run.rs"]
mod run;
#[path = "chaos/servers.rs"]
mod servers;

/// For how long things are broken, unless the environment says otherwise.
const USUAL: Duration = Duration::from_mins(2);

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
type Test = for<'a> fn(&'a Servers, Duration, u64) -> Outcome<'a>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each trial wants the whole machine.
    arguments.test_threads = Some(1);
    let (time, seed) = match settings() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let skip = match engine::find() {
        Engine::Present if !is_root() => {
            let why = "chaos needs root, to make network namespaces".to_owned();
            if engine::policy() == engine::Policy::Required {
                eprintln!("{why}");
                return ExitCode::FAILURE;
            }
            Some(why)
        }
        Engine::Present => None,
        Engine::Skip(why) => Some(why),
        Engine::Missing(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(why) = &skip {
        println!("chaos skipped: {why}");
    }

    let runtime = Arc::new(Runtime::new().expect("a runtime starts"));
    let servers = Arc::new(OnceCell::new());
    let trial = |name: &str, run: Test| {
        let (runtime, servers) = (Arc::clone(&runtime), Arc::clone(&servers));
        let test = move || {
            runtime.block_on(async {
                // What is dropped at a Ctrl-C removes its containers and namespaces.
                tokio::select! {
                    biased;
                    _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
                    result = async { run(servers.get_or_try_init(Servers::start).await?, time, seed).await } => Ok(result?),
                }
            })
        };
        Trial::test(name, test).with_ignored_flag(skip.is_some())
    };
    let trials = vec![
        trial("lost_changes_are_caught", |servers, _, _| Box::pin(run::lose_changes(servers))),
        trial("nothing_is_stale_whatever_breaks", |servers, time, seed| {
            Box::pin(run::break_things(servers, Members::Etcd, time, seed))
        }),
        trial("nothing_is_stale_in_a_fixed_list", |servers, time, seed| {
            Box::pin(run::break_things(servers, Members::List, time / 4, seed))
        }),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Containers are removed when their handles are dropped, which needs the runtime.
    {
        let _entered = runtime.enter();
        drop(servers);
    }
    report::print_last_line();
    conclusion.exit_code()
}

/// For how long to break things, and by which seed.
fn settings() -> Result<(Duration, u64), String> {
    let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let time = match set("FRESHLINE_CHAOS") {
        None => USUAL,
        Some(text) => humantime::parse_duration(&text)
            .map_err(|error| format!("FRESHLINE_CHAOS is `{text}`: {error}; write a duration like `30m`"))?,
    };
    let seed = match set("FRESHLINE_CHAOS_SEED") {
        None => rand::random::<u32>().into(),
        Some(text) => text
            .parse()
            .map_err(|error| format!("FRESHLINE_CHAOS_SEED is `{text}`: {error}; write a number"))?,
    };
    Ok((time, seed))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
