//! Hot keys and mirrors on the wire.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use proto::v1::{self, hot_keys_server::HotKeys};
use ring::{Epoch, NodeId};
use serde::Deserialize;
use tonic::{Request, Status};

use super::{
    grpc::Service,
    http::{Asked, Params, Problem},
};
use crate::{hot::TOP, node::Node};

/// Keys that a request gets at most.
const MOST: u32 = 10_000;

#[tonic::async_trait]
impl HotKeys for Service {
    async fn hot(&self, request: Request<v1::HotRequest>) -> Result<tonic::Response<v1::HotReply>, Status> {
        let top = request.into_inner().top.min(MOST) as usize;
        Ok(tonic::Response::new(self.node().hot(top).into()))
    }

    async fn mirror(
        &self,
        request: Request<v1::MirrorRequest>,
    ) -> Result<tonic::Response<v1::MirrorReply>, Status> {
        let request = request.into_inner();
        let lease = Duration::from_millis(request.lease_ms);
        let from = NodeId::from(request.node);
        let epoch = Epoch(request.epoch);
        let granted = self.node().grant(&from, epoch, &request.key, lease, request.protocol).await?;
        Ok(tonic::Response::new(granted.into()))
    }

    async fn unmirror(
        &self,
        request: Request<v1::UnmirrorRequest>,
    ) -> Result<tonic::Response<v1::UnmirrorReply>, Status> {
        let request = request.into_inner();
        if request.all {
            self.node().unmirror_all(&NodeId::from(request.node));
        }
        self.node().unmirror(&request.keys, &request.origin);
        Ok(tonic::Response::new(v1::UnmirrorReply { node: self.node().id().to_string() }))
    }
}

/// What may stand behind the question mark of `/v1/hot`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HotQuery {
    top: Option<u32>,
    /// Of which node; all without it.
    node: Option<String>,
}

impl Params for HotQuery {
    const HINT: &'static str = "this takes ?top=20 and ?node=NAME";
}

/// The keys that are read most, over all nodes or on one of them.
pub(super) async fn hot(
    State(node): State<Arc<Node>>,
    Asked(HotQuery { top, node: of }): Asked<HotQuery>,
) -> Result<Response, Problem> {
    let top = top.unwrap_or(TOP).min(MOST) as usize;
    if let Some(merged) = node.hot_everywhere(of.as_deref(), top).await {
        return Ok(Json(merged).into_response());
    }
    let detail = format!("{} is no member; /v1/ring has their names", of.unwrap_or_default());
    Err(Problem::new(StatusCode::NOT_FOUND, "no-such-member", detail))
}
