//! Where removals go.

use std::time::Duration;

use async_trait::async_trait;
use ring::{Member, Ring};
use wire::{Ack, Apply, Heartbeat, HeartbeatReply};

/// Where removals are applied: the cache nodes.
///
/// `Ok` is the node's acknowledgement that all of the request holds there. Failures are repeated by the caller; a request
/// may be applied twice.
#[async_trait]
pub trait Appliers: Send + Sync + 'static {
    /// Has one node apply removals and flushes.
    async fn apply(&self, to: &Member, apply: Apply, timeout: Duration) -> Result<Ack, client::Error>;

    /// Tells one node how far the change stream is applied there, and asks what it has confirmed.
    async fn heartbeat(
        &self,
        to: &Member,
        heartbeat: Heartbeat,
        timeout: Duration,
    ) -> Result<HeartbeatReply, client::Error>;

    /// Forgets nodes that are gone.
    fn retain(&self, _ring: &Ring) {}
}

#[async_trait]
impl Appliers for client::Peers {
    async fn apply(&self, to: &Member, apply: Apply, timeout: Duration) -> Result<Ack, client::Error> {
        Self::apply(self, to, apply, timeout).await
    }

    async fn heartbeat(
        &self,
        to: &Member,
        heartbeat: Heartbeat,
        timeout: Duration,
    ) -> Result<HeartbeatReply, client::Error> {
        Self::heartbeat(self, to, heartbeat, timeout).await
    }

    fn retain(&self, ring: &Ring) {
        Self::retain(self, ring);
    }
}
