//! Mirrors: a node that is asked for a hot key of another one keeps a copy for a moment, so that not every read crosses the network and
//! ends at one owner.
//!
//! # The protocol
//!
//! A mirror is a copy under a *mirror lease* of [`mirror_lease`](crate::Config::mirror_lease).
//!
//! 1. The node takes a token from its gate, notes the time, and asks the owner for the value and a lease, at its own epoch.
//! 2. The owner grants only as the owner of the slot, unfenced, at that epoch or a later one ([`may_grant`](memory::protocol::may_grant)),
//!    a value from its memory, and only if its own lease in etcd provably lasts as long as the one that it grants. It notes key, node and
//!    the end of the lease *before* it reads the value.
//! 3. The node keeps the value if its gate says that nothing has overtaken it since the token (R1). It serves it to first-hand requests
//!    alone, while nine tenths of the lease have not passed since it *asked*, by the clock that saw the most time pass; while it is
//!    unfenced; while its ring names that owner in that life; and while it does not hold the slot itself.
//! 4. Whatever removes keys at the owner - a removal, a flush - first takes effect there and then looks for mirrors of these keys. The owner
//!    acknowledges when each of them has acknowledged the removal, or its lease is over by the owner's clock. A mirror that can't be reached
//!    delays a delivery by one mirror lease at most.
//! 5. On losing a slot the owner ends the mirrors of its keys before it confirms the epoch (R5), and before it gives its lease in etcd
//!    back.
//!
//! # Why it holds
//!
//! Suppose that a mirror serves a value that lacks change c after c was delivered. The owner O that granted it had the value in memory and
//! c's removal not applied. When the sync service planned the delivery, O was a target, or had confirmed an epoch by which it does not hold
//! the slot, or was no member any more.
//!
//! - *A target.* It acknowledged after the removal had taken effect. The grant was noted before the value was read, and the value was read
//!   before the removal took effect, since afterwards it was gone; so the owner found the grant, and waited for the mirror's word, from which
//!   on the copy is gone and one under way is refused (the token is older), or for the end of the lease, which the mirror counts to be earlier.
//!   Could O have got the old value back after it acknowledged? Not more than without mirrors: it was asked again in the phase of the owner
//!   (R4), and the mirrors that it granted in between are noted by then.
//! - *It had confirmed without holding the slot.* Then it had ended its mirrors (5), and granted no more: a grant checks that the slot is
//!   owned after it is noted.
//! - *No member any more.* Its lease in etcd had ended, and with it every lease that it had granted (2).
//!
//! A process that takes the place of another one without a lease that ends in between (a fixed list) knows nothing of what that one has granted,
//! nor by which setting. It asks all others to end every mirror of its keys, and acknowledges no removal before all have, or the longest
//! lease that can be configured is over.
//!
//! A replica that was owner before still holds the slot: it is a target in the last phase and ends what it granted as an owner there.
//!
//! Values flow one way: departing holder, owner, replica or mirror. A mirror is no source: it is not in the store, of which alone pulls are
//! answered (R10), and forwarded requests, by which a replica asks who it takes for the owner, are not answered from it.
//!
//! The freshness of an answer (R9) is claimed as from the store: by the node's own lowest watermark, read before the mirror is looked up. A
//! watermark is told when everybody who had to has acknowledged, and the owner had not before this mirror was ended.

mod grants;

use std::{collections::HashMap, sync::Arc, time::Duration};

