//! A stack in a process of its own, and the command beside it.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    io::{BufReader, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::Value;

/// The command, with nothing of the developer's own stacks or configuration in its way.
pub(crate) fn freshline(runtime: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshline"));
    command
        .current_dir(runtime)
        .env("XDG_RUNTIME_DIR", runtime)
        .env("XDG_STATE_HOME", runtime.join("state"))
        .env_remove("FRESHLINE_NODES")
        .env_remove("FRESHLINE__CONFIG")
        .env("NO_COLOR", "1");
    command
}

/// What it printed, to standard output and standard error.
pub(crate) fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Runs a command with this standard input.
pub(crate) fn fed(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may end before all is read.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// As Ctrl-C does.
pub(crate) fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// Runs statements on a SQLite file, which is made if it is missing.
pub(crate) fn sqlite(file: &Path, script: &'static str) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(script).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// The first column of a query's rows.
pub(crate) fn query(file: &Path, sql: &'static str) -> Vec<String> {
    use sqlx::{ConnectOptions as _, Connection as _};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection =
            sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.unwrap();
        let rows = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows
    })
}

/// A stack that runs until it is dropped.
pub(crate) struct Stack {
    child: Child,
    state: Value,
    removals: Receiver<Value>,
}

impl Stack {
    /// With the sample shop in `shop`.
    pub(crate) fn start(runtime: &Path) -> Self {
        Self::with(runtime, &["--dir", "shop"])
    }

    /// With these arguments, on free ports.
    pub(crate) fn with(runtime: &Path, arguments: &[&str]) -> Self {
        let mut child = freshline(runtime)
            .args(["dev", "--json", "--port-base", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The state is printed when all parts serve; it is the first thing on standard output.
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut stream = serde_json::Deserializer::from_reader(out).into_iter::<Value>();
        let state = stream.next().expect("a state is printed").unwrap();
        // Keep reading, or the stack would block on a full pipe.
        let (told, removals) = channel();
        std::thread::spawn(move || stream.map_while(Result::ok).try_for_each(|removal| told.send(removal)));
        Self { child, state, removals }
    }

    /// What it says of itself.
    pub(crate) fn state(&self) -> &Value {
        &self.state
    }

    /// The next removal that it prints for which this holds.
    pub(crate) fn removal(&self, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let removal = self.removals.recv_timeout(Duration::from_secs(20)).expect("a removal is printed");
            if holds(&removal) {
                return removal;
            }
        }
    }

    /// Its process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
