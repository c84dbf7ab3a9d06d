//! `freshline dev` as a process, and how to change a row by it.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, TcpListener},
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
    /// Where the first node serves gRPC.
    grpc: String,
    _dir: tempfile::TempDir,
}

/// The first port of `freshline dev`, which the pages name.
const PORT: u16 = 7400;

/// Whether `freshline dev` finds its ports free.
fn are_free() -> bool {
    let ports = (0..3).flat_map(|node| (0..4).map(move |port| PORT + 10 * node + port));
    // Held until all are.
    let held: Result<Vec<TcpListener>, _> =
        ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
    held.is_ok()
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
            .args(["--json", "dev", "--port-base", if are_free() { "7400" } else { "0" }, "--dir"])
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
        let grpc = state["nodes"][0].as_str().expect("nodes serve gRPC").to_owned();
        let sql = dir.path().join("sql");
        let script = format!("#!/bin/sh\nexec {} sql --dir {} \"$1\"\n", binary.display(), stack.display());
        std::fs::write(&sql, script).expect("the directory can be written");
        std::fs::set_permissions(&sql, std::fs::Permissions::from_mode(0o755))
            .expect("a file can be made a program");
        Self { child, resp, sql, grpc, _dir: dir }
    }

    /// A page's program as it is, or with this stack's ports if those of the page are in use here.
    pub(crate) fn ported(&self, code: &str) -> String {
        let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
        let (grpc, resp) = (port(&self.grpc), port(&self.resp[0]));
        if grpc != PORT.to_string() {
            println!("port {PORT} is in use: the page's programs are run with {grpc} and {resp}");
        }
        code.replace("7403", &resp).replace("7400", &grpc)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
