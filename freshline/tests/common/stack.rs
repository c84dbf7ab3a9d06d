//! A stack in a process of its own, and the command beside it.

use std::{
    io::{BufReader, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
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

/// A stack that runs until it is dropped.
pub(crate) struct Stack(Child);

impl Stack {
    pub(crate) fn start(runtime: &Path) -> Self {
        let mut child = freshline(runtime)
            .args(["dev", "--json", "--port-base", "0", "--dir", "shop"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The state is printed when all parts serve; it is the first thing on standard output.
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut stream = serde_json::Deserializer::from_reader(out).into_iter::<Value>();
        stream.next().expect("a state is printed").unwrap();
        // Keep reading, or the stack would block on a full pipe.
        std::thread::spawn(move || while stream.next().is_some() {});
        Self(child)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
