//! One cache node: answers keys from memory, from the database, or by the owner.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use catalog::{Catalog, Key, OnChange};
use client::{Peers, identity::Answering};
use daemon::Paced;
use loader::Loader;
use memory::{
    gate::Gate,
    life::Life,
    place::{Place, hash},
    recorder::Recorder,
    slots::Slots,
    store::{Bounds, Store},
    watermarks::Watermarks,
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use ring::{Epoch, Membership, NodeId, Registration, Ring, slot_of};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::{Answer, Outcome, ReadOptions};

use crate::{
    agreement::{Agreement, terms},
    aside::Seal,
    config::{Config, Fenced},
    copies::{Copies, CopyMetrics},
    departures::Departures,
    error::Error,
    fill::{Fills, Miss},
    hot::{self, Background, Hot},
    metrics::{MirrorMetrics, NodeMetrics},
    mirror::Mirrors,
    plain::Plain,
    replies::Replies,
    resp::Resp,
    serve::Requests,
    stale::graces,
    warm::{Reach, Warm},
};

/// Far below what one connection carries at a time.
const ASIDE_ASKS: usize = 64;

/// What a node is made of.
pub struct Parts {
    /// The groups that the node serves.
    pub catalog: Arc<Catalog>,
    /// What fills misses.
    pub loader: Arc<Loader>,
    /// Who the members are.
    pub membership: Arc<dyn Membership>,
    /// This node's own place among them.
    pub registration: Arc<dyn Registration>,
    /// How other nodes are reached.
    pub peers: Arc<Peers>,
    /// This node's id, the same as in its registration.
    pub id: NodeId,
}

/// Whether a request comes from an application or from a node that forwards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// From an application: may be forwarded, once.
    First,
    /// From another node: is answered here, whatever this node's ring says.
    Forwarded,
}

/// A cache node. Embeddable: [`start`](Self::start) it, [`join`](Self::join) the ring, ask it for keys.
pub struct Node {
    pub(crate) id: NodeId,
    pub(crate) config: Config,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) loader: Arc<Loader>,
    pub(crate) fills: Arc<Fills>,
    pub(crate) warm: Arc<Warm>,
    pub(crate) copies: Arc<Copies>,
    pub(crate) departures: Departures,
    pub(crate) hot: Hot,
    pub(crate) background: Background,
    /// Whether any group reloads.
    pub(crate) reloads: bool,
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) life: Arc<Life>,
    pub(crate) membership: Arc<dyn Membership>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) watermarks: Arc<Watermarks>,
    pub(crate) agreement: Agreement,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) started: Instant,
    pub(crate) seal: Seal,
    /// The bytes of replies that are under way.
    pub(crate) replies: Arc<Replies>,
    /// Look-aside misses of a replica that ask their owner at once: of a batch, each key asks by itself.
    pub(crate) aside_asks: Semaphore,
    /// The bytes of requests that are received.
    pub(crate) requests: Arc<Requests>,
    /// What Redis clients need: who they are, what they hold.
    pub(crate) resp: Resp,
    /// Told when all nodes are to flush everything.
    pub(crate) flush_wanted: Notify,
    /// By group: who may flush can do so at any rate, and the log is to be read.
    pub(crate) told_flushes: Box<[Paced]>,
    pub(crate) told_unknown: Paced,
    pub(crate) plain: Plain,
    /// Whether the node is to be in the ring.
    pub(crate) wanted: AtomicBool,
    /// Whether the catalog has yet to be found fit for the database: until then nothing is answered by it.
    pub(crate) starting: AtomicBool,
    /// Whether an epoch of a heartbeat is being caught up with.
    pub(crate) catching_up: AtomicBool,
    /// Guards the change to a new incarnation.
    pub(crate) births: Mutex<()>,
    /// Guards the change to a new ring, so that all parts of the node see rings in the same order.
    pub(crate) turns: Mutex<()>,
}

