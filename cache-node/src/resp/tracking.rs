//! CLIENT TRACKING: what clients keep in memories of their own, and how they are told to forget it.
//!
//! A client-side cache is one more holder of values, so the freshness protocol has to hold for it too. It can't take part as a
//! node does: nobody waits for its acknowledgement. What it gets is this: **when a change has been delivered, every client that
//! holds the old value by this node has an invalidation on its way**, and a client that can't be told loses its connection.
//!
//! - *Registered before proven.* A read registers the key for its client, and only then looks into memory. Either the look comes
//!   after a removal, and the value is not the old one; or it comes before, and then the removal finds the registration and the
//!   push is queued. A connection writes what is queued after the replies that it has written before: a push never overtakes the
//!   reply that it is about.
//! - *What is not kept is not to be kept (R1, R2).* A removal reaches this node for what it may have in its memory, so that is what
//!   clients may have in theirs. A value that the gate refused (read in the quarantine, overtaken by a removal), that was read through
//!   or fetched from another node, has nobody who would remove it. After every read that was no hit the entry is looked for once more, after
//!   registering; if this very value is not in memory, valid and vouched for, its reply is followed by its invalidation at once.
//! - *What a node can't promise any more it takes back.* Lost slots (R5), flushed groups and expired entries invalidate the keys; a node
//!   that can't prove its membership (R6) or comes back as a new incarnation says "forget all". An eviction does nothing: removals
//!   reach the holder of a slot whether or not it has the entry. A process that is stopped can say nothing: what clients hold then
//!   is as old as its stop, until their connections break. `docs/redis.md` says what to do about that.
//! - *Nothing is lost silently.* The table is bounded: what makes room is invalidated. Queues are bounded: who does not read is
//!   closed. A redirection whose target is gone or does not listen is told, or closed.

mod held;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Release},
    },
};

use parking_lot::RwLock;
use tokio::time::Instant;

use self::held::Held;
use super::{
    clients::{Client, Clients, Told},
    metrics::Metrics,
};
use crate::gate::{self, Place};

/// Keys of one client in one event, beyond which it is told to forget all.
const MANY: usize = 256;

/// What all clients of a node hold.
#[derive(Debug)]
pub(crate) struct Tracking {
    held: Held,
    broadcast: RwLock<Vec<Broadcast>>,
    queue: usize,
}

/// A client that wants to hear of every removal of keys with one of these beginnings.
#[derive(Debug)]
struct Broadcast {
    client: Arc<Client>,
    prefixes: Vec<Box<str>>,
}

impl Broadcast {
    fn wants(&self, key: &str) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| key.starts_with(&**prefix))
    }
}

/// What sends invalidations: the clients and the counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Post<'a> {
    pub(crate) clients: &'a Clients,
    pub(crate) metrics: &'a Metrics,
}

impl Tracking {
    /// For so many keys in total, and so many invalidations waiting for one client.
    pub(crate) fn new(keys: usize, queue: usize) -> Self {
        Self { held: Held::new(keys), broadcast: RwLock::default(), queue }
    }

    /// Notes that a client reads a key; to be called before the value is looked for. `until` is when it expires.
    pub(crate) fn register(
        &self,
        post: Post<'_>,
        key: &Arc<str>,
        place: Place,
        client: u64,
        until: Option<Instant>,
    ) {
        if let Some((evicted, ids)) = self.held.add(key, place, client, until) {
            post.metrics.evicted.inc();
            self.send(post, &ids, &[evicted]);
        }
    }

    pub(crate) fn keys(&self) -> u64 {
        self.held.len()
    }

    /// Begins to broadcast to a client; with no prefix, everything.
    pub(crate) fn broadcast(&self, client: &Arc<Client>, prefixes: Vec<Box<str>>) {
        let mut all = self.broadcast.write();
        all.retain(|broadcast| broadcast.client.id != client.id);
        all.push(Broadcast { client: client.clone(), prefixes });
    }

    pub(crate) fn end_broadcast(&self, client: u64) {
        self.broadcast.write().retain(|broadcast| broadcast.client.id != client);
    }

