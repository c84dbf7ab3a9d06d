//! The gRPC services. Wire types stop here.

use std::{io, sync::Arc, time::Duration};

use client::identity::Answering;
use futures_util::Stream;
use memory::watermarks::MOST_PARTITIONS;
use proto::v1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::server::{Connected, Router},
};
use tonic::{body::Body, codegen::http::Response as HttpResponse};
use tonic_health::server::HealthReporter;
use tower::util::MapResponseLayer;
use tower_layer::{Identity, Stack};
use v1::{
    cache_server::{Cache, CacheServer},
    handover_server::{Handover, HandoverServer},
    hot_keys_server::HotKeysServer,
    invalidation_server::{Invalidation, InvalidationServer},
    plain_server::PlainServer,
};
use wire::{Answer, MAX_MESSAGE, ReadOptions};

use super::{hold, incoming::Incoming, intake::Intake};
use crate::{
    error::Error,
    node::{Hop, Node},
};

/// All services of one node.
#[derive(Debug, Clone)]
pub(super) struct Service(Arc<Node>);

impl Service {
    pub(super) fn node(&self) -> &Node {
        &self.0
    }
}

/// Serves until `close`, then waits for requests under way; the caller bounds that.
pub(super) async fn serve(
    incoming: impl Stream<Item = io::Result<Incoming>>,
    node: Arc<Node>,
    health: impl tonic::codegen::Service<
        tonic::codegen::http::Request<tonic::body::Body>,
        Response = tonic::codegen::http::Response<tonic::body::Body>,
        Error = std::convert::Infallible,
        Future: Send,
    > + tonic::server::NamedService
    + Clone
    + Send
    + Sync
    + 'static,
    close: CancellationToken,
) -> anyhow::Result<()> {
    let reflection = |builder: tonic_reflection::server::Builder<'static>| {
        builder
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    services(node)
        .add_service(health)
        .add_service(reflection(tonic_reflection::server::Builder::configure()).build_v1()?)
        .add_service(reflection(tonic_reflection::server::Builder::configure()).build_v1alpha()?)
        .serve_with_incoming_shutdown(incoming, close.cancelled_owned())
        .await?;
    Ok(())
}

/// Serves Freshline's own services on connections that come from elsewhere than a port, until there are no more of them:
/// a simulated network, a socket that was handed over.
///
/// Dropping the future takes no new connections; those that are open are served on until their callers hang up.
///
/// # Errors
///
/// Those of the transport.
pub async fn serve_connections<C, E>(
    node: Arc<Node>,
    connections: impl Stream<Item = Result<C, E>>,
) -> anyhow::Result<()>
where
    C: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Ok(services(node).serve_with_incoming(connections).await?)
}

/// The largest request of the sync service, whose own are of a megabyte.
const LARGEST_APPLY: usize = 16 << 20;
/// What a request has beside its keys and its value.
const MARGIN: usize = 64 << 10;
/// Calls under way on one connection; more wait at their caller.
const STREAMS: u32 = 1024;

type Hold = fn(HttpResponse<Body>) -> HttpResponse<Body>;
type Layers = Stack<MapResponseLayer<Hold>, Stack<Intake, Stack<Answering, Identity>>>;

