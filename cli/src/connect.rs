//! How the node commands find the nodes.

mod wrong_port;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use client::Client;
use daemon::config::{ClientSection, Cluster, Layers, Problems};

use ring::etcd::EtcdMembership;

use crate::dev::state::State;

const DEFAULT_NODE: &str = "http://127.0.0.1:7400";
/// A node's gRPC port, where none is named.
const PORT: u16 = 7400;

/// Where the nodes are.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Connect {
    /// A node's gRPC address; any will do, more are tried in turn. Default: the running `freshline dev`, or port 7400 here
    // One underscore: two would make it a field of the configuration.
    #[arg(
        long,
        value_name = "URL",
        env = NODES,
        value_delimiter = ',',
        help_heading = "Where the nodes are"
    )]
    node: Vec<String>,
    /// Find the nodes by the [cluster] section of this file (etcd or a fixed list), unless --node names them
    #[arg(long, short, value_name = "FILE", help_heading = "Where the nodes are")]
    config: Option<PathBuf>,
    /// A client that the shell has for these nodes already.
    #[arg(skip)]
    known: Option<Client>,
    /// Whether it is a line of the shell, which outlives its commands.
    #[arg(skip)]
    in_shell: bool,
}

const NODES: &str = "FRESHLINE_NODES";
/// How long etcd may take to tell the members.
const PATIENCE: Duration = Duration::from_secs(5);
/// A person waits longer than an application, and a node's own deadlines end sooner.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long a node may give no sign of life; half of the deadline leaves time for another one.
const SILENCE: Duration = Duration::from_millis(1500);

impl Connect {
    /// A client that knows the nodes.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        if let Some(known) = &self.known {
            return Ok(known.clone());
        }
        if let Some(file) = self.config.as_ref().filter(|_| !self.names_nodes()) {
            return by_config(file).await;
        }
        let seeds = self.seeds();
        let named = seeds.join(", ");
        let config = client::Config { deadline: DEADLINE, silence: SILENCE, ..client::Config::default() };
        let reached = Client::from_seeds(seeds.clone(), config).await;
        let Err(error) = reached else { return Ok(reached?) };
        for seed in &seeds {
            if let Some(wrong) = wrong_port::explain(seed).await {
                return Err(anyhow::anyhow!("{wrong}").context(format!("reach a node at {seed}")));
            }
        }
        Err(error).with_context(|| {
            format!("reach a node at {named}; start one with `freshline dev`, or name one with --node")
        })
    }

    /// Takes over where the shell's nodes are, unless the line names others; says whether it did.
    pub(crate) fn inherit(&mut self, shell: &Self) -> bool {
        let environment = std::env::var(NODES).unwrap_or_default();
        // What is in the environment was not written in the line.
        let written = self.names_nodes() && self.node.iter().map(String::as_str).ne(environment.split(','));
        let inherits = !written && self.config.is_none();
        if inherits {
            *self = Self { in_shell: self.in_shell, ..shell.clone() };
        }
        inherits
    }

    /// Uses this client.
    pub(crate) fn know(&mut self, client: Client) {
        self.known = Some(client);
    }

    /// Notes that this is a line of the shell.
    pub(crate) fn enter_shell(&mut self) {
        self.in_shell = true;
    }

    /// Waits until the command is asked to end. On the command line a second signal then ends the process at once; the shell goes on.
    pub(crate) async fn interrupted(&self) {
        if self.in_shell { daemon::shutdown::asked().await } else { daemon::shutdown::signal().await }
    }

    /// Which nodes are meant, in a word: for the prompt.
    pub(crate) fn name(&self) -> String {
        let short = |url: &str| url.rsplit("://").next().unwrap_or(url).to_owned();
        if self.names_nodes() {
            return self.seeds().first().map_or_else(String::new, |url| short(url));
        }
        if let Some(file) = &self.config {
            let cluster: Option<Cluster> = Layers::load(Some(file))
                .ok()
                .filter(|layers| layers.has("cluster.name"))
                .map(|layers| layers.section("cluster", &mut Problems::default()));
            return cluster.map_or_else(|| file.display().to_string(), |cluster| cluster.name);
        }
        if State::running().is_some() { "dev".to_owned() } else { short(DEFAULT_NODE) }
    }

    /// Whether nodes are named, by the command line or the environment.
    pub(crate) fn names_nodes(&self) -> bool {
        self.node.iter().any(|url| !url.trim().is_empty())
    }

    /// The file of `--config`.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// By this file, as `--config` names it.
    #[cfg(test)]
    pub(crate) fn by_config(file: &Path) -> Self {
        Self { config: Some(file.to_owned()), ..Self::default() }
    }

    fn seeds(&self) -> Vec<String> {
        let named: Vec<String> =
            self.node.iter().map(|url| url.trim()).filter(|url| !url.is_empty()).map(whole).collect();
        if !named.is_empty() {
            return named;
        }
        State::running()
            .map(|state| state.nodes)
            .filter(|nodes| !nodes.is_empty())
            .unwrap_or_else(|| vec![DEFAULT_NODE.to_owned()])
    }
}

