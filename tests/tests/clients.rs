//! Real Redis clients, unmodified, against the embedded stack: `freshline dev` with three nodes, and changes made by SQL through it.
//!
//! The programs of `docs/applications.md` are run as well, as they stand on the page.
//!
//! `./test.sh clients` installs them (`clients/install.sh`). Without them the suite says so and skips; `FRESHLINE_CLIENTS=required` makes that a
//! failure, `off` switches it off.

#[path = "clients/page.rs"]
mod page;
#[path = "clients/stack.rs"]
mod stack;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Arc, OnceLock},
};

use libtest_mimic::{Arguments, Failed, Trial};
use stack::Dev;

/// One client: its name in docs/redis.md, and the command that runs it with the folder of installed clients and that of the scripts.
type Client = (&'static str, fn(&Path, &Path) -> Command);

const CLIENTS: [Client; 25] = [
    ("redis-cli", |_, scripts| script("sh", scripts, "redis-cli.sh")),
    ("redis-cli and redis_exporter, as tools", |_, scripts| script("sh", scripts, "redis-cli-tools.sh")),
    ("redis-benchmark", |_, scripts| script("sh", scripts, "redis-benchmark.sh")),
    ("redis-py", |installed, scripts| python(installed, scripts, "plain.py")),
    ("redis-py, cluster", |installed, scripts| python(installed, scripts, "cluster.py")),
    ("redis-py, client-side cache", |installed, scripts| python(installed, scripts, "caching.py")),
    ("redis-py, tracking by hand", |installed, scripts| python(installed, scripts, "tracking.py")),
    ("coredis", |installed, scripts| python(installed, scripts, "aio.py")),
    ("ioredis", |_, scripts| script("node", scripts, "node/plain.cjs")),
    ("node-redis 4", |_, scripts| node_redis(scripts, "4")),
    ("node-redis 5", |_, scripts| node_redis(scripts, "5")),
    ("node-redis 6", |_, scripts| node_redis(scripts, "6")),
    ("go-redis", |installed, _| go(installed, "go-redis")),
    ("rueidis", |installed, _| go(installed, "rueidis")),
    ("valkey-go", |installed, _| go(installed, "valkey-go")),
    ("redigo", |installed, _| go(installed, "redigo")),
    ("Jedis", |installed, _| java(installed, "JedisClient")),
    ("Lettuce", |installed, _| java(installed, "LettuceClient")),
    ("Redisson, reads", |installed, _| java(installed, "RedissonReads")),
    ("Spring Data Redis", |installed, _| java(installed, "SpringClient")),
    ("phpredis", |_, scripts| script("php", scripts, "php/phpredis.php")),
    ("Predis", |_, scripts| script("php", scripts, "php/predis.php")),
    ("hiredis", |installed, _| Command::new(installed.join("hiredis"))),
    ("redis (crate)", |installed, _| rust(installed, "redis")),
    ("fred (crate)", |installed, _| rust(installed, "fred")),
];

fn script(program: impl Into<PathBuf>, scripts: &Path, name: &str) -> Command {
    let mut command = Command::new(program.into());
    command.arg(scripts.join(name));
    command
}

fn python(installed: &Path, scripts: &Path, name: &str) -> Command {
    script(installed.join("venv/bin/python"), &scripts.join("python"), name)
}

fn node_redis(scripts: &Path, major: &str) -> Command {
    let mut command = script("node", scripts, "node/redis.cjs");
    command.arg(major);
    command
}

fn go(installed: &Path, name: &str) -> Command {
    let mut command = Command::new(installed.join("go/client"));
    command.arg(name);
    command
}

fn java(installed: &Path, class: &str) -> Command {
    let (classes, libraries) = (installed.join("java/target/classes"), installed.join("java/target/lib/*"));
    let mut command = Command::new("java");
    command.arg("-cp").arg(format!("{}:{}", classes.display(), libraries.display())).arg(class);
    command
}

fn rust(installed: &Path, name: &str) -> Command {
    let mut command = Command::new(installed.join("rust/debug/redis-clients"));
    command.arg(name);
    command
}

/// Name and version of each client in the table of docs/redis.md.
fn documented() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/redis.md");
    let page = std::fs::read_to_string(page).expect("docs/redis.md is there");
    let table = page.split("\n## Clients\n").nth(1).expect("it has a table of clients");
    let rows =
        table.lines().take_while(|line| !line.starts_with("## ")).filter_map(|line| line.strip_prefix("| "));
    rows.skip(1) // the heads
        .map(|row| {
            let mut cells = row.split(" | ");
            let cell = cells.next().expect("a row has cells").to_owned();
            (cell, cells.next().expect("a row has a version").to_owned())
        })
        .collect()
}

/// The table names each client that is run, and no other.
fn table_is_true() -> Result<(), Failed> {
    let (told, run): (Vec<_>, Vec<_>) =
        (documented().into_iter().map(|(name, _)| name).collect(), CLIENTS.map(|(name, _)| name).into());
    if told == run { Ok(()) } else { Err(format!("docs/redis.md has {told:?}, run are {run:?}").into()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let wanted = std::env::var("FRESHLINE_CLIENTS").unwrap_or_default();
    let cache = std::env::var_os("FRESHLINE_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/freshline"),
        PathBuf::from,
    );
    let installed = cache.join("clients");
    let why = if wanted == "off" {
        Some("FRESHLINE_CLIENTS=off".to_owned())
    } else if !installed.join("complete").exists() {
        Some(format!("no clients in {}: ./test.sh clients installs them", installed.display()))
    } else {
        stack::binary().err()
    };
    if let Some(why) = &why {
        if wanted == "required" {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
        println!("skipped: {why}");
    }
    let dev: Arc<OnceLock<Dev>> = Arc::default();
    let versions = documented();
    let ignored = why.is_some();
    let mut trials = vec![Trial::test("the table of docs/redis.md", table_is_true)];
    trials.extend(CLIENTS.map(|(name, command)| {
        let (dev, installed) = (dev.clone(), installed.clone());
        let version = versions.iter().find(|(of, _)| of == name).map(|(_, version)| version.clone());
        Trial::test(name, move || {
            let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
            let dev = dev.get_or_init(Dev::start);
            let mut command = command(&installed, &scripts);
            command.env("NODES", dev.resp.join(",")).env("SQL", &dev.sql).env("CLIENTS", &installed);
            let output = command.output().map_err(|error| Failed::from(format!("start {name}: {error}")))?;
            let said = String::from_utf8_lossy(&output.stdout);
            print!("{said}");
            // Debian's are of whichever Debian this is.
            let pinned = version.filter(|version| version.starts_with(|first: char| first.is_ascii_digit()));
            if let Some(version) = pinned.filter(|version| !said.contains(version.as_str())) {
                return Err(format!("{name} is not the {version} of docs/redis.md").into());
            }
            if output.status.success() {
                return Ok(());
            }
            Err(format!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
        })
        .with_ignored_flag(ignored)
    }));
    trials.extend(page::LANGUAGES.map(|language| {
        let (dev, installed) = (dev.clone(), installed.clone());
        Trial::test(format!("page_{language}"), move || {
            Ok(page::run(language, dev.get_or_init(Dev::start), &installed)?)
        })
        .with_ignored_flag(ignored)
    }));
    // One after the other: each is to see its own change.
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(Arc::into_inner(dev));
    conclusion.exit_code()
}
