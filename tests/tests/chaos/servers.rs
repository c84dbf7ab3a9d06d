//! What both trials stand on: a network for hosts, and the servers.

use tests::{
    network::Network,
    stack::{Setup, Stack},
};

/// Members of etcd's cluster.
const ETCD: usize = 3;

/// Servers that hosts of the network reach.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) network: Network,
    pub(crate) stack: Stack,
}

impl Servers {
    pub(crate) async fn start() -> Result<Self, String> {
        let network = Network::create()?;
        let setup = Setup { etcd: ETCD, host: network.gateway.to_string() };
        Ok(Self { stack: Stack::start_with("chaos", &setup).await, network })
    }
}
