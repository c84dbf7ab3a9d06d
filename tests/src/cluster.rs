//! Cache nodes and a sync service as real processes, over the servers of a [`Stack`].

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    node::Node,
    process::{Process, free_port},
    stack::Stack,
    wait,
};

/// How long a change may take from MySQL to every node in a test on a loaded machine.
pub const DELIVERED: Duration = Duration::from_secs(30);

/// The nodes' quarantine, which is the default, and a little more.
const QUARANTINE: Duration = Duration::from_millis(120);

/// Nodes and sync service of one test, with a database, a topic and a membership of their own.
#[derive(Debug)]
pub struct Cluster {
    /// The running nodes.
    pub nodes: Vec<Node>,
    /// The sync service, unless the test has stopped it.
    pub sync: Option<Process>,
    name: String,
    common: String,
    dir: TempDir,
    started: usize,
}

impl Cluster {
    /// Starts `nodes` cache nodes and a sync service on the database `name`, which also names the topic and the cluster.
    /// `catalog` holds the groups and rules, and whatever other sections the test wants.
    pub async fn start(stack: &Stack, name: &str, nodes: usize, catalog: &str) -> Cluster {
        let mut cluster = Cluster::prepare(stack, name, catalog);
        for _ in 0..nodes {
            cluster.add_node().await;
        }
        cluster.start_sync().await;
        cluster.settled().await;
        cluster
    }

    /// Waits until the first start's flush of everything has been acknowledged and its quarantine is over, so that fills are kept.
    async fn settled(&self) {
        wait::until("the flush of the first start to be acknowledged", DELIVERED, async || {
            let (gaps, open) = (
                self.sync().metric("freshline_sync_gaps_total").await,
                self.sync().metric("freshline_sync_unacknowledged").await,
            );
            if gaps >= f64::from(crate::stack::PARTITIONS) && open < 1.0 { Ok(()) } else { Err((gaps, open)) }
        })
        .await;
        tokio::time::sleep(QUARANTINE).await;
    }

    /// The same without any process yet.
    pub fn prepare(stack: &Stack, name: &str, catalog: &str) -> Cluster {
        let common = format!(
            "[cluster]\nname = \"{name}\"\netcd = [\"{etcd}\"]\nlease = \"3s\"\n\n[database]\nurl = \"{url}\"\n\n[source.kafka]\n\
             brokers = \"{brokers}\"\ntopics = [\"{name}\"]\nformat = \"canal\"\ngroup = \"{name}\"\ndead_letter_topic = \"{name}.dead\"\n\n{catalog}\n",
            etcd = stack.etcd_url(),
            url = stack.mysql_url(name),
            brokers = stack.brokers(),
        );
        let dir =
            tempfile::Builder::new().prefix("freshline-").tempdir().expect("a temporary folder can be made");
        Cluster { nodes: Vec::new(), sync: None, name: name.to_owned(), common, dir, started: 0 }
    }

    /// Where the processes' configurations and logs are.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Starts one more node and waits until it serves.
    pub async fn add_node(&mut self) {
        self.started += 1;
        let id = format!("node-{}", self.started);
        let node = self.start_node(&id).await;
        self.nodes.push(node);
    }

    /// Stops a node in order, as an upgrade does, starts it again under its id, and waits until it serves.
    pub async fn restart(&self, node: Node) -> Node {
        let id = node.id.clone();
        assert!(node.process.stop().await, "a node that is asked to stop leaves in order");
        self.start_node(&id).await
    }

    async fn start_node(&self, id: &str) -> Node {
        let (grpc, http) = (free_port(), free_port());
        let mut section = String::new();
        let _ = write!(
            section,
            "[node]\nid = \"{id}\"\ngrpc = \"127.0.0.1:{grpc}\"\nhttp = \"127.0.0.1:{http}\"\n\
             advertise_grpc = \"http://127.0.0.1:{grpc}\"\nadvertise_http = \"http://127.0.0.1:{http}\"\n"
        );
        let process = Process::start("cache-node", id, self.dir.path(), &self.config(id, &section), http);
        Node::connect(id, process, grpc).await
    }

    /// Starts the sync service and waits until it follows its topic.
    pub async fn start_sync(&mut self) {
        let http = free_port();
        let config = self.config("sync", &format!("[sync]\nhttp = \"127.0.0.1:{http}\"\n"));
        let process = Process::start("sync-service", "sync", self.dir.path(), &config, http);
        process.ready().await;
        self.sync = Some(process);
    }

    /// The running sync service.
    pub fn sync(&self) -> &Process {
        self.sync.as_ref().expect("the test has not stopped the sync service")
    }

    /// Waits until every node answers `key` with `expected`; returns how long that took.
    pub async fn until_everywhere(&self, key: &str, expected: &Value) -> Duration {
        let ((), took) = wait::until(
            &format!("{key} = {expected} on every node of {}", self.name),
            DELIVERED,
            async || {
                for node in &self.nodes {
                    match node.value(key).await {
                        Ok(value) if value == *expected => {}
                        Ok(value) => return Err(format!("{} answers {value}", node.id)),
                        Err(status) => return Err(format!("{} answers {status}", node.id)),
                    }
                }
                Ok(())
            },
        )
        .await;
        took
    }

    fn config(&self, file: &str, section: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{file}.toml"));
        fs::write(&path, format!("{section}\n{}", self.common)).expect("the test's folder can be written");
        path
    }
}
