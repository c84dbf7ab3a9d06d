//! What a connection is to the node: who it is, what it tracks, what it waits for.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use bytes::Bytes;
use catalog::Key;
use memory::place::Place;
use wire::{MAX_MESSAGE, Set, Write, Written};

use super::{
    clients::{Client, Muted},
    codec::{Arguments, Kept, Limits, ProtocolError},
    error,
    keys::is,
    ops::{Arrived, Op, too_large},
    parts,
    reads::{Read, Tracked},
    reply::{Protocol, Reply},
    table::{self, COMMANDS, Id},
    tokens::Tokens,
    transaction::{Transaction, is_done_at_once},
};
use crate::{
    error::Error,
    node::{Hop, Node, place},
};

/// The channel of invalidations for clients that speak RESP2.
pub(super) const CHANNEL: &str = "__redis__:invalidate";

/// Bytes of replies that may wait for a client that has not shown its password.
const UNAUTHENTICATED: usize = 64 << 10;

/// One connection's state.
pub(super) struct Session {
    pub(super) node: Arc<Node>,
    pub(super) client: Arc<Client>,
    pub(super) reply: Reply,
    pub(super) authenticated: bool,
    /// Whether keys of other nodes are fetched for this connection (READONLY).
    pub(super) reads_all: bool,
    pub(super) track: Option<Track>,
    /// What CLIENT CACHING says of the next command, or transaction.
    pub(super) caching: Option<bool>,
    /// Commands that wait for EXEC, since MULTI.
    pub(super) transaction: Option<Transaction>,
    /// Keys whose TTL was told within EXEC without a value, of a client that is told of each key.
    pub(super) without_value: Vec<(Arc<str>, Place)>,
    /// While EXEC's reply is written: whether it is to be.
    pub(super) executes: Option<Silence>,
    pub(super) tokens: Tokens,
    /// Reads under way, of the operations that wait.
    pub(super) under_way: Vec<Read>,
    /// Operations that wait, and those after them, in order.
    pub(super) ops: VecDeque<Op>,
    /// What has come of the reads of the first of them.
    pub(super) arrived: Arrived,
    /// Bytes that they hold.
    pub(super) pinned: usize,
    pub(super) silence: Silence,
    /// The place of the command that is answered now.
    pub(super) now: Option<usize>,
    /// Whether the connection ends once all is written.
    pub(super) ends: bool,
}

/// How a connection tracks.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of CLIENT TRACKING")]
pub(super) struct Track {
    pub(super) broadcast: bool,
    pub(super) opt_in: bool,
    pub(super) opt_out: bool,
    pub(super) no_loop: bool,
    pub(super) prefixes: Vec<Box<str>>,
}

/// Which replies are not written (CLIENT REPLY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    No,
    /// The next command's.
    Next,
    All,
}

/// How a request goes on.
pub(super) enum Next {
    /// It is answered, or will be when what it waits for is there.
    Done,
    /// What is waited for must be there before; then it is to be begun again.
    First,
    /// It waits for something else than a read.
    Slow(Slow),
    /// These are to be carried out, as one reply.
    Exec(Vec<Kept>),
}

/// What takes time and is no read.
pub(super) enum Slow {
    /// Removes keys from all nodes.
    Remove { keys: Vec<Key>, muted: Option<Muted> },
    /// Sets a value under a token.
    Set { key: Key, value: Bytes, token: Bytes, ttl: Option<Duration>, muted: Option<Muted> },
    /// Writes a key of a plain group.
    Write { key: Key, write: Write, answered: Answered, muted: Option<Muted> },
}

/// How a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// As SET is.
    Set,
    /// As SET is that depends on whether there is a value: done again, it would find its own.
    SetOnce,
    /// As SET is whose value is gone at once.
    Gone,
    /// With 1 if there was a value, else 0.
    Count,
}

