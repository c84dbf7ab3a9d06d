//! The node that is abused: this program once more, as a process of its own.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use catalog::Catalog;
use loader::memory::Memory;
use ring::memory::Registry;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::nodes::{Cluster, Nodes};

/// A row of 40 bytes, and one of a megabyte.
pub(crate) const SMALL: &str = "row:1";
pub(crate) const LARGE: &str = "row:2";
const BYTES: usize = 1_000_000;

const CATALOG: &str = r#"
[[group]]
name  = "row"
key   = "row:{id:u64}"
query = "SELECT id, text FROM shop.rows WHERE id = {id}"
ttl   = "10m"
"#;

/// Where the node serves.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) resp: SocketAddr,
}

/// What a process holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Holds {
    bytes: u64,
    pub(crate) files: usize,
}

impl Holds {
    pub(crate) fn mib(self) -> u64 {
        self.bytes >> 20
    }

    fn of(pid: u32) -> anyhow::Result<Self> {
        let status =
            std::fs::read_to_string(format!("/proc/{pid}/status")).context("look at the node's memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib: u64 =
            line.trim().trim_end_matches(" kB").trim().parse().context("read the node's memory")?;
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).context("count the node's files")?.count();
        Ok(Self { bytes: kib << 10, files })
    }
}

/// The process.
pub(crate) struct Victim {
    child: Child,
    /// Closed, it ends.
    stdin: ChildStdin,
    pub(crate) addresses: Addresses,
}

/// Looks at a process all the time.
pub(crate) struct Watch {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<Holds>>,
}

impl Watch {
    /// The most that was seen.
    pub(crate) async fn stop(self) -> anyhow::Result<Holds> {
        self.stop.cancel();
        self.task.await?
    }
}

impl Victim {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let me = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(me)
            .args(["abuse", "--serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the node")?;
        let stdin = child.stdin.take().context("start the node")?;
        let mut lines = BufReader::new(child.stdout.take().context("start the node")?).lines();
        let line =
            timeout(Duration::from_mins(1), lines.next_line()).await.context("wait for the node")??;
        let addresses = serde_json::from_str(&line.context("hear from the node")?)?;
        Ok(Self { child, stdin, addresses })
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("find the node: it has ended")
    }

    pub(crate) fn holds(&self) -> anyhow::Result<Holds> {
        Holds::of(self.pid()?)
    }

    pub(crate) fn watch(&self) -> Watch {
        let (stop, pid) = (CancellationToken::new(), self.pid());
        let task = tokio::spawn({
            let stop = stop.clone();
            async move {
                let (pid, mut most, mut ticks) =
                    (pid?, Holds::default(), interval(Duration::from_millis(20)));
                loop {
                    let now = Holds::of(pid)?;
                    most = Holds { bytes: most.bytes.max(now.bytes), files: most.files.max(now.files) };
                    if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                        return Ok(most);
                    }
                }
            }
        });
        Watch { stop, task }
    }

    /// Has it end; it must not have ended before.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "keep the node alive: it has ended");
        drop(self.stdin);
        timeout(Duration::from_secs(20), self.child.wait()).await.context("end the node")??;
        Ok(())
    }
}

/// Serves as the node, until the standard input ends.
pub(super) async fn serve() -> anyhow::Result<()> {
    daemon::files::raise();
    let database = Memory::new();
    database.put(SMALL, r#"{"id":1,"text":"a row of forty bytes"}"#);
    database.put(LARGE, format!(r#"{{"id":2,"text":"{}"}}"#, "x".repeat(BYTES)));
    let catalog =
        Arc::new(Catalog::parse("abuse.toml", CATALOG).map_err(|error| anyhow::anyhow!("{error}"))?);
    let cluster = Cluster::Here(Registry::new(1));
    let nodes = Nodes::start(1, &catalog, &cluster, || Ok(Arc::new(database.clone()))).await?;
    let first = |all: &[SocketAddr]| all.first().copied().context("find the node's ports");
    let addresses =
        Addresses { grpc: first(&nodes.addresses)?, http: first(&nodes.http)?, resp: first(&nodes.resp)? };
    println!("{}", serde_json::to_string(&addresses)?);
    // The runtime needs its threads; this one waits.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}
