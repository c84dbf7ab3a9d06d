//! The bytes of requests that are being received: how many all of them may take, and how long each may.
//!
//! A message is received as a whole before it is looked at, and callers send as slowly as they like and on as many streams. *One connection
//! sends the first half of 64 MiB on each of a hundred streams.*

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::time::{Sleep, sleep};
use tonic::{Status, codegen::Service};
use tower_layer::Layer;

use crate::{
    account::{Account, Share},
    config::Config,
};

/// All requests that are being received or worked on, of both protocols.
#[derive(Debug)]
pub(crate) struct Requests {
    all: Arc<Account>,
    patience: Duration,
    late: Counter,
}

impl Requests {
    pub(crate) fn register(config: &Config, registry: &mut Registry) -> Arc<Self> {
        let (bytes, refused, late) = (Gauge::default(), Counter::default(), Counter::default());
        registry.register_with_unit(
            "request",
            "Bodies of requests that are received or worked on (node.request_memory)",
            Unit::Bytes,
            bytes.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests refused because others took node.request_memory",
            refused.clone(),
        );
        registry.register(
            "requests_late",
            "Requests whose body was not there within node.caller_timeout",
            late.clone(),
        );
        let all = Account::new(config.request_memory.0, bytes, refused);
        Arc::new(Self { all, patience: config.caller_timeout, late })
    }

    /// Counts the body of one request, as it comes.
    pub(super) fn begin(self: &Arc<Self>) -> Arc<Taken> {
        Arc::new(Taken { of: self.clone(), share: self.all.share() })
    }
}

/// What one request takes, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    of: Arc<Requests>,
    share: Share,
}

impl Taken {
    fn add(&self, bytes: u64) -> Result<(), Status> {
        self.share.add(bytes).map_err(|_| {
            let limit = self.of.all.limit();
            Status::resource_exhausted(format!(
                "requests that are received take {limit} bytes (node.request_memory); send less at once, or later"
            ))
        })
    }

    fn late(&self) -> Status {
        self.of.late.inc();
        let patience = self.of.patience;
        Status::deadline_exceeded(format!(
            "the request was not sent as a whole within {patience:?} (node.caller_timeout)"
        ))
    }
}

/// A body that is counted, and given up when it is late or too much. Its errors are a [`Status`].
pub(super) struct Counted<B> {
    body: B,
    taken: Arc<Taken>,
    late: Option<Pin<Box<Sleep>>>,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, taken: Arc<Taken>) -> Self {
        Self { body, taken, late: None }
    }
}

impl<B> Body for Counted<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                Poll::Ready(Some(this.taken.add(bytes).map(|()| frame).map_err(Into::into)))
            }
            Poll::Ready(ended) => Poll::Ready(ended.map(|result| result.map_err(Into::into))),
            Poll::Pending => {
                // Most bodies are there at once, and need no clock.
                let late = this.late.get_or_insert_with(|| Box::pin(sleep(this.taken.of.patience)));
                late.as_mut().poll(context).map(|()| Some(Err(this.taken.late().into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The layer around the gRPC services.
#[derive(Clone, Debug)]
pub(super) struct Intake(pub(super) Arc<Requests>);

impl<S> Layer<S> for Intake {
    type Service = Receiving<S>;

    fn layer(&self, inner: S) -> Receiving<S> {
        Receiving { requests: self.0.clone(), inner }
    }
}

/// Services whose requests are counted.
#[derive(Clone, Debug)]
pub(super) struct Receiving<S> {
    requests: Arc<Requests>,
    inner: S,
}

impl<S> Service<Request<tonic::body::Body>> for Receiving<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<tonic::body::Body>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let taken = self.requests.begin();
        let request = request.map(|body| tonic::body::Body::new(Counted::new(body, taken.clone())));
        let answered = self.inner.call(request);
        Box::pin(async move {
            let answered = answered.await;
            drop(taken); // what was received is worked on until then
            answered
        })
    }
}
