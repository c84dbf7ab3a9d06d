//! Reads: GET, MGET, GETEX, EXISTS, TYPE and TTL, through the node, tracked.

use bytes::Bytes;
use catalog::Key;
use client::{Answer, ReadOptions};
use ring::slot_of;
use tokio::time::Instant;

use super::{
    codec::Arguments,
    error,
    session::{Session, Silence},
};
use crate::{
    error::Error,
    gate::Place,
    memory::Glance,
    node::{Node, place, strictest},
    watermarks::Fresh,
};

/// One key that is not in memory, on its way.
pub(super) struct Read {
    pub(super) key: Key,
    pub(super) options: ReadOptions,
    tracked: Tracked,
}

/// Whether the client is to be told when a value that it reads becomes invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tracked {
    No,
    /// Of this key: it is in the table.
    Key,
    /// Of all removals.
    Broadcast,
}

/// What becomes of a read's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Get,
    MGet,
    Exists,
    Type,
}

/// An operation whose reply waits, or waits for its turn.
pub(super) enum Op {
    Values(Shape, Vec<Found>),
    Error(String),
}

/// One value of an operation.
#[derive(Debug)]
pub(super) enum Found {
    /// In memory.
    Here(Fresh),
    /// The read at this place of those under way.
    Waits(usize),
}

impl Found {
    fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }
}

impl Session {
    pub(super) fn get(&mut self, arguments: Arguments<'_>) {
        self.read(Shape::Get, arguments);
    }

