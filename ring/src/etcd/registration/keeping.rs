//! The task behind a registration: registers, keeps the lease alive, and registers again when it has ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, KeyValue, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp,
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use super::super::link::{self, CALL, CallError, unsigned};
use super::super::outage::Outage;
use super::super::view::encode;
use super::{Held, Own};
use crate::Moment;
use crate::{Epoch, Error, Member, MemberState};

/// A lease that etcd granted.
struct Granted {
    lease: i64,
    /// When the request for it was sent; its life counts from here.
    sent: Moment,
    ttl: Duration,
}

/// Keeps the node registered until it is asked to leave; returns whether its lease was then ended.
///
/// Dropping this leaves the lease to run out.
pub(super) async fn keep(own: &Own) -> Result<(), Error> {
    let mut mine = None;
    let mut state = own.member.state;
    while let Some(granted) = register(own, state, &mut mine).await {
        keep_alive(own, &granted).await;
        own.alive.end();
        let held = own.held.lock().take();
        if own.leave.is_cancelled() {
            break;
        }
        if held.is_some_and(|held| held.state == MemberState::Leaving) {
            info!(node = %own.member.id, "the lease ended while the node was leaving, so it is gone already");
            mine = None;
            break;
        }
        warn!(node = %own.member.id, "the node's lease has ended; registering again, with an empty store");
        state = MemberState::Joining;
    }
    own.alive.leave();
    match mine {
        Some(lease) => revoke(own, lease).await,
        None => Ok(()),
    }
}

/// Puts the node's key under a new lease. `mine` is the last lease that was granted to us and may still hold the key. Returns `None` when
/// asked to leave.
async fn register(own: &Own, state: MemberState, mine: &mut Option<i64>) -> Option<Granted> {
    let mut outage = Outage::new("registering the node", own.shared.link.endpoints());
    let mut told = None;
    let mut members = own.shared.ring.subscribe();
    while !own.leave.is_cancelled() {
        members.mark_unchanged();
        let pause = match try_register(own, state, mine).await {
            Ok(Ok(granted)) => {
                outage.over();
                return Some(granted);
            }
            Ok(Err(other)) => {
                outage.over();
                if told != Some(other.created) {
                    warn!(node = %own.member.id, key = own.key, registered_as = other.value, lease = other.lease, "{}", other.explain());
                    told = Some(other.created);
                }
                Duration::from_secs(1)
            }
            Err(error) => outage.failed(&error),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = members.changed(), if told.is_some() => {}
            () = own.leave.cancelled() => {}
        }
    }
    None
}

/// Another incarnation that holds our key.
struct Other {
    created: i64,
    lease: i64,
    value: String,
}

impl Other {
    fn new(kv: &KeyValue) -> Self {
        Self {
            created: kv.create_revision(),
            lease: kv.lease(),
            value: String::from_utf8_lossy(kv.value()).into_owned(),
        }
    }

    fn explain(&self) -> &'static str {
        if self.lease == 0 {
            "the node's key in etcd has no lease, so it was not written by a node; delete it, waiting until it is gone"
        } else {
            "another node, or an earlier run of this one, is registered under this id; waiting until its lease ends. \
             If this goes on, two nodes are configured with the same node.id"
        }
    }
}

async fn try_register(
    own: &Own,
    state: MemberState,
    mine: &mut Option<i64>,
) -> Result<Result<Granted, Other>, Error> {
    let link = &own.shared.link;
    let found = link
        .call("look for the node's key", async |client| client.kv_client().get(&*own.key, None).await)
        .await?;
    if let Some(kv) = found.kvs().first() {
        if *mine != Some(kv.lease()) {
            return Ok(Err(Other::new(kv)));
        }
        // Our own, from before the lease was lost, or from an attempt whose answer was. We don't live by it any more.
        revoke(own, kv.lease()).await?;
    }
    let rounded_up = own.lease.as_secs() + u64::from(own.lease.subsec_nanos() > 0);
    let seconds = i64::try_from(rounded_up).unwrap_or(i64::MAX).max(1);
    let sent = own.alive.moment();
    let answer =
        link.call("get a lease", async |client| client.lease_client().grant(seconds, None).await).await?;
    let lease = answer.id();
    *mine = Some(lease);
    let granted = Granted { lease, sent, ttl: Duration::from_secs(unsigned(answer.ttl())) };

    let value = encode(&Member { state, ..own.member.clone() });
    let put = TxnOp::put(&*own.key, value, Some(PutOptions::new().with_lease(lease)));
    // Two that found the key absent at the same time: only one creates it.
    let txn = Txn::new()
        .when([Compare::create_revision(&*own.key, CompareOp::Equal, 0)])
        .and_then([put])
        .or_else([TxnOp::get(&*own.key, None)]);
    let answer = link.call("register the node", async |client| client.kv_client().txn(txn).await).await?;
    if !answer.succeeded() {
        revoke(own, lease).await?;
        let other = answer.op_responses().into_iter().find_map(|answer| match answer {
            etcd_client::TxnOpResponse::Get(found) => found.kvs().first().map(Other::new),
            _ => None,
        });
        return Ok(Err(other.unwrap_or(Other { created: 0, lease: 0, value: String::new() })));
    }
    let incarnation = link::revision(answer.header());
    *own.held.lock() = Some(Held { lease, incarnation, state, since: Epoch(incarnation) });
    // The incarnation first, see `Registration::live_as`; those who wait for it are told when it is live.
    own.incarnation.store(incarnation, Ordering::Release);
    own.alive.extend(sent, granted.ttl);
    own.incarnations.send_replace(incarnation);
    info!(node = %own.member.id, incarnation, %state, ttl = ?granted.ttl, "registered");
    Ok(Ok(granted))
}

