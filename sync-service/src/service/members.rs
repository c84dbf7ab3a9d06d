//! The members that changes are delivered to: that there are any, and that they can be followed.
//!
//! Without members everything is acknowledged at once, and committed. That is right for a cluster whose nodes are still to come, and silent where
//! they are elsewhere: *`cluster.name` is written otherwise than on the nodes; the sync service commits and is ready, and no key is ever
//! removed.*

use std::time::Duration;

use anyhow::anyhow;
use ring::Epoch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Service;
use crate::source::Source;

/// How long nodes may take to come before it is said that there are none.
const GRACE: Duration = Duration::from_secs(30);
/// How often it is said again.
const REMIND: Duration = Duration::from_mins(10);
/// How often the members are looked at.
const LOOK: Duration = Duration::from_millis(250);

impl<S: Source> Service<S> {
    /// Looks at the members for ever; ends with what the service can't go on with.
    pub(super) async fn attend_members(&self) -> anyhow::Error {
        tokio::select! { // both only look
            error = self.attend_history() => error,
            error = self.attend_number() => error,
        }
    }

    /// A node may go by its lease for as long as that lasts after etcd has forgotten it: until then nobody may plan without it.
    async fn attend_history(&self) -> anyhow::Error {
        let error = ring::until_broken(&*self.membership, self.lease * 2, |broken| match broken {
            Some(error) => self.readiness.wait("etcd", error.to_string()),
            None => self.readiness.done("etcd"),
        });
        anyhow!(error.await).context("follow the members; a new start begins with what etcd has now")
    }

    async fn attend_number(&self) -> anyhow::Error {
        let (mut none_since, mut told): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            let ring = self.membership.ring();
            let members = ring.members().len();
            self.deliver.members.set(i64::try_from(members).unwrap_or(i64::MAX));
            if members > 0 {
                if told.take().is_some() {
                    info!(members, "there are nodes to deliver to again");
                }
                none_since = None;
                self.readiness.done("members");
            } else if ring.epoch() == Epoch::default() || self.deliver.membership_down.get() > 0 {
                // An etcd that can't be asked is waited for, and says nothing of members.
                none_since = None;
            } else {
                let since = *none_since.get_or_insert_with(Instant::now);
                let halt = self.config.halt_without_members;
                if !halt.is_zero() && since.elapsed() >= halt {
                    return anyhow!("{} (sync.halt_without_members)", self.no_members())
                        .context(format!("find nodes to deliver to within {halt:?}"));
                }
                if since.elapsed() >= GRACE {
                    self.readiness.wait("members", self.no_members());
                    if told.is_none_or(|told| told.elapsed() >= REMIND) {
                        told = Some(Instant::now());
                        warn!("{}", self.no_members());
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn no_members(&self) -> String {
        format!(
            "no node is a member of the cluster {:?}: changes are committed and removed nowhere; if there are nodes, their cluster.name or \
             cluster.etcd is another one",
            self.cluster
        )
    }
}