/// What a node serves, beside health and reflection.
fn services(node: Arc<Node>) -> Router<Layers> {
    let (answering, intake) = (node.answering().clone(), Intake(node.requests.clone()));
    // What its keys and one value may take. Smaller is quicker to see through: a message may be millions of names without a letter.
    let config = node.config();
    let keys = config.max_keys.saturating_mul(config.max_key.0 as usize + 8);
    let values = node.catalog().groups().iter().filter_map(|group| group.max_value);
    let value = values.chain([config.max_value.0]).max().unwrap_or_default() as usize;
    let call = keys.saturating_add(value).saturating_add(MARGIN).min(MAX_MESSAGE);
    let service = Service(node);
    tonic::transport::Server::builder()
        .layer(answering)
        .layer(intake)
        .layer(MapResponseLayer::new(hold::grpc as Hold))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(STREAMS)
        .add_service(
            CacheServer::new(service.clone())
                .max_decoding_message_size(call)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            InvalidationServer::new(service.clone())
                .max_decoding_message_size(LARGEST_APPLY)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            PlainServer::new(service.clone())
                .max_decoding_message_size(call)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            HotKeysServer::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            HandoverServer::new(service)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
}

/// Tells the health service's callers whether to send work here.
pub(super) async fn report(reporter: &HealthReporter, serving: bool) {
    let status =
        if serving { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
    reporter.set_service_status("", status).await;
    reporter.set_service_status("freshline.v1.Cache", status).await;
    reporter.set_service_status("freshline.v1.Invalidation", status).await;
}

#[tonic::async_trait]
impl Cache for Service {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        let request = request.into_inner();
        let options = options(request.max_staleness_ms, request.look_aside);
        let answer = self.0.get_with(&request.key, hop(request.forwarded), options).await?;
        let reserved = self.0.reserved(&answer)?;
        let mut reply = v1::GetReply::from(answer);
        if request.copy {
            reply.group_digest = self.0.group_digest(&request.key);
        }
        let mut response = Response::new(reply);
        hold::until_sent(response.extensions_mut(), reserved);
        Ok(response)
    }

    async fn get_many(
        &self,
        request: Request<v1::GetManyRequest>,
    ) -> Result<Response<v1::GetManyReply>, Status> {
        let request = request.into_inner();
        let options = options(request.max_staleness_ms, request.look_aside);
        let hop = hop(request.forwarded);
        let (results, reserved) =
            self.0.get_within(&request.keys, hop, options, request.max_reply_bytes).await?;
        let results = results.into_iter().map(key_result).collect();
        let mut response = Response::new(v1::GetManyReply { results, epoch: self.0.epoch().0 });
        hold::until_sent(response.extensions_mut(), Some(reserved));
        Ok(response)
    }

    async fn remove(&self, request: Request<v1::RemoveRequest>) -> Result<Response<v1::RemoveReply>, Status> {
        let request = request.into_inner();
        if !request.tags.is_empty() {
            self.0.remove_tags(&request.tags, hop(request.forwarded)).await?;
        }
        let removed = if request.keys.is_empty() && !request.tags.is_empty() {
            0
        } else {
            self.0.remove(&request.keys, hop(request.forwarded)).await?
        };
        Ok(Response::new(v1::RemoveReply { removed, epoch: self.0.epoch().0 }))
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushReply>, Status> {
        let request = request.into_inner();
        self.0.flush(&request.groups, hop(request.forwarded)).await?;
        Ok(Response::new(v1::FlushReply { epoch: self.0.epoch().0 }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainReply>, Status> {
        let request = request.into_inner();
        let explained = self.0.explain(&request.key, hop(request.forwarded)).await?;
        Ok(Response::new(explained.into()))
    }

    async fn stats(&self, _: Request<v1::StatsRequest>) -> Result<Response<v1::StatsReply>, Status> {
        Ok(Response::new(self.0.stats().into()))
    }

    async fn ring(&self, _: Request<v1::RingRequest>) -> Result<Response<v1::RingReply>, Status> {
        Ok(Response::new(wire::convert::ring_reply(self.0.cluster(), self.0.id().as_str(), &self.0.ring())))
    }

    async fn set(&self, request: Request<v1::SetRequest>) -> Result<Response<v1::SetReply>, Status> {
        let request = request.into_inner();
        let ttl = (request.ttl_ms > 0).then(|| Duration::from_millis(request.ttl_ms));
        let hop = hop(request.forwarded);
        let set = self.0.set(&request.key, request.value, &request.token, ttl, hop).await?;
        Ok(Response::new(set.into()))
    }

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Result<Response<v1::ScanReply>, Status> {
        let page = self.0.scan(&request.into_inner().into())?;
        Ok(Response::new(page.into()))
    }
}

#[tonic::async_trait]
impl Invalidation for Service {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyReply>, Status> {
        let request = request.into_inner();
        check_partitions(request.watermarks.as_ref())?;
        let ack = self.0.apply(&request.into()).await?;
        Ok(Response::new(ack.into()))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatReply>, Status> {
        let request = request.into_inner();
        check_partitions(request.watermarks.as_ref())?;
        Ok(Response::new(self.0.heartbeat(&request.into()).into()))
    }
}

#[tonic::async_trait]
impl Handover for Service {
    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<v1::PullReply>, Status> {
        let pulled = self.0.pull(&request.into_inner().into()).await?;
        Ok(Response::new(pulled.into()))
    }

    async fn announce(
        &self,
        request: Request<v1::AnnounceRequest>,
    ) -> Result<Response<v1::AnnounceReply>, Status> {
        self.0.announced(request.into_inner().into())?;
        Ok(Response::new(v1::AnnounceReply {}))
    }
}

/// Refuses more partitions than a node remembers.
fn check_partitions(told: Option<&v1::Watermarks>) -> Result<(), Status> {
    let most = told.map_or(0, |told| told.partitions.len().max(told.all.len()));
    if most <= MOST_PARTITIONS {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{most} partitions in one request, limit is {MOST_PARTITIONS}: follow fewer topics"
    )))
}

pub(super) fn hop(forwarded: bool) -> Hop {
    if forwarded { Hop::Forwarded } else { Hop::First }
}

fn key_result(result: Result<Answer, Error>) -> v1::KeyResult {
    use v1::key_result::Result as Wire;
    let result = match result {
        Ok(answer) => Wire::Reply(answer.into()),
        Err(Error::LeftOut { .. }) => Wire::LeftOut(true),
        Err(error) => Wire::Error(v1::KeyError { code: error.code().into(), message: error.to_string() }),
    };
    v1::KeyResult { result: Some(result) }
}

fn options(max_staleness_ms: Option<u64>, look_aside: bool) -> ReadOptions {
    ReadOptions { max_staleness: max_staleness_ms.map(Duration::from_millis), look_aside }
}
