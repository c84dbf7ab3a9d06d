//! How a node follows the membership: joining, new rings, new incarnations, leaving (R5, R6).

use std::{
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Release},
    },
    time::Duration,
};

use ring::{Epoch, MemberState, Ring};
use tokio::time::{Instant, timeout};

use crate::{error::Error, node::Node};

/// Pause before the first and at most before any new try to join.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);
/// How often gauges are set.
const GAUGES: Duration = Duration::from_secs(1);

impl Node {
    /// Takes its place in the ring, and takes it again whenever the lease was lost. Tries until it succeeds or the node
    /// is shut down; what it waits for is logged.
    pub async fn join(&self) {
        self.wanted.store(true, Release);
        self.activate().await;
    }

    /// Gives its slots up and goes on answering by their new owners.
    pub async fn retire(&self) -> Result<(), ring::Error> {
        self.wanted.store(false, Release);
        let epoch = self.life.registration().set_state(MemberState::Leaving).await?;
        let ring = self.membership.catch_up(epoch).await?;
        self.take_ring(&ring);
        tracing::info!(node = %self.id, epoch = self.epoch().0, "left the ring");
        Ok(())
    }

    /// Waits for fills under way, at most `grace`, ends the node's own tasks and gives its lease back.
    pub async fn shutdown(&self, grace: Duration) {
        let begun = Instant::now();
        daemon::shutdown::drain(self.stop.clone(), self.tasks.clone(), grace).await;
        let left = grace.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
        match timeout(left, self.life.registration().leave()).await {
            Ok(Ok(())) => tracing::info!(node = %self.id, "gave the lease back"),
            Ok(Err(error)) => {
                tracing::warn!(node = %self.id, %error, "lease not given back, it will run out");
            }
            Err(_) => tracing::warn!(node = %self.id, "lease not given back in time, it will run out"),
        }
    }

    /// Spawns the tasks that every node has. They end with the node's token.
    pub(crate) fn follow(self: &Arc<Self>) {
        self.tasks.spawn(self.clone().follow_membership());
        self.tasks.spawn(self.clone().sweep());
    }

    /// Goes by a ring, if it is newer than the last one. What it takes from this node is no longer served or filled when
    /// this returns; its memory is given back, and the epoch confirmed, soon after.
    pub(crate) fn take_ring(&self, ring: &Ring) {
        let Some(change) = self.slots.apply(ring, Instant::now()) else { return };
        self.gate.recorder().slots(change.epoch, |slot| self.slots.acquisition(slot).is_some());
        self.peers.retain(ring);
        tracing::info!(
            node = %self.id, epoch = change.epoch.0, gained = change.gained, lost = change.lost,
            members = ring.members().len(), "new ring"
        );
        if change.lost == 0 && change.previous.is_none_or(|previous| previous == self.slots.confirmed()) {
            // Nothing to drop, and nothing of an earlier ring is still being dropped.
            self.slots.confirm(change.epoch);
            return;
        }
        let (gate, slots, stop) = (self.gate.clone(), self.slots.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if stop.run_until_cancelled(gate.sweep()).await.is_some() {
                slots.confirm(change.epoch);
            }
        });
    }

    /// The ring as it is known now; this node goes by it when this returns.
    pub(crate) fn current_ring(&self) -> Arc<Ring> {
        let ring = self.membership.ring();
        if ring.epoch() != self.slots.epoch() {
            self.take_ring(&ring);
        }
        ring
    }

    /// Goes by a ring of `epoch` or later, waiting for it if need be.
    pub(crate) async fn catch_up(&self, epoch: Epoch) -> Result<(), Error> {
        if self.current_ring().epoch() >= epoch {
            return Ok(());
        }
        let waited = self.config.catch_up;
        let behind = |reason: String| Error::Behind { asked: epoch, own: self.epoch(), waited, reason };
        match timeout(waited, self.membership.catch_up(epoch)).await {
            Ok(Ok(ring)) => {
                self.take_ring(&ring);
                Ok(())
            }
            Ok(Err(error)) => Err(behind(error.to_string())),
            Err(_) => Err(behind("the membership did not answer in time".into())),
        }
    }

    /// Catches up with the membership, confirms it, and becomes active.
    async fn activate(&self) {
        let mut pause = RETRY;
        while self.wanted.load(Acquire) {
            let error = match self.try_activate().await {
                Ok(()) => {
                    let slots = self.slots.count();
                    tracing::info!(node = %self.id, epoch = self.epoch().0, slots, "joined the ring");
                    return;
                }
                Err(error) => error,
            };
            tracing::warn!(node = %self.id, %error, ?pause, "not in the ring yet, trying again");
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MOST),
            }
        }
    }

    async fn try_activate(&self) -> Result<(), ring::Error> {
        let ring = self.membership.read().await?;
        self.take_ring(&ring);
        self.take_incarnation();
        let epoch = self.life.registration().set_state(MemberState::Active).await?;
        let ring = self.membership.catch_up(epoch).await?;
        self.take_ring(&ring);
        Ok(())
    }

    async fn follow_membership(self: Arc<Self>) {
        let mut rings = self.membership.watch();
        let mut incarnations = self.life.registration().incarnations();
        loop {
            rings.borrow_and_update();
            incarnations.borrow_and_update();
            if self.take_incarnation() && self.wanted.load(Acquire) {
                let node = self.clone();
                self.tasks.spawn(async move { node.activate().await });
            }
            self.current_ring();
            tokio::select! { // all are safe to drop
                biased;
                () = self.stop.cancelled() => return,
                changed = rings.changed() => if changed.is_err() { return },
                changed = incarnations.changed() => if changed.is_err() { return },
            }
        }
    }

    /// After the lease was lost and the node is registered anew: nothing filled before may be served or stored. Returns
    /// whether that was so.
    fn take_incarnation(&self) -> bool {
        let _one = self.births.lock();
        let Some(incarnation) = self.life.newborn() else { return false };
        let first = self.life.incarnation() == 0;
        self.slots.renew(Instant::now());
        self.gate.store().clear();
        self.gate.recorder().emptied(incarnation);
        self.life.adopt(incarnation);
        if first {
            tracing::info!(node = %self.id, incarnation, "registered");
        } else {
            tracing::warn!(node = %self.id, incarnation, "the lease was lost; back as a new incarnation, store empty");
        }
        true
    }

    async fn sweep(self: Arc<Self>) {
        let mut gauges = tokio::time::interval(GAUGES);
        let mut sweeps = tokio::time::interval(self.config.sweep);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! { // all are safe to drop
                biased;
                () = self.stop.cancelled() => return,
                _ = gauges.tick() => {
                    self.gate.store().publish();
                    self.watermarks.publish();
                    let (epoch, confirmed) = (self.slots.epoch().0, self.slots.confirmed().0);
                    self.metrics.membership(epoch, confirmed, self.slots.count(), self.life.live());
                }
                _ = sweeps.tick() => tokio::select! { // an unfinished sweep leaves what the next one finds
                    biased;
                    () = self.stop.cancelled() => return,
                    () = self.gate.sweep() => {}
                },
            }
        }
    }
}
