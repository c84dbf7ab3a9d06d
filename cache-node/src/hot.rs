//! The keys that are read most, and what a node does for them: it knows them (`freshline hot`), fills them again ahead of their end,
//! and mirrors those of other nodes ([`mirror`](crate::mirror)).
//!
//! One read of [`hot_sample`](crate::Config::hot_sample) is counted, in a [`Sketch`] of a few hundred counters; a read that is not costs a
//! count down in its thread. A key is *hot* from the moment on at which it is certain to be read more than
//! [`hot_rate`](crate::Config::hot_rate) times a second, over the last few seconds, until it is read less than half as often; at most
//! [`hot_keys`](crate::Config::hot_keys) are hot at a time. Keys are in no metric: their number has no bound.

mod background;
mod metrics;
mod sampler;
mod sketch;

use std::{collections::HashSet, time::Duration};

use catalog::{Catalog, Key};
use futures_util::future;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, timeout};
use wire::{HotKey, HotKeys, Merged};

pub(crate) use self::{background::Background, sketch::Read};
use self::{metrics::HotMetrics, sketch::Sketch};
use memory::{place::Place, store::Entry};

use crate::{config::Config, node::Node};

/// How often counts fade.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// What a count keeps of itself at each: half in five seconds.
const KEPT: f32 = 0.870_55;
/// Keys that are told of, if nobody says how many.
pub(crate) const TOP: u32 = 20;

/// What one node knows about its hot keys.
#[derive(Debug)]
pub(crate) struct Hot {
    sketch: Sketch,
    /// Hashes of the keys that are hot. Guards nothing else.
    known: RwLock<HashSet<u64>>,
    every: u32,
    most: usize,
    /// Counted reads from which on a key is hot.
    threshold: f32,
    /// By group: the last share of a TTL in which a hot key is filled again.
    ahead: Box<[f64]>,
    pub(crate) metrics: HotMetrics,
    started: Instant,
}

impl Hot {
    pub(crate) fn new(config: &Config, catalog: &Catalog, registry: &mut Registry) -> Self {
        let every = config.hot_sample.max(1);
        // A key that comes steadily has this many times its reads per tick in its counter, once it has been read for a while.
        let memory = 1.0 / (1.0 - f64::from(KEPT));
        let share = |group: &std::sync::Arc<catalog::Group>| {
            let share = group.refresh_ahead.unwrap_or(config.refresh_ahead);
            if group.is_filled() { share } else { 0.0 }
        };
        Self {
            sketch: Sketch::new(),
            known: RwLock::default(),
            every,
            most: config.hot_keys,
            threshold: (config.hot_rate * memory / f64::from(every)) as f32,
            ahead: catalog.groups().iter().map(share).collect(),
            metrics: HotMetrics::register(registry, catalog),
            started: Instant::now(),
        }
    }

    /// Takes note of a read, if it is one that is counted.
    #[inline]
    pub(crate) fn read(&self, place: Place, key: &Key, read: Read) {
        if self.most > 0 && sampler::takes(self.every) {
            self.count(place, key, read);
        }
    }

    fn count(&self, place: Place, key: &Key, read: Read) {
        let Some(certain) = self.sketch.count(place.hash, &key.text, place.group, read) else { return };
        let known = self.is_hot(place.hash);
        if known && read == Read::Answered {
            self.metrics.hot_read(place.group, self.every.into());
        }
        if !known && certain >= self.threshold {
            let mut hot = self.known.write();
            if hot.len() < self.most {
                hot.insert(place.hash);
            }
        }
    }

    /// Whether a key is hot.
    pub(crate) fn is_hot(&self, hash: u64) -> bool {
        self.known.read().contains(&hash)
    }