/// `node-1` means `http://node-1:7400`. With `https://` the port is left to the scheme.
fn whole(url: &str) -> String {
    let (scheme, authority) = url.split_once("://").unwrap_or(("http", url));
    let authority = authority.trim_end_matches('/');
    // `[::1]` ends with a bracket, and `::1` is no port of `:`.
    let bare = authority.rsplit_once(':').is_none_or(|(host, port)| {
        port.ends_with(']') || port.is_empty() || (host.contains(':') && !host.ends_with(']'))
    });
    if !bare || scheme != "http" {
        return format!("{scheme}://{authority}");
    }
    let authority = authority.trim_end_matches(':');
    // An IPv6 address without its brackets.
    if authority.contains(':') && !authority.starts_with('[') {
        return format!("{scheme}://[{authority}]:{PORT}");
    }
    format!("{scheme}://{authority}:{PORT}")
}

async fn by_config(file: &Path) -> anyhow::Result<Client> {
    let read = |problems: Problems| anyhow::anyhow!("read the configuration:\n{problems}");
    let layers = Layers::load(Some(file)).map_err(read)?;
    let mut problems = Problems::default();
    let cluster: Cluster = layers.section("cluster", &mut problems);
    let section: ClientSection = layers.section("client", &mut problems);
    cluster.check(&layers, &mut problems);
    section.check(&layers, &mut problems);
    problems.into_result().map_err(read)?;
    let config = client::Config {
        deadline: section.deadline.max(DEADLINE),
        silence: section.silence,
        read_from: read_from(section.read_from),
        retries: section.retries,
        connect_timeout: section.connect_timeout,
        breaker_failures: section.breaker_failures,
        breaker_cool_down: section.breaker_cool_down,
        ..client::Config::default()
    };
    if !cluster.members.is_empty() {
        let seeds = cluster.members.iter().map(|member| member.grpc.clone()).collect();
        return Client::from_seeds(seeds, config)
            .await
            .with_context(|| format!("reach a node of {}", file.display()));
    }
    anyhow::ensure!(
        !cluster.etcd.is_empty(),
        "find nodes by {}: it has neither etcd nor members in [cluster]; name a node with --node",
        file.display()
    );
    let options = ring::etcd::Options::new(cluster.etcd.clone(), &cluster.name, cluster.replicas);
    let membership = EtcdMembership::connect(options).context("connect to etcd")?;
    tokio::time::timeout(PATIENCE, membership.ready())
        .await
        .with_context(|| format!("reach etcd at {} within {PATIENCE:?}", cluster.etcd.join(", ")))?
        .context("read the members from etcd")?;
    Ok(Client::from_membership(membership, config))
}

/// The client's word for the configuration's.
pub(crate) fn read_from(configured: daemon::config::ReadFrom) -> client::ReadFrom {
    match configured {
        daemon::config::ReadFrom::Owner => client::ReadFrom::Owner,
        daemon::config::ReadFrom::Any => client::ReadFrom::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_with_or_without_scheme() {
        let connect =
            Connect { node: vec!["a:7400".into(), " ".into(), "https://b".into()], ..Connect::default() };
        assert_eq!(connect.seeds(), ["http://a:7400", "https://b"]);
        for (written, meant) in [
            ("node-1", "http://node-1:7400"),
            ("http://node-1", "http://node-1:7400"),
            ("http://node-1/", "http://node-1:7400"),
            ("10.0.0.1:7410", "http://10.0.0.1:7410"),
            ("[::1]", "http://[::1]:7400"),
            ("::1", "http://[::1]:7400"),
            ("[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(whole(written), meant);
        }
    }

    #[test]
    fn a_line_of_the_shell_takes_its_nodes_unless_it_names_others() {
        let shell = Connect { node: vec!["a:1".into()], ..Connect::default() };
        let mut line = Connect::default();
        assert!(line.inherit(&shell));
        assert_eq!(line.node, ["a:1"]);
        let mut line = Connect { node: vec!["b:1".into()], ..Connect::default() };
        assert!(!line.inherit(&shell));
        assert_eq!(line.node, ["b:1"]);
    }
}
