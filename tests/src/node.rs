//! One cache node as a test talks to it: directly, without the client's routing.

use proto::v1::{
    ExplainReply, ExplainRequest, GetManyRequest, GetReply, GetRequest, RemoveRequest, RingReply,
    RingRequest, StatsReply, StatsRequest, cache_client::CacheClient, key_result::Result as KeyResult,
};
use serde_json::Value;
use tonic::{Status, transport::Channel};

use crate::process::Process;

/// A node's process and a connection to it.
#[derive(Debug)]
pub struct Node {
    /// Its id in the membership.
    pub id: String,
    /// The process.
    pub process: Process,
    client: CacheClient<Channel>,
}

impl Node {
    /// Waits until the process is ready and connects to it.
    pub async fn connect(id: &str, process: Process, grpc: u16) -> Node {
        process.ready().await;
        let client = CacheClient::connect(format!("http://127.0.0.1:{grpc}"))
            .await
            .expect("a ready node accepts connections");
        Node { id: id.to_owned(), process, client }
    }

    /// The connection alone, for a task of its own.
    pub fn reader(&self) -> Reader {
        Reader { client: self.client.clone() }
    }

    /// Asks for a key; the node forwards if it does not hold the slot.
    pub async fn get(&self, key: &str) -> Result<GetReply, Status> {
        self.get_with(key, None).await
    }

    /// The same, at most so stale.
    pub async fn get_with(&self, key: &str, max_staleness_ms: Option<u64>) -> Result<GetReply, Status> {
        let request = GetRequest { key: key.to_owned(), max_staleness_ms, ..GetRequest::default() };
        Ok(self.client.clone().get(request).await?.into_inner())
    }

    /// Asks for many keys.
    pub async fn get_many(&self, keys: &[String]) -> Result<Vec<GetReply>, Status> {
        self.reader().get_many(keys).await
    }

    /// The value of a key as JSON; `Null` if there is no such row.
    pub async fn value(&self, key: &str) -> Result<Value, Status> {
        let reply = self.get(key).await?;
        Ok(reply.value.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).expect("a value is JSON")))
    }

    /// What the owner knows about a key.
    pub async fn explain(&self, key: &str) -> Result<ExplainReply, Status> {
        let request = ExplainRequest { key: key.to_owned(), forwarded: false };
        Ok(self.client.clone().explain(request).await?.into_inner())
    }

    /// Removes a key on all nodes.
    pub async fn remove(&self, key: &str) -> Result<u64, Status> {
        let request = RemoveRequest { keys: vec![key.to_owned()], ..RemoveRequest::default() };
        Ok(self.client.clone().remove(request).await?.into_inner().removed)
    }

    /// The node's counters.
    pub async fn stats(&self) -> Result<StatsReply, Status> {
        Ok(self.client.clone().stats(StatsRequest {}).await?.into_inner())
    }

    /// The membership as the node knows it.
    pub async fn ring(&self) -> Result<RingReply, Status> {
        Ok(self.client.clone().ring(RingRequest {}).await?.into_inner())
    }
}

/// A connection to a node, without its process.
#[derive(Debug, Clone)]
pub struct Reader {
    client: CacheClient<Channel>,
}

impl Reader {
    /// Asks for many keys.
    pub async fn get_many(&self, keys: &[String]) -> Result<Vec<GetReply>, Status> {
        let request = GetManyRequest { keys: keys.to_vec(), ..GetManyRequest::default() };
        let reply = self.client.clone().get_many(request).await?.into_inner();
        reply
            .results
            .into_iter()
            .map(|result| match result.result {
                Some(KeyResult::Reply(reply)) => Ok(reply),
                Some(KeyResult::Error(error)) => Err(Status::new(error.code.into(), error.message)),
                Some(KeyResult::LeftOut(_)) => Err(Status::resource_exhausted("left out of a full reply")),
                None => Err(Status::internal("a result without a reply")),
            })
            .collect()
    }
}