impl Node {
    /// Starts a node: it follows the membership from now on, and answers. It holds no slot until it has joined.
    ///
    /// Must be called in a tokio runtime.
    pub fn start(config: Config, parts: Parts, registry: &mut Registry) -> Arc<Self> {
        let watermarks = Arc::new(Watermarks::register(registry));
        let registry = registry.sub_registry_with_prefix("node");
        let metrics = Arc::new(NodeMetrics::register(registry, &parts.catalog));
        let bounds = Bounds {
            memory: config.memory.0,
            negative_share: config.negative_share,
            eviction: config.eviction,
        };
        let plain = parts.catalog.groups().iter().any(|group| group.is_plain());
        let lingering = if plain { config.handover } else { Duration::ZERO };
        let slots = Arc::new(Slots::new(parts.id.clone()).with_lingering(lingering));
        let groups = parts.catalog.groups().len();
        let recorder = Arc::new(Recorder::new(config.recorder_events));
        let store = Store::new(bounds, registry).with_recorder(recorder);
        let gate = Gate::new(store, slots.clone(), groups, config.quarantine, config.removal_log)
            .with_graces(graces(&parts.catalog))
            .with_plain(parts.catalog.groups().iter().map(|group| group.is_plain()))
            .with_reached(parts.catalog.groups().iter().map(|group| parts.catalog.is_reached(group)))
            .with_compression(config.compression(&parts.catalog))
            .with_tag_log(config.tag_log);
        let gate = Arc::new(gate);
        let life = Arc::new(Life::new(parts.registration));
        if life.incarnation() != 0 {
            slots.renew(life.incarnation(), Instant::now());
        }
        let tasks = TaskTracker::new();
        let warm = Warm::new(
            parts.id.clone(),
            &config,
            gate.clone(),
            slots.clone(),
            life.clone(),
            parts.peers.clone(),
            metrics.clone(),
            plain,
        );
        if plain && (config.handover.is_zero() || config.pull_wait.is_zero() || config.warm_rate.0 == 0) {
            tracing::warn!(
                node = %parts.id, handover = ?config.handover, pull_wait = ?config.pull_wait, warm_rate = config.warm_rate.0,
                "the catalog has plain groups, whose values are lost when their slots move: they are handed over only if node.handover, \
                 node.pull_wait and node.warm_rate are above 0"
            );
        }
        let copies = Copies::new(config.copy_queue, CopyMetrics::register(registry));
        let departures = Departures::new(config.handover);
        let hot = Hot::new(&config, &parts.catalog, registry);
        let mirrors = Mirrors::new(
            parts.id.clone(),
            config.mirror_lease,
            gate.clone(),
            life.clone(),
            parts.peers.clone(),
            tasks.clone(),
            MirrorMetrics::register(registry, &parts.catalog),
        );
        let reloads = parts.catalog.groups().iter().any(|group| group.on_change == OnChange::Reload);
        let fills = Fills::new(
            gate.clone(),
            parts.loader.clone(),
            life.clone(),
            metrics.clone(),
            watermarks.clone(),
            tasks.clone(),
            warm.clone(),
            copies.clone(),
            config.max_value.0,
        );
        let own = terms(&config, &parts.catalog, parts.membership.ring().configured_replicas());
        let answering = Answering::new(parts.peers.cluster(), parts.id.as_str());
        let told_flushes = (0..groups).map(|_| Paced::new(10, Duration::from_secs(10))).collect();
        let started = Instant::now();
        let node = Arc::new(Self {
            agreement: Agreement::register(own, answering, registry),
            seal: Seal::new(&parts.id, started),
            replies: Replies::register(&config, registry),
            requests: Requests::register(&config, registry),
            aside_asks: Semaphore::new(ASIDE_ASKS),
            resp: Resp::register(&config, registry),
            id: parts.id,
            config,
            catalog: parts.catalog,
            gate,
            slots,
            loader: parts.loader,
            fills,
            warm,
            copies,
            departures,
            hot,
            background: Background::new(),
            reloads,
            mirrors,
            life,
            membership: parts.membership,
            peers: parts.peers,
            metrics,
            watermarks,
            tasks,
            stop: CancellationToken::new(),
            started,
            flush_wanted: Notify::new(),
            told_flushes,
            told_unknown: Paced::new(1, Duration::from_secs(10)),
            plain: Plain::new(started),
            wanted: AtomicBool::new(false),
            starting: AtomicBool::new(false),
            catching_up: AtomicBool::new(false),
            births: Mutex::new(()),
            turns: Mutex::new(()),
        });
        node.metrics.quarantine.set(node.gate.quarantine().as_secs_f64());
        node.take_ring(&node.membership.ring());
        node.follow();
        node
    }

