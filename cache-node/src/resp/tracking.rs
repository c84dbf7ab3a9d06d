//! CLIENT TRACKING: what clients keep in memories of their own, and how they are told to forget it.
//!
//! A client-side cache is one more holder of values, so the freshness protocol has to hold for it too. It can't take part as a
//! node does: nobody waits for its acknowledgement. What it gets is this: **when a change has been delivered, every client that
//! holds the old value by this node has an invalidation on its way**, and a client that can't be told loses its connection.
//!
//! - *Registered before proven.* A read registers the key for its client, and only then looks into memory. Either the look comes
//!   after a removal, and the value is not the old one; or it comes before, and then the removal finds the registration and the
//!   push is queued. A connection's output is one stream: what is queued goes behind all replies that are in it already.
//! - *Proven when written.* That order holds for a reply that is put into the output at its look. A reply that waits, for a read or behind
//!   one, would be overtaken by the push, and nobody would be registered any more. So every value of a reply that is written later is proven
//!   at that moment: the key is registered, the entry looked for once more, and compared. If this very value is not in memory, valid and
//!   vouched for, the reply is followed by its invalidation. `interleavings` tries all orders against a client.
//! - *The output may be long.* Replies wait in it as long as the client takes none, and what it is to be told goes behind them, or is kept until they
//!   are fewer; within EXEC's reply until it is whole. Later is always right: what is proven later is of later.
//! - *What is not kept is not to be kept (R1, R2).* A removal reaches this node for what it may have in its memory, so that is what
//!   clients may have in theirs. A value that the gate refused (read in the quarantine, overtaken by a removal), that was read through
//!   or fetched from another node, has nobody who would remove it: the proof fails, and its reply is followed by its invalidation.
//! - *Two connections have no order.* With REDIRECT the reply and the push travel apart, as in Redis. Both are sent by the same rule; a client
//!   that asks by one connection and hears by another does not keep a reply whose key was named since it asked.
//! - *A registration ends.* With its key's removal or expiry, or at once if nothing was found; a key of another node is never registered.
//!   Clients that are gone are dropped within seconds ([`Tracking::tidy`]).
//! - *What a node can't promise any more it takes back.* Lost slots (R5), flushed groups and expired entries invalidate the keys; a node
//!   that can't prove its membership (R6) or comes back as a new incarnation says "forget all". An eviction does nothing: removals
//!   reach the holder of a slot whether or not it has the entry. A process that is stopped can say nothing: what clients hold then
//!   is as old as its stop, until their connections break. `docs/redis.md` says what to do about that.
//! - *Nothing is lost silently.* The table is bounded, by keys times clients: what makes room is invalidated. Queues are bounded: who does not read is
//!   closed. A redirection whose target is gone or does not listen is told, or closed.

mod held;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use memory::place::{Place, hash};
use parking_lot::RwLock;
use tokio::time::Instant;

use self::held::{Held, Taken};
use super::{
    clients::{Client, Clients, Told},
    metrics::Metrics,
};

/// Keys of one client in one event, beyond which it is told to forget all.
const MANY: usize = 256;

/// What all clients of a node hold.
#[derive(Debug)]
pub(crate) struct Tracking {
    held: Held,
    broadcast: RwLock<Vec<Broadcast>>,
    queue: usize,
    /// By part of the table: how many clients had ended their tracking when it was last rid of them.
    purged: Box<[AtomicU64]>,
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
    /// For so many keys in total, each counted once for each client, and so many invalidations waiting for one client.
    pub(crate) fn new(keys: usize, queue: usize) -> Self {
        let held = Held::new(keys);
        let purged = (0..held.parts()).map(|_| AtomicU64::new(0)).collect();
        Self { held, broadcast: RwLock::default(), queue, purged }
    }

    /// Notes that a client reads a key; to be called before the value is looked for. Returns whether that is new: then it has to be
    /// [withdrawn](Self::withdraw) if nothing is found. What is found is [held](Self::hold_until).
    pub(crate) fn register(&self, post: Post<'_>, key: &Arc<str>, place: Place, client: u64) -> bool {
        let added = self.held.add(key, place, client);
        if let Some((evicted, ids)) = added.evicted {
            post.metrics.evicted.inc();
            self.send(post, &ids, &[evicted]);
        }
        added.new
    }

    /// Notes until when a client that is registered may hold what it has read.
    pub(crate) fn hold_until(&self, key: &str, place: Place, until: Instant) {
        self.held.hold_until(key, place.hash, until);
    }

    /// Takes a registration back: the client holds nothing of this key, or is about to be told so.
    pub(crate) fn withdraw(&self, key: &str, place: Place, client: u64) {
        self.held.withdraw(key, place.hash, client);
    }

    /// Whether a client will be told when the key is removed.
    pub(crate) fn is_registered(&self, key: &str, place: Place, client: u64) -> bool {
        self.held.has(key, place.hash, client)
    }

    pub(crate) fn keys(&self) -> u64 {
        self.held.keys()
    }

    /// How many clients hold keys, each key's counted by itself.
    pub(crate) fn registrations(&self) -> u64 {
        self.held.registrations()
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
        if let Some((key, ids)) = self.held.take(key, hash(key)) {
            self.send(post, &ids, std::slice::from_ref(&key));
            shared = Some(key);
        }
        let all = self.broadcast.read();
        for broadcast in all.iter().filter(|broadcast| broadcast.wants(key)) {
            let key = shared.get_or_insert_with(|| Arc::from(key));
            self.tell(post, &broadcast.client, std::slice::from_ref(key));
        }
    }

    /// Has a client told of values that it got and must not keep. To be called once their replies are in the connection's output.
    pub(crate) fn not_kept(&self, post: Post<'_>, client: &Arc<Client>, keys: &[(Arc<str>, Place)]) {
        for (key, place) in keys {
            self.withdraw(key, *place, client.id);
        }
        if keys.len() > MANY {
            self.tell_all(post, client);
        } else {
            let keys: Vec<_> = keys.iter().map(|(key, _)| key.clone()).collect();
            self.tell(post, client, &keys);
        }
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

    /// Invalidates what has expired and drops who is gone, in one of the table's parts at a time.
    pub(crate) fn tidy(&self, post: Post<'_>, part: usize, now: Instant) {
        self.invalidate(post, self.held.expire(part, now));
        let part = part % self.parts();
        let departures = post.clients.departures();
        // What was registered under a client that leaves from here on is found the next time.
        if self.purged[part].swap(departures, Relaxed) != departures {
            self.held.purge(part, |client| post.clients.tracks(client));
        }
    }

    /// How many parts [`tidy`](Self::tidy) has.
    pub(crate) fn parts(&self) -> usize {
        self.held.parts()
    }

    fn invalidate(&self, post: Post<'_>, taken: Vec<Taken>) {
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
