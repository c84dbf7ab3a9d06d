//! Who is connected, and what each has been told to forget and not been sent yet.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicI64, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// One connection, as others see it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) since: Instant,
    pub(crate) resp3: AtomicBool,
    /// Whether it is subscribed to the channel of invalidations.
    pub(crate) subscribed: AtomicBool,
    /// Whether it tracks.
    pub(crate) tracks: AtomicBool,
    /// The client that gets its invalidations; 0 for itself.
    pub(crate) redirect: AtomicU64,
    /// Whether that client was gone when it was needed.
    pub(crate) broken: AtomicBool,
    pub(crate) about: Mutex<About>,
    /// Keys that it is removing by itself and does not want to be told of (NOLOOP).
    muted: Mutex<HashSet<Arc<str>>>,
    has_muted: AtomicUsize,
    outbox: Mutex<Outbox>,
    /// Bytes that its requests and replies hold, as far as they are counted.
    held: AtomicUsize,
    /// Whether it is told of all removals (BCAST).
    pub(crate) broadcasts: AtomicBool,
    /// When it last asked for something: milliseconds after `since`.
    pub(crate) active: AtomicU64,
    /// Bytes of a request that has not come as a whole, and of replies that wait.
    pub(crate) unread: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
    /// Commands since MULTI; -1 without one.
    pub(crate) multi: AtomicI64,
    /// The last command's place in the table, and its part's, each plus one.
    last: AtomicU64,
    /// Told when there is something to be sent. One waits: the connection.
    pub(crate) mail: Notify,
    /// Ends the connection, whatever it is doing.
    pub(crate) close: CancellationToken,
}

/// What a client says about itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) lib_name: String,
    pub(crate) lib_version: String,
}

/// What waits to be sent. Bounded by `node.tracking_queue`; a client for which more piles up is closed.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Forget all. Keys that were to be told before are covered by it, and so are later ones: it is sent later still.
    pub(crate) all: bool,
    pub(crate) keys: Vec<Arc<str>>,
    /// Clients that are gone and were to get this one's invalidations, each once.
    pub(crate) broken: Vec<u64>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.keys.is_empty() && self.broken.is_empty()
    }
}

/// Whether a client could be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It will be, or is on its way out.
    Yes,
    /// It does not listen.
    NotListening,
    /// Too much waits for it already: it was closed.
    Overflow,
}

impl Client {
    fn new(id: u64, address: SocketAddr, local: SocketAddr) -> Self {
        Self {
            id,
            address,
            local,
            since: Instant::now(),
            resp3: AtomicBool::new(false),
            subscribed: AtomicBool::new(false),
            tracks: AtomicBool::new(false),
            redirect: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            about: Mutex::default(),
            muted: Mutex::default(),
            has_muted: AtomicUsize::new(0),
            outbox: Mutex::default(),
            held: AtomicUsize::new(0),
            broadcasts: AtomicBool::new(false),
            active: AtomicU64::new(0),
            unread: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            multi: AtomicI64::new(-1),
            last: AtomicU64::new(0),
            mail: Notify::new(),
            close: CancellationToken::new(),
        }
    }

    /// Has the client told that keys are invalid.
    pub(crate) fn tell(&self, keys: &[Arc<str>], most: usize) -> Told {
        if !self.listens() {
            return Told::NotListening;
        }
        let mut outbox = self.outbox.lock();
        if !outbox.all {
            if outbox.keys.len() + keys.len() > most {
                drop(outbox);
                self.close.cancel();
                return Told::Overflow;
            }
            for key in keys {
                // Said twice in a row, it was removed twice before anybody could be told.
                if outbox.keys.last() != Some(key) {
                    outbox.keys.push(key.clone());
                }
            }
        }
        drop(outbox);
        self.mail.notify_one();
        Told::Yes
    }

    /// Has the client told that everything is invalid.
    pub(crate) fn tell_all(&self) -> Told {
        if !self.listens() {
            return Told::NotListening;
        }
        let mut outbox = self.outbox.lock();
        outbox.all = true;
        outbox.keys.clear();
        drop(outbox);
        self.mail.notify_one();
        Told::Yes
    }

    /// Bytes that its requests and replies hold, beyond what an idle client's do.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Acquire)
    }

    /// Notes the command that it gives, and the part of it.
    pub(crate) fn gives(&self, command: usize, part: Option<usize>) {
        let part = part.map_or(0, |part| part as u64 + 1);
        self.last.store((command as u64 + 1) << 32 | part, Relaxed);
    }

    /// The last command that it gave, and the part of it, by their places.
    pub(crate) fn last(&self) -> (Option<usize>, Option<usize>) {
        let last = self.last.load(Relaxed);
        let place = |number: u64| usize::try_from(number).ok()?.checked_sub(1);
        (place(last >> 32), place(last & u64::from(u32::MAX)))
    }

    /// What waits to be sent, which the caller now has to send.
    pub(crate) fn collect(&self) -> Outbox {
        std::mem::take(&mut *self.outbox.lock())
    }

    /// Mutes keys until the guard is dropped.
    pub(crate) fn mute(self: &Arc<Self>, keys: impl Iterator<Item = Arc<str>>) -> Muted {
        let mut muted = self.muted.lock();
        muted.extend(keys);
        self.has_muted.store(muted.len(), Release);
        drop(muted);
        Muted(self.clone())
    }

    pub(crate) fn is_muted(&self, key: &str) -> bool {
        self.has_muted.load(Acquire) > 0 && self.muted.lock().contains(key)
    }

    /// In RESP2 only a subscriber takes what it has not asked for.
    fn listens(&self) -> bool {
        self.resp3.load(Acquire) || self.subscribed.load(Acquire)
    }
}