use catalog::Key;
use client::Peers;
use futures_util::future;
use parking_lot::Mutex;
use ring::{
    Epoch, Member, NodeId, Ring,
    rules::{self, Rule},
    slot_of,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::task::TaskTracker;
use wire::Answer;

pub(crate) use self::grants::{Due, Grants, Of};
use memory::{
    gate::{Gate, Mirror, NotMirrored},
    life::Life,
    place::Place,
    protocol,
    watermarks::{Fresh, within},
};

use crate::{
    config::LONGEST_MIRROR,
    error::Error,
    metrics::MirrorMetrics,
    node::{Hop, Node, place},
};

/// The pause before a node that did not answer is asked again to end its mirrors.
const RETRY: Duration = Duration::from_millis(20);
/// How long one such call may take.
const CALL: Duration = Duration::from_millis(500);
/// For how long it is remembered that an owner wanted all its mirrors ended: longer than any asking takes.
const RESET: Duration = Duration::from_mins(1);

/// One node's mirrors of others, and those that others have of its keys.
pub(crate) struct Mirrors {
    node: NodeId,
    gate: Arc<Gate>,
    life: Arc<Life>,
    peers: Arc<Peers>,
    tasks: TaskTracker,
    /// Zero for no mirrors.
    lease: Duration,
    pub(crate) grants: Grants,
    pub(crate) metrics: MirrorMetrics,
    /// Keys that are not asked for before then, by hash: they are being asked for, or were a moment ago.
    asked: Mutex<HashMap<u64, Instant>>,
    /// Whether mirrors may be left that another process has granted in this one's place.
    inherited: watch::Sender<bool>,
    /// When the last of these ends by itself.
    inherits_until: Instant,
    /// Owners that have asked for the end of all their mirrors, and when. Those of a minute ago are forgotten.
    resets: Mutex<HashMap<NodeId, Instant>>,
}

impl Mirrors {
    pub(crate) fn new(
        node: NodeId,
        lease: Duration,
        gate: Arc<Gate>,
        life: Arc<Life>,
        peers: Arc<Peers>,
        tasks: TaskTracker,
        metrics: MirrorMetrics,
    ) -> Arc<Self> {
        let inherited = life.registration().is_inherited();
        let inherits_until = Instant::now() + LONGEST_MIRROR;
        Arc::new(Self {
            node,
            gate,
            life,
            peers,
            tasks,
            lease,
            grants: Grants::default(),
            metrics,
            asked: Mutex::default(),
            inherited: watch::Sender::new(inherited),
            inherits_until,
            resets: Mutex::default(),
        })
    }

    /// Asks a key's owner for a mirror in the background, unless that is being done.
    pub(crate) fn want(self: &Arc<Self>, key: &Key, place: Place, owner: &Member, epoch: Epoch) {
        if self.lease.is_zero() {
            return;
        }
        let now = Instant::now();
        {
            let mut asked = self.asked.lock();
            if asked.get(&place.hash).is_some_and(|not_before| now < *not_before) {
                return;
            }
            asked.insert(place.hash, now + self.peers.config().deadline);
        }
        let (mirrors, key, owner) = (self.clone(), key.clone(), owner.clone());
        self.tasks.spawn(async move {
            let result = mirrors.ask(&key, place, &owner, epoch).await;
            mirrors.metrics.asked(result);
            // Who was refused asks again, but not at every read.
            let pause = if result == "kept" { Duration::ZERO } else { mirrors.lease / 4 };
            mirrors.asked.lock().insert(place.hash, Instant::now() + pause);
        });
    }

    async fn ask(&self, key: &Key, place: Place, owner: &Member, epoch: Epoch) -> &'static str {
        let life = self.life.incarnation();
        // Both before the asking: a removal that comes in between is newer than the token, and the lease is counted from here.
        let token = self.gate.mirror_token(place);
        let asked = self.life.registration().moment();
        let began = Instant::now();
        let mirrored = match self.peers.mirror(owner, &self.node, epoch, &key.text, self.lease).await {
            Ok(mirrored) => mirrored,
            Err(error) => {
                tracing::debug!(node = %self.node, owner = %owner.id, %error, "no mirror");
                return "failed";
            }
        };
        let Answer { value, age, ttl: Some(ttl), node, epoch: at, .. } = mirrored.answer else {
            return "not_granted";
        };
        let Some(lease) = mirrored.lease.map(|lease| lease.min(self.lease)) else { return "not_granted" };
        let age = age + Duration::from_millis(1);
        let Some(filled) = began.checked_sub(age) else { return "refused" };
        if node != owner.id.as_str() || Epoch(at) < epoch {
            return "refused";
        }
        if mirrored.group_digest != key.group.digest {
            return "other_catalog";
        }
        let mirror = Mirror {
            // A copy of its own: the message's buffer may be larger than the value and is not counted.
            value: value.map(|value| bytes::Bytes::copy_from_slice(&value)),
            filled,
            expires: began + ttl,
            owner: (owner.id.clone(), mirrored.incarnation),
            asked,
            // Clocks run apart, by a tenth at most.
            lease: lease.mul_f64(0.9),
            life,
        };
        // Asked under the lock that such a reset takes after it was noted.
        let reset = || self.resets.lock().get(&owner.id).is_some_and(|at| *at >= began);
        let stands = || self.life.vouches_for(life) && !reset();
        match self.gate.store_mirror(&token, place, &key.text, mirror, stands) {
            Ok(()) => "kept",
            Err(NotMirrored::NoRoom) => "no_room",
            Err(NotMirrored::Overtaken(_)) => "refused",
        }
    }

    /// Forgets what is over.
    pub(crate) fn tidy(&self) {
        let now = Instant::now();
        self.asked.lock().retain(|_, not_before| now < *not_before);
        self.resets.lock().retain(|_, at| now.saturating_duration_since(*at) < RESET);
        self.grants.tidy(now);
        self.gate.tidy_mirrors(self.life.registration().moment());
        self.metrics.kept(self.gate.mirror_count());
    }

    /// Returns when each of these mirrors has acknowledged, or its lease is over. Safe to drop, and to repeat.
    async fn end(&self, due: Vec<Due>, ring: &Ring, origin: &str) {
        future::join_all(due.iter().map(|due| self.end_one(due, ring.member(&due.node), origin))).await;
    }

    async fn end_one(&self, due: &Due, member: Option<&Member>, origin: &str) {
        let keys: Vec<String> = due.keys.iter().map(|(key, _)| key.to_string()).collect();
        let Some(member) = member else {
            sleep_until(due.until).await; // gone from the ring, and may not know it
            return self.metrics.ended("lease_over");
        };
        let told = async {
            loop {
                match self.peers.unmirror(member, &self.node, &keys, origin, CALL).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::debug!(node = %self.node, mirror = %member.id, %error, "mirror not ended yet");
                        sleep(RETRY).await;
                    }
                }
            }
        };
        match timeout_at(due.until, told).await {
            Ok(()) => {
                self.grants.ended(due);
                self.metrics.ended("acknowledged");
            }
            Err(_) => self.metrics.ended("lease_over"),
        }
    }
}

