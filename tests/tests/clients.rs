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

/// One client: a name, and the command that runs it with the folder of installed clients and that of the scripts.
type Client = (&'static str, fn(&Path, &Path) -> Command);

const CLIENTS: [Client; 11] = [
    ("redis_cli", |_, scripts| script("sh", scripts, "redis-cli.sh")),
    ("redis_benchmark", |_, scripts| script("sh", scripts, "redis-benchmark.sh")),
    ("redis_py", |installed, scripts| script(installed.join("venv/bin/python"), scripts, "python/plain.py")),
    ("redis_py_cluster", |installed, scripts| {
        script(installed.join("venv/bin/python"), scripts, "python/cluster.py")
    }),
    ("redis_py_caching", |installed, scripts| {
        script(installed.join("venv/bin/python"), scripts, "python/caching.py")
    }),
    ("redis_py_tracking", |installed, scripts| {
        script(installed.join("venv/bin/python"), scripts, "python/tracking.py")
    }),
    ("ioredis", |_, scripts| script("node", scripts, "node/plain.cjs")),
    ("go_redis", |installed, _| Command::new(installed.join("go/client"))),
    ("jedis", |installed, _| {
        let mut java = Command::new("java");
        let classes = installed.join("java/target/classes");
        java.arg("-cp").arg(format!(
            "{}:{}",
            classes.display(),
            installed.join("java/target/lib/*").display()
        ));
        java.arg("Client");
        java
    }),
    ("redis_crate", |installed, _| rust(installed, "redis")),
    ("fred_crate", |installed, _| rust(installed, "fred")),
];

fn script(program: impl Into<PathBuf>, scripts: &Path, name: &str) -> Command {
    let mut command = Command::new(program.into());
    command.arg(scripts.join(name));
    command
}

fn rust(installed: &Path, name: &str) -> Command {
    let mut command = Command::new(installed.join("rust/debug/redis-clients"));
    command.arg(name);
    command
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
    } else if !installed.join("rust/debug/redis-clients").exists() {
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
    let ignored = why.is_some();
    let pages = page::LANGUAGES.map(|language| {
        let (dev, installed) = (dev.clone(), installed.clone());
        Trial::test(format!("page_{language}"), move || {
            Ok(page::run(language, dev.get_or_init(Dev::start), &installed)?)
        })
        .with_ignored_flag(ignored)
    });
    let trials = CLIENTS.map(|(name, command)| {
        let (dev, installed) = (dev.clone(), installed.clone());
        Trial::test(name, move || {
            let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
            let dev = dev.get_or_init(Dev::start);
            let mut command = command(&installed, &scripts);
            command.env("NODES", dev.resp.join(",")).env("SQL", &dev.sql).env("CLIENTS", &installed);
            let output = command.output().map_err(|error| Failed::from(format!("start {name}: {error}")))?;
            print!("{}", String::from_utf8_lossy(&output.stdout));
            if output.status.success() {
                return Ok(());
            }
            Err(format!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
        })
        .with_ignored_flag(ignored)
    });
    // One after the other: each is to see its own change.
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().chain(pages).collect());
    drop(Arc::into_inner(dev));
    conclusion.exit_code()
}