/// How that ended. `muted`: of a client that was not told of removals of these keys meanwhile, its own or others'.
pub(super) enum Finished {
    Removed {
        keys: Vec<Key>,
        muted: bool,
        result: Result<u64, Error>,
    },
    Set {
        key: Key,
        value: Bytes,
        muted: bool,
        result: Result<Set, Error>,
    },
    /// `value`: what the key was given, if it was.
    Written {
        key: Key,
        value: Option<Bytes>,
        answered: Answered,
        muted: bool,
        result: Result<Written, Error>,
    },
}

impl Slow {
    pub(super) async fn run(self, node: &Node) -> Finished {
        match self {
            Self::Remove { keys, muted } => {
                let texts: Vec<String> = keys.iter().map(|key| key.text.to_string()).collect();
                let removed = Box::pin(node.remove(&texts, Hop::First)).await;
                // With several holders of a slot an entry is removed from each.
                let result = removed.map(|removed| removed.min(keys.len() as u64));
                Finished::Removed { keys, muted: muted.is_some(), result }
            }
            Self::Set { key, value, token, ttl, muted } => {
                let set = node.set(&key.text, Some(value.clone()), &token, ttl, Hop::First);
                let result = Box::pin(set).await;
                Finished::Set { key, value, muted: muted.is_some(), result }
            }
            Self::Write { key, write, answered, muted } => {
                let value = match &write {
                    Write::Put(put) => Some(put.value.clone()),
                    Write::Expire(_) | Write::Remove => None,
                };
                let result = Box::pin(node.write(&key.text, write, Hop::First)).await;
                Finished::Written { key, value, answered, muted: muted.is_some(), result }
            }
        }
    }
}

/// Whether a command is a line of HTTP: a page in somebody's browser has it post to this port, and what follows would be commands.
fn is_http(name: &[u8]) -> bool {
    is(name, "post") || is(name, "host:")
}

impl Session {
    pub(super) fn new(node: Arc<Node>, client: Arc<Client>) -> Self {
        Self {
            authenticated: node.config.resp_password.is_empty(),
            node,
            client,
            reply: Reply::new(),
            reads_all: false,
            track: None,
            caching: None,
            transaction: None,
            executes: None,
            without_value: Vec::new(),
            tokens: Tokens::default(),
            under_way: Vec::new(),
            ops: VecDeque::new(),
            arrived: Arrived::default(),
            pinned: 0,
            silence: Silence::No,
            now: None,
            ends: false,
        }
    }

    /// How large requests may be now.
    pub(super) fn limits(&self) -> Limits {
        let config = &self.node.config;
        Limits {
            argument: usize::try_from(config.max_value.0).unwrap_or(usize::MAX).clamp(64 << 10, MAX_MESSAGE),
            request: self.largest_request(),
            authenticated: self.authenticated,
        }
    }

    /// Bytes of the largest request that there is a use for: as many keys as may be, and a value.
    fn largest_request(&self) -> usize {
        /// What stands around an argument.
        const AROUND: u64 = 32;
        let config = &self.node.config;
        let keys = (config.max_key.0 + AROUND).saturating_mul(config.max_keys as u64);
        let all = keys.saturating_add(config.max_value.0).saturating_add(64 << 10);
        usize::try_from(all).unwrap_or(usize::MAX).min(MAX_MESSAGE)
    }

    /// Bytes of replies that may wait for the client: less before it has shown what it must.
    pub(super) fn output_limit(&self) -> usize {
        let limit = usize::try_from(self.node.config.resp_output_limit.0).unwrap_or(usize::MAX);
        if self.authenticated { limit } else { limit.min(UNAUTHENTICATED) }
    }