impl Node {
    /// Answers from a mirror, if there is one that may be served and is fresh enough.
    pub(crate) fn mirror_hit(
        &self,
        ring: &Ring,
        key: &Key,
        place: Place,
        bound: Option<Duration>,
    ) -> Option<Answer> {
        if self.gate.mirror_count() == 0 {
            return None;
        }
        let lowest = self.watermarks.lowest(); // before the mirror is read, see `watermarks`
        let mirrored = self.gate.mirror(place, &key.text, self.life.registration().moment())?;
        let owner = ring.owner(slot_of(&key.text))?;
        let same_owner = (&owner.id, owner.incarnation) == (&mirrored.owner.0, mirrored.owner.1);
        if !protocol::may_serve_mirror(self.life.vouches_for(mirrored.life), self.holds(place), same_owner) {
            return None;
        }
        if mirrored.ends_soon {
            self.mirrors.want(key, place, owner, ring.epoch());
        }
        let fresh = Fresh::new(mirrored.entry, lowest);
        if !within(fresh.as_of, bound) {
            return None;
        }
        self.hot.read(place, key, crate::hot::Read::Answered);
        self.mirrors.metrics.hit(place.group);
        Some(self.answer_from_memory(fresh, Instant::now()))
    }

    /// Takes note of a read that is passed on, and asks for a mirror if the key is hot.
    pub(crate) fn passed_on(&self, ring: &Ring, key: &Key, place: Place) {
        self.hot.read(place, key, crate::hot::Read::Forwarded);
        if !self.hot.is_hot(place.hash) || !key.group.tagging.is_empty() || key.group.is_plain() {
            return;
        }
        if let Some(owner) = self.owner_elsewhere(ring, key)
            && !self.holds(place)
        {
            self.mirrors.want(key, place, owner, ring.epoch());
        }
    }

    /// Answers a node that asks for a mirror of a key: as to a forwarded get, and with a lease if one may be granted.
    pub(crate) async fn grant(
        &self,
        to: &NodeId,
        epoch: Epoch,
        key: &str,
        lease: Duration,
        protocol: u32,
    ) -> Result<wire::Mirrored, Error> {
        if protocol != ring::terms::PROTOCOL {
            return Err(protocol::PullRefused::OtherProtocol { asked: protocol }.into());
        }
        let key = self.resolve(key)?;
        self.catch_up(epoch).await?;
        let (place, group_digest) = (place(&key), key.group.digest);
        let incarnation = self.life.incarnation();
        if let Some((answer, lease)) = self.grant_from_memory(to, epoch, &key, place, lease) {
            return Ok(wire::Mirrored { answer, lease: Some(lease), incarnation, group_digest });
        }
        let answer = self.get_key(&key, Hop::Forwarded, wire::ReadOptions::default()).await?;
        Ok(wire::Mirrored { answer, lease: None, incarnation, group_digest })
    }

