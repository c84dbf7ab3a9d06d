//! Removals and flushes: from the sync service for this node, from applications for all nodes.

use std::{collections::BTreeSet, sync::Arc};

use daemon::Paced;
use futures_util::future;
use ring::{Epoch, Member, Ring};
use tokio::time::{Instant, timeout};
use wire::{Ack, Apply};

use crate::{
    error::Error,
    mirror::Of,
    node::{Hop, Node},
};

/// How often a removal is spread anew since others go by a newer ring.
const RINGS: usize = 8;

/// Whether others are to have the thread before the name at `index`: a request may have many.
fn is_to_breathe(index: usize) -> bool {
    index % 1024 == 1023
}

impl Node {
    /// Applies what the sync service sends. When this returns, all of it holds on this node, at the epoch it says.
    ///
    /// Removals are applied whether or not this node holds their slots: it may get them, or still have their values.
    /// Safe to drop: what has been applied stays so, and applying again is harmless.
    pub async fn apply(&self, request: &Apply) -> Result<Ack, Error> {
        let begun = Instant::now();
        self.catch_up(request.epoch).await?;
        let origin = Arc::from(request.origin.as_str());
        self.flush_known(&request.flush, &origin);
        self.remove_tags_here(&request.remove_tags, &origin).await;
        let removed = self.remove_here(&request.remove, &origin).await;
        self.end_mirrors_of(&request.remove, &request.flush, &request.origin).await;
        if let Some(watermarks) = &request.watermarks {
            self.watermarks.note(watermarks);
        }
        self.metrics.apply_seconds.observe(begun.elapsed().as_secs_f64());
        tracing::debug!(
            node = %self.id, removes = request.remove.len(), removed, tags = request.remove_tags.len(), flushes = request.flush.len(),
            origin = request.origin, "applied"
        );
        Ok(Ack {
            node: self.id.clone(),
            incarnation: self.life.registration().incarnation(),
            // Read after all is applied: if the ring changed meanwhile, the sender must plan again.
            epoch: self.slots.epoch(),
            confirmed_epoch: self.slots.confirmed(),
            removed,
            clock: Some(self.watermarks.clock()),
        })
    }

    /// Removes keys here and, at the first hop, on every other live node. Returns how many entries that were.
    ///
    /// # Errors
    ///
    /// [`Error::Unacknowledged`] names the nodes that did not acknowledge; the others have applied it.
    pub async fn remove(&self, keys: &[String], hop: Hop) -> Result<u64, Error> {
        self.check_count(keys.len())?;
        if hop == Hop::Forwarded {
            // A forwarding node has checked them, by its own catalog.
            let removed = self.remove_here(keys, &Arc::from("request")).await;
            self.end_mirrors_of(keys, &[], "request").await;
            return Ok(removed);
        }
        let resolved: Vec<_> = keys.iter().map(|key| self.resolve(key)).collect::<Result<_, _>>()?;
        let (plain, others): (Vec<_>, Vec<_>) = resolved.into_iter().partition(|key| key.group.is_plain());
        if plain.is_empty() {
            return self.remove_everywhere(keys).await;
        }
        let others: Vec<String> = others.iter().map(|key| key.text.to_string()).collect();
        let removed = if others.is_empty() { 0 } else { self.remove_everywhere(&others).await? };
        Ok(removed + self.remove_plain(&plain).await?)
    }

    /// Removes keys from all nodes. Those of plain groups are removed in the order of their writes instead (`plain`).
    async fn remove_everywhere(&self, keys: &[String]) -> Result<u64, Error> {
        let removed = self.remove_here(keys, &Arc::from("request")).await;
        self.end_mirrors_of(keys, &[], "request").await;
        let remove = |member: Member| async move { self.peers.remove(&member, keys).await };
        let others = self.spread(remove).await?;
        for _ in 0..self.more_rounds() {
            self.remove_here(keys, &Arc::from("request")).await;
            self.end_mirrors_of(keys, &[], "request").await;
            self.spread(remove).await?;
        }
        Ok(removed + others.into_iter().sum::<u64>())
    }