    /// Notes that bytes came.
    pub(super) fn heard(&self, bytes: usize) {
        self.node.resp.metrics.received.inc_by(bytes as u64);
        let after = u64::try_from(self.client.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.client.active.store(after, Relaxed);
    }

    /// Bytes that replies take, and what waits for them.
    pub(super) fn holds(&self) -> usize {
        let waits = self.transaction.as_ref().map_or(0, Transaction::bytes);
        self.reply.bytes.capacity() + self.pinned + self.arrived.bytes() + waits
    }

    /// Begins a request.
    pub(super) fn begin(&mut self, arguments: Arguments<'_>) -> Next {
        let Some(name) = arguments.get(0) else { return Next::Done }; // an empty line
        let at = table::find(name);
        let reads = matches!(
            at.map(|at| COMMANDS[at].id),
            Some(Id::Get | Id::MGet | Id::Exists | Id::Type | Id::StrLen | Id::GetEx)
        );
        let queues = self.transaction.is_some();
        if !self.ops.is_empty() && (!reads || queues || self.silence != Silence::No) {
            return Next::First;
        }
        self.now = at;
        let (silence, limit) = (self.silence, self.output_limit());
        let written = self.reply.open(limit);
        let next = self.dispatch(at, name, arguments);
        if !self.reply.close(written) {
            self.error(&too_large(limit));
        }
        // CLIENT CACHING speaks of the command after it, whatever becomes of that: a refused one uses it up too. As in Redis, CLIENT's own
        // commands don't, and MULTI carries it on to the end of EXEC.
        let goes_on = self.transaction.is_some() || self.executes.is_some() || matches!(next, Next::Exec(_));
        if !goes_on && at.is_none_or(|at| COMMANDS[at].id != Id::Client) {
            self.caching = None;
        }
        // A command that waits has nothing written yet; who turns replies on gets this one.
        if silence != Silence::No
            && self.silence != Silence::No
            && self.ops.is_empty()
            && !matches!(next, Next::Slow(_) | Next::Exec(_))
        {
            self.silenced(written);
        }
        next
    }

    fn dispatch(&mut self, at: Option<usize>, name: &[u8], arguments: Arguments<'_>) -> Next {
        let Some(at) = at else {
            self.node.resp.metrics.command(None);
            if is_http(name) {
                self.node.resp.attacked(&self.client);
                self.ends = true;
                return Next::Done;
            }
            self.refuse(&error::unknown(name, arguments));
            return Next::Done;
        };
        let command = &COMMANDS[at];
        self.client.gives(at, parts::place(command.name, arguments));
        let queues = self.transaction.is_some() && !is_done_at_once(command.id);
        if !queues {
            self.node.resp.metrics.command(Some(at));
        }
        if !command.takes(arguments.len()) {
            if command.id == Id::Exec {
                self.exec_refused();
            } else {
                self.refuse(&format!("ERR wrong number of arguments for '{}' command", command.name));
            }
            return Next::Done;
        }
        if !self.authenticated && !command.needs_no_password() {
            self.error("NOAUTH Authentication required.");
            return Next::Done;
        }
        if self.only_listens()
            && !matches!(command.id, Id::Subscribe | Id::Unsubscribe | Id::Ping | Id::Quit | Id::Reset)
        {
            self.error(&format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                command.name
            ));
            return Next::Done;
        }
        if queues {
            self.queue(at, arguments);
            return Next::Done;
        }
        self.carry_out(command.id, arguments)
    }

