//! Commands on keys that are no reads: DEL, SET, SCAN.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use catalog::Key;
use wire::{Lifetime, Only, Put, Scan, Write};

use super::{
    clients::Muted,
    codec::Arguments,
    error, glob,
    session::{Answered, Next, Session, Slow},
};

/// How long a value that is set is to be kept, in milliseconds: from now, or until a moment since 1970.
#[derive(Debug, Clone, Copy)]
enum Ttl {
    For(i64),
    Until(i64),
}

impl Ttl {
    fn left(self) -> i64 {
        match self {
            Self::For(ttl) => ttl,
            Self::Until(moment) => from_now(moment),
        }
    }
}

/// What SET was given beside key and value.
#[derive(Debug, Clone, Copy, Default)]
struct Options {
    ttl: Option<Ttl>,
    only: Only,
    keep_ttl: bool,
    /// The last one that asks for what the owner of a plain key alone can tell.
    ordered: Option<&'static str>,
}

/// An option of SET that has no value.
fn flag(option: &[u8]) -> Option<&'static str> {
    ["NX", "XX", "KEEPTTL", "GET"].into_iter().find(|known| is(option, known))
}

impl Session {
    pub(super) fn del(&mut self, arguments: Arguments<'_>) -> Next {
        if let Err(error) = self.node.check_count(arguments.len() - 1) {
            self.error(&error::text(&error));
            return Next::Done;
        }
        let mut keys = Vec::with_capacity(arguments.len() - 1);
        if arguments.len() > 2
            && let Err(text) = self.check_slots(arguments)
        {
            self.error(&text);
            return Next::Done;
        }
        for text in arguments.from(1) {
            match self.node.key_of(text).and_then(|key| self.route(&key).map(|()| key)) {
                Ok(key) => keys.push(key),
                Err(text) => {
                    self.error(&text);
                    return Next::Done;
                }
            }
        }
        let muted = self.muted(keys.iter().map(|key| key.text.clone()));
        Next::Slow(Slow::Remove { keys, muted })
    }

    pub(super) fn set(&mut self, arguments: Arguments<'_>) -> Next {
        let mut set = Options::default();
        let mut options = arguments.from(3);
        while let Some(option) = options.next() {
            if let Some(flag) = flag(option) {
                let fits = match flag {
                    "NX" | "XX" if set.only != Only::Always => false,
                    "KEEPTTL" => set.ttl.is_none(),
                    _ => true,
                };
                if !fits {
                    self.error("ERR syntax error");
                    return Next::Done;
                }
                match flag {
                    "NX" => set.only = Only::IfAbsent,
                    "XX" => set.only = Only::IfPresent,
                    "KEEPTTL" => set.keep_ttl = true,
                    _ => {
                        self.error(
                            "ERR SET takes no GET here: GET the key before, or write it with NX or XX",
                        );
                        return Next::Done;
                    }
                }
                set.ordered = Some(flag);
                continue;
            }
            let given = if is(option, "ex") {
                options.next().and_then(number).and_then(|seconds| in_millis(seconds, 1000)).map(Ttl::For)
            } else if is(option, "px") {
                options.next().and_then(number).map(Ttl::For)
            } else if is(option, "exat") {
                options.next().and_then(number).and_then(|seconds| in_millis(seconds, 1000)).map(Ttl::Until)
            } else if is(option, "pxat") {
                options.next().and_then(number).map(Ttl::Until)
            } else {
                self.error("ERR syntax error");
                return Next::Done;
            };
            match given {
                Some(given) if set.ttl.is_none() && !set.keep_ttl => set.ttl = Some(given),
                Some(_) => {
                    self.error("ERR syntax error");
                    return Next::Done;
                }
                None => {
                    self.error("ERR value is not an integer or out of range");
                    return Next::Done;
                }
            }
        }
        self.set_for(arguments.get(1), arguments.get(2), set, "set")
    }

