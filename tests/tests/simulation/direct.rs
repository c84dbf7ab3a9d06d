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
        let mut answer = Answer::try_from(reply).map_err(|error| error.to_string())?;
        if matches!(answer.outcome, Outcome::Token | Outcome::Stale) {
            return Err(format!("an outcome that was not asked for: {:?}", answer.outcome));
        }
        answer.freshness += begun.elapsed();
        Ok(answer)
    }
}
