//! A node's own key in etcd, its lease, and the task that keeps both.

mod keeping;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Shared;
use super::lease::Alive;
use super::link;
use super::pulse::Pulse;
use super::view::encode;
use crate::{Epoch, Error, Member, MemberState, Moment, Registration};

/// A node's registration in etcd, kept by a task of its own.
///
/// Dropping it without [`leave`](Registration::leave) is like a crash: the lease is kept alive no longer, and others see the node until it has
/// run out.
pub struct EtcdRegistration {
    own: Arc<Own>,
    /// One change of the key at a time.
    changing: tokio::sync::Mutex<()>,
    _stop_on_drop: DropGuard,
}

/// What the registration and its task share.
struct Own {
    shared: Arc<Shared>,
    /// As registered the first time.
    member: Member,
    key: String,
    lease: Duration,
    alive: Alive,
    /// Of the runtime that the node works in.
    pulse: Option<Arc<Pulse>>,
    incarnation: AtomicU64,
    incarnations: watch::Sender<u64>,
    held: Mutex<Option<Held>>,
    /// Asks the task to end the lease and then itself.
    leave: CancellationToken,
    /// Set by the task when it has ended: whether the lease has been revoked.
    left: watch::Sender<Option<Result<(), Error>>>,
}

/// The key and lease of the current incarnation.
#[derive(Clone, Copy, Debug)]
struct Held {
    lease: i64,
    incarnation: u64,
    state: MemberState,
    /// The epoch from which on the state is so.
    since: Epoch,
}

impl EtcdRegistration {
    pub(super) fn begin(
        shared: Arc<Shared>,
        member: Member,
        lease: Duration,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let own = Arc::new(Own {
            key: format!("{}{}", shared.prefix, member.id),
            shared,
            member,
            lease,
            alive: Alive::new(),
            pulse: Pulse::of_this_runtime(stop.clone()),
            incarnation: AtomicU64::new(0),
            incarnations: watch::Sender::new(0),
            held: Mutex::default(),
            leave: CancellationToken::new(),
            left: watch::Sender::new(None),
        });
        let (keeping, stopped) = (own.clone(), stop.clone());
        let kept = async move {
            let result = stopped.run_until_cancelled(keeping::keep(&keeping)).await;
            keeping.alive.end();
            keeping.left.send_replace(Some(result.unwrap_or(Err(Error::Closed))));
        };
        tasks.spawn_on(kept, own.shared.link.apart());
        Arc::new(Self { own, changing: tokio::sync::Mutex::default(), _stop_on_drop: stop.drop_guard() })
    }

    /// The first incarnation; waits until etcd can be reached and the id is free. Safe to drop.
    pub async fn registered(&self) -> Result<u64, Error> {
        let (mut incarnation, mut left) = (self.own.incarnations.subscribe(), self.own.left.subscribe());
        tokio::select! {
            begun = incarnation.wait_for(|incarnation| *incarnation > 0) => begun.map(|begun| *begun).map_err(|_| Error::Closed),
            _ = left.wait_for(Option::is_some) => Err(Error::Closed),
        }
    }
}

#[async_trait]
impl Registration for EtcdRegistration {
    fn live(&self, now: Instant) -> bool {
        self.own.alive.at(now)
    }

    fn incarnation(&self) -> u64 {
        self.own.incarnation.load(Ordering::Acquire)
    }

    fn moment(&self) -> Moment {
        self.own.alive.moment()
    }

    fn lasts(&self, now: Moment, span: Duration) -> bool {
        self.own.alive.lasts(now, span)
    }

    fn incarnations(&self) -> watch::Receiver<u64> {
        self.own.incarnations.subscribe()
    }

    async fn set_state(&self, state: MemberState) -> Result<Epoch, Error> {
        let _turn = self.changing.lock().await;
        let own = &self.own;
        let not_registered = || Error::NotRegistered { id: own.member.id.clone() };
        let held = (*own.held.lock()).ok_or_else(not_registered)?;
        if held.state == state {
            return Ok(held.since);
        }
        let value = encode(&Member { state, ..own.member.clone() });
        // Only on the key of this very incarnation: a put of its own would bring a key whose lease has ended back for ever.
        let txn = Txn::new()
            .when([
                Compare::create_revision(
                    &*own.key,
                    CompareOp::Equal,
                    held.incarnation.try_into().unwrap_or(i64::MAX),
                ),
                Compare::lease(&*own.key, CompareOp::Equal, held.lease),
            ])
            .and_then([TxnOp::put(&*own.key, value, Some(PutOptions::new().with_lease(held.lease)))]);
        let answer = own
            .shared
            .link
            .call("change the node's state", async |client| client.kv_client().txn(txn).await)
            .await?;
        if !answer.succeeded() {
            return Err(not_registered());
        }
        let since = Epoch(link::revision(answer.header()));
        if let Some(now) = own.held.lock().as_mut().filter(|now| now.incarnation == held.incarnation) {
            (now.state, now.since) = (state, since);
        }
        Ok(since)
    }

    async fn leave(&self) -> Result<(), Error> {
        self.own.alive.leave();
        self.own.leave.cancel();
        let mut left = self.own.left.subscribe();
        let result = left.wait_for(Option::is_some).await.map_err(|_| Error::Closed)?.clone();
        result.unwrap_or(Err(Error::Closed))
    }
}
