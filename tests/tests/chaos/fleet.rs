//! Nodes and sync services, each a process on a host of its own.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tests::{
    network::{Host, Network},
    process::{Process, binaries},
    stack::Stack,
};

use crate::registers;

/// Nodes of the cluster.
pub(crate) const NODES: usize = 3;
/// Instances of the sync service.
pub(crate) const SYNCS: usize = 2;
/// Holders of each slot.
const REPLICAS: usize = 2;
/// How long a silent node stays a member.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How long a silent instance of the sync service keeps its partitions.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

/// Where processes know the members from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    /// etcd, with leases.
    Etcd,
    /// Their configuration.
    List,
}

/// A host and the process that belongs on it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) host: Host,
    process: Option<Process>,
    binary: &'static str,
    config: PathBuf,
    folder: PathBuf,
}

/// All processes, and the folder of their configurations and logs.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Seat>,
    pub(crate) syncs: Vec<Seat>,
    pub(crate) folder: TempDir,
}

impl Fleet {
    /// Starts all processes and waits until they are ready. `name` is that of database, topic, consumer group and cluster.
    pub(crate) async fn start(
        network: &Network,
        stack: &Stack,
        name: &str,
        members: Members,
    ) -> Result<Self, String> {
        let folder =
            tempfile::Builder::new().prefix("freshline-chaos-").tempdir().map_err(|e| e.to_string())?;
        let (mut nodes, mut syncs) = (Vec::new(), Vec::new());
        let mut hosts = Vec::new();
        for number in 1..=NODES {
            let seat = format!("node-{number}");
            hosts.push((seat.clone(), network.host(&seat)?));
        }
        let known = match members {
            Members::Etcd => etcd(network.gateway, stack),
            Members::List => list(&hosts),
        };
        let common = common(&known, stack, name);
        for (seat, host) in hosts {
            let address = host.address;
            let mut section = String::new();
            let _ = write!(
                section,
                "[node]\nid = \"{seat}\"\nadvertise_grpc = \"http://{address}:7400\"\nadvertise_http = \"http://{address}:7401\"\n"
            );
            nodes.push(Seat::new(seat, host, "cache-node", folder.path(), &format!("{section}\n{common}")));
        }
        for number in 1..=SYNCS {
            let seat = format!("sync-{number}");
            let host = network.host(&seat)?;
            // Claims are judged from the commit in MySQL on, which they mean only with heartbeat rows.
            let section = format!(
                "[sync]\ncommit_interval = \"100ms\"\n\n[sync.heartbeat]\ntable = \"{name}.freshline_heartbeat\"\n"
            );
            syncs.push(Seat::new(seat, host, "sync-service", folder.path(), &format!("{section}\n{common}")));
        }
        let mut fleet = Self { nodes, syncs, folder };
        for seat in fleet.nodes.iter_mut().chain(&mut fleet.syncs) {
            seat.start();
        }
        for seat in fleet.nodes.iter().chain(&fleet.syncs) {
            seat.ready().await;
        }
        Ok(fleet)
    }

    /// The gRPC address of every node.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|seat| format!("http://{}:7400", seat.host.address)).collect()
    }
}

impl Seat {
    fn new(name: String, host: Host, binary: &'static str, folder: &Path, config: &str) -> Self {
        let file = folder.join(format!("{name}.toml"));
        fs::write(&file, config).expect("the test's folder can be written");
        Self { name, host, process: None, binary, config: file, folder: folder.to_owned() }
    }

    /// Starts the process, unless it runs.
    pub(crate) fn start(&mut self) {
        if self.process.is_none() {
            let port = if self.binary == "cache-node" { 7401 } else { 7402 };
            let command = self.host.command(&binaries().join(self.binary));
            let http = format!("{}:{port}", self.host.address);
            self.process = Some(Process::run(command, &self.name, &self.folder, &self.config, http));
        }
    }

    /// Waits until the process is ready.
    pub(crate) async fn ready(&self) {
        self.process().ready().await;
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks the process to stop, and waits.
    pub(crate) async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
    }

    /// The running process.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("whoever ends a process starts it again")
    }
}

fn etcd(machine: Ipv4Addr, stack: &Stack) -> String {
    let etcd: Vec<String> =
        stack.etcd_members().map(|member| format!("http://{machine}:{}", member.port)).collect();
    format!("etcd = {etcd:?}\nlease = \"{}s\"\n", LEASE.as_secs())
}

fn list(hosts: &[(String, Host)]) -> String {
    let member = |(name, host): &(String, Host)| {
        format!("[[cluster.members]]\nid = \"{name}\"\ngrpc = \"http://{}:7400\"\n", host.address)
    };
    hosts.iter().map(member).collect()
}

fn common(members: &str, stack: &Stack, name: &str) -> String {
    format!(
        "[cluster]\nname = \"{name}\"\nreplicas = {REPLICAS}\n{members}\n[database]\nurl = \"{url}\"\n\n\
         [source.kafka]\nbrokers = \"{brokers}\"\ntopics = [\"{name}\"]\nformat = \"canal\"\ngroup = \"{name}\"\ndead_letter_topic = \"{name}.dead\"\n\
         properties = {{ \"session.timeout.ms\" = {session}, \"heartbeat.interval.ms\" = 1000 }}\n\n{catalog}\n",
        url = stack.mysql_url(name),
        brokers = stack.brokers(),
        session = SESSION.as_millis(),
        catalog = registers::catalog(name),
    )
}