    fn grant_from_memory(
        &self,
        to: &NodeId,
        epoch: Epoch,
        key: &Key,
        place: Place,
        lease: Duration,
    ) -> Option<(Answer, Duration)> {
        if !key.group.tagging.is_empty() || key.group.is_plain() {
            return None; // a removal of a tag does not know its keys; a write goes to holders alone
        }
        // Who is no member would be waited for at each removal, and never acknowledge.
        self.current_ring().member(to).filter(|member| member.id != self.id)?;
        let (now, lease) = (Instant::now(), lease.min(self.config.mirror_lease));
        let moment = self.life.registration().moment();
        let stored_under = self.gate.peek(place, &key.text, now)?.stamp.acquisition;
        let lasts = self.life.registration().lasts(moment, lease);
        if lease.is_zero() || (!lasts && stands_in()) {
            return None;
        }
        // First the note, then the reading: a removal that the reading does not know of finds the note.
        self.mirrors.grants.note(&key.text, place, to, now + lease)?;
        let answer = self.hit(key, place, None);
        let owned = self.slots.owned(place.slot);
        match protocol::may_grant(self.standing(), epoch, owned, stored_under) {
            Ok(()) => answer.map(|answer| (answer, lease)),
            // The note stays: it may have taken the place of one for an earlier mirror, which that node may still serve.
            Err(_) => None,
        }
    }

    /// Ends mirrors that this node has of another one's keys.
    pub(crate) fn unmirror(&self, keys: &[String], origin: &str) {
        let origin = Arc::from(origin);
        for key in keys {
            self.gate.remove(key, &origin);
        }
        tracing::debug!(node = %self.id, keys = keys.len(), %origin, "mirrors ended");
    }

    /// Ends all mirrors that this node has of another one's keys, those that are being asked for too.
    pub(crate) fn unmirror_all(&self, owner: &NodeId) {
        // Bounded: only members grant mirrors.
        if self.membership.ring().member(owner).is_some() {
            self.mirrors.resets.lock().insert(owner.clone(), Instant::now());
        }
        self.gate.clear_mirrors_of(owner);
        tracing::debug!(node = %self.id, %owner, "all mirrors of a node's keys ended");
    }

    /// Has all others end the mirrors that a process before this one has granted, if there can be any.
    pub(crate) async fn end_inherited_mirrors(self: Arc<Self>) {
        if !*self.mirrors.inherited.borrow() {
            return;
        }
        let ring = self.membership.ring();
        let others = ring.members().iter().filter(|member| member.id != self.id);
        let told = future::join_all(others.map(async |member| {
            while let Err(error) = self.peers.unmirror_all(member, &self.id, CALL).await {
                tracing::debug!(node = %self.id, member = %member.id, %error, "mirrors of an earlier process not ended yet");
                sleep(RETRY).await;
            }
        }));
        let ended = timeout_at(self.mirrors.inherits_until, told);
        if self.stop.run_until_cancelled(ended).await.is_none() {
            return;
        }
        self.mirrors.inherited.send_replace(false);
    }

    /// Waits until no other node serves any of these keys from a mirror that it got before. To be called after what removes them here has
    /// taken effect, and before that is acknowledged.
    pub(crate) async fn end_mirrors(&self, of: Of<'_>, origin: &str) {
        if !stands_in() {
            return;
        }
        if *self.mirrors.inherited.borrow() {
            // What the process before this one has granted, nobody knows. The sender lives as long as `self`.
            let mut inherited = self.mirrors.inherited.subscribe();
            let _ = timeout_at(self.mirrors.inherits_until, inherited.wait_for(|inherited| !inherited)).await;
        }
        if self.config.mirror_lease.is_zero() {
            return;
        }
        let now = Instant::now();
        let ring = self.current_ring();
        let due = self.mirrors.grants.due(of, now);
        if !due.is_empty() {
            self.mirrors.end(due, &ring, origin).await;
        }
    }

    /// The same for the keys of all slots that this node does not hold any more.
    pub(crate) async fn end_lost_mirrors(&self) {
        let lost = |slot| self.slots.acquisition(slot).is_none();
        self.end_mirrors(Of::Slots(&lost), "slot lost").await;
    }
}

/// Whether owners stand in for their mirrors. Always, but in a test that has taken the rule out.
fn stands_in() -> bool {
    rules::holds(Rule::Mirrors)
}