    pub(super) fn set_ex(&mut self, arguments: Arguments<'_>, unit: i64) -> Next {
        let Some(ttl) = arguments.get(2).and_then(number).and_then(|ttl| in_millis(ttl, unit)) else {
            self.error("ERR value is not an integer or out of range");
            return Next::Done;
        };
        self.set_for(
            arguments.get(1),
            arguments.get(3),
            Options { ttl: Some(Ttl::For(ttl)), ..Options::default() },
            if unit == 1 { "psetex" } else { "setex" },
        )
    }

    fn set_for(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, set: Options, command: &str) -> Next {
        let ttl = set.ttl;
        if ttl.is_some_and(|ttl| matches!(ttl, Ttl::For(..=0) | Ttl::Until(..=0))) {
            self.error(&format!("ERR invalid expire time in '{command}' command"));
            return Next::Done;
        }
        let key = self.node.key_of(key.unwrap_or_default()).and_then(|key| self.route(&key).map(|()| key));
        let key = match key {
            Ok(key) => key,
            Err(text) => {
                self.error(&text);
                return Next::Done;
            }
        };
        if key.group.is_plain() {
            return self.set_plain(key, value.unwrap_or_default(), set);
        }
        if let Some(option) = set.ordered {
            self.error(&format!(
                "ERR SET takes no {option} of group {}: a value is set after a miss, and only if nothing has changed since; keys of plain groups \
                 (kind = \"plain\") are set on a condition",
                key.group.name
            ));
            return Next::Done;
        }
        if !key.group.is_look_aside() {
            let tagged =
                if key.group.tagging.is_empty() { "" } else { ", which gives its entries their tags" };
            self.error(&format!(
                "ERR group {} is filled by its query{tagged}: change the row in the database, and the next GET has it; values of your own need a group without a query, or a plain one",
                key.group.name
            ));
            return Next::Done;
        }
        let Some(token) = self.tokens.take(&key.text) else {
            self.error(&format!(
                "ERR no token for {}: GET it on this connection first; after a miss, read the value and SET it, once",
                key.text
            ));
            return Next::Done;
        };
        let ttl = ttl.map(Ttl::left);
        if ttl.is_some_and(|ttl| ttl <= 0) {
            // Its time is over already: as in Redis it is set, and gone.
            self.reply.ok();
            return Next::Done;
        }
        let muted = self.muted(std::iter::once(key.text.clone()));
        Next::Slow(Slow::Set {
            key,
            value: Bytes::copy_from_slice(value.unwrap_or_default()),
            token,
            ttl: ttl.map(|ttl| Duration::from_millis(ttl.unsigned_abs())),
            muted,
        })
    }

    /// A key of a plain group needs no token.
    fn set_plain(&mut self, key: Key, value: &[u8], set: Options) -> Next {
        let left = set.ttl.map(Ttl::left);
        if left.is_some_and(|left| left <= 0) {
            if set.only != Only::Always {
                self.error("ERR the time of the value is over: nothing could be set on a condition");
                return Next::Done;
            }
            // As in Redis it is set, and gone.
            return self.write_plain(key, Write::Remove, Answered::Gone);
        }
        let lifetime = match left {
            Some(left) => Lifetime::For(Duration::from_millis(left.unsigned_abs())),
            None if set.keep_ttl => Lifetime::Keep,
            None => Lifetime::Group,
        };
        let put = Put { value: Bytes::copy_from_slice(value), lifetime, only: set.only };
        let answered = if set.only == Only::Always { Answered::Set } else { Answered::SetOnce };
        self.write_plain(key, Write::Put(put), answered)
    }

