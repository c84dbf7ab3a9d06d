//! Reads: GET, MGET, GETEX, EXISTS, TYPE and TTL, through the node, tracked.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use catalog::Key;
use memory::{
    place::Place,
    store::{Keep, LENT, Show},
    watermarks::Fresh,
};
use tokio::time::Instant;
use wire::ReadOptions;

use super::{
    codec::Arguments,
    error,
    ops::{Found, Shape, Values, too_large},
    session::Session,
};
use crate::{
    answers::Glance,
    error::Error,
    node::{Node, place, strictest},
};

/// One key that is not in memory, on its way.
pub(super) struct Read {
    pub(super) key: Key,
    pub(super) options: ReadOptions,
    pub(super) tracked: Tracked,
    /// Whether its value is a part of the reply.
    pub(super) shown: bool,
}

/// What came of registering a key before it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registered {
    /// Nobody is to be.
    Unwanted,
    /// It was not before: if nothing is found, it is to be withdrawn.
    New,
    /// It was already, of an earlier read whose value the client may hold.
    Before,
    /// It can't be: another node holds the key, and nobody tells this one of its removal. What is found all the same, because the slot came
    /// meanwhile, is not to be served by this look.
    Away,
}

/// Whether the client is to be told when a value that it reads becomes invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracked {
    No,
    /// Of this key: it is in the table.
    Key,
    /// Of all removals.
    Broadcast,
}

impl Session {
    pub(super) fn get(&mut self, arguments: Arguments<'_>) {
        self.read(Shape::Get, arguments);
    }

    pub(super) fn get_ex(&mut self, arguments: Arguments<'_>) {
        if arguments.len() > 2 {
            return self.in_turn_error(
                "ERR GETEX takes no options here: use GET, and EXPIRE for a key of a plain group".to_owned(),
            );
        }
        self.read(Shape::Get, arguments);
    }

    pub(super) fn mget(&mut self, arguments: Arguments<'_>) {
        self.read(Shape::MGet, arguments);
    }

    pub(super) fn exists(&mut self, arguments: Arguments<'_>) {
        self.read(Shape::Exists, arguments);
    }

    pub(super) fn strlen(&mut self, arguments: Arguments<'_>) {
        self.read(Shape::StrLen, arguments);
    }

    pub(super) fn type_of(&mut self, arguments: Arguments<'_>) {
        self.read(Shape::Type, arguments);
    }

    /// Milliseconds or seconds until an entry expires: of what is in memory here; nothing is filled.
    pub(super) fn ttl(&mut self, arguments: Arguments<'_>, unit: u64) {
        let Some(key) = self.one_key(arguments) else { return };
        let place = place(&key);
        let tracked = self.tracked();
        let registered = self.register(&key, place, tracked);
        let (incarnation, now) = (self.node.life.incarnation(), Instant::now());
        let entry = self.node.gate.peek(place, &key.text, now);
        if let Some(entry) = entry.filter(|entry| {
            entry.value.is_some() && registered != Registered::Away && self.node.life.vouches_for(incarnation)
        }) {
            if tracked == Tracked::Key {
                self.node.resp.tracking.hold_until(&key.text, place, entry.expires);
            }
            let left = entry.expires.saturating_duration_since(now).as_millis() as u64;
            self.reply.integer(i64::try_from((left + unit / 2) / unit).unwrap_or(i64::MAX));
        } else {
            self.reply.integer(-2);
            if tracked == Tracked::Key && self.executes.is_some() {
                // Its value may come with the next command, and be kept. *A client holds an older reply of this key: it stays registered.*
                if registered == Registered::New {
                    self.node.resp.tracking.withdraw(&key.text, place, self.client.id);
                }
                self.without_value.push((key.text.clone(), place));
            } else if tracked != Tracked::No {
                self.not_kept(&[(key.text.clone(), place)]);
            }
        }
    }

