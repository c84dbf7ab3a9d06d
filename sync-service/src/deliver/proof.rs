//! What the membership is now, proven by a read of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use ring::{Epoch, Ring};
use tracing::{debug, warn};

use super::{Deliverer, worker};

/// A read of the membership that many wait for.
pub(super) type Proof = Shared<BoxFuture<'static, Arc<Ring>>>;

impl Deliverer {
    /// A linearizable read of the membership that begins when it is first polled, repeated until it succeeds.
    pub(super) fn proof(&self) -> Proof {
        let membership = self.membership.clone();
        let metrics = self.shared.metrics.clone();
        let read = async move {
            let mut wait = Duration::from_millis(50);
            let mut failed = false;
            loop {
                match membership.read().await {
                    Ok(ring) => {
                        if failed {
                            metrics.membership_down.set(0);
                        }
                        return ring;
                    }
                    Err(error) => {
                        failed = true;
                        metrics.membership_failures.inc();
                        if metrics.membership_down.set(1) == 0 {
                            warn!(%error, "membership can't be read: removals go to the nodes known, commits wait");
                        } else {
                            debug!(%error, "membership still can't be read");
                        }
                        tokio::time::sleep(worker::jittered(wait)).await;
                        wait = (wait * 2).min(Duration::from_secs(2));
                    }
                }
            }
        };
        read.boxed().shared()
    }

    /// The membership as it is now, by `epoch` or a later one. A read alone would not do: it raises no epoch while the list is
    /// the same, and a node that knows that list by a newer epoch would make every plan look old, for ever.
    pub(super) async fn at_least(&self, epoch: Epoch) -> Arc<Ring> {
        loop {
            let ring = self.proof().await;
            if ring.epoch() >= epoch {
                return ring;
            }
            match self.membership.catch_up(epoch).await {
                Ok(ring) => return ring,
                Err(error) => {
                    self.shared.metrics.membership_failures.inc();
                    debug!(%error, %epoch, "can't catch up with the membership, trying again");
                    tokio::time::sleep(worker::jittered(Duration::from_millis(50))).await;
                }
            }
        }
    }
}
