//! One holder at a time of a named thing, and a value that only the holder may write: who reads a binlog, and how far.
//!
//! The holder's key is bound to a lease. A holder that can't keep it alive gives up in time by its own clock; whoever was slow to notice can
//! write nothing, since each write is bound to the revision at which the key was made.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use super::Options;
use super::link::{self, Link};
use crate::Error;

/// A thing of a cluster that one process holds at a time.
pub struct Claim {
    link: std::sync::Arc<Link>,
    holder: String,
    value: String,
    lease: Duration,
}

/// The thing is held; until dropped, released or [`lost`](Self::lost).
pub struct Held {
    link: std::sync::Arc<Link>,
    holder: String,
    value: String,
    created: i64,
    lease: i64,
    lost: CancellationToken,
    _stop: DropGuard,
}

impl Claim {
    /// Names the thing: its holder is `/freshline/<cluster>/<name>/holder`, its value `/freshline/<cluster>/<name>/position`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for options that can never work.
    pub fn new(options: Options, name: &str, lease: Duration) -> Result<Self, Error> {
        let prefix = format!("/freshline/{}/{name}", options.cluster);
        let link = std::sync::Arc::new(Link::new(options)?);
        Ok(Self { link, holder: format!("{prefix}/holder"), value: format!("{prefix}/position"), lease })
    }

    /// Waits until the thing is free or its holder's lease has ended, and takes it. Cancel safe but for a lease that ends by itself.
    pub async fn hold(&self, who: &str) -> Held {
        let pause = (self.lease / 4).max(Duration::from_millis(100));
        let mut told: Option<Instant> = None;
        loop {
            match self.try_hold(who).await {
                Ok(Ok(held)) => return held,
                Ok(Err(other)) => {
                    if told.is_none() {
                        info!(
                            holder = other,
                            key = self.holder,
                            "another instance holds it: waiting for its place"
                        );
                    }
                    told.get_or_insert_with(Instant::now);
                }
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() > Duration::from_secs(30)) {
                        warn!(%error, "etcd can't be asked for the place, trying again");
                        told = Some(Instant::now());
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The value as it was written last.
    pub async fn value(&self) -> Result<Option<Vec<u8>>, Error> {
        let answer = self
            .link
            .call("read the position", async |client| client.kv_client().get(&*self.value, None).await)
            .await?;
        Ok(answer.kvs().first().map(|kv| kv.value().to_vec()))
    }

    async fn try_hold(&self, who: &str) -> Result<Result<Held, String>, Error> {
        let found = self
            .link
            .call("read the holder", async |client| client.kv_client().get(&*self.holder, None).await)
            .await?;
        if let Some(kv) = found.kvs().first() {
            return Ok(Err(String::from_utf8_lossy(kv.value()).into_owned()));
        }
        let seconds = i64::try_from(self.lease.as_secs().max(1)).unwrap_or(10);
        let sent = Instant::now();
        let granted = self
            .link
            .call("get a lease", async |client| client.lease_client().grant(seconds, None).await)
            .await?;
        let lease = granted.id();
        let txn = Txn::new()
            .when([Compare::create_revision(&*self.holder, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(&*self.holder, who, Some(PutOptions::new().with_lease(lease)))]);
        let answer =
            self.link.call("take the place", async |client| client.kv_client().txn(txn).await).await?;
        if !answer.succeeded() {
            let _ = self
                .link
                .call("end the lease", async |client| client.lease_client().revoke(lease).await)
                .await;
            return Ok(Err("someone who was quicker".to_owned()));
        }
        let created = i64::try_from(link::revision(answer.header())).unwrap_or(i64::MAX);
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        let life = Duration::from_secs(seconds.unsigned_abs());
        self.link.apart().spawn(keep(self.link.clone(), lease, life, sent, lost.clone(), stop.clone()));
        Ok(Ok(Held {
            link: self.link.clone(),
            holder: self.holder.clone(),
            value: self.value.clone(),
            created,
            lease,
            lost,
            _stop: stop.drop_guard(),
        }))
    }
}

impl Held {
    /// Cancelled when the place can't be proven to be held any more.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Writes the value, if the thing is still held.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if another holds it by now; others where etcd can't be reached.
    pub async fn put(&self, value: Vec<u8>) -> Result<(), Error> {
        let txn = Txn::new()
            .when([Compare::create_revision(&*self.holder, CompareOp::Equal, self.created)])
            .and_then([TxnOp::put(&*self.value, value, None)]);
        let answer =
            self.link.call("write the position", async |client| client.kv_client().txn(txn).await).await?;
        if answer.succeeded() {
            return Ok(());
        }
        self.lost.cancel();
        Err(Error::Closed)
    }

    /// Gives the thing up, so that another takes it at once.
    pub async fn release(self) {
        let revoked = self
            .link
            .call("end the lease", async |client| client.lease_client().revoke(self.lease).await)
            .await;
        if let Err(error) = revoked {
            debug!(%error, "the lease ends by itself");
        }
    }
}

/// Keeps a lease alive until `stop`; says in `lost` when it can't be any more, counted from when the last answered request was sent.
async fn keep(
    link: std::sync::Arc<Link>,
    lease: i64,
    life: Duration,
    mut alive: Instant,
    lost: CancellationToken,
    stop: CancellationToken,
) {
    let _lost = lost.drop_guard();
    let mut ticks = tokio::time::interval(life / 4);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let sent = Instant::now();
        let limit = (alive + life * 9 / 10).saturating_duration_since(sent).min(link::CALL);
        if limit.is_zero() {
            return;
        }
        let answer = link
            .try_call(limit, async |client| {
                let (mut keeper, mut answers) = client.lease_client().keep_alive(lease).await?;
                keeper.keep_alive().await?;
                answers.message().await
            })
            .await;
        match answer {
            Ok(Some(answer)) if answer.ttl() > 0 => alive = sent,
            Ok(_) => return,
            Err(error) => debug!(%error, "the place's lease could not be kept alive, trying again"),
        }
    }
}