    fn carry_out(&mut self, id: Id, arguments: Arguments<'_>) -> Next {
        match id {
            Id::Get => self.get(arguments),
            Id::GetEx => self.get_ex(arguments),
            Id::MGet => self.mget(arguments),
            Id::Exists => self.exists(arguments),
            Id::Type => self.type_of(arguments),
            Id::Ttl => self.ttl(arguments, 1000),
            Id::PTtl => self.ttl(arguments, 1),
            Id::StrLen => self.strlen(arguments),
            Id::Scan => self.scan(arguments),
            Id::DbSize => self.db_size(),
            Id::Memory => self.memory(arguments),
            Id::Config => self.config(arguments),
            Id::Module => self.empty("module", arguments),
            Id::SlowLog => self.empty("slowlog", arguments),
            Id::Latency => self.empty("latency", arguments),
            Id::Acl => self.acl(arguments),
            Id::Del => return self.del(arguments),
            Id::Set => return self.set(arguments),
            Id::SetEx => return self.set_ex(arguments, 1000),
            Id::PSetEx => return self.set_ex(arguments, 1),
            Id::Expire => return self.expire(arguments, 1000, false),
            Id::PExpire => return self.expire(arguments, 1, false),
            Id::ExpireAt => return self.expire(arguments, 1000, true),
            Id::PExpireAt => return self.expire(arguments, 1, true),
            Id::Persist => return self.persist(arguments),
            Id::Ping => self.ping(arguments),
            Id::Echo => self.reply.bulk(arguments.get(1).unwrap_or_default()),
            Id::Hello => self.hello(arguments),
            Id::Auth => self.auth(arguments),
            Id::Select => self.select(arguments),
            Id::Info => self.info(arguments),
            Id::Command => self.command(arguments),
            Id::Client => self.client_command(arguments),
            Id::Cluster => self.cluster(arguments),
            Id::Subscribe => self.subscribe(arguments),
            Id::Unsubscribe => self.unsubscribe(arguments),
            Id::ReadOnly => {
                self.reads_all = true;
                self.reply.ok();
            }
            Id::ReadWrite => {
                self.reads_all = false;
                self.reply.ok();
            }
            Id::Asking => self.error(
                "ERR slots move at once in Freshline, no node asks to be asked; read CLUSTER SLOTS again",
            ),
            Id::Quit => {
                self.reply.ok();
                self.ends = true;
            }
            Id::Reset => self.reset(),
            Id::Multi => self.multi(),
            Id::Discard => self.discard(),
            Id::Exec => return self.exec(),
            Id::Watch => self.watch(),
            Id::Unwatch => self.reply.ok(),
        }
        Next::Done
    }

    /// Writes what a slow request has come to.
    ///
    /// A client with NOLOOP knows what it has done by itself. What others did to these keys meanwhile was not told either, so what it may hold
    /// now is proven, or taken back. *It sets a value; the row changes, and the push is muted; it keeps for ever what it has set.*
    pub(super) fn finish(&mut self, finished: Finished) {
        let written = self.reply.bytes.len();
        let not_kept = match finished {
            Finished::Removed { result: Ok(removed), .. } => {
                self.reply.integer(i64::try_from(removed).unwrap_or(i64::MAX));
                Vec::new()
            }
            Finished::Removed { keys, muted, result: Err(error) } => {
                self.error(&error::text(&error));
                if muted { keys } else { Vec::new() }
            }
            Finished::Set { key, value, muted, result } => {
                let stored = result.as_ref().is_ok_and(Set::is_stored);
                match result {
                    Ok(_) if stored => self.reply.ok(),
                    // As Redis's own conditional SET. It is no error: the caller has its value, and the next miss gives another token.
                    Ok(_) => self.reply.null(),
                    Err(error) => self.error(&error::text(&error)),
                }
                let all = self.track.as_ref().is_some_and(|track| track.broadcast);
                let tracked = if all { Tracked::Broadcast } else { Tracked::Key };
                if muted && !(stored && self.keeps(&key, tracked, Some(&value))) {
                    vec![key]
                } else {
                    Vec::new()
                }
            }
            Finished::Written { key, value, answered, muted, result } => {
                let done = result.as_ref().is_ok_and(Written::is_done);
                self.write_answer(answered, result);
                let all = self.track.as_ref().is_some_and(|track| track.broadcast);
                let tracked = if all { Tracked::Broadcast } else { Tracked::Key };
                let keeps =
                    done && value.as_ref().is_some_and(|value| self.keeps(&key, tracked, Some(value)));
                if muted && !keeps { vec![key] } else { Vec::new() }
            }
        };
        self.silenced(written);
        if !not_kept.is_empty() {
            let keys: Vec<_> = not_kept.iter().map(|key| (key.text.clone(), place(key))).collect();
            self.not_kept(&keys);
        }
    }

