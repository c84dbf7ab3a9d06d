//! `freshline dev` as a process, and how to change a row by it.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// A running stack; ended when dropped.
pub(crate) struct Dev {
    child: Child,
    /// Where each node serves Redis clients.
    pub(crate) resp: Vec<String>,
    /// A program that runs its argument as SQL.
    pub(crate) sql: PathBuf,
    _dir: tempfile::TempDir,
}

/// The command's binary.
pub(crate) fn binary() -> Result<PathBuf, String> {
    let dir = std::env::var_os("FRESHLINE_BIN_DIR").map_or_else(
        || {
            let me = std::env::current_exe().expect("a test knows where it is");
            me.ancestors().nth(2).expect("a test is in target/PROFILE/deps").to_owned()
        },
        PathBuf::from,
    );
    let binary = dir.join("freshline");
    if binary.exists() { Ok(binary) } else { Err(format!("{} is missing: cargo build", binary.display())) }
}

impl Dev {
    pub(crate) fn start() -> Self {
        let binary = binary().expect("the binary was there when the test began");
        let dir = tempfile::tempdir().expect("a directory");
        let stack = dir.path().join("stack");
        let mut child = Command::new(&binary)
            .args(["--json", "dev", "--port-base", "0", "--dir"])
            .arg(&stack)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("freshline dev starts");
        let lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let mut text = String::new();
        let mut lines = lines.map_while(Result::ok);
        let state: Value = loop {
            let line = lines.next().unwrap_or_else(|| panic!("freshline dev says where it is: {text}"));
            text.push_str(&line);
            text.push('\n');
            if let Ok(state) = serde_json::from_str(&text) {
                break state;
            }
        };
        // What follows is one line for each removal; nobody reads it, and it must not block.
        std::thread::spawn(move || lines.for_each(drop));
        let resp = state["resp"].as_array().expect("nodes serve Redis clients");
        let resp =
            resp.iter().map(|address| address.as_str().expect("an address is text").to_owned()).collect();
        let sql = dir.path().join("sql");
        let script = format!("#!/bin/sh\nexec {} sql --dir {} \"$1\"\n", binary.display(), stack.display());
        std::fs::write(&sql, script).expect("the directory can be written");
        std::fs::set_permissions(&sql, std::fs::Permissions::from_mode(0o755))
            .expect("a file can be made a program");
        Self { child, resp, sql, _dir: dir }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
