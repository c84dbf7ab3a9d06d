//! All that a node knows about one key, for whoever wonders why it was answered as it was.

use std::time::Duration;

use client::History;
use futures_util::future;
use memory::{
    place::Place,
    recorder::{Happened, REMOVED},
    watermarks::Fresh,
};
use ring::slot_of;
use tokio::time::{Instant, timeout};
use wire::{EntryState, Event, Explanation, Removal};

use crate::{
    error::Error,
    node::{Hop, Node, place},
};

/// Most events that are told of one key.
const EVENTS: usize = 200;

impl Node {
    /// Explains a key: by its owner, if that can be reached, else by this node. The reply names the node it is of.
    pub async fn explain(&self, key: &str, hop: Hop) -> Result<Explanation, Error> {
        let key = self.resolve(key)?;
        let ring = self.current_ring();
        if hop == Hop::First
            && let Some(owner) = self.owner_elsewhere(&ring, &key)
        {
            match self.peers.explain(owner, &key.text).await {
                Ok(explained) => return Ok(explained),
                Err(error) => {
                    tracing::debug!(node = %self.id, owner = %owner.id, %error, "owner not reached, explaining here");
                }
            }
        }
        let (slot, place, now) = (slot_of(&key.text), place(&key), Instant::now());
        let mut holders = ring.holders(slot).map(|member| member.id.to_string());
        self.gate.settle(place.hash, &key.text);
        let lowest = self.watermarks.lowest(); // before the entry is read, see `watermarks`
        let entry = self.gate.peek(place, &key.text, now);
        let state = match &entry {
            None => EntryState::Absent,
            Some(entry) if entry.value.is_some() => EntryState::Value,
            Some(_) => EntryState::Negative,
        };
        let as_of = entry.clone().map(|entry| Fresh::new(entry, lowest).as_of);
        Ok(Explanation {
            key: key.text.to_string(),
            group: key.group.name.to_string(),
            slot: slot.get(),
            owner: holders.next().unwrap_or_default(),
            replicas: holders.collect(),
            epoch: self.epoch().0,
            node: self.id.to_string(),
            holds: self.holds(place),
            entry: state,
            age: entry.as_ref().map(|entry| now.saturating_duration_since(entry.filled)),
            ttl: entry.as_ref().map(|entry| entry.expires.saturating_duration_since(now)),
            size: entry.and_then(|entry| entry.value).map_or(0, |value| value.len() as u64),
            last_removal: self.gate.last_removal(place).map(|(at, origin)| Removal {
                age: now.saturating_duration_since(at),
                origin: origin.to_string(),
            }),
            fill_in_flight: self.fills.in_flight(&key.text),
            query: key.group.query.as_ref().map_or("", catalog::Query::text).to_owned(),
            events: self.events(place, now),
            // What is not in memory is read from the database.
            freshness: as_of.map_or(Duration::ZERO, |as_of| now.saturating_duration_since(as_of)),
        })
    }

    /// Asks all live nodes, this one among them, and puts together what they say.
    pub async fn history(&self, key: &str) -> Result<History, Error> {
        let here = self.explain(key, Hop::Forwarded).await?;
        let ring = self.current_ring();
        let others = ring.members().iter().filter(|member| member.id != self.id).map(async |member| {
            let asked = timeout(self.config.spread, self.peers.explain(member, key)).await;
            let late = |_| client::Error::Unavailable {
                node: member.id.to_string(),
                reason: format!("no answer within {:?}", self.config.spread),
            };
            (member.id.to_string(), asked.map_err(late).flatten())
        });
        let mut answers = future::join_all(others).await;
        answers.push((self.id.to_string(), Ok(here)));
        History::of(answers)
            .map_err(|error| Error::Peer { node: self.id.to_string(), error: Box::new(error) })
    }

    /// What this node remembers of a key, newest first: the recorder's events, and the removals in the gate's log that
    /// took nothing, which the recorder does not note.
    fn events(&self, place: Place, now: Instant) -> Vec<Event> {
        let mut events = self.gate.recorder().of(place);
        for (at, origin) in self.gate.removals(place) {
            if !events.iter().any(|event| event.what == REMOVED && event.at == at) {
                events.push(Happened { at, what: REMOVED, detail: format!("{origin}, was not in memory") });
            }
        }
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        events.truncate(EVENTS);
        let told = |event: Happened| Event {
            age: now.saturating_duration_since(event.at),
            what: event.what.to_owned(),
            detail: event.detail,
        };
        events.into_iter().map(told).collect()
    }
}
