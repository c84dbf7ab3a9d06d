//! The gRPC services. Wire types stop here.

use std::{sync::Arc, time::Duration};

use client::{Answer, Apply, EntryState, Explanation, NodeStats, Outcome};
use proto::v1;
use ring::{Epoch, Member};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};
use tonic_health::server::HealthReporter;
use v1::{
    cache_server::{Cache, CacheServer},
    invalidation_server::{Invalidation, InvalidationServer},
};

use super::MAX_MESSAGE;
use crate::{
    error::Error,
    node::{Hop, Node},
};

/// Both services of one node.
#[derive(Debug, Clone)]
struct Service(Arc<Node>);

/// Serves until `close`, then waits for requests under way; the caller bounds that.
pub(super) async fn serve(
    listener: TcpListener,
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
    let service = Service(node);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(health)
        .add_service(reflection(tonic_reflection::server::Builder::configure()).build_v1()?)
        .add_service(reflection(tonic_reflection::server::Builder::configure()).build_v1alpha()?)
        .add_service(
            CacheServer::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            InvalidationServer::new(service)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            close.cancelled_owned(),
        )
        .await?;
    Ok(())
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
        let answer = self.0.get(&request.key, hop(request.forwarded)).await?;
        Ok(Response::new(reply(answer)))
    }

    async fn get_many(
        &self,
        request: Request<v1::GetManyRequest>,
    ) -> Result<Response<v1::GetManyReply>, Status> {
        let request = request.into_inner();
        let results = self.0.get_many(&request.keys, hop(request.forwarded)).await?;
        let results = results.into_iter().map(key_result).collect();
        Ok(Response::new(v1::GetManyReply { results, epoch: self.0.epoch().0 }))
    }

    async fn remove(&self, request: Request<v1::RemoveRequest>) -> Result<Response<v1::RemoveReply>, Status> {
        let request = request.into_inner();
        let removed = self.0.remove(&request.keys, hop(request.forwarded)).await?;
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
        Ok(Response::new(explanation(explained)))
    }

    async fn stats(&self, _: Request<v1::StatsRequest>) -> Result<Response<v1::StatsReply>, Status> {
        Ok(Response::new(stats(self.0.stats())))
    }

    async fn ring(&self, _: Request<v1::RingRequest>) -> Result<Response<v1::RingReply>, Status> {
        let ring = self.0.ring();
        Ok(Response::new(v1::RingReply {
            epoch: ring.epoch().0,
            members: ring.members().iter().map(member).collect(),
            replicas: ring.replicas() as u32,
            node: self.0.id().to_string(),
        }))
    }
}

#[tonic::async_trait]
impl Invalidation for Service {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyReply>, Status> {
        let request = request.into_inner();
        let apply = Apply {
            epoch: Epoch(request.epoch),
            remove: request.remove,
            flush: request.flush,
            origin: request.origin,
        };
        let ack = self.0.apply(&apply).await?;
        Ok(Response::new(v1::ApplyReply {
            node: ack.node.to_string(),
            incarnation: ack.incarnation,
            epoch: ack.epoch.0,
            confirmed_epoch: ack.confirmed_epoch.0,
            removed: ack.removed,
        }))
    }
}

fn hop(forwarded: bool) -> Hop {
    if forwarded { Hop::Forwarded } else { Hop::First }
}

fn reply(answer: Answer) -> v1::GetReply {
    let outcome = match answer.outcome {
        Outcome::Hit => v1::Outcome::Hit,
        Outcome::NegativeHit => v1::Outcome::NegativeHit,
        Outcome::Miss => v1::Outcome::Miss,
        Outcome::Shared => v1::Outcome::Shared,
        Outcome::ReadThrough => v1::Outcome::ReadThrough,
    };
    v1::GetReply {
        value: answer.value,
        outcome: outcome.into(),
        age_ms: ms(answer.age),
        // 0 means "not in memory": the last millisecond of an entry counts as one.
        ttl_ms: answer.ttl.map_or(0, |ttl| ms(ttl).max(1)),
        node: answer.node,
        epoch: answer.epoch,
    }
}

fn key_result(result: Result<Answer, Error>) -> v1::KeyResult {
    use v1::key_result::Result as Wire;
    let result = match result {
        Ok(answer) => Wire::Reply(reply(answer)),
        Err(error) => Wire::Error(v1::KeyError { code: error.code().into(), message: error.to_string() }),
    };
    v1::KeyResult { result: Some(result) }
}

fn explanation(explained: Explanation) -> v1::ExplainReply {
    let entry = match explained.entry {
        EntryState::Absent => v1::EntryState::Absent,
        EntryState::Value => v1::EntryState::Value,
        EntryState::Negative => v1::EntryState::Negative,
    };
    v1::ExplainReply {
        key: explained.key,
        group: explained.group,
        slot: explained.slot.into(),
        owner: explained.owner,
        replicas: explained.replicas,
        epoch: explained.epoch,
        node: explained.node,
        holds: explained.holds,
        entry: entry.into(),
        age_ms: explained.age.map_or(0, ms),
        ttl_ms: explained.ttl.map_or(0, ms),
        size: explained.size,
        last_removal: explained
            .last_removal
            .map(|removal| v1::Removal { age_ms: ms(removal.age), origin: removal.origin }),
        fill_in_flight: explained.fill_in_flight,
        query: explained.query,
    }
}

fn stats(stats: NodeStats) -> v1::StatsReply {
    let groups = stats.groups.into_iter().map(|group| v1::GroupStats {
        name: group.name,
        hits: group.hits,
        misses: group.misses,
        fills: group.fills,
    });
    v1::StatsReply {
        node: stats.node,
        incarnation: stats.incarnation,
        epoch: stats.epoch,
        version: stats.version,
        uptime_ms: ms(stats.uptime),
        entries: stats.entries,
        negative_entries: stats.negative_entries,
        bytes: stats.bytes,
        capacity_bytes: stats.capacity_bytes,
        hits: stats.hits,
        negative_hits: stats.negative_hits,
        misses: stats.misses,
        shared: stats.shared,
        fills: stats.fills,
        fill_errors: stats.fill_errors,
        fills_refused: stats.fills_refused,
        removes: stats.removes,
        removes_hit: stats.removes_hit,
        flushes: stats.flushes,
        evictions: stats.evictions,
        expirations: stats.expirations,
        forwards: stats.forwards,
        slots: stats.slots,
        fenced: stats.fenced,
        groups: groups.collect(),
    }
}

fn member(member: &Member) -> v1::Member {
    v1::Member {
        id: member.id.to_string(),
        incarnation: member.incarnation,
        grpc: member.grpc.clone(),
        http: member.http.clone(),
        weight: member.weight,
        state: member.state.as_str().to_owned(),
    }
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
