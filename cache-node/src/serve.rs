//! The node's ports: gRPC for applications, nodes and the sync service; HTTP for people and their tools.

mod grpc;
mod hold;
mod hot;
mod http;
mod incoming;
mod intake;
mod plain;
mod status;

pub use self::grpc::serve_connections;
pub(crate) use self::intake::Requests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use daemon::{
    admin::{self, Readiness},
    connections::{self, Connections, Limits},
    metrics::SharedRegistry,
};
use ring::{Member, MemberState, NodeId};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::node::Node;

/// Bytes with which an HTTP/2 connection begins.
const PREFACE: usize = 24;

/// For how long a membership is broken before the node ends, so that a new start begins with what there is.
const BROKEN: Duration = Duration::from_secs(5);

/// A node's ports, held; nothing is served yet.
#[derive(Debug)]
pub struct Server {
    grpc: TcpListener,
    http: TcpListener,
    grpc_addr: SocketAddr,
    http_addr: SocketAddr,
    resp: Option<(TcpListener, SocketAddr)>,
}

impl Server {
    /// Holds both ports. Port 0 takes any free one.
    ///
    /// # Errors
    ///
    /// Names the address that could not be bound and the field that sets it.
    pub fn bind(grpc: SocketAddr, http: SocketAddr) -> anyhow::Result<Self> {
        let grpc = daemon::bind("node.grpc", grpc)?;
        let http = daemon::bind("node.http", http)?;
        let grpc_addr = grpc.local_addr().context("read the bound gRPC port")?;
        let http_addr = http.local_addr().context("read the bound HTTP port")?;
        Ok(Self { grpc, http, grpc_addr, http_addr, resp: None })
    }

    /// A joining node that is reached where these ports are bound: right as long as nothing stands between it and the others.
    pub fn member(&self, id: NodeId, weight: u32) -> Member {
        Member {
            id,
            incarnation: 0,
            grpc: format!("http://{}", self.grpc_addr),
            http: format!("http://{}", self.http_addr),
            resp: self.resp_addr().map_or_else(String::new, |addr| addr.to_string()),
            weight,
            state: MemberState::Joining,
            terms: ring::Terms::default(),
        }
    }

    /// Holds a port for Redis clients too.
    ///
    /// # Errors
    ///
    /// Names the address that could not be bound.
    pub fn with_resp(mut self, resp: SocketAddr) -> anyhow::Result<Self> {
        let listener = daemon::bind("node.resp", resp)?;
        let bound = listener.local_addr().context("read the bound RESP port")?;
        self.resp = Some((listener, bound));
        Ok(self)
    }

    /// Where Redis clients are served, if they are.
    pub fn resp_addr(&self) -> Option<SocketAddr> {
        self.resp.as_ref().map(|(_, bound)| *bound)
    }

    /// Where gRPC is served.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Serves a node until `stop`, then stops in the order in which work flows: not ready, out of the ring, on serving
    /// until routing has noticed, no new connections, requests drained, lease given back. Every wait has a bound.
    ///
    /// The node joins the ring once both ports serve. Dropping the future takes no new connections at once, serves
    /// those that are open until their callers hang up, and leaves the lease to the registration.
    ///
    /// # Errors
    ///
    /// A port that fails while it is served.
    pub async fn serve(
        self,
        node: Arc<Node>,
        registry: SharedRegistry,
        readiness: Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        Box::pin(self.serve_ports(async { Ok(()) }, node, registry, readiness, stop)).await
    }

    /// Like [`serve`](Self::serve), but answers keys and joins the ring only after `prepared`; its error ends the serving.
    pub async fn serve_when(
        self,
        prepared: impl Future<Output = anyhow::Result<()>>,
        node: Arc<Node>,
        registry: SharedRegistry,
        readiness: Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        node.set_starting(true);
        Box::pin(self.serve_ports(prepared, node, registry, readiness, stop)).await
    }