    pub(super) fn get_ex(&mut self, arguments: Arguments<'_>) {
        if arguments.len() > 2 {
            return self.in_turn_error(
                "ERR a key's TTL is its group's and can't be changed: GETEX takes no options here, use GET"
                    .to_owned(),
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

    pub(super) fn type_of(&mut self, arguments: Arguments<'_>) {
        self.read(Shape::Type, arguments);
    }

    /// Milliseconds or seconds until an entry expires: of what is in memory here; nothing is filled.
    pub(super) fn ttl(&mut self, arguments: Arguments<'_>, unit: u64) {
        let Some(key) = self.one_key(arguments) else { return };
        let place = place(&key);
        let tracked = self.tracked();
        if tracked == Tracked::Key {
            self.register(&key, place, None);
        }
        let (incarnation, now) = (self.node.life.incarnation(), Instant::now());
        let entry = self.node.gate.peek(place, &key.text, now);
        if let Some(entry) =
            entry.filter(|entry| entry.value.is_some() && self.node.life.vouches_for(incarnation))
        {
            let left = entry.expires.saturating_duration_since(now).as_millis() as u64;
            self.reply.integer(i64::try_from((left + unit / 2) / unit).unwrap_or(i64::MAX));
        } else {
            self.reply.integer(-2);
            if tracked != Tracked::No {
                self.not_kept(&key);
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
        let mark = self.under_way.len();
        let mut found = Vec::with_capacity(arguments.len() - 1);
        let glance = self.node.glance();
        let mut looked = self.look_up(arguments, Some(glance), &mut found);
        if looked.is_ok() && found.iter().any(Found::is_here) && !self.node.vouches(glance) {
            self.under_way.truncate(mark);
            found.clear();
            looked = self.look_up(arguments, None, &mut found);
        }
        if let Err(error) = looked {
            self.under_way.truncate(mark);
            return self.in_turn_error(error);
        }
        for found in &found {
            if let Found::Here(fresh) = found {
                self.node.count_hit(fresh);
            }
        }
        if !self.ops.is_empty() || self.under_way.len() > mark {
            self.ops.push(Op::Values(shape, found));
        } else {
            self.write(shape, &found, &[]);
        }
    }

    /// Looks for keys in memory, if there is a look, and puts those on their way that are not found; what is found is to be vouched for.
    fn look_up(
        &mut self,
        arguments: Arguments<'_>,
        glance: Option<Glance>,
        found: &mut Vec<Found>,
    ) -> Result<(), String> {
        let tracked = self.tracked();
        if arguments.len() > 2 {
            self.check_slots(arguments)?;
        }
        for text in arguments.from(1) {
            let key = self.node.key_of(text)?;
            let place = place(&key);
            // Before the look: a removal after it finds the registration. See `tracking`.
            if tracked == Tracked::Key {
                self.register(&key, place, None);
            }
            let bound = strictest(&key, ReadOptions::default());
            if let Some(fresh) = glance.and_then(|glance| self.node.look(glance, &key, place, bound)) {
                if tracked == Tracked::Key {
                    self.register(&key, place, Some(until(&key, &fresh)));
                }
                found.push(Found::Here(fresh));
            } else {
                self.route(&key)?;
                found.push(Found::Waits(self.under_way.len()));
                let options = ReadOptions { look_aside: key.group.is_look_aside(), ..ReadOptions::default() };
                self.under_way.push(Read { key, options, tracked });
            }
        }
        Ok(())
    }

    /// How many reads are under way.
    pub(super) fn waiting(&self) -> usize {
        self.under_way.len()
    }

    /// The reads to be carried out; [`settle`](Self::settle) wants their results.
    pub(super) fn reads(&mut self) -> Vec<Read> {
        std::mem::take(&mut self.under_way)
    }

    /// Writes the replies of all operations that have waited.
    pub(super) fn settle(&mut self, results: Vec<(Read, Result<Answer, Error>)>) {
        if self.ops.is_empty() {
            return;
        }
        let mut values = Vec::with_capacity(results.len());
        let mut not_kept = Vec::new();
        for (read, result) in results {
            values.push(match result {
                Ok(answer) => {
                    if read.tracked != Tracked::No && !self.keeps(&read, answer.value.as_ref()) {
                        not_kept.push(read.key.clone());
                    }
                    if let Some(token) = answer.token.filter(|token| !token.is_empty()) {
                        self.tokens.keep(read.key.text.clone(), token);
                    }
                    Ok(answer.value)
                }
                Err(error) => Err(error::text(&error)),
            });
        }
        let written = self.reply.bytes.len();
        for op in std::mem::take(&mut self.ops) {
            match op {
                Op::Values(shape, found) => self.write(shape, &found, &values),
                Op::Error(text) => self.error(&text),
            }
        }
        if self.silence != Silence::No {
            self.silenced(written);
        }
        // After the replies that they are about.
        for key in not_kept {
            self.not_kept(&key);
        }
    }

    fn write(&mut self, shape: Shape, found: &[Found], values: &[Result<Option<Bytes>, String>]) {
        if let [Found::Here(fresh)] = found
            && shape == Shape::Get
        {
            return self.reply.bulk_or_null(fresh.entry.value.as_deref());
        }
        // Borrowed: a copy of the handle would cost an allocation for each value.
        let all = found.iter().map(|found| match found {
            Found::Here(fresh) => Ok(fresh.entry.value.as_deref()),
            Found::Waits(at) => match values.get(*at) {
                Some(Ok(value)) => Ok(value.as_deref()),
                Some(Err(text)) => Err(text.clone()),
                None => Err(error::text(&Error::Abandoned)),
            },
        });
        let all: Vec<Option<&[u8]>> = match all.collect() {
            Ok(all) => all,
            Err(text) => return self.error(&text),
        };
        match shape {
            Shape::Get => self.reply.bulk_or_null(all.first().copied().flatten()),
            Shape::MGet => {
                self.reply.array(all.len());
                for value in &all {
                    self.reply.bulk_or_null(*value);
                }
            }
            Shape::Exists => self.reply.integer(all.iter().filter(|value| value.is_some()).count() as i64),
            Shape::Type => {
                self.reply.simple(if all.first().is_some_and(Option::is_some) { "string" } else { "none" });
            }
        }
    }

    /// An error that is written in its turn.
    fn in_turn_error(&mut self, text: String) {
        if self.ops.is_empty() {
            self.error(&text);
        } else {
            self.ops.push(Op::Error(text));
        }
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

    fn register(&self, key: &Key, place: Place, until: Option<Instant>) {
        let resp = &self.node.resp;
        resp.tracking.register(resp.post(), &key.text, place, self.client.id, until);
    }

    /// Whether this node keeps the very value that it answers with, and so will be told of its removal. Registers the key first.
    fn keeps(&self, read: &Read, value: Option<&Bytes>) -> bool {
        let place = place(&read.key);
        if read.tracked == Tracked::Key {
            self.register(&read.key, place, None);
        }
        let node = &self.node;
        let (incarnation, lowest) = (node.life.incarnation(), node.watermarks.lowest());
        let Some(entry) = node.gate.peek(place, &read.key.text, Instant::now()) else { return false };
        if entry.value.as_ref() != value || !node.life.vouches_for(incarnation) {
            return false;
        }
        if read.tracked == Tracked::Key {
            self.register(&read.key, place, Some(until(&read.key, &Fresh::new(entry, lowest))));
        }
        true
    }

    fn not_kept(&self, key: &Key) {
        let resp = &self.node.resp;
        resp.tracking.not_kept(resp.post(), &self.client, &key.text);
    }

    /// The one key of a command; an error is written if it is none, or another node's.
    pub(super) fn one_key(&mut self, arguments: Arguments<'_>) -> Option<Key> {
        let text = arguments.get(1).unwrap_or_default();
        let key = self.node.key_of(text).and_then(|key| self.route(&key).map(|()| key));
        key.map_err(|error| self.error(&error)).ok()
    }

    /// Whether this connection's keys of other nodes are fetched here.
    fn fetches(&self) -> bool {
        self.reads_all || self.node.config.resp_forward
    }

    /// Names the owner of a key that this node neither holds nor fetches.
    pub(super) fn route(&self, key: &Key) -> Result<(), String> {
        if self.fetches() || self.node.holds(place(key)) {
            return Ok(());
        }
        let (slot, ring) = (slot_of(&key.text), self.node.current_ring());
        match ring.owner(slot) {
            Some(owner) if owner.id != self.node.id && !owner.resp.is_empty() => {
                let (host, port) = super::topology::host_port(&owner.resp);
                Err(format!("MOVED {slot} {host}:{port}"))
            }
            // Nobody that a Redis client could ask.
            _ => Ok(()),
        }
    }

    /// Refuses keys of several slots where Redis Cluster would.
    pub(super) fn check_slots(&self, arguments: Arguments<'_>) -> Result<(), String> {
        if self.fetches() || self.node.ring().members().len() < 2 {
            return Ok(());
        }
        let mut slots = arguments.from(1).map(|key| std::str::from_utf8(key).map(slot_of).ok());
        let first = slots.next().flatten();
        if slots.all(|slot| slot == first) {
            Ok(())
        } else {
            Err("CROSSSLOT Keys in request don't hash to the same slot".to_owned())
        }
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