    /// Reads keys: answers at once if all are in memory and nothing waits before it.
    fn read(&mut self, shape: Shape, arguments: Arguments<'_>) {
        let limit = self.node.config.max_keys;
        if arguments.len() - 1 > limit {
            let error = Error::TooManyKeys { count: arguments.len() - 1, limit };
            return self.in_turn_error(error::text(&error));
        }
        let (waiting, written) = (self.under_way.len(), self.reply.bytes.len());
        let mut found = Vec::with_capacity(arguments.len() - 1);
        let glance = self.node.glance();
        let mut looked = self.look_up(shape, arguments, Some(glance), &mut found);
        if looked.is_ok() && found.iter().any(|found| found.fresh().is_some()) && !self.node.vouches(glance) {
            self.under_way.truncate(waiting);
            self.reply.bytes.truncate(written);
            found.clear();
            looked = self.look_up(shape, arguments, None, &mut found);
        }
        if self.reply.is_too_large() {
            return self.under_way.truncate(waiting);
        }
        if let Err(error) = looked {
            self.under_way.truncate(waiting);
            self.reply.bytes.truncate(written);
            return self.in_turn_error(error);
        }
        for fresh in found.iter().filter_map(Found::fresh) {
            self.node.count_hit(fresh);
        }
        if !self.ops.is_empty() || self.under_way.len() > waiting {
            let reads = waiting..self.under_way.len();
            let command = self.now.unwrap_or_default();
            self.wait(Values { shape, tracked: self.tracked(), command, found, reads });
        } else if !matches!(found.last(), Some(Found::Written(..))) {
            self.write(shape, &found, &[]);
        }
    }

    /// Looks for keys in memory, if there is a look, and puts those on their way that are not found; what is found is to be vouched for.
    ///
    /// Values go straight into the reply as long as all keys are found and nothing waits before them.
    fn look_up(
        &mut self,
        shape: Shape,
        arguments: Arguments<'_>,
        glance: Option<Glance>,
        found: &mut Vec<Found>,
    ) -> Result<(), String> {
        let tracked = self.tracked();
        if arguments.len() > 2 {
            self.check_slots(arguments)?;
        }
        let begun = self.reply.bytes.len();
        let mut at_once =
            glance.is_some() && self.ops.is_empty() && matches!(shape, Shape::Get | Shape::MGet);
        if at_once && shape == Shape::MGet {
            self.reply.array(arguments.len() - 1);
        }
        // Keys that are named more than once are read once.
        let mut named: HashMap<Arc<str>, usize> = HashMap::new();
        let (limit, mut held) = (self.output_limit(), 0);
        for text in arguments.from(1) {
            let key = self.node.key_of(text)?;
            let place = place(&key);
            // Before the look: a removal after it finds the registration. See `tracking`.
            let registered = self.register(&key, place, tracked);
            let before = self.reply.bytes.len();
            let glance = glance.filter(|_| registered != Registered::Away);
            let fresh = glance.and_then(|glance| self.look(glance, &key, place, at_once));
            #[cfg(test)]
            super::interleavings::point();
            if let Some(fresh) = fresh {
                if tracked == Tracked::Key {
                    self.node.resp.tracking.hold_until(&key.text, place, until(&key, &fresh));
                }
                found.push(if at_once {
                    Found::Written(key, fresh, before - begun..self.reply.bytes.len() - begun)
                } else {
                    Found::Here(key, fresh)
                });
                held += found.last().map_or(0, Found::len);
                if self.reply.is_too_large() || held > limit {
                    return Err(too_large(limit));
                }
                continue;
            }
            if registered == Registered::New {
                // What the read will find is registered when its reply is written.
                self.node.resp.tracking.withdraw(&key.text, place, self.client.id);
            }
            if at_once {
                self.reply.bytes.truncate(before);
                self.take_back(begun, found);
                at_once = false;
            }
            if let Some(at) = named.get(&key.text) {
                found.push(Found::Waits(*at));
                continue;
            }
            self.route(&key)?;
            found.push(Found::Waits(self.under_way.len()));
            if arguments.len() > 2 {
                named.insert(key.text.clone(), self.under_way.len());
            }
            let options = ReadOptions { look_aside: key.group.is_look_aside(), ..ReadOptions::default() };
            let shown = matches!(shape, Shape::Get | Shape::MGet | Shape::StrLen);
            self.under_way.push(Read { key, options, tracked, shown });
        }
        Ok(())
    }