    /// Removes tags here and, at the first hop, on every other live node.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTag`] before anything is removed; [`Error::Unacknowledged`] as for [`remove`](Self::remove).
    pub async fn remove_tags(&self, tags: &[String], hop: Hop) -> Result<(), Error> {
        self.check_count(tags.len())?;
        if hop == Hop::First
            && let Some(unknown) = tags.iter().find(|tag| self.catalog.carriers(tag).is_empty())
        {
            let known: Vec<_> = self.catalog.tags().map(ToString::to_string).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Error::UnknownTag { unknown: unknown.clone(), known });
        }
        let origin = Arc::from("request");
        self.remove_tags_here(tags, &origin).await;
        if hop == Hop::First {
            let remove = |member: Member| async move {
                self.peers.remove_tags(&member, tags).await.map(|epoch| ((), epoch))
            };
            self.spread(remove).await?;
            for _ in 0..self.more_rounds() {
                self.remove_tags_here(tags, &origin).await;
                self.spread(remove).await?;
            }
        }
        Ok(())
    }

    /// Flushes groups, all if none is named, here and, at the first hop, on every other live node.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`] before anything is flushed; [`Error::Unacknowledged`] as for [`remove`](Self::remove).
    pub async fn flush(&self, groups: &[String], hop: Hop) -> Result<(), Error> {
        if hop == Hop::First {
            self.check_groups(groups)?;
        }
        let all: Vec<String>;
        let groups = if groups.is_empty() {
            all = self.all_groups();
            &all
        } else {
            groups
        };
        self.flush_known(groups, &Arc::from("request"));
        self.end_mirrors_of(&[], groups, "request").await;
        if hop == Hop::First {
            let flush = |member: Member| async move {
                self.peers.flush(&member, groups).await.map(|epoch| ((), epoch))
            };
            self.spread(flush).await?;
            for _ in 0..self.more_rounds() {
                self.flush_known(groups, &Arc::from("request"));
                self.end_mirrors_of(&[], groups, "request").await;
                self.spread(flush).await?;
            }
        }
        Ok(())
    }

    /// The names of all groups, as a request names them.
    pub(crate) fn all_groups(&self) -> Vec<String> {
        self.catalog.groups().iter().map(|group| group.name.to_string()).collect()
    }

    /// How often everybody is asked once more, after all have applied: once for each step that a value can travel.
    ///
    /// *The owner applies a removal; it pulls the old value from the departing holder, which has not applied it yet; all have
    /// acknowledged, and the owner has the old value.* The sync service goes in phases (R4); a request does not know who has
    /// confirmed which epoch, and goes to all again.
    pub(crate) fn more_rounds(&self) -> usize {
        let ring = self.current_ring();
        if ring.members().len() < 2 { 0 } else { ring.replicas().min(2) }
    }

    /// Removes keys from this node.
    async fn remove_here(&self, keys: &[String], origin: &Arc<str>) -> u64 {
        let mut removed = 0;
        for (index, key) in keys.iter().enumerate() {
            if is_to_breathe(index) {
                tokio::task::yield_now().await;
            }
            // First the log, then the sharing: a fill that begins in between knows of the removal, and is detached
            // without need; one that began before is detached (R3).
            let found = self.gate.remove(key, origin);
            removed += u64::from(found);
            self.fills.detach(key);
            // After both: who reads the key from here on does not get the old value.
            self.resp.removed(key);
            if found {
                self.reload(key);
            }
        }
        self.metrics.removes.inc_by(keys.len() as u64);
        self.metrics.removes_hit.inc_by(removed);
        removed
    }

    /// Removes tags from this node: the one place where that happens. What carries them is not looked for; it is never served again,
    /// and swept out later. A tag that no group of this node's catalog has is one that no entry here carries.
    async fn remove_tags_here(&self, tags: &[String], origin: &Arc<str>) {
        let mut carriers = BTreeSet::new();
        for (index, tag) in tags.iter().enumerate() {
            if is_to_breathe(index) {
                self.tell_carriers(&mut carriers); // this may be dropped while it waits
                tokio::task::yield_now().await;
            }
            let groups: Vec<u16> = self.catalog.carriers(tag).into_iter().map(|group| group.0).collect();
            if groups.is_empty() {
                tracing::debug!(node = %self.id, tag, "asked to remove a tag that no group of the catalog has");
            } else {
                self.gate.remove_tag(tag, &groups, origin);
                carriers.extend(groups);
            }
        }
        self.tell_carriers(&mut carriers);
        self.metrics.tag_removes.inc_by(tags.len() as u64);
    }

    /// Whose entries carry a tag is not known: Redis clients that hold entries of its groups are told to drop them, once for many tags.
    fn tell_carriers(&self, groups: &mut BTreeSet<u16>) {
        for group in std::mem::take(groups) {
            self.resp.invalidated_group(group);
        }
    }

    /// Waits until no other node serves these keys, or keys of these groups, from a mirror, so that what is acknowledged holds there too.
    /// What has tags is in no mirror.
    async fn end_mirrors_of(&self, keys: &[String], groups: &[String], origin: &str) {
        if !keys.is_empty() {
            self.end_mirrors(Of::Keys(keys), origin).await;
        }
        if !groups.is_empty() {
            let numbers: Vec<u16> =
                groups.iter().filter_map(|name| self.catalog.group(name)).map(|group| group.id.0).collect();
            self.end_mirrors(Of::Groups(&numbers), origin).await;
        }
    }

    /// Flushes the groups that this node's catalog has; of others it can hold nothing.
    pub(crate) fn flush_known(&self, names: &[String], origin: &Arc<str>) {
        let mut flushed = BTreeSet::new();
        for name in names {
            if let Some(group) = self.catalog.group(name) {
                if !flushed.insert(group.id) {
                    continue; // named before
                }
                self.gate.flush(group.id.0);
                self.resp.invalidated_group(group.id.0);
                self.gate.recorder().flushed(group.id.0, origin);
                self.metrics.flushes.inc();
                let told = self.told_flushes.get(usize::from(group.id.0)).and_then(Paced::due);
                if let Some(untold) = told {
                    tracing::info!(node = %self.id, untold, group = %group.name, "flushed");
                } else {
                    tracing::debug!(node = %self.id, group = %group.name, "flushed");
                }
            } else {
                self.metrics.unknown_groups.inc();
                if let Some(untold) = self.told_unknown.due() {
                    let name: String = name.chars().take(100).collect();
                    tracing::warn!(
                        node = %self.id, group = name, untold, "asked to flush a group that the catalog does not have"
                    );
                }
            }
        }
    }

    /// Calls every other live node at once; all must answer in time, each with the epoch by which it goes after that.
    ///
    /// *This node goes by an old ring. A node that it does not know of has taken a value from one that it knows, which applies the removal.* Who
    /// has given anything by a newer ring goes by that ring, and says so; then all members of it are called.
    async fn spread<T, F>(&self, call: impl Fn(Member) -> F) -> Result<Vec<T>, Error>
    where
        F: Future<Output = Result<(T, Epoch), client::Error>>,
    {
        let mut answers = Vec::new();
        for _ in 0..RINGS {
            let ring = self.current_ring();
            let mut newest = ring.epoch();
            for (answer, epoch) in self.spread_by(&ring, &call).await? {
                answers.push(answer);
                newest = newest.max(epoch);
            }
            if newest == ring.epoch() {
                return Ok(answers);
            }
            self.catch_up(newest).await?;
        }
        Err(Error::Unacknowledged { nodes: vec!["others (the ring keeps changing)".to_owned()] })
    }

    async fn spread_by<T, F>(&self, ring: &Ring, call: impl Fn(Member) -> F) -> Result<Vec<T>, Error>
    where
        F: Future<Output = Result<T, client::Error>>,
    {
        let calls = ring.members().iter().filter(|member| member.id != self.id).map(|member| {
            let answer = timeout(self.config.spread, call(member.clone()));
            async move {
                match answer.await {
                    Ok(Ok(answer)) => Ok(answer),
                    Ok(Err(error)) => Err(format!("{} ({error})", member.id)),
                    Err(_) => Err(format!("{} (no answer within {:?})", member.id, self.config.spread)),
                }
            }
        });
        let (mut answers, mut nodes) = (Vec::new(), Vec::new());
        for result in future::join_all(calls).await {
            match result {
                Ok(answer) => answers.push(answer),
                Err(node) => nodes.push(node),
            }
        }
        if nodes.is_empty() { Ok(answers) } else { Err(Error::Unacknowledged { nodes }) }
    }
}