    /// EXPIRE and its like: when a key of a plain group is to lose its value, from now on (`at`: since 1970), in units of so many milliseconds.
    pub(super) fn expire(&mut self, arguments: Arguments<'_>, unit: i64, at: bool) -> Next {
        let given = arguments.get(2).and_then(number).and_then(|time| in_millis(time, unit));
        let Some(given) = given else {
            self.error("ERR value is not an integer or out of range");
            return Next::Done;
        };
        if arguments.len() > 3 {
            self.error("ERR no options are known here: the time that is given counts");
            return Next::Done;
        }
        let Some(key) = self.plain_key(arguments) else { return Next::Done };
        let left = if at { Ttl::Until(given) } else { Ttl::For(given) }.left();
        let write =
            if left > 0 { Write::Expire(Duration::from_millis(left.unsigned_abs())) } else { Write::Remove };
        self.write_plain(key, write, Answered::Count)
    }

    pub(super) fn persist(&mut self, arguments: Arguments<'_>) -> Next {
        if let Some(key) = self.plain_key(arguments) {
            self.error(&format!(
                "ERR no value stays for ever: the ttl of group {}, {:?}, is the longest; EXPIRE asks for less",
                key.group.name, key.group.ttl
            ));
        }
        Next::Done
    }

    /// The key of a command that is for plain groups.
    fn plain_key(&mut self, arguments: Arguments<'_>) -> Option<Key> {
        let key = self.one_key(arguments)?;
        if key.group.is_plain() {
            return Some(key);
        }
        self.error(&format!(
            "ERR the TTL of a key of group {} is its group's, or was set with it: only keys of plain groups (kind = \"plain\") can be given another",
            key.group.name
        ));
        None
    }

    fn write_plain(&mut self, key: Key, write: Write, answered: Answered) -> Next {
        let muted = self.muted(std::iter::once(key.text.clone()));
        Next::Slow(Slow::Write { key, write, answered, muted })
    }

    /// Keys in this node's memory that have a value.
    pub(super) fn scan(&mut self, arguments: Arguments<'_>) {
        let cursor = arguments.get(1).and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
        let Some(cursor) = cursor else { return self.error("ERR invalid cursor") };
        let (mut pattern, mut count, mut strings) = (None, 10, true);
        let mut options = arguments.from(2);
        while let Some(option) = options.next() {
            let Some(given) = options.next() else { return self.error("ERR syntax error") };
            if is(option, "match") {
                if let Err(text) = error::short("a pattern", given) {
                    return self.error(&text);
                }
                pattern = Some(given);
            } else if is(option, "count") {
                match number(given) {
                    Some(given) if given > 0 => count = u32::try_from(given).unwrap_or(u32::MAX),
                    Some(_) => return self.error("ERR syntax error"),
                    None => return self.error("ERR value is not an integer or out of range"),
                }
            } else if is(option, "type") {
                strings = is(given, "string");
            } else {
                return self.error("ERR syntax error");
            }
        }
        let page = match self.node.scan(&Scan { cursor, count, values: true, ..Scan::default() }) {
            Ok(page) => page,
            Err(error) => return self.error(&error::text(&error)),
        };
        let shown = |key: &str| pattern.is_none_or(|pattern| glob::matches(pattern, key.as_bytes()));
        let keys: Vec<String> = page
            .entries
            .into_iter()
            .filter(|entry| strings && entry.value.is_some() && shown(&entry.key))
            .map(|entry| entry.key)
            .collect();
        self.reply.array(2);
        self.reply.bulk(page.cursor.to_string().as_bytes());
        self.reply.array(keys.len());
        for key in keys {
            self.reply.bulk(key.as_bytes());
        }
    }

    /// Mutes what this connection changes by itself, if it does not want to be told of that.
    fn muted(&self, keys: impl Iterator<Item = Arc<str>>) -> Option<Muted> {
        self.track.as_ref().filter(|track| track.no_loop).map(|_| self.client.mute(keys))
    }
}

/// Whether an argument is a word, in any case.
pub(super) fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// An integer as Redis writes it.
pub(super) fn number(argument: &[u8]) -> Option<i64> {
    std::str::from_utf8(argument).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

fn in_millis(time: i64, unit: i64) -> Option<i64> {
    time.checked_mul(unit)
}

/// How far a moment is ahead, in milliseconds since 1970 by this machine's clock.
fn from_now(at: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
    at.saturating_sub(now)
}