/// Keys that are muted as long as this lives.
#[derive(Debug)]
pub(crate) struct Muted(Arc<Client>);

impl Drop for Muted {
    fn drop(&mut self) {
        self.0.muted.lock().clear();
        self.0.has_muted.store(0, Release);
    }
}

/// All connections of a node.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_id: RwLock<HashMap<u64, Arc<Client>>>,
    last: AtomicU64,
    trackers: AtomicUsize,
    /// Bytes that requests and replies of all of them hold.
    held: AtomicUsize,
    /// How often a client has ended its tracking.
    departures: AtomicU64,
}

impl Clients {
    /// Lets a client in, unless there are `most` already.
    pub(crate) fn enter(&self, address: SocketAddr, local: SocketAddr, most: usize) -> Option<Arc<Client>> {
        let mut by_id = self.by_id.write();
        if by_id.len() >= most {
            return None;
        }
        let client = Arc::new(Client::new(self.last.fetch_add(1, Relaxed) + 1, address, local));
        by_id.insert(client.id, client.clone());
        Some(client)
    }

    /// Takes a client out; returns those whose invalidations it was to get.
    pub(crate) fn leave(&self, client: &Client) -> Vec<Arc<Client>> {
        self.set_tracks(client, false);
        self.hold(client, 0);
        let mut by_id = self.by_id.write();
        by_id.remove(&client.id);
        by_id.values().filter(|other| other.redirect.load(Acquire) == client.id).cloned().collect()
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.read().get(&id).cloned()
    }

    /// All clients, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.by_id.read().values().cloned().collect();
        all.sort_by_key(|client| client.id);
        all
    }

    pub(crate) fn count(&self) -> usize {
        self.by_id.read().len()
    }

    /// How many are subscribed to the channel of invalidations.
    pub(crate) fn subscribers(&self) -> usize {
        self.by_id.read().values().filter(|client| client.subscribed.load(Acquire)).count()
    }

    /// Notes how much a client holds; returns how much all do.
    pub(crate) fn hold(&self, client: &Client, bytes: usize) -> usize {
        // Who is closed gives it back.
        let bytes = if client.close.is_cancelled() { 0 } else { bytes };
        let before = client.held.swap(bytes, AcqRel);
        if bytes >= before {
            self.held.fetch_add(bytes - before, AcqRel) + (bytes - before)
        } else {
            self.held.fetch_sub(before - bytes, AcqRel) - (before - bytes)
        }
    }

    /// How much all hold.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Acquire)
    }

    /// Closes who holds most until the others hold no more than so much. Returns who, and how much each held.
    pub(crate) fn evict(&self, most: usize) -> Vec<(Arc<Client>, usize)> {
        let mut left = self.all();
        left.retain(|client| !client.close.is_cancelled());
        left.sort_by_key(|client| client.held.load(Acquire));
        let mut evicted = Vec::new();
        while self.held() > most
            && let Some(client) = left.pop()
        {
            // What it holds is given back as soon as its task sees it, and is no reason to close another until then.
            let held = client.held.load(Acquire);
            if held == 0 {
                break;
            }
            client.close.cancel();
            self.hold(&client, 0);
            evicted.push((client, held));
        }
        evicted
    }

    /// Notes whether a client tracks. Before it reads anything that it is to be told of.
    pub(crate) fn set_tracks(&self, client: &Client, tracks: bool) {
        if client.tracks.swap(tracks, AcqRel) != tracks {
            if tracks {
                self.trackers.fetch_add(1, AcqRel);
            } else {
                self.trackers.fetch_sub(1, AcqRel);
                self.departures.fetch_add(1, AcqRel);
            }
        }
    }

    /// How often a client has ended its tracking so far.
    pub(crate) fn departures(&self) -> u64 {
        self.departures.load(Acquire)
    }

    /// Whether a client is there and tracks.
    pub(crate) fn tracks(&self, id: u64) -> bool {
        self.by_id.read().get(&id).is_some_and(|client| client.tracks.load(Acquire))
    }

    /// How many clients track.
    pub(crate) fn trackers(&self) -> usize {
        self.trackers.load(Acquire)
    }

    /// Has a client written into another's outbox that its invalidations can't be delivered any more.
    pub(crate) fn tell_broken(client: &Client, target: u64) {
        client.broken.store(true, Release);
        if client.resp3.load(Acquire) {
            let mut outbox = client.outbox.lock();
            if !outbox.broken.contains(&target) {
                outbox.broken.push(target);
            }
            drop(outbox);
            client.mail.notify_one();
        } else {
            // It can't be told in any other way.
            client.close.cancel();
        }
    }
}
