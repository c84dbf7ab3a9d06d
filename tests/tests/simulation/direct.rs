//! An application that knows no ring: asks any node for any key, as through a load balancer. Only so nodes forward much, and keep mirrors.

use std::{collections::BTreeMap, time::Duration};

use client::{Answer, Outcome};
use proto::v1::{self, cache_client::CacheClient};
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};

use crate::{clock::Party, scenario::NODES, stream::connector, world::Shared};

const DEADLINE: Duration = Duration::from_millis(400);

/// A connection to each node.
pub(crate) struct Direct(BTreeMap<u8, CacheClient<Channel>>);

impl Direct {
    /// Must be called in the application's runtime.
    pub(crate) fn new(shared: &Shared, party: Party) -> Self {
        let connect = |number: u8| {
            let endpoint = Endpoint::from_shared(format!("http://n{number}:7400")).expect("a URL");
            let endpoint = endpoint.connect_timeout(Duration::from_millis(150));
            (
                number,
                CacheClient::new(endpoint.connect_with_connector_lazy(connector(&shared.network, party))),
            )
        };
        Self((1..=NODES).map(connect).collect())
    }

    /// Asks a node for a key.
    pub(crate) async fn get(&self, node: u8, key: &str) -> Result<Answer, String> {
        let begun = Instant::now();
        let mut client = self.0[&node].clone();
        let request = v1::GetRequest { key: key.to_owned(), ..Default::default() };
        let reply =
            timeout(DEADLINE, client.get(request)).await.map_err(|_| "no answer in time".to_owned())?;
        let reply = reply.map_err(|status| status.to_string())?.into_inner();
        let outcome = match reply.outcome() {
            v1::Outcome::Hit => Outcome::Hit,
            v1::Outcome::NegativeHit => Outcome::NegativeHit,
            v1::Outcome::Miss => Outcome::Miss,
            v1::Outcome::Shared => Outcome::Shared,
            v1::Outcome::ReadThrough => Outcome::ReadThrough,
            other => return Err(format!("an outcome that was not asked for: {other:?}")),
        };
        Ok(Answer {
            value: reply.value,
            outcome,
            age: Duration::from_millis(reply.age_ms),
            ttl: (reply.ttl_ms > 0).then(|| Duration::from_millis(reply.ttl_ms)),
            node: reply.node,
            epoch: reply.epoch,
            freshness: Duration::from_millis(reply.freshness_ms) + begun.elapsed(),
            token: None,
        })
    }
}
