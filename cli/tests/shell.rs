//! The shell, piped into and typed at.

#[path = "common/stack.rs"]
mod stack;

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    net::TcpListener,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use stack::{Stack, fed, freshline, interrupt, text};

/// How long a screen may take to show what is awaited.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program at a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<(Mutex<String>, Condvar)>,
    /// How much of the screen has been looked at.
    seen: usize,
}

impl Terminal {
    fn start(command: &mut Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave =
            OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let end = || Stdio::from(OwnedFd::from(slave.try_clone().unwrap()));
        let child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(master);
        let screen = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (mut reader, mut answers, shown) =
            (keyboard.try_clone().unwrap(), keyboard.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with an error when the program does.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                // What a terminal says when it is asked where the cursor is.
                for _ in text.matches("\x1b[6n") {
                    let _ = answers.write_all(b"\x1b[1;1R");
                }
                shown.0.lock().unwrap().push_str(&text);
                shown.1.notify_all();
            }
            shown.0.lock().unwrap().push_str("\n[end]");
            shown.1.notify_all();
        });
        Self { child, keyboard, screen, seen: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this comes after what was awaited before.
    fn wait_for(&mut self, text: &str) {
        self.wait_for_one(&[text]);
    }

    /// Waits until one of these comes, and says which.
    fn wait_for_one<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let (screen, changed) = &*self.screen;
        let screen = screen.lock().unwrap();
        let seen = self.seen;
        let none = |shown: &mut String| !texts.iter().any(|text| shown[seen..].contains(text));
        let (screen, waited) = changed.wait_timeout_while(screen, PATIENCE, none).unwrap();
        assert!(!waited.timed_out(), "none of {texts:?} in:\n{:?}", &screen[seen..]);
        let first = texts.iter().filter_map(|text| Some((screen[seen..].find(text)?, *text))).min();
        let (at, text) = first.expect("one of them is there");
        self.seen = seen + at + text.len();
        text
    }

    fn all(&self) -> String {
        self.screen.0.lock().unwrap().clone()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shell(dir: &Path) -> Command {
    let mut command = freshline(dir);
    command.arg("shell");
    command
}

#[test]
fn lines_that_are_piped_in_run_as_commands() {
    let dir = tempfile::tempdir().unwrap();
    let _stack = Stack::start(dir.path());
    let output = fed(&mut shell(dir.path()), "# a comment\nget user:42 --json\nfreshline ring\nhelp\n");
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("\"id\": 42") && out.contains("epoch") && out.contains("explain"), "{out}");
    assert!(!out.contains('\x1b'), "no colours in a pipe: {out:?}");

    // A line that fails is told and does not end the script; what comes after `exit` is not run.
    let output = fed(
        &mut shell(dir.path()),
        "gte user:1\nget user:999999\nget 'user\ndev\nwarm user --from -\nget user:1\nexit\nget user:2\n",
    );
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{out}\n{err}");
    for told in [
        "similar subcommand exists: 'get'",
        "no such row",
        "a quote is not closed",
        "in another terminal",
        "the shell's own here",
    ] {
        assert!(err.contains(told), "no `{told}` in:\n{err}");
    }
    assert!(out.contains("\"id\": 1,") && !out.contains("\"id\": 2,"), "{out}");
}

#[test]
fn a_person_completes_cancels_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let _stack = Stack::start(dir.path());
    let mut terminal = Terminal::start(&mut shell(dir.path()));
    terminal.wait_for("freshline dev> ");
    // A command, then the beginning of its keys, by the catalog.
    terminal.press("expl\t");
    terminal.wait_for("explain ");
    terminal.press("produ\t");
    terminal.wait_for("product:");
    terminal.press("7\r");
    terminal.wait_for("verdict");
    terminal.wait_for("freshline dev> ");
    // Keys that are in memory by now.
    terminal.press("get-many user:42 user:43\r");
    terminal.wait_for("\"id\":43");
    terminal.wait_for("freshline dev> ");
    // Nodes that are slow to answer are asked again by the next Tab. Ctrl-C drops the line, and the shell goes on.
    for attempt in 0.. {
        terminal.press("get user:4\t");
        let offered = terminal.wait_for_one(&["user:43", "NO RECORDS FOUND"]) == "user:43";
        terminal.press("\x03");
        terminal.wait_for("freshline dev> ");
        if offered {
            break;
        }
        assert!(attempt < 20, "the keys are never offered");
    }
    // It cancels what runs: a node that takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    terminal.press(&format!("get user:1 --node {}\r", silent.local_addr().unwrap()));
    let connection = silent.accept().unwrap();
    interrupt(&terminal.child);
    terminal.wait_for("cancelled");
    drop(connection);
    terminal.wait_for("freshline dev> ");
    // What ends in order by itself is interrupted as often as there are such lines: the shell goes on.
    for _ in 0..2 {
        terminal.press("bench --time 60s --readers 1\r");
        terminal.wait_for("Ctrl-C ends it early");
        // Its progress is shown, and gone with it.
        terminal.wait_for("reading user");
        interrupt(&terminal.child);
        terminal.wait_for("hit ratio");
        terminal.wait_for("freshline dev> ");
    }
    terminal.press("ring\r");
    terminal.wait_for("epoch");
    terminal.wait_for("freshline dev> ");
    terminal.press("\x04");
    terminal.wait_for("[end]");
    assert!(terminal.child.wait().unwrap().success());
    // NO_COLOR: nothing is painted.
    let all = terminal.all();
    for colour in ["\x1b[3", "\x1b[9", "\x1b[2m", "\x1b[1m"] {
        let painted = all.match_indices(colour).find(|(at, _)| {
            all[at + 2..]
                .find(|c: char| c.is_ascii_alphabetic())
                .is_some_and(|end| all[at + 2 + end..].starts_with('m'))
        });
        assert!(
            painted.is_none(),
            "{colour:?} in {:?}",
            painted.map(|(at, _)| &all[at..(at + 20).min(all.len())])
        );
    }
    let history = std::fs::read_to_string(dir.path().join("state/freshline/history")).unwrap();
    assert!(history.lines().any(|line| line == "get-many user:42 user:43"), "{history}");
}

#[test]
fn colours_are_there_where_they_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = shell(dir.path());
    command.env_remove("NO_COLOR");
    let mut terminal = Terminal::start(&mut command);
    // It holds the terminal's other end open.
    drop(command);
    // Nothing runs here: it says so, and works all the same.
    terminal.wait_for("no node yet");
    terminal.wait_for("> ");
    terminal.press("get");
    terminal.wait_for("\x1b[32m");
    terminal.wait_for("<KEY>");
    terminal.press(" user:1\r");
    terminal.wait_for("failed to reach a node");
    terminal.wait_for("> ");
    terminal.press("\x04");
    terminal.wait_for("[end]");
}
