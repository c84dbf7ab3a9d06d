//! One node's connection and breaker.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use proto::v1::{
    HeartbeatRequest, cache_client::CacheClient, handover_client::HandoverClient,
    hot_keys_client::HotKeysClient, invalidation_client::InvalidationClient, plain_client::PlainClient,
};
use ring::NodeId;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use tracing::warn;
use wire::MAX_MESSAGE;

use crate::{Config, Error, Metrics, breaker::Breaker, error::is_local, identity::Callee};

/// A call that ends this close to its deadline ended because of it: both sides watch the same deadline, and either may be first.
const CLOSE: Duration = Duration::from_millis(5);

/// The one HTTP/2 connection to a node: opened by the first call, shared by all, reopened after a loss.
#[derive(Debug)]
pub(crate) struct Link {
    id: NodeId,
    address: String,
    callee: Callee,
    cache: CacheClient<Channel>,
    invalidation: InvalidationClient<Channel>,
    handover: HandoverClient<Channel>,
    hot: HotKeysClient<Channel>,
    plain: PlainClient<Channel>,
    breaker: Breaker,
    metrics: Metrics,
    silence: Duration,
    born: Instant,
    /// Nanoseconds since `born` of the node's last sign of life: an answer to any call, also one that is an error.
    heard: AtomicU64,
    /// Held by the call that asks for a sign of life; what it hears serves all.
    asking: tokio::sync::Mutex<()>,
    under_way: AtomicUsize,
    /// Why the node was not reached the last time; what callers are told while it is left alone.
    reason: Mutex<String>,
}