    /// This node's id.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Answers no key until it is said again, with `false`, that the catalog is fit for the database.
    pub(crate) fn set_starting(&self, starting: bool) {
        self.starting.store(starting, Release);
    }

    /// The epoch of the ring that this node goes by.
    pub fn epoch(&self) -> Epoch {
        self.slots.epoch()
    }

    /// The membership as this node knows it.
    pub fn ring(&self) -> Arc<Ring> {
        self.membership.ring()
    }

    /// The catalog that this node serves.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// How this node is run.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns a key's value: from memory, from the database, or from the key's owner.
    ///
    /// Dropping the future is safe; a fill that it began goes on for others.
    pub async fn get(&self, key: &str, hop: Hop) -> Result<Answer, Error> {
        self.get_with(key, hop, ReadOptions::default()).await
    }

    /// Like [`get`](Self::get), read as `options` say.
    pub async fn get_with(&self, key: &str, hop: Hop, options: ReadOptions) -> Result<Answer, Error> {
        let key = self.resolve(key)?;
        self.get_key(&key, hop, options).await
    }

    pub(crate) async fn get_key(&self, key: &Key, hop: Hop, options: ReadOptions) -> Result<Answer, Error> {
        let place = place(key);
        let bound = strictest(key, options);
        if let Some(answer) = self.hit(key, place, bound) {
            return Ok(answer);
        }
        if key.group.is_plain() {
            return self.get_plain(key, place, hop).await;
        }
        let ring = self.current_ring();
        if self.holds(place) {
            if let Some(answer) = self.aside_by_owner(&ring, key, place, hop, options).await? {
                return Ok(answer);
            }
            let answer = if options.look_aside {
                self.give_token(key, place)?
            } else {
                self.miss(key, place, hop, options).await?
            };
            if let Some(answer) = answer {
                self.hot.read(place, key, hot::Read::Answered);
                return Ok(answer);
            }
        }
        match hop {
            Hop::First => {
                if let Some(answer) = self.mirror_hit(&ring, key, place, bound) {
                    return Ok(answer);
                }
                self.passed_on(&ring, key, place);
                self.forward(&ring, key, options).await
            }
            Hop::Forwarded if options.look_aside => Ok(self.give_nothing(key)),
            // The sender's ring and this node's disagree. The row itself is right whoever reads it.
            Hop::Forwarded => {
                self.metrics.stray_reads.inc();
                self.read_through(key).await
            }
        }
    }

