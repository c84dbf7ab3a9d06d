//! The HTTP port against its own document: schemathesis makes up requests, good and bad ones, and checks every answer.
//!
//! It comes from `PyPI`; `./test.sh api` installs it. `FRESHLINE_API=required` makes a missing one a failure, `off` leaves the test out and says
//! so. `FRESHLINE_API_EXAMPLES` asks for more requests, `FRESHLINE_API_SEED` repeats a run.

#[path = "cluster/stack.rs"]
#[allow(dead_code, reason = "shared with the tests of the cluster, which need more of it")]
mod stack;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use catalog::Catalog;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::stack::{CATALOG, Stack, row};

/// The version that `./test.sh api` installs.
const VERSION: &str = "4.32.5";
/// The whole run at most; a node that hangs shall not hang the tests.
const LONGEST: Duration = Duration::from_mins(8);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = match std::env::var("FRESHLINE_API").as_deref() {
        Ok("off") => Err("FRESHLINE_API=off".to_owned()),
        Ok("required") => {
            let Some(found) = schemathesis() else {
                eprintln!("schemathesis {VERSION} is missing; run `./test.sh api`, which installs it");
                return ExitCode::FAILURE;
            };
            Ok(found)
        }
        Err(_) | Ok("") => {
            schemathesis().ok_or_else(|| format!("no schemathesis {VERSION}; `./test.sh api` installs it"))
        }
        Ok(other) => panic!("FRESHLINE_API is `{other}`; write `off` or `required`, or leave it out"),
    };
    if let Err(why) = &found {
        println!("skipped: {why}");
    }
    let ignored = found.is_err();
    let trial = Trial::test("every_answer_is_as_the_document_says", move || match found {
        Ok(program) => check(&program),
        Err(why) => Err(why.into()),
    });
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(ignored)]).exit_code()
}

/// Where `./test.sh api` puts it.
fn schemathesis() -> Option<PathBuf> {
    let cache = match std::env::var_os("FRESHLINE_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache/freshline"),
    };
    let program = cache.join(format!("schemathesis-{VERSION}/bin/schemathesis"));
    program.is_file().then_some(program)
}

fn check(program: &Path) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut stack = Stack::new();
        let more = "[[group]]\nname = \"session\"\nkey = \"session:{id:str}\"\nrules = \"none\"\n\
            [[group]]\nname = \"page\"\nkey = \"page/{path:str}\"\nquery = \"SELECT body FROM shop.pages WHERE path = {path}\"\n";
        stack.catalog = Arc::new(Catalog::parse("test.toml", &format!("{CATALOG}{more}")).expect("it is right"));
        for key in ["user:1", "user:2"] {
            stack.database.put(key, row(key, 1));
        }
        let (a, _b) = (stack.start("a").await, stack.start("b").await);
        let seed = number("FRESHLINE_API_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        let examples = number("FRESHLINE_API_EXAMPLES").unwrap_or(60);
        println!("schemathesis {VERSION}, {examples} requests per operation and phase, FRESHLINE_API_SEED={seed}");
        let dir = tempfile::tempdir()?;
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/schemathesis.toml");
        // One worker: two trip over CPython 3.11's compiler of syntax trees, which is not made for threads.
        let mut command = tokio::process::Command::from({
            let mut command = Command::new(program);
            command.args(["--config-file", config, "run", "--no-color", "--checks", "all", "--workers", "1"]);
            command.args(["--max-examples", &examples.to_string(), "--seed", &seed.to_string()]);
            command.args(["--generation-database", "none", "--request-timeout", "10", "--continue-on-failure"]);
            command.arg(format!("http://{}/openapi.json", a.http)).current_dir(dir.path());
            command
        });
        let run = tokio::time::timeout(LONGEST, command.kill_on_drop(true).output());
        let output = run.await.map_err(|_| format!("it ran for more than {LONGEST:?}"))??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            println!("{}", text.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
            Ok(())
        } else {
            Err(format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)).into())
        }
    })
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`; write a number")))
}
