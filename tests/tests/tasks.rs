//! No task is spawned whose end nobody looks at.
//!
//! In the binaries a panic ends the process, in whichever task or thread it is (`daemon::tasks::end_on_panic`), and what is to run until it is
//! stopped is wrapped in `daemon::tasks::until`. So a bare spawn is right where a task's end is waited for, or is the end of its work. Each is
//! listed here with the reason; a new one has to be looked at.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The rooms whose code runs in the binaries.
const ROOMS: [&str; 9] =
    ["cache-node", "sync-service", "client", "loader", "ring", "catalog", "daemon", "freshline", "cli"];

/// Files that spawn, how often, and who looks at the end.
const SPAWNS: &[(&str, usize, &str)] = &[
    ("cache-node/src/fill.rs", 1, "one fill: its waiters get an error when its sender is dropped"),
    ("cache-node/src/heartbeat.rs", 1, "one catching up: the next heartbeat begins another"),
    ("cache-node/src/hot/background.rs", 1, "one fill"),
    (
        "cache-node/src/membership.rs",
        3,
        "the node's own tasks, by `until`; one activation, which tries until it succeeds; the end of inherited mirrors, of which the lease's end is the bound",
    ),
    ("cache-node/src/mirror.rs", 1, "one request to another node"),
    ("cache-node/src/resp.rs", 1, "one connection"),
    ("cache-node/src/running.rs", 1, "the node's serving: `run` waits for its end"),
    ("client/src/routes.rs", 2, "both end with their router, which has the handles"),
    ("daemon/src/http.rs", 1, "one connection"),
    ("daemon/src/shutdown.rs", 2, "the signals: they end the process"),
    ("cli/src/commands/bench.rs", 3, "joined by the command"),
    ("cli/src/commands/replay.rs", 1, "its channel's end is the command's"),
    ("cli/src/commands/replay/kafka.rs", 1, "its channel's end is the command's"),
    ("cli/src/commands/warm.rs", 2, "joined, or their channels' ends are the command's"),
    ("cli/src/commands/warm/query.rs", 2, "its channel's end is the command's"),
    ("cli/src/dev/broker.rs", 1, "a thread that is joined when the broker is dropped"),
    ("cli/src/dev/stack.rs", 6, "each tells the stack of its failure, which ends the process; the stop"),
    ("cli/src/lines.rs", 1, "its channel's end is the input's"),
    ("cli/src/shell/editor.rs", 1, "joined"),
    ("loader/src/fills.rs", 2, "one batch: its waiters get an error when their senders are dropped"),
    ("loader/src/mysql/pool.rs", 2, "one probe, and one connection's end"),
    ("ring/src/etcd.rs", 1, "follows the membership until it is stopped; it has no way to end but a panic"),
    (
        "ring/src/etcd/apart.rs",
        1,
        "the thread that the next ones run on: it has no way to end but by a panic of its own",
    ),
    ("ring/src/etcd/pulse.rs", 1, "says that the runtime works: without it the lease ends"),
    ("ring/src/etcd/link.rs", 1, "the making of the connection, which is waited for"),
    ("ring/src/etcd/claim.rs", 1, "keeps a lease: its end is told by `lost`"),
    (
        "ring/src/etcd/registration.rs",
        1,
        "keeps the lease: if it is not kept, the node is fenced by its own clock",
    ),
    ("sync-service/src/deliver.rs", 1, "one target's worker: removals wait until it has acknowledged"),
    ("sync-service/src/deliver/heartbeats.rs", 1, "one node's heartbeat: without it freshness grows"),
    (
        "sync-service/src/deliver/worker.rs",
        1,
        "one request: without its answer the removal is not acknowledged",
    ),
    ("sync-service/src/run.rs", 2, "the admin port, selected on; the verification, which only reads"),
    ("sync-service/src/service.rs", 6, "two stages that `run` waits for; four tasks by `until`"),
    ("sync-service/src/service/stages.rs", 1, "one batch: its offsets are not committed before its end"),
    (
        "sync-service/src/source/binlog.rs",
        2,
        "the reader: the end of its channel ends the service; a write that is joined",
    ),
    ("sync-service/src/source/binlog/position.rs", 1, "joined"),
    (
        "sync-service/src/source/kafka.rs",
        4,
        "the reader's thread: the end of its channel ends the service; joined calls",
    ),
    ("sync-service/src/source/memory.rs", 1, "for tests"),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of sources can be read") {
        let path = entry.expect("an entry of it too").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// How often a file's code, without its tests and comments, spawns something. `spawn()` without an argument starts a process.
fn spawns(text: &str) -> usize {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.match_indices("spawn").map(move |(at, word)| &line[at + word.len()..]))
        .filter(|rest| {
            let rest = ["_blocking", "_local", "_scoped", "_on"]
                .iter()
                .find_map(|more| rest.strip_prefix(more))
                .unwrap_or(rest);
            rest.starts_with('(') && !rest.starts_with("()")
        })
        .count()
        + code.matches("JoinSet::").count()
}

#[test]
fn every_task_has_somebody_who_looks_at_its_end() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace has a root");
    let mut files = Vec::new();
    for room in ROOMS {
        sources(&root.join(room).join("src"), &mut files);
    }
    let mut found = BTreeMap::new();
    for file in files {
        let name = file.strip_prefix(root).expect("it is in the workspace").display().to_string();
        // Compiled for tests alone.
        if name.contains("/tests/") || name.ends_with("/tests.rs") || name.ends_with("/interleavings.rs") {
            continue;
        }
        let count = spawns(&fs::read_to_string(&file).expect("a source is text"));
        if count > 0 {
            found.insert(name, count);
        }
    }
    let listed: BTreeMap<String, usize> =
        SPAWNS.iter().map(|(name, count, _)| ((*name).to_owned(), *count)).collect();
    let wrong: Vec<String> = found
        .iter()
        .filter(|(name, count)| listed.get(*name) != Some(*count))
        .map(|(name, count)| format!("{name} spawns {count} times"))
        .chain(
            listed
                .keys()
                .filter(|name| !found.contains_key(*name))
                .map(|name| format!("{name} spawns no more")),
        )
        .collect();
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\nWhat runs until it is stopped belongs into daemon::tasks::until; say in SPAWNS who looks at the end of what is spawned"
    );
}

#[test]
fn every_binary_ends_when_a_part_of_it_panics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace has a root");
    let text = |file: &str| fs::read_to_string(root.join(file)).expect("a source is text");
    for file in ["daemon/src/program.rs", "cli/src/lib.rs"] {
        assert!(text(file).contains("tasks::end_on_panic();"), "{file}");
    }
    for file in ["cache-node/src/main.rs", "sync-service/src/main.rs"] {
        assert!(text(file).contains("daemon::program::main::<"), "{file}");
    }
    assert!(text("cli/src/main.rs").contains("freshline_cli::main()"));
}