    async fn serve_ports(
        self,
        prepared: impl Future<Output = anyhow::Result<()>>,
        node: Arc<Node>,
        registry: SharedRegistry,
        readiness: Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let close = CancellationToken::new();
        let readiness = readiness.with_warnings(node.warnings()).with_warnings(&node.database_warnings());
        let router =
            http::router(node.clone(), admin::router(registry.clone(), readiness.clone(), admin::healthy()));
        let (reporter, health) = tonic_health::server::health_reporter();
        let limits =
            |most, field, greeting| Limits { most, field, patience: node.config().caller_timeout, greeting };
        let metrics = connections::Metrics::register(&mut registry.lock());
        let config = node.config();
        let taken = Connections::new(
            "grpc",
            limits(config.grpc_connections, "node.grpc_connections", PREFACE),
            &metrics,
        );
        let grpc = grpc::serve(incoming::from(self.grpc, taken), node.clone(), health, close.clone());
        // The head of a request has its own time, in which a connection must begin as well.
        let taken =
            Connections::new("http", limits(config.http_connections, "node.http_connections", 0), &metrics);
        let http = daemon::http::serve(self.http, taken, router, config.http_idle, close.clone());
        let taken =
            Connections::new("resp", limits(config.resp_connections, "node.resp_connections", 0), &metrics);
        let resp =
            self.resp.map(|(listener, _)| crate::resp::serve(listener, taken, node.clone(), close.clone()));
        // Fenced by its own clock, it serves nothing from memory; what it goes by can't be known any more.
        let broken = ring::until_broken(&*node.membership, BROKEN, |broken| match broken {
            Some(error) => readiness.wait("etcd", error.to_string()),
            None => readiness.done("etcd"),
        });
        let ports = async {
            tokio::try_join!(
                async {
                    match close.run_until_cancelled(broken).await {
                        Some(error) => Err(anyhow::Error::new(error).context("follow the members")),
                        None => Ok(()),
                    }
                },
                async { grpc.await.context("serve gRPC") },
                async {
                    http.await;
                    Ok(())
                },
                async {
                    match resp {
                        Some(resp) => resp.await.context("serve RESP"),
                        None => Ok(()),
                    }
                },
            )
            .map(drop)
        };
        let mut ports = std::pin::pin!(ports);

        let begin = async {
            let joined = async {
                prepared.await?;
                node.set_starting(false);
                readiness.wait("membership", "waiting for a place in the ring");
                node.join().await;
                readiness.done("membership");
                anyhow::Ok(())
            };
            tokio::select! {
                joined = joined => joined?,
                () = stop.cancelled() => return anyhow::Ok(()),
            }
            grpc::report(&reporter, true).await;
            readiness.set_ready();
            tracing::info!(node = %node.id(), "ready");
            stop.cancelled().await;
            Ok(())
        };
        tokio::select! {
            ended = &mut ports => return ended.and(Err(anyhow::anyhow!("keep a port open: it closed by itself"))),
            joined = begin => joined?,
        }

        let (leave, grace) = (node.config().leave, node.config().grace);
        let retire = async {
            readiness.set_not_ready("stopping");
            grpc::report(&reporter, false).await;
            leave_ring(&node, leave).await;
        };
        tokio::select! {
            ended = &mut ports => return ended.and(Err(anyhow::anyhow!("keep a port open: it closed by itself"))),
            () = retire => {}
        }

        let until = Instant::now() + grace;
        close.cancel();
        // Bounded: a client that never closes its connection would hold a graceful shutdown for ever.
        match timeout_at(until, ports).await {
            Ok(ended) => ended?,
            Err(_) => {
                tracing::warn!(node = %node.id(), ?grace, "connections left open at the end of the grace period");
            }
        }
        node.shutdown(until.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))).await;
        Ok(())
    }
}

/// Leaves the ring, hands its values over, and waits until callers have noticed; a node alone has nobody who could take over.
async fn leave_ring(node: &Node, leave: Duration) {
    let begun = Instant::now();
    let bound = leave.max(Duration::from_secs(1)) + node.config().handover;
    match timeout(bound, node.retire()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(node = %node.id(), %error, "could not say that this node leaves"),
        Err(_) => {
            tracing::warn!(node = %node.id(), ?bound, "left the ring without having handed everything over");
        }
    }
    if node.ring().members().iter().any(|member| member.id != *node.id()) {
        tokio::time::sleep(leave.saturating_sub(begun.elapsed())).await;
    }
}
