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
    node::Node, port::free_port, process::Process, small::Small, sources::Sources, stack::Stack, wait,
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
    /// The ids and gRPC ports of a fixed list; empty with etcd.
    listed: Vec<(String, u16)>,
    /// Partitions of the source: as many first starts there are.
    partitions: i32,
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
            if gaps >= f64::from(self.partitions) && open < 1.0 { Ok(()) } else { Err((gaps, open)) }
        })
        .await;
        tokio::time::sleep(QUARANTINE).await;
    }

    /// Starts the nodes of a fixed list, without etcd, and a sync service.
    pub async fn start_listed(
        stack: &Stack,
        name: &str,
        nodes: usize,
        replicas: usize,
        catalog: &str,
    ) -> Cluster {
        let listed: Vec<_> = (1..=nodes).map(|number| (format!("node-{number}"), free_port())).collect();
        let members = list(&listed, replicas);
        let source = kafka(stack, name);
        let mut cluster = Cluster::with_members(
            name,
            &members,
            &stack.mysql_url(name),
            &source,
            crate::stack::PARTITIONS,
            catalog,
        );
        cluster.listed = listed;
        for _ in 0..nodes {
            cluster.add_node().await;
        }
        cluster.start_sync().await;
        cluster.settled().await;
        cluster
    }

    /// Starts a sync service of that name that goes by a list of the first `nodes` nodes and by so many replicas, and waits for nothing.
    pub fn sync_of_another_list(&self, name: &str, nodes: usize, replicas: usize) -> Process {
        let http = free_port();
        let own = list(&self.listed, 1);
        let other = list(&self.listed[..nodes], replicas);
        assert!(self.common.contains(&own), "the cluster goes by a list, with one replica");
        let section = format!("[sync]\nhttp = \"127.0.0.1:{http}\"\n");
        let path = self.dir.path().join(format!("{name}.toml"));
        let group = (format!("group = \"{}\"", self.name), format!("group = \"{}-{name}\"", self.name));
        let common = self.common.replace(&own, &other).replace(&group.0, &group.1);
        fs::write(&path, format!("{section}\n{common}")).expect("the test's folder can be written");
        Process::start("sync-service", name, self.dir.path(), &path, http)
    }

    /// The same as [`start`](Self::start) without any process yet.
    pub fn prepare(stack: &Stack, name: &str, catalog: &str) -> Cluster {
        let source = kafka(stack, name);
        let (etcd, url) = (stack.etcd_url(), stack.mysql_url(name));
        Cluster::with_source(name, &etcd, &url, &source, crate::stack::PARTITIONS, catalog)
    }

    /// A cluster that reads the binlog itself, without any process yet.
    pub fn on_binlog(stack: &Small, name: &str, catalog: &str) -> Cluster {
        let source = "[source.binlog]\nlease = \"2s\"\n";
        Cluster::with_source(name, &stack.etcd_url(), &stack.mysql_url(name), source, 1, catalog)
    }

    /// Starts nodes and a sync service that reads the binlog itself.
    pub async fn start_on_binlog(stack: &Small, name: &str, nodes: usize, catalog: &str) -> Cluster {
        let mut cluster = Cluster::on_binlog(stack, name, catalog);
        for _ in 0..nodes {
            cluster.add_node().await;
        }
        cluster.start_sync().await;
        cluster.settled().await;
        cluster
    }

    /// Starts nodes on `database`, a URL, and a sync service that follows `topics`, which are of one table or of statements each.
    pub async fn start_on_topics(
        stack: &Sources,
        name: &str,
        database: &str,
        format: &str,
        topics: &[String],
        nodes: usize,
        catalog: &str,
    ) -> Cluster {
        let source = format!(
            "[source.kafka]\nbrokers = \"{brokers}\"\ntopics = {topics:?}\nformat = \"{format}\"\ngroup = \"{name}\"\n\
             dead_letter_topic = \"{name}.dead\"\n",
            brokers = stack.brokers(),
        );
        let partitions = crate::stack::PARTITIONS * i32::try_from(topics.len()).expect("few topics");
        let mut cluster =
            Cluster::with_source(name, &stack.etcd_url(), database, &source, partitions, catalog);
        for _ in 0..nodes {
            cluster.add_node().await;
        }
        cluster.start_sync().await;
        cluster.settled().await;
        cluster
    }

    fn with_source(
        name: &str,
        etcd: &str,
        url: &str,
        source: &str,
        partitions: i32,
        catalog: &str,
    ) -> Cluster {
        let members = format!("etcd = [\"{etcd}\"]\nlease = \"3s\"\n");
        Cluster::with_members(name, &members, url, source, partitions, catalog)
    }

    /// `members` is the rest of the section `[cluster]`.
    fn with_members(
        name: &str,
        members: &str,
        url: &str,
        source: &str,
        partitions: i32,
        catalog: &str,
    ) -> Cluster {
        let common = format!(
            "[cluster]\nname = \"{name}\"\n{members}\n[database]\nurl = \"{url}\"\n\n{source}\n{catalog}\n"
        );
        let dir =
            tempfile::Builder::new().prefix("freshline-").tempdir().expect("a temporary folder can be made");
        Cluster {
            nodes: Vec::new(),
            sync: None,
            name: name.to_owned(),
            common,
            dir,
            started: 0,
            listed: Vec::new(),
            partitions,
        }
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

    /// Starts a node of that id, which was killed, and waits until it serves.
    pub async fn start_node(&self, id: &str) -> Node {
        let listed = self.listed.iter().find(|(listed, _)| listed == id).map(|(_, grpc)| *grpc);
        let (grpc, http) = (listed.unwrap_or_else(free_port), free_port());
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
        let process = self.another_sync("sync");
        process.ready().await;
        self.sync = Some(process);
    }

    /// Starts a sync service of that name beside the one there is, and waits for nothing.
    pub fn another_sync(&self, name: &str) -> Process {
        let http = free_port();
        let config = self.config(name, &format!("[sync]\nhttp = \"127.0.0.1:{http}\"\n"));
        Process::start("sync-service", name, self.dir.path(), &config, http)
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

/// What a cluster's configuration says of its source.
fn kafka(stack: &Stack, name: &str) -> String {
    format!(
        "[source.kafka]\nbrokers = \"{brokers}\"\ntopics = [\"{name}\"]\nformat = \"canal\"\ngroup = \"{name}\"\n\
         dead_letter_topic = \"{name}.dead\"\n",
        brokers = stack.brokers(),
    )
}

/// What it says of a fixed list.
fn list(listed: &[(String, u16)], replicas: usize) -> String {
    let mut text = format!("replicas = {replicas}\n");
    for (id, grpc) in listed {
        let _ = writeln!(text, "[[cluster.members]]\nid = \"{id}\"\ngrpc = \"http://127.0.0.1:{grpc}\"");
    }
    text
}