    fn write_answer(&mut self, answered: Answered, result: Result<Written, Error>) {
        match (answered, result.map(|written| written.refused)) {
            (Answered::SetOnce, Err(error)) => self.error(&error::once(&error)),
            (_, Err(error)) => self.error(&error::text(&error)),
            (Answered::Count, Ok(refused)) => self.reply.integer(i64::from(refused.is_none())),
            (Answered::Set | Answered::SetOnce, Ok(None)) | (Answered::Gone, Ok(_)) => self.reply.ok(),
            (Answered::Set | Answered::SetOnce, Ok(Some(why))) if why == "too_large" => {
                self.error("ERR the value is larger than its group or the node takes (max_value)");
            }
            (Answered::Set | Answered::SetOnce, Ok(Some(_))) => self.reply.null(),
        }
    }

    /// Takes back what was written since, if the client does not want it.
    pub(super) fn silenced(&mut self, written: usize) {
        if self.silence != Silence::No {
            self.reply.bytes.truncate(written);
        }
        if self.silence == Silence::Next {
            self.silence = Silence::No;
        }
    }

    /// Says what is wrong with the bytes that came, and ends the connection.
    pub(super) fn protocol_error(&mut self, error: &ProtocolError) {
        self.error(&format!("ERR {error}"));
        self.ends = true;
    }

    pub(super) fn error(&mut self, text: &str) {
        self.node.resp.metrics.error(self.now, text);
        self.reply.error(text);
    }

    /// Writes what the client is to be told, after all replies.
    pub(super) fn deliver(&mut self) {
        if self.executes.is_some() {
            return; // not within a reply
        }
        let outbox = self.client.collect();
        if outbox.is_empty() {
            return;
        }
        let three = self.reply.protocol == Protocol::Three;
        for broken in outbox.broken {
            self.reply.push(2);
            self.reply.bulk(b"tracking-redir-broken");
            self.reply.integer(i64::try_from(broken).unwrap_or(i64::MAX));
        }
        if !outbox.all && outbox.keys.is_empty() {
            return;
        }
        if three {
            self.reply.push(2);
            self.reply.bulk(b"invalidate");
        } else {
            self.reply.array(3);
            self.reply.bulk(b"message");
            self.reply.bulk(CHANNEL.as_bytes());
        }
        if outbox.all {
            self.reply.null();
        } else {
            self.reply.array(outbox.keys.len());
            for key in &outbox.keys {
                self.reply.bulk(key.as_bytes());
            }
        }
    }

    /// Whether the connection is one that takes messages and nothing else.
    fn only_listens(&self) -> bool {
        self.reply.protocol == Protocol::Two && self.client.subscribed.load(Acquire)
    }

    pub(super) fn speak(&mut self, protocol: Protocol) {
        self.reply.protocol = protocol;
        self.client.resp3.store(protocol == Protocol::Three, Release);
    }

    /// Ends tracking.
    pub(super) fn track_no_more(&mut self) {
        self.track = None;
        self.caching = None;
        self.client.broadcasts.store(false, Release);
        self.node.resp.clients.set_tracks(&self.client, false);
        self.node.resp.tracking.forget(&self.client);
    }

    fn reset(&mut self) {
        self.track_no_more();
        self.end_transaction();
        self.client.subscribed.store(false, Release);
        *self.client.about.lock() = super::clients::About::default();
        self.reads_all = false;
        self.tokens.clear();
        self.silence = Silence::No;
        self.authenticated = self.node.config.resp_password.is_empty();
        self.speak(Protocol::Two);
        self.reply.simple("RESET");
    }
}
