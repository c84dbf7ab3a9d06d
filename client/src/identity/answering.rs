//! The callee's side: refuses what is meant for another node, and says in every reply who answers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderName, HeaderValue, Request, Response};
use tower_layer::Layer;

use super::{FROM, TO};

/// A layer around all gRPC services of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Answering(Arc<Identity>);

#[derive(Debug)]
struct Identity {
    cluster: String,
    node: String,
    from: HeaderValue,
    refused: AtomicU64,
}

impl Answering {
    /// For a node of a cluster. Names that fit no header make every reply one that is not believed.
    pub fn new(cluster: &str, node: &str) -> Self {
        let from = HeaderValue::try_from(format!("{cluster}/{node}"));
        Self(Arc::new(Identity {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            from: from.unwrap_or(HeaderValue::from_static("")),
            refused: AtomicU64::new(0),
        }))
    }

    /// How many calls were refused that were meant for another node.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }
}

impl Identity {
    /// What is wrong with whom a call is meant for; nothing if it does not say.
    fn mistaken(&self, to: Option<&HeaderValue>) -> Option<Status> {
        let to = to?;
        let meant = to.to_str().ok().and_then(|to| to.rsplit_once('/'));
        if let Some((cluster, node)) = meant
            && node == self.node
            && (cluster.is_empty() || self.cluster.is_empty() || cluster == self.cluster)
        {
            return None;
        }
        self.refused.fetch_add(1, Relaxed);
        // Bounded: a header is at most 16 KiB, and a caller learns nothing from its own words.
        let to: String = String::from_utf8_lossy(to.as_bytes()).chars().take(200).collect();
        let own = format!("{}/{}", self.cluster, self.node);
        Some(Status::unavailable(format!("the call is meant for {to}, and this is node {own}")))
    }
}

impl<S> Layer<S> for Answering {
    type Service = Answered<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Answered { inner, identity: self.0.clone() }
    }
}

/// What [`Answering`] makes of a service.
#[derive(Clone, Debug)]
pub struct Answered<S> {
    inner: S,
    identity: Arc<Identity>,
}

impl<S, B> Service<Request<B>> for Answered<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Request<B>) -> Self::Future {
        let from = self.identity.from.clone();
        let named = move |mut reply: Response<Body>| {
            reply.headers_mut().insert(HeaderName::from_static(FROM), from);
            reply
        };
        if let Some(refused) = self.identity.mistaken(call.headers().get(TO)) {
            return Box::pin(async move { Ok(named(refused.into_http())) });
        }
        let answer = self.inner.call(call);
        Box::pin(async move { answer.await.map(named) })
    }
}