    /// A key was removed.
    pub(crate) fn removed(&self, post: Post<'_>, key: &str) {
        let mut shared: Option<Arc<str>> = None;
        if let Some((key, ids)) = self.held.take(key, gate::hash(key)) {
            self.send(post, &ids, std::slice::from_ref(&key));
            shared = Some(key);
        }
        let all = self.broadcast.read();
        for broadcast in all.iter().filter(|broadcast| broadcast.wants(key)) {
            let key = shared.get_or_insert_with(|| Arc::from(key));
            self.tell(post, &broadcast.client, std::slice::from_ref(key));
        }
    }

    /// Has a client told of a value that it got and must not keep.
    pub(crate) fn not_kept(&self, post: Post<'_>, client: &Arc<Client>, key: &Arc<str>) {
        self.tell(post, client, std::slice::from_ref(key));
    }

    /// Invalidates all keys of a kind; those who are told of everything forget all.
    pub(crate) fn removed_where(&self, post: Post<'_>, kind: impl Fn(&Place) -> bool) {
        self.invalidate(post, self.held.take_where(|tracked| kind(&tracked.place)));
        self.all_of_broadcast(post);
    }

    /// Everybody forgets all.
    pub(crate) fn removed_all(&self, post: Post<'_>) {
        self.held.clear();
        for client in post.clients.all() {
            if client.tracks.load(Acquire) {
                self.tell_all(post, &client);
            }
        }
    }

    /// Invalidates what has expired, in one of the table's parts at a time.
    pub(crate) fn expire(&self, post: Post<'_>, part: usize, now: Instant) {
        self.invalidate(post, self.held.expire(part, now));
    }

    /// How many parts [`expire`](Self::expire) has.
    pub(crate) fn parts(&self) -> usize {
        self.held.parts()
    }

    fn invalidate(&self, post: Post<'_>, taken: Vec<(Arc<str>, Vec<u64>)>) {
        let mut by_client: HashMap<u64, Vec<Arc<str>>> = HashMap::new();
        for (key, ids) in taken {
            for id in ids {
                by_client.entry(id).or_default().push(key.clone());
            }
        }
        for (id, keys) in by_client {
            let Some(client) = post.clients.get(id) else { continue };
            if keys.len() > MANY {
                self.tell_all(post, &client);
            } else {
                self.tell(post, &client, &keys);
            }
        }
    }

    fn all_of_broadcast(&self, post: Post<'_>) {
        for broadcast in self.broadcast.read().iter() {
            self.tell_all(post, &broadcast.client);
        }
    }

    fn send(&self, post: Post<'_>, ids: &[u64], keys: &[Arc<str>]) {
        for id in ids {
            if let Some(client) = post.clients.get(*id) {
                self.tell(post, &client, keys);
            }
        }
    }

    fn tell(&self, post: Post<'_>, client: &Client, keys: &[Arc<str>]) {
        let heard: Vec<Arc<str>>;
        let keys = if keys.iter().any(|key| client.is_muted(key)) {
            heard = keys.iter().filter(|key| !client.is_muted(key)).cloned().collect();
            &heard
        } else {
            keys
        };
        if keys.is_empty() {
            return;
        }
        Self::deliver(post, client, |target| {
            post.metrics.invalidations.inc_by(keys.len() as u64);
            target.tell(keys, self.queue)
        });
    }

    #[expect(clippy::unused_self, reason = "the counterpart of `tell`")]
    fn tell_all(&self, post: Post<'_>, client: &Client) {
        Self::deliver(post, client, |target| {
            post.metrics.invalidations.inc();
            target.tell_all()
        });
    }

    /// Tells a client, or whoever it has named.
    fn deliver(post: Post<'_>, client: &Client, tell: impl FnOnce(&Client) -> Told) {
        if !client.tracks.load(Acquire) {
            return; // it has turned tracking off since
        }
        let redirect = client.redirect.load(Acquire);
        let told = if redirect == 0 {
            tell(client)
        } else {
            post.clients.get(redirect).map_or(Told::NotListening, |target| tell(&target))
        };
        match told {
            Told::Yes => {}
            Told::NotListening if redirect == 0 => client.close.cancel(),
            Told::NotListening => Clients::tell_broken(client, redirect),
            Told::Overflow => {
                post.metrics.overflows.inc();
                if redirect != 0 {
                    Clients::tell_broken(client, redirect);
                }
            }
        }
    }

    /// A client is gone, or tracks no more.
    pub(crate) fn forget(&self, client: &Client) {
        self.end_broadcast(client.id);
        client.redirect.store(0, Release);
        client.broken.store(false, Release);
    }
}
