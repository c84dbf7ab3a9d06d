//! A node that serves by itself, in the binary or inside an application.

use std::{future::Future, net::SocketAddr, ops::Deref, sync::Arc};

use anyhow::Context as _;
use daemon::{admin::Readiness, metrics::SharedRegistry};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use wire::Answer;

use crate::{
    error::Error,
    node::{Hop, Node},
    serve::Server,
};

/// A started node: [`Settings::start`](crate::Settings::start) makes it, and it is asked as a [`Node`].
///
/// [`stop`](Self::stop) ends it in order. Dropped, it does the same without anyone who waits for it, as long as the runtime goes on.
pub struct Running {
    node: Arc<Node>,
    readiness: Readiness,
    grpc: SocketAddr,
    http: SocketAddr,
    resp: Option<SocketAddr>,
    stop: CancellationToken,
    /// Until its end was told.
    serving: Option<JoinHandle<anyhow::Result<()>>>,
    _stop_on_drop: DropGuard,
}

impl Running {
    pub(crate) fn begin(
        server: Server,
        prepared: impl Future<Output = anyhow::Result<()>> + Send + 'static,
        node: Arc<Node>,
        registry: SharedRegistry,
        readiness: Readiness,
    ) -> Self {
        let stop = CancellationToken::new();
        let (grpc, http, resp) = (server.grpc_addr(), server.http_addr(), server.resp_addr());
        node.set_starting(true); // not only from when it is polled
        let serving = server.serve_when(prepared, node.clone(), registry, readiness.clone(), stop.clone());
        Self {
            node,
            readiness,
            grpc,
            http,
            resp,
            serving: Some(tokio::spawn(serving)),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// The value of a key: from this node's memory, from the database, or from the node that owns it.
    pub async fn get(&self, key: &str) -> Result<Answer, Error> {
        self.node.get(key, Hop::First).await
    }

    /// The node, to be handed on.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Where gRPC is served: for other nodes, the sync service and clients.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where Redis clients are served, if they are.
    pub fn resp_addr(&self) -> Option<SocketAddr> {
        self.resp
    }

    /// Waits until the database answers, the node has its place in the ring, and it keeps what it reads: not before the quarantine of the slots
    /// that it took is over. It answers before that, too.
    ///
    /// # Errors
    ///
    /// The node ended before.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let mut reasons = self.readiness.subscribe();
        let quarantine = self.node.config().quarantine;
        let keeps = async {
            // Its sender lives as long as `self`.
            let _ = reasons.wait_for(std::collections::BTreeMap::is_empty).await;
            tokio::time::sleep(quarantine).await;
        };
        tokio::select! {
            () = keeps => Ok(()),
            ended = self.ended() => ended.and_then(|()| anyhow::bail!("wait for the node: it has been stopped")),
        }
    }

    /// Waits until it has ended: by itself, which is an error, or stopped. Safe to drop.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let Some(serving) = &mut self.serving else { return Ok(()) };
        let ended = serving.await;
        self.serving = None;
        ended.context("serve: the node broke")?
    }

    /// Stops in the order in which work flows: out of the ring, values handed over, requests finished. Every wait has a bound.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.ended().await
    }
}

impl Deref for Running {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("node", self.node.id())
            .field("grpc", &self.grpc)
            .finish_non_exhaustive()
    }
}
