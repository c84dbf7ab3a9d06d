//! The keys that are read most, and mirrors of them.

use std::time::Duration;

use proto::v1;
use ring::{Epoch, NodeId};
use tokio::time::Instant;
use wire::{HotKeys, Mirrored, time::to_millis};

use crate::{Error, link::Link, replies};

/// One `Hot`.
pub(crate) async fn of(link: &Link, deadline: Instant, top: usize) -> Result<HotKeys, Error> {
    let request = v1::HotRequest { top: u32::try_from(top).unwrap_or(u32::MAX) };
    let reply: v1::HotReply =
        link.hot(deadline, request, |mut client, request| async move { client.hot(request).await }).await?;
    Ok(reply.into())
}

/// One `Mirror`.
pub(crate) async fn mirror(
    link: &Link,
    deadline: Instant,
    from: &NodeId,
    epoch: Epoch,
    key: &str,
    lease: Duration,
) -> Result<Mirrored, Error> {
    let begun = Instant::now();
    let request = v1::MirrorRequest {
        node: from.to_string(),
        epoch: epoch.0,
        key: key.to_owned(),
        lease_ms: to_millis(lease),
        protocol: ring::terms::PROTOCOL,
    };
    let reply: v1::MirrorReply = link
        .hot(deadline, request, |mut client, request| async move { client.mirror(request).await })
        .await?;
    let Some(got) = reply.reply else {
        let reason = "a mirror without a reply".to_owned();
        return Err(Error::Internal { node: link.id().to_string(), reason });
    };
    let mut answer = replies::answer(link.id().as_str(), got)?;
    answer.freshness += begun.elapsed(); // it was under way, for all of that at worst
    let lease = (reply.lease_ms > 0).then(|| Duration::from_millis(reply.lease_ms));
    Ok(Mirrored { answer, lease, incarnation: reply.incarnation, group_digest: reply.group_digest })
}

/// One `Unmirror`.
pub(crate) async fn unmirror(
    link: &Link,
    deadline: Instant,
    from: &NodeId,
    keys: &[String],
    origin: &str,
    all: bool,
) -> Result<(), Error> {
    let (node, keys, origin) = (from.to_string(), keys.to_vec(), origin.to_owned());
    let request = v1::UnmirrorRequest { node, keys, origin, all };
    let _: v1::UnmirrorReply = link
        .hot(deadline, request, |mut client, request| async move { client.unmirror(request).await })
        .await?;
    Ok(())
}
