//! One node's connection and breaker.

use std::time::Duration;

use proto::v1::{cache_client::CacheClient, invalidation_client::InvalidationClient};
use ring::NodeId;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use tracing::warn;

use crate::{Config, Error, MAX_MESSAGE, Metrics, breaker::Breaker, error::is_local};

/// A call that ends this close to its deadline ended because of it: both sides watch the same deadline, and either may be first.
const CLOSE: Duration = Duration::from_millis(5);

/// The one HTTP/2 connection to a node: opened by the first call, shared by all, reopened after a loss.
#[derive(Debug)]
pub(crate) struct Link {
    id: NodeId,
    address: String,
    cache: CacheClient<Channel>,
    invalidation: InvalidationClient<Channel>,
    breaker: Breaker,
    metrics: Metrics,
}

impl Link {
    /// Prepares a connection to `address` (`http://host:port`) without opening it. Must be called in a tokio runtime.
    pub(crate) fn new(id: NodeId, address: &str, config: &Config) -> Result<Self, Error> {
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
            invalidation: InvalidationClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            breaker: Breaker::new(config.breaker_failures, config.breaker_cool_down),
            metrics: config.metrics.clone(),
            address: address.to_owned(),
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
        self.call(deadline, message, |request| send(self.cache.clone(), request)).await
    }

    /// Calls the `Invalidation` service.
    pub(crate) async fn invalidation<Q, R, F>(
        &self,
        deadline: Instant,
        message: Q,
        send: impl FnOnce(InvalidationClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(deadline, message, |request| send(self.invalidation.clone(), request)).await
    }

    /// One call within a deadline that the node is told too. Feeds the breaker and does not ask it. Safe to drop: the node is told to
    /// stop, and may have done the work all the same.
    async fn call<Q, R, F>(
        &self,
        deadline: Instant,
        message: Q,
        send: impl FnOnce(Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let begun = Instant::now();
        let left = deadline.saturating_duration_since(begun);
        let mut request = Request::new(message);
        request.set_timeout(left);
        self.metrics.requests.inc();
        let result = timeout_at(deadline, send(request)).await;
        let waited = begun.elapsed();
        let (error, reached) = match result {
            Ok(Ok(response)) => {
                self.breaker.success();
                return Ok(response.into_inner());
            }
            Err(_) => (Error::timed_out(self.id.as_str(), waited), false),
            Ok(Err(status)) => {
                let local = is_local(&status);
                let over = matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded)
                    && (local || waited + CLOSE >= left);
                let error = if over {
                    Error::timed_out(self.id.as_str(), waited)
                } else {
                    Error::from_status(self.id.as_str(), &status, waited)
                };
                (error, !local)
            }
        };
        self.metrics.failures.inc();
        if reached {
            self.breaker.success();
        } else if self.breaker.failure() {
            self.metrics.breaker_opens.inc();
            warn!(node = %self.id, address = self.address, %error, "node can't be reached, leaving it alone for a while");
        }
        Err(error)
    }
}
