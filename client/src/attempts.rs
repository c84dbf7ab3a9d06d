//! The attempts of one call: whom to ask next, how long to pause, when to give up.

use std::{collections::HashSet, sync::Arc};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use ring::{Member, MemberState, NodeId, Ring, Slot};
use tokio::time::{Instant, sleep};

use crate::{Client, Error, ReadFrom, link::Link};

/// One call's state across its attempts.
pub(crate) struct Attempts<'a> {
    client: &'a Client,
    deadline: Instant,
    first: ReadFrom,
    tried: HashSet<NodeId>,
    /// Made by the first failure.
    backoff: Option<ExponentialBackoff>,
}

impl<'a> Attempts<'a> {
    /// The attempts of a call that the owner is asked first.
    pub(crate) fn new(client: &'a Client) -> Self {
        Self::from(client, ReadFrom::Owner)
    }

    /// The attempts of a read, which may ask any holder first.
    pub(crate) fn reading(client: &'a Client) -> Self {
        Self::from(client, client.config().read_from)
    }

    fn from(client: &'a Client, first: ReadFrom) -> Self {
        let deadline = Instant::now() + client.config().deadline;
        Self { client, deadline, first, tried: HashSet::new(), backoff: None }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The next node to ask: the owner or, as configured, any holder; then the slot's holders in order, then any other, since all forward; first those that were not tried and are
    /// reachable. A breaker never closes the only way: if all are open, one is asked all the same.
    pub(crate) fn target(&self, slot: Option<Slot>) -> Result<Arc<Link>, Error> {
        let ring = self.client.routes().ring();
        let peers = self.client.peers();
        if self.tried.is_empty()
            && let Some(slot) = slot
            && let Some(link) = self.first(&ring, slot)
        {
            return Ok(link);
        }
        let mut links = Vec::new();
        let mut wrong = None;
        let holders = slot.into_iter().flat_map(|slot| ring.holders(slot));
        let members = ring.members();
        let start = rand::random_range(0..members.len().max(1));
        let others = members[start..].iter().chain(&members[..start]);
        let (active, rest): (Vec<_>, Vec<_>) = others.partition(|member| member.state == MemberState::Active);
        for member in holders.chain(active).chain(rest) {
            match peers.link(&member.id, &member.grpc) {
                Ok(link) if links.iter().any(|known: &Arc<Link>| known.id() == link.id()) => {}
                Ok(link) => links.push(link),
                Err(error) => wrong = Some(error),
            }
        }
        if links.is_empty() {
            links = self.client.routes().last_resort();
        }
        let fresh = |link: &&Arc<Link>| !self.tried.contains(link.id());
        links
            .iter()
            .filter(fresh)
            .find(|link| link.breaker().admits())
            .or_else(|| links.iter().find(|link| link.breaker().admits()))
            .or_else(|| links.iter().find(fresh))
            .or_else(|| links.first())
            .cloned()
            .ok_or_else(|| {
                let reason = format!("the membership at epoch {} is empty; is a node running?", ring.epoch());
                wrong.unwrap_or(Error::NoNodes { reason })
            })
    }

    /// The holder to ask first, if it is reachable.
    fn first(&self, ring: &Ring, slot: Slot) -> Option<Arc<Link>> {
        let link = |member: &Member| self.client.peers().link(&member.id, &member.grpc).ok();
        let holders = ring.holders(slot).count();
        if self.first == ReadFrom::Owner || holders < 2 {
            return ring.owner(slot).and_then(link).filter(|link| link.breaker().admits());
        }
        let one = rand::random_range(0..holders);
        let other = (one + rand::random_range(1..holders)) % holders;
        let mut two = [one, other].map(|at| ring.holders(slot).nth(at).and_then(link));
        two.sort_by_key(|link| link.as_ref().map_or(usize::MAX, |link| link.under_way()));
        two.into_iter().flatten().find(|link| link.breaker().admits())
    }

    /// Notes that a node failed, so that the next attempt goes elsewhere.
    pub(crate) fn failed(&mut self, link: &Link, error: &Error) {
        self.tried.insert(link.id().clone());
        if error.is_unanswered() {
            self.client.routes().lost();
        }
    }

    /// Pauses before the next attempt; gives the error back if there is none: it is not transient, or attempts or time are over.
    pub(crate) async fn again(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_transient() {
            return Err(error);
        }
        let config = self.client.config();
        let backoff = self.backoff.get_or_insert_with(|| {
            ExponentialBuilder::new()
                .with_min_delay(config.backoff)
                .with_max_delay(config.max_backoff)
                .with_max_times(config.retries as usize)
                .with_jitter()
                .with_jitter_seed(rand::random())
                .build()
        });
        let Some(pause) = backoff.next() else {
            return Err(error);
        };
        if Instant::now() + pause >= self.deadline {
            return Err(error);
        }
        sleep(pause).await;
        config.metrics.retries.inc();
        Ok(())
    }
}
