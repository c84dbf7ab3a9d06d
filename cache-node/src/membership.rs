//! How a node follows the membership: joining, new rings, new incarnations, leaving (R5, R6).

use std::{
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Release},
    },
    time::Duration,
};

use daemon::tasks;
use futures_util::future::BoxFuture;
use memory::slots::Lost;
use ring::{Epoch, MemberState, Ring};
use tokio::time::{Instant, timeout};

use crate::{departures::Verdict, error::Error, mirror::Of, node::Node};

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

    /// Gives its slots up and goes on answering by their new owners. Returns when these have taken what they want of its values,
    /// or [`handover`](crate::Config::handover) is over.
    pub async fn retire(&self) -> Result<(), ring::Error> {
        self.wanted.store(false, Release);
        self.warm.settled().await;
        let epoch = self.life.registration().set_state(MemberState::Leaving).await?;
        let ring = self.membership.catch_up(epoch).await?;
        self.take_ring(&ring);
        tracing::info!(node = %self.id, epoch = self.epoch().0, departing = self.slots.departing_count(), "left the ring");
        self.slots.confirms(epoch).await;
        Ok(())
    }

    /// Waits for fills under way, at most `grace`, ends the node's own tasks and gives its lease back.
    pub async fn shutdown(&self, grace: Duration) {
        let begun = Instant::now();
        daemon::shutdown::drain(self.stop.clone(), self.tasks.clone(), grace).await;
        // Before the lease is given back: from then on nobody asks this node whether a removal has taken effect.
        self.mirrors.grants.close();
        self.end_mirrors(Of::All, "leaves").await;
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
        let until = |name, task: BoxFuture<'static, ()>| {
            self.tasks.spawn(tasks::until(self.stop.clone(), name, task));
        };
        until("following the membership", Box::pin(self.clone().follow_membership()));
        until("sweeping the store", Box::pin(self.clone().sweep()));
        until("handing slots over", Box::pin(self.clone().hand_over()));
        until("warming slots up", Box::pin(self.clone().warm_up()));
        until("announcing copies", Box::pin(self.clone().announce_copies()));
        until("taking copies", Box::pin(self.clone().take_copies()));
        until("counting hot keys", Box::pin(self.clone().count_hot_keys()));
        until("filling in the background", Box::pin(self.clone().fill_in_background()));
        until("looking after the database's server", Box::pin(self.clone().follow_server()));
        // It ends by itself.
        self.tasks.spawn(self.clone().end_inherited_mirrors());
    }

    /// Goes by a ring, if it is newer than the last one. What it takes from this node is no longer served or filled when
    /// this returns; what was gained is warmed up, and what was lost handed over, in the background.
    pub(crate) fn take_ring(&self, ring: &Arc<Ring>) {
        let _one_by_one = self.turns.lock();
        let lost = if self.config.handover.is_zero() { Lost::Drop } else { Lost::Depart };
        let now = Instant::now();
        let Some(change) = self.slots.apply(ring, now, lost) else { return };
        self.gate.recorder().slots(change.epoch, |slot| self.slots.acquisition(slot).is_some());
        if change.lost > 0 {
            self.resp.slots_lost(|slot| self.slots.acquisition(slot).is_some());
        }
        self.departures.take(&change, ring, &self.slots, &self.id, now);
        self.warm.take(&change, ring, now);
        self.copies.take(ring, self.config.copy_queue);
        self.peers.retain(ring);
        self.agreement.compare(ring);
        tracing::info!(
            node = %self.id, epoch = change.epoch.0, gained = change.gained.len(), lost = change.lost,
            departing = change.departing, members = ring.members().len(), "new ring"
        );
    }

    /// The ring as it is known now; this node goes by it when this returns.
    pub(crate) fn current_ring(&self) -> Arc<Ring> {
        let ring = self.membership.ring();
        if ring.epoch() != self.slots.epoch() {
            self.take_ring(&ring);
        }
        ring
    }

    /// Returns when all is planned of the ring by which slots are held now: *a slot is gained, a reader asks for a plain value of it before there is
    /// a source to be asked, and is told that there is none.*
    pub(crate) fn planned(&self) {
        drop(self.turns.lock());
    }

    /// Goes by a ring of `epoch` or later, waiting for it if need be.
    pub(crate) async fn catch_up(&self, epoch: Epoch) -> Result<(), Error> {
        let own = self.current_ring().epoch();
        if !own.is_of_same_history(epoch) {
            // Whichever is greater: nothing that is planned by one of the two is known to the other.
            self.agreement.other_membership(epoch, own);
            return Err(Error::OtherMembers { asked: epoch, own });
        }
        if own >= epoch {
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
        self.heed_visibility();
        let ring = self.membership.read().await?;
        self.take_ring(&ring);
        self.take_incarnation();
        if let Some(conflict) = ring::terms::conflict(&ring, &self.id) {
            return Err(ring::Error::Conflict(conflict));
        }
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
        let no_new_ring = self.turns.lock();
        self.slots.renew(incarnation, Instant::now());
        self.gate.store().clear();
        self.gate.clear_mirrors();
        self.departures.end();
        drop(no_new_ring);
        self.resp.invalidated_all();
        self.gate.recorder().emptied(incarnation);
        self.life.adopt(incarnation);
        if first {
            tracing::info!(node = %self.id, incarnation, "registered");
        } else {
            tracing::warn!(node = %self.id, incarnation, "the lease was lost; back as a new incarnation, store empty");
        }
        true
    }

    /// Drops what was lost once nobody wants it or its time is over, and then confirms the epoch.
    async fn hand_over(self: Arc<Self>) {
        loop {
            let until = {
                let _no_new_ring = self.turns.lock();
                let now = Instant::now();
                match self.departures.verdict(now) {
                    Verdict::Keep(until) => Some(until),
                    Verdict::Over(began) => {
                        self.slots.end_departing();
                        self.departures.end();
                        let took = now.saturating_duration_since(began);
                        self.metrics.pulls.handover_seconds.observe(took.as_secs_f64());
                        tracing::info!(node = %self.id, epoch = self.epoch().0, ?took, "handed over what was lost");
                        None
                    }
                    Verdict::Nothing => None,
                }
            };
            if let Some(epoch) = self.slots.unconfirmed() {
                // What is stored from here on under an ended acquisition can't be reached, swept or not.
                let ended = async {
                    self.gate.sweep().await;
                    self.end_lost_mirrors().await;
                };
                if self.stop.run_until_cancelled(ended).await.is_none() {
                    return;
                }
                self.slots.confirm(epoch);
                continue;
            }
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { // all are safe to drop
                biased;
                () = self.stop.cancelled() => return,
                () = self.departures.changed() => {}
                () = over => {}
            }
        }
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
                    self.agreement.publish();
                    let (epoch, confirmed) = (self.slots.epoch().0, self.slots.confirmed().0);
                    self.metrics.pulls.departing(self.slots.departing_count());
                    self.metrics.membership(epoch, confirmed, self.slots.count(), self.life.live());
                }
                () = self.gate.pressed() => tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = self.gate.sweep() => {}
                },
                _ = sweeps.tick() => tokio::select! { // an unfinished sweep leaves what the next one finds
                    biased;
                    () = self.stop.cancelled() => return,
                    () = self.gate.sweep() => {}
                },
            }
        }
    }
}
