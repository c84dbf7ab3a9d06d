//! The bare opponent: a tonic service of the same contract that returns a constant, whatever it is asked.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use proto::v1::{
    self,
    cache_server::{Cache, CacheServer},
    invalidation_server::{Invalidation, InvalidationServer},
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Answers every key with the same reply, and acknowledges every removal without having done anything.
#[derive(Debug, Clone)]
pub(crate) struct Constant {
    reply: v1::GetReply,
    node: String,
}

impl Constant {
    /// Answers with `value`, as the node `node`.
    pub(crate) fn new(node: &str, value: Bytes) -> Self {
        let reply = v1::GetReply {
            value: Some(value),
            outcome: v1::Outcome::Hit.into(),
            age_ms: 1234,
            ttl_ms: 567_890,
            node: node.to_owned(),
            epoch: 1,
            ..v1::GetReply::default()
        };
        Self { reply, node: node.to_owned() }
    }

    /// Serves on a free port of the loopback address, on the calling runtime, until that ends.
    pub(crate) async fn serve(self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind a loopback port")?;
        let address = listener.local_addr().context("read the bound port")?;
        // The same settings as a node's, and nothing else beside it.
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .add_service(CacheServer::new(self.clone()))
            .add_service(InvalidationServer::new(self).max_decoding_message_size(client::MAX_MESSAGE))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tokio::spawn(server);
        Ok(address)
    }
}

#[tonic::async_trait]
impl Cache for Constant {
    async fn get(&self, _request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        Ok(Response::new(self.reply.clone()))
    }

    async fn get_many(
        &self,
        request: Request<v1::GetManyRequest>,
    ) -> Result<Response<v1::GetManyReply>, Status> {
        let result = v1::KeyResult { result: Some(v1::key_result::Result::Reply(self.reply.clone())) };
        let results = vec![result; request.get_ref().keys.len()];
        Ok(Response::new(v1::GetManyReply { results, epoch: 1 }))
    }

    async fn remove(
        &self,
        _request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::RemoveReply>, Status> {
        Ok(Response::new(v1::RemoveReply { removed: 0, epoch: 1 }))
    }

    async fn flush(&self, _request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushReply>, Status> {
        Ok(Response::new(v1::FlushReply { epoch: 1 }))
    }

    async fn explain(
        &self,
        _request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainReply>, Status> {
        Ok(Response::new(v1::ExplainReply { node: self.node.clone(), ..v1::ExplainReply::default() }))
    }

    async fn stats(&self, _request: Request<v1::StatsRequest>) -> Result<Response<v1::StatsReply>, Status> {
        Ok(Response::new(v1::StatsReply { node: self.node.clone(), ..v1::StatsReply::default() }))
    }

    async fn ring(&self, _request: Request<v1::RingRequest>) -> Result<Response<v1::RingReply>, Status> {
        Ok(Response::new(v1::RingReply { node: self.node.clone(), ..v1::RingReply::default() }))
    }

    async fn set(&self, _request: Request<v1::SetRequest>) -> Result<Response<v1::SetReply>, Status> {
        Ok(Response::new(v1::SetReply { node: self.node.clone(), ..v1::SetReply::default() }))
    }

    async fn scan(&self, _request: Request<v1::ScanRequest>) -> Result<Response<v1::ScanReply>, Status> {
        Ok(Response::new(v1::ScanReply { node: self.node.clone(), ..v1::ScanReply::default() }))
    }
}

#[tonic::async_trait]
impl Invalidation for Constant {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyReply>, Status> {
        let epoch = request.get_ref().epoch;
        Ok(Response::new(v1::ApplyReply {
            node: self.node.clone(),
            incarnation: 1,
            epoch,
            confirmed_epoch: epoch,
            removed: 0,
            clock: None,
        }))
    }

    async fn heartbeat(
        &self,
        _request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatReply>, Status> {
        Ok(Response::new(v1::HeartbeatReply { node: self.node.clone(), ..v1::HeartbeatReply::default() }))
    }
}