/// Counts a call while it is under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl Link {
    /// Prepares a connection to `address` (`http://host:port`) without opening it. Must be called in a tokio runtime. `callee` is whom calls
    /// are meant for; `id` is what errors call it.
    pub(crate) fn new(id: NodeId, address: &str, callee: Callee, config: &Config) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| Error::Unavailable {
            node: id.to_string(),
            reason: format!("its address `{address}` is not a URL ({error}), write it like http://host:7400"),
        })?;
        let endpoint = endpoint
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(config.keep_alive))
            .http2_keep_alive_interval(config.keep_alive)
            .keep_alive_timeout(config.keep_alive_timeout)
            .keep_alive_while_idle(true)
            // One connection carries everything, so its windows must not throttle a batch of large values.
            .initial_stream_window_size(2 << 20)
            .initial_connection_window_size(16 << 20);
        let channel = match &config.connector {
            None => endpoint.connect_lazy(),
            Some(connector) => endpoint.connect_with_connector_lazy(connector.clone()),
        };
        Ok(Self {
            cache: CacheClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            invalidation: InvalidationClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            hot: HotKeysClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            plain: PlainClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            handover: HandoverClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            breaker: Breaker::new(config.breaker_failures, config.breaker_cool_down),
            metrics: config.metrics.clone(),
            silence: config.silence,
            born: Instant::now(),
            heard: AtomicU64::new(0),
            asking: tokio::sync::Mutex::default(),
            under_way: AtomicUsize::new(0),
            reason: Mutex::default(),
            address: address.to_owned(),
            callee,
            id,
        })
    }

    pub(crate) fn id(&self) -> &NodeId {
        &self.id
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Why the node was not reached the last time.
    pub(crate) fn reason(&self) -> String {
        self.reason.lock().clone()
    }

    /// How many calls wait for this node now.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Relaxed)
    }

    /// Calls the `Cache` service.
    pub(crate) async fn cache<Q, R, F>(
        &self,
        deadline: Instant,
        message: Q,
        send: impl FnOnce(CacheClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(deadline, Some(self.silence), message, |request| send(self.cache.clone(), request)).await
    }

    /// Calls the `Invalidation` service, and waits until the deadline for a node that hangs: nobody else can answer for it.
    pub(crate) async fn invalidation<Q, R, F>(
        &self,
        deadline: Instant,
        message: Q,
        send: impl FnOnce(InvalidationClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(deadline, None, message, |request| send(self.invalidation.clone(), request)).await
    }

    /// Calls the `Handover` service.
    pub(crate) async fn handover<Q, R, F>(
        &self,
        deadline: Instant,
        message: Q,
        send: impl FnOnce(HandoverClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(deadline, Some(self.silence), message, |request| send(self.handover.clone(), request)).await
    }

    /// Calls the `HotKeys` service.
    pub(crate) async fn hot<Q, R, F>(
        &self,
        deadline: Instant,
        message: Q,
        send: impl FnOnce(HotKeysClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(deadline, Some(self.silence), message, |request| send(self.hot.clone(), request)).await
    }

    /// Calls the `Plain` service.
    pub(crate) async fn plain<Q, R, F>(
        &self,
        deadline: Instant,
        message: Q,
        send: impl FnOnce(PlainClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(deadline, Some(self.silence), message, |request| send(self.plain.clone(), request)).await
    }

    /// One call within a deadline that the node is told too, given up before if the node is silent for as long as `silence` says. Feeds the breaker and does not ask it. Safe to drop: the node is told to
    /// stop, and may have done the work all the same.
    async fn call<Q, R, F>(
        &self,
        deadline: Instant,
        silence: Option<Duration>,
        message: Q,
        send: impl FnOnce(Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let begun = Instant::now();
        let _under_way = UnderWay::count(&self.under_way);
        let left = deadline.saturating_duration_since(begun);
        let mut request = Request::new(message);
        request.set_timeout(left);
        self.callee.address(request.metadata_mut());
        self.metrics.requests.inc();
        let result = timeout_at(deadline, self.attend(send(request), silence)).await;
        let waited = begun.elapsed();
        let (error, reached) = match result {
            Ok(Some(Ok(response))) => match self.callee.check(response.metadata(), &self.address) {
                Ok(()) => {
                    self.hear();
                    self.breaker.success();
                    return Ok(response.into_inner());
                }
                Err(error) => (error, false),
            },
            Err(_) => (Error::timed_out(self.id.as_str(), waited), false),
            Ok(None) => (Error::silent(self.id.as_str(), waited), false),
            Ok(Some(Err(status))) => {
                if let Err(error) = self.callee.check_error(status.metadata(), &self.address) {
                    (error, false)
                } else {
                    let local = is_local(&status);
                    // Cancelled with time left is a connection that broke under the call: somebody else may be asked.
                    let over = matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded)
                        && waited + CLOSE >= left;
                    let error = if over {
                        Error::timed_out(self.id.as_str(), waited)
                    } else {
                        Error::from_status(self.id.as_str(), &status, waited)
                    };
                    (error, !local)
                }
            }
        };
        self.metrics.failures.inc();
        if reached {
            self.hear();
            self.breaker.success();
            return Err(error);
        }
        if let Error::Unavailable { reason, .. } | Error::Deadline { reason, .. } = &error {
            self.reason.lock().clone_from(reason);
        }
        if self.breaker.failure() {
            self.metrics.breaker_opens.inc();
            warn!(node = %self.id, address = self.address, %error, "node can't be reached, leaving it alone for a while");
        }
        Err(error)
    }

    /// Waits for an answer as long as the node shows signs of life; `None` if it has been silent for too long.
    ///
    /// The node is asked for one when half of that time has passed, so that a slow database is not mistaken for a dead node: *the owner's
    /// database takes a second; every node that forwarded to it gives up and reads the database too.*
    async fn attend<R>(&self, answer: impl Future<Output = R>, silence: Option<Duration>) -> Option<R> {
        let Some(silence) = silence else { return Some(answer.await) };
        let mut answer = pin!(answer);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Some(answer),
                () = sleep_until(last + silence / 2) => {}
            }
            let heard = self.last_heard();
            if heard > last {
                last = heard;
                continue;
            }
            tokio::select! {
                biased;
                answer = &mut answer => return Some(answer),
                () = self.sign_of_life(last) => last = Instant::now(),
                () = sleep_until(last + silence) => {
                    let heard = self.last_heard();
                    if heard <= last {
                        return None;
                    }
                    last = heard;
                }
            }
        }
    }

    /// Returns when something is heard of the node, after `since`. One call asks, all listen.
    async fn sign_of_life(&self, since: Instant) {
        let _turn = self.asking.lock().await;
        while self.last_heard() <= since {
            // Any answer will do, also of a node that knows no heartbeats.
            let mut request = Request::new(HeartbeatRequest::default());
            self.callee.address(request.metadata_mut());
            let from = match self.invalidation.clone().heartbeat(request).await {
                Err(status) if is_local(&status) => std::future::pending().await,
                Err(status) => self.callee.check_error(status.metadata(), &self.address),
                Ok(reply) => self.callee.check(reply.metadata(), &self.address),
            };
            // That somebody else lives there is no sign of this node's life.
            if from.is_err() {
                std::future::pending::<()>().await;
            }
            self.hear();
        }
    }

    fn hear(&self) {
        let nanos = u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.heard.fetch_max(nanos.max(1), Relaxed);
    }

    fn last_heard(&self) -> Instant {
        self.born + Duration::from_nanos(self.heard.load(Relaxed))
    }
}

impl<'a> UnderWay<'a> {
    fn count(calls: &'a AtomicUsize) -> Self {
        calls.fetch_add(1, Relaxed);
        Self(calls)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