async fn revoke(own: &Own, lease: i64) -> Result<(), Error> {
    let revoked =
        own.shared.link.try_call(CALL, async |client| client.lease_client().revoke(lease).await).await;
    match revoked {
        Ok(_) => Ok(()),
        Err(error) if says_not_found(&error) => Ok(()),
        Err(error) => Err(own.shared.link.unavailable("end the node's lease", &error)),
    }
}

fn says_not_found(error: &CallError) -> bool {
    // 5 is gRPC's NOT_FOUND; etcd says "requested lease not found".
    matches!(error, CallError::Etcd(etcd_client::Error::GRpcStatus(status)) if status.code() as i32 == 5)
}

/// What became of one keep-alive.
enum Kept {
    Alive(Duration),
    Ended,
}

/// Keeps the lease alive until etcd says that it has ended, or the node leaves.
///
/// That our own deadline has passed doesn't end it: without an answer nobody knows. If etcd answers later that the lease lives, every removal since
/// was either acknowledged by us or is still waiting for us, and the incarnation goes on.
async fn keep_alive(own: &Own, granted: &Granted) {
    let mut outage = Outage::new("keeping the node's lease alive", own.shared.link.endpoints());
    let mut stream = None;
    let third = granted.ttl / 3;
    let mut next = granted.sent.monotonic + third;
    let (mut fenced, mut hung) = (false, false);
    let hung_after = own.shared.link.hung_after();
    loop {
        tokio::select! {
            () = sleep_until(next) => {}
            () = own.leave.cancelled() => return,
        }
        if let Some(silence) =
            own.pulse.as_ref().map(|pulse| pulse.silence()).filter(|silence| *silence > hung_after)
        {
            if !std::mem::replace(&mut hung, true) {
                error!(node = %own.member.id, ?silence, "nothing of this node has run for long: its lease is kept no longer, so that nobody waits for it");
            }
            next = Instant::now() + third;
            continue;
        }
        hung = false;
        let sent = own.alive.moment();
        let attempt = tokio::select! {
            attempt = keep_alive_once(own, granted, &mut stream, third.min(CALL)) => attempt,
            () = own.leave.cancelled() => return,
        };
        match attempt {
            Ok(Kept::Alive(ttl)) => {
                own.alive.extend(sent, ttl);
                outage.over();
                if std::mem::take(&mut fenced) {
                    info!(node = %own.member.id, "the lease is alive after all; serving from memory again");
                }
                next = sent.monotonic + third;
            }
            Ok(Kept::Ended) => return,
            Err(error) => {
                stream = None;
                let pause =
                    outage.failed(&own.shared.link.unavailable("keep the node's lease alive", &error));
                next = Instant::now() + pause.min(third);
                if !own.alive.at(Instant::now()) && !std::mem::replace(&mut fenced, true) {
                    warn!(node = %own.member.id, "the node's lease may have ended; nothing is served from memory until etcd answers");
                }
            }
        }
    }
}

type Stream = (LeaseKeeper, LeaseKeepAliveStream);

/// Sends one keep-alive and waits for its answer; there is never a second one under way on a stream, so the answer is to this one.
async fn keep_alive_once(
    own: &Own,
    granted: &Granted,
    stream: &mut Option<Stream>,
    limit: Duration,
) -> Result<Kept, CallError> {
    if let Some((keeper, answers)) = stream {
        let exchange = async {
            keeper.keep_alive().await?;
            answers.message().await
        };
        let answer = timeout(limit, exchange).await.map_err(|_| CallError::NoAnswer(limit))?;
        return match answer.map_err(CallError::Etcd)? {
            Some(answer) if answer.ttl() > 0 => Ok(Kept::Alive(Duration::from_secs(unsigned(answer.ttl())))),
            Some(_) => Ok(Kept::Ended),
            None => {
                Err(CallError::Etcd(etcd_client::Error::LeaseKeepAliveError("the stream ended".to_owned())))
            }
        };
    }
    let link = &own.shared.link;
    match link
        .try_call(limit, async |client: Client| client.lease_client().keep_alive(granted.lease).await)
        .await
    {
        Ok(opened) => {
            *stream = Some(opened);
            Ok(Kept::Alive(granted.ttl))
        }
        Err(error) => {
            // The client hides the answer to the first keep-alive of a stream, so whether the lease has ended is asked again.
            let doubtful = matches!(error, CallError::Etcd(etcd_client::Error::LeaseKeepAliveError(_)))
                || says_not_found(&error);
            if doubtful {
                let answer = link
                    .try_call(limit, async |client| {
                        client.lease_client().time_to_live(granted.lease, None).await
                    })
                    .await?;
                if answer.ttl() <= 0 {
                    return Ok(Kept::Ended);
                }
            }
            Err(error)
        }
    }
}