    /// Answers a miss of a slot that this node holds; `None` if it was lost meanwhile.
    async fn miss(
        &self,
        key: &Key,
        place: Place,
        hop: Hop,
        options: ReadOptions,
    ) -> Result<Option<Answer>, Error> {
        self.check_fillable(key)?;
        let bound = strictest(key, options);
        if !self.life.live() {
            return match self.config.fenced {
                Fenced::Unavailable => {
                    self.metrics.group(key.group.id).errors.inc();
                    Err(Error::Fenced)
                }
                Fenced::ReadThrough => {
                    self.metrics.fenced_reads.inc();
                    self.read_through(key).await.map(Some)
                }
            };
        }
        let incarnation = self.life.incarnation();
        let group = self.metrics.group(key.group.id);
        let reach = match hop {
            // What another node has may be older than the reader takes.
            _ if bound.is_some() => Reach::Database,
            Hop::First => Reach::Owner,
            Hop::Forwarded => Reach::Departing,
        };
        match self.fills.get(key, place, bound, self.warm.reach(place, reach)).await {
            Ok(Miss::Hit(fresh)) if self.life.vouches_for(incarnation) => {
                Ok(Some(self.answer_from_memory(fresh, Instant::now())))
            }
            Ok(Miss::Hit(_)) => {
                self.metrics.fenced_reads.inc();
                self.read_through(key).await.map(Some)
            }
            Ok(Miss::Own(read)) => {
                let own = if read.expires.is_some() { Outcome::Miss } else { Outcome::ReadThrough };
                let outcome = read.elsewhere.unwrap_or(own);
                group.ended(outcome);
                Ok(Some(self.answer(read, outcome)))
            }
            Ok(Miss::Shared(read)) => {
                group.shared.inc();
                // That it is stale is to be told to all who share it.
                let outcome = read.elsewhere.filter(|outcome| *outcome == Outcome::Stale);
                Ok(Some(self.answer(read, outcome.unwrap_or(Outcome::Shared))))
            }
            Ok(Miss::NotHeld) => Ok(None),
            Err(error) => {
                if let Some(answer) = self.stale_instead(key, place, options, &error) {
                    return Ok(Some(answer));
                }
                group.errors.inc();
                Err(error)
            }
        }
    }

    /// Answers from the database for this request alone; nothing is stored.
    pub(crate) async fn read_through(&self, key: &Key) -> Result<Answer, Error> {
        self.check_fillable(key)?;
        let group = self.metrics.group(key.group.id);
        match self.fills.read_through(key).await {
            Ok(read) => {
                group.read_through.inc();
                Ok(self.answer(read, Outcome::ReadThrough))
            }
            Err(error) => {
                group.errors.inc();
                Err(error)
            }
        }
    }

    /// Parses a key, or says what is wrong with it.
    pub(crate) fn resolve(&self, key: &str) -> Result<Key, Error> {
        if self.starting.load(Acquire) {
            return Err(Error::Starting);
        }
        self.check_length(key)?;
        self.catalog.resolve(key).map_err(|error| {
            self.metrics.bad_keys.inc();
            Error::key(error)
        })
    }

    pub(crate) fn check_length(&self, key: &str) -> Result<(), Error> {
        let limit = self.config.max_key.0 as usize;
        if key.len() > limit {
            self.metrics.bad_keys.inc();
            return Err(Error::KeyTooLong { len: key.len(), limit });
        }
        Ok(())
    }

    pub(crate) fn check_count(&self, count: usize) -> Result<(), Error> {
        let limit = self.config.max_keys;
        if count > limit { Err(Error::TooManyKeys { count, limit }) } else { Ok(()) }
    }

    pub(crate) fn check_groups(&self, names: &[String]) -> Result<(), Error> {
        let unknown: Vec<_> =
            names.iter().filter(|name| self.catalog.group(name).is_none()).map(String::as_str).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let known: Vec<_> = self.catalog.groups().iter().map(|group| &*group.name).collect();
        Err(Error::UnknownGroup { unknown: unknown.join(", "), known: known.join(", ") })
    }

    pub(crate) fn holds(&self, place: Place) -> bool {
        self.slots.acquisition(place.slot).is_some()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.id).field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

/// How old a value from memory may be: as the reader says or as the group does, the stricter.
pub(crate) fn strictest(key: &Key, options: ReadOptions) -> Option<Duration> {
    if key.group.is_plain() {
        return None; // no database could have a newer one
    }
    match (options.max_staleness, key.group.max_staleness) {
        (Some(asked), Some(declared)) => Some(asked.min(declared)),
        (asked, declared) => asked.or(declared),
    }
}

/// Where a key belongs.
pub(crate) fn place(key: &Key) -> Place {
    Place { hash: hash(&key.text), group: key.group.id.0, slot: slot_of(&key.text).get() }
}