    /// Lets counts fade, and says anew which keys are hot.
    pub(crate) fn tick(&self) {
        self.sketch.fade(KEPT);
        let (counters, answered) = self.sketch.counters();
        let mut hot = self.known.write();
        let stays = |counter: &&sketch::Counter| {
            let wanted = if hot.contains(&counter.hash) { self.threshold / 2.0 } else { self.threshold };
            counter.at_least() >= wanted
        };
        let next: Vec<&sketch::Counter> = counters.iter().filter(stays).take(self.most).collect();
        let of_hot = next.iter().fold(0.0, |sum, counter| sum + f64::from(counter.answered));
        let next = next.into_iter().map(|counter| counter.hash).collect::<HashSet<u64>>();
        self.metrics.publish(next.len(), if answered > 0.0 { of_hot / answered } else { 0.0 });
        *hot = next;
    }

    /// Whether an entry that is served now is so near its end that it is to be filled again, and hot.
    pub(crate) fn is_due(&self, place: Place, entry: &Entry, now: Instant) -> bool {
        let share = self.ahead.get(usize::from(place.group)).copied().unwrap_or_default();
        if share <= 0.0 || entry.value.is_none() {
            return false;
        }
        let ttl = entry.expires.saturating_duration_since(entry.filled);
        entry.expires.saturating_duration_since(now) < ttl.mul_f64(share.min(1.0)) && self.is_hot(place.hash)
    }

    /// Reads per second that a count stands for.
    fn rate(&self, count: f64) -> f64 {
        let ticks = self.started.elapsed().as_secs_f64().max(1.0);
        // Of a steady rate a count has only so much before it has been counted for long.
        let reached = 1.0 - f64::from(KEPT).powf(ticks);
        count * f64::from(self.every) * (1.0 - f64::from(KEPT)) / reached.max(0.01)
    }
}

impl Node {
    /// The keys that this node is asked for most, and how many reads per second; 0 asks for some.
    pub fn hot(&self, top: usize) -> HotKeys {
        let top = if top == 0 { TOP as usize } else { top };
        let (counters, answered) = self.hot.sketch.counters();
        let now = self.life.registration().moment();
        let keys = counters.iter().take(top).map(|counter| {
            let rate = |count: f32| self.hot.rate(f64::from(count));
            let group = self.catalog.groups().get(usize::from(counter.group));
            HotKey {
                key: counter.key.to_string(),
                group: group.map_or_else(String::new, |group| group.name.to_string()),
                reads: rate(counter.answered),
                forwarded: rate(counter.forwarded),
                error: rate(counter.error),
                hot: self.hot.is_hot(counter.hash),
                mirrored: self.gate.has_mirror(&counter.key, now),
                mirrors: u32::try_from(self.mirrors.grants.count(&counter.key, Instant::now()))
                    .unwrap_or(u32::MAX),
            }
        });
        HotKeys {
            node: self.id.to_string(),
            epoch: self.epoch().0,
            reads: self.hot.rate(answered),
            keys: keys.collect(),
        }
    }

    /// The keys that are read most, over all nodes or on one of them; `None` if there is no such node.
    pub async fn hot_everywhere(&self, of: Option<&str>, top: usize) -> Option<Merged> {
        let ring = self.current_ring();
        let wanted: Vec<&ring::Member> =
            ring.members().iter().filter(|member| of.is_none_or(|of| member.id.as_str() == of)).collect();
        if wanted.is_empty() && of.is_some_and(|of| of != self.id.as_str()) {
            return None;
        }
        let of_each = Merged::of_each(top);
        let others = wanted.into_iter().filter(|member| member.id != self.id).map(async |member| {
            let asked = timeout(self.config.spread, self.peers.hot(member, of_each)).await;
            let late = |_| client::Error::Unavailable {
                node: member.id.to_string(),
                reason: format!("no answer within {:?}", self.config.spread),
            };
            (member.id.to_string(), asked.map_err(late).flatten())
        });
        let mut answers = future::join_all(others).await;
        if of.is_none_or(|of| of == self.id.as_str()) {
            answers.push((self.id.to_string(), Ok(self.hot(of_each))));
        }
        Some(Merged::of(answers, top))
    }

    /// A task of its own; ends with the node.
    pub(crate) async fn count_hot_keys(self: std::sync::Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.hot.tick();
            self.mirrors.tidy();
        }
    }
}

#[cfg(test)]
mod tests;