    /// Looks for one key in memory, and writes its value as a reply if that is wanted.
    fn look(&mut self, glance: Glance, key: &Key, place: Place, write: bool) -> Option<Fresh> {
        let bound = strictest(key, ReadOptions::default());
        if !write {
            return self.node.look(glance, key, place, bound, &mut Keep);
        }
        let reply = &mut self.reply;
        // What is lent is written under a lock, where the reply should not have to grow.
        reply.bytes.reserve(LENT + 32);
        let fresh = self.node.look(glance, key, place, bound, &mut Show(|value: &[u8]| reply.bulk(value)))?;
        if fresh.entry.value.is_none() {
            self.reply.null();
        }
        Some(fresh)
    }

    /// Whether what this command reads is tracked.
    fn tracked(&self) -> Tracked {
        match &self.track {
            None => Tracked::No,
            Some(track) if track.broadcast => Tracked::Broadcast,
            Some(track) if track.opt_in && self.caching != Some(true) => Tracked::No,
            Some(track) if track.opt_out && self.caching == Some(false) => Tracked::No,
            Some(_) => Tracked::Key,
        }
    }

    /// Registers a key for this client, if it is to be.
    fn register(&self, key: &Key, place: Place, tracked: Tracked) -> Registered {
        let resp = &self.node.resp;
        if tracked != Tracked::Key {
            Registered::Unwanted
        } else if !self.node.holds(place) {
            Registered::Away
        } else {
            let new = resp.tracking.register(resp.post(), &key.text, place, self.client.id);
            #[cfg(test)]
            super::interleavings::point();
            if new { Registered::New } else { Registered::Before }
        }
    }

    /// Whether this node keeps the very value that is being written as a reply, and so will be told of its removal. Registers the key first.
    ///
    /// To be asked at the moment of writing: whatever ends the value from here on is told after the reply.
    pub(super) fn keeps(&self, key: &Key, tracked: Tracked, value: Option<&Bytes>) -> bool {
        let place = place(key);
        if self.register(key, place, tracked) == Registered::Away {
            return false;
        }
        let node = &self.node;
        let (incarnation, lowest) = (node.life.incarnation(), node.watermarks.lowest());
        let Some(entry) = node.gate.peek(place, &key.text, Instant::now()) else { return false };
        #[cfg(test)]
        super::interleavings::point();
        if entry.value.as_ref() != value || !node.life.vouches_for(incarnation) {
            return false;
        }
        if tracked == Tracked::Key {
            node.resp.tracking.hold_until(&key.text, place, until(key, &Fresh::new(entry, lowest)));
        }
        true
    }

    /// Has the client told that it is not to keep what it was answered of these keys.
    pub(super) fn not_kept(&self, keys: &[(Arc<str>, Place)]) {
        let resp = &self.node.resp;
        resp.tracking.not_kept(resp.post(), &self.client, keys);
    }
}

impl Node {
    /// Parses a key, or says what is wrong with it.
    pub(super) fn key_of(&self, bytes: &[u8]) -> Result<Key, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "ERR a key is text in UTF-8".to_owned())?;
        self.resolve(text).map_err(|error| error::text(&error))
    }
}

/// Until when a client may hold an entry at most: until it expires, or could be older than its group allows.
fn until(key: &Key, fresh: &Fresh) -> Instant {
    let expires = fresh.entry.expires;
    let stale = key.group.max_staleness.and_then(|bound| fresh.as_of.checked_add(bound));
    stale.map_or(expires, |stale| stale.min(expires))
}
