//! One simulation: everybody on one thread, step by step, until all has settled.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use catalog::Catalog;
use client::Outcome;
use parking_lot::Mutex;
use rand::{SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};
use ring::{MemberState, fixed::Fixed, rules};
use sync_service::offsets::Offsets;
use tokio_util::sync::CancellationToken;

use crate::{
    batch::Without,
    clock::{self, Millis, Party},
    database::{PRODUCTS, Pace, Writer, catalog},
    etcd::{Etcd, millis},
    host::Host,
    kafka::Kafka,
    membership,
    network::{Link, Network},
    plain::History,
    processes,
    scenario::{CLIENTS, Counts, Fault, NODES, Scenario},
    trace,
    truth::{Change, Truth},
};

/// How long everything may take to settle after the last fault.
const SETTLE: Millis = 15_000;
/// How many broken promises are told.
const TOLD: usize = 3;

/// What the processes share with the simulation.
pub(crate) struct Shared {
    pub(crate) scenario: Scenario,
    pub(crate) without: Without,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) network: Arc<Network>,
    pub(crate) etcd: Arc<Etcd>,
    /// The members, where they are a fixed list.
    pub(crate) list: Option<Fixed>,
    pub(crate) kafka: Arc<Mutex<Kafka>>,
    pub(crate) truth: Arc<Mutex<Truth>>,
    pub(crate) plain: Mutex<History>,
    pub(crate) pace: Arc<Mutex<Pace>>,
    /// The key that was changed last.
    pub(crate) recent: Mutex<Option<String>>,
    /// Whether the last look may be taken, and whether it was.
    pub(crate) settled: AtomicBool,
    pub(crate) looked: AtomicBool,
    pub(crate) seen: Mutex<Seen>,
}

/// What the readers saw.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Seen {
    pub(crate) reads: u64,
    pub(crate) from_memory: u64,
    pub(crate) errors: u64,
    pub(crate) last_looks: u64,
    pub(crate) last_from_memory: u64,
    pub(crate) broken: Vec<String>,
    pub(crate) broken_count: u64,
}

/// How a simulation ended.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ended {
    pub(crate) seed: u64,
    pub(crate) seen: Seen,
    pub(crate) changes: u64,
    pub(crate) faults: BTreeMap<String, u64>,
    /// Simulated milliseconds.
    pub(crate) took: Millis,
    /// The hash of all that happened.
    pub(crate) hash: u64,
}

impl Shared {
    pub(crate) fn answered(&self, outcome: Outcome) {
        let mut seen = self.seen.lock();
        seen.reads += 1;
        seen.from_memory += u64::from(from_memory(outcome));
    }

    pub(crate) fn failed(&self) {
        self.seen.lock().errors += 1;
    }

    pub(crate) fn looked_at(&self, outcome: Outcome) {
        let mut seen = self.seen.lock();
        seen.last_looks += 1;
        seen.last_from_memory += u64::from(from_memory(outcome));
    }

    pub(crate) fn broken(&self, what: String) {
        trace::note(format_args!("BROKEN {what}"));
        let mut seen = self.seen.lock();
        seen.broken_count += 1;
        if seen.broken.len() < TOLD {
            seen.broken.push(what);
        }
    }
}

fn from_memory(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Hit | Outcome::NegativeHit)
}

struct World {
    shared: Arc<Shared>,
    rng: SmallRng,
    writer: Writer,
    hosts: BTreeMap<Party, Host>,
    lives: BTreeMap<Party, u64>,
    leaving: BTreeMap<Party, CancellationToken>,
    acknowledged: BTreeMap<Party, Arc<Mutex<Option<Arc<Offsets>>>>>,
    quiet: Arc<AtomicBool>,
    counts: Counts,
}

/// Runs one simulation on this thread.
pub(crate) fn run(scenario: Scenario, without: Without) -> Ended {
    rules::take_out(match without {
        Without::Rule(rule) => Some(rule),
        Without::Nothing | Without::Quarantine => None,
    });
    let mut world = World::new(scenario, without);
    world.run()
}

impl World {
    fn new(scenario: Scenario, without: Without) -> Self {
        let seed = scenario.seed;
        let usual = Link { latency: scenario.latency, loss: 0.0, cut: false };
        let network = Network::new(seed ^ 0xa5a5, usual);
        let etcd = Etcd::new(network.clone(), scenario.replicas);
        let kafka = Arc::new(Mutex::new(Kafka::new(scenario.partitions, scenario.replay)));
        let truth = Arc::new(Mutex::new(Truth::default()));
        {
            let mut truth = truth.lock();
            for id in 1..=scenario.users {
                truth.begin(&format!("user:{id}"), Change::of((id % 4 != 0).then_some(0)));
            }
            for id in 1..=scenario.orders {
                truth.begin(&format!("orders:{id}"), Change::of(Some(0)));
            }
            for id in 1..=scenario.baskets {
                let carries = Some(1 + id % PRODUCTS);
                truth.begin(&format!("baskets:{id}"), Change { carries, ..Change::of(Some(0)) });
            }
        }
        let writer = Writer {
            truth: truth.clone(),
            kafka: kafka.clone(),
            rng: SmallRng::seed_from_u64(seed ^ 0x77),
            gap: scenario.gap,
            every: scenario.changes_every,
            next: 200,
            versions: 0,
            changes: 0,
            last: None,
        };
        let shared = Arc::new(Shared {
            catalog: catalog(scenario.plain),
            plain: Mutex::default(),
            network,
            etcd,
            list: membership::list(&scenario),
            kafka,
            truth,
            pace: Arc::default(),
            recent: Mutex::default(),
            settled: AtomicBool::new(false),
            looked: AtomicBool::new(false),
            seen: Mutex::default(),
            scenario,
            without,
        });
        Self {
            shared,
            rng: SmallRng::seed_from_u64(seed ^ 0x1234),
            writer,
            hosts: BTreeMap::new(),
            lives: BTreeMap::new(),
            leaving: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            quiet: Arc::default(),
            counts: Counts::new(),
        }
    }

    fn run(&mut self) -> Ended {
        trace::note(format_args!("{}", self.shared.scenario));
        for party in self.shared.scenario.hosts() {
            self.start(party);
        }
        let mut faults = self.shared.scenario.faults.clone().into_iter().peekable();
        let active = self.shared.scenario.active;
        while clock::now() < active {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= clock::now()) {
                self.befall(fault);
            }
            self.writer.step();
            self.shared.recent.lock().clone_from(&self.writer.last);
            self.step();
        }
        self.heal();
        self.settle();
        let seen = self.shared.seen.lock().clone();
        trace::note(format_args!("ended: {seen:?}"));
        Ended {
            seed: self.shared.scenario.seed,
            seen,
            changes: self.writer.changes,
            faults: self.counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            took: clock::now(),
            hash: trace::hash(),
        }
    }

    /// Lets a millisecond pass, for everybody, in any order.
    fn step(&mut self) {
        clock::set(clock::now() + 1);
        self.shared.network.deliver();
        self.shared.etcd.step();
        self.shared.kafka.lock().step();
        let mut order: Vec<_> = self.hosts.keys().copied().collect();
        order.shuffle(&mut self.rng);
        for party in order {
            let Some(host) = self.hosts.get_mut(&party) else { continue };
            if !host.step() {
                trace::note(format_args!("{party}: ended"));
                self.stop(party, false);
            }
        }
        self.note_delivered();
    }

    /// What the sync services count as acknowledged, or have committed, is delivered.
    fn note_delivered(&self) {
        let mut truth = self.shared.truth.lock();
        for offsets in self.acknowledged.values() {
            let Some(offsets) = offsets.lock().clone() else { continue };
            for (partition, next) in offsets.acknowledged() {
                truth.deliver(partition.number as usize, next.unwrap_or(0));
            }
        }
        for (partition, next) in self.shared.kafka.lock().committed().into_iter().enumerate() {
            truth.deliver(partition, next);
        }
    }

    fn start(&mut self, party: Party) {
        if self.hosts.contains_key(&party) {
            return;
        }
        trace::note(format_args!("{party}: starts"));
        let life = self.lives.entry(party).and_modify(|life| *life += 1).or_insert(1);
        let (shared, life, leave) = (self.shared.clone(), *life, CancellationToken::new());
        self.shared.network.back(party);
        clock::run_as(Some(party));
        let host = match party {
            Party::Node(_) => Host::start(party, processes::node(shared, party, life, leave.clone())),
            Party::Sync(_) => {
                let offsets = self.acknowledged.entry(party).or_default().clone();
                *offsets.lock() = None;
                Host::start(party, processes::sync(shared, party, life, offsets, leave.clone()))
            }
            _ => Host::start(party, processes::application(shared, party, self.quiet.clone())),
        };
        clock::run_as(None);
        self.hosts.insert(party, host);
        self.leaving.insert(party, leave);
    }

    /// Takes a host away, as if its plug was pulled.
    fn stop(&mut self, party: Party, dark: bool) {
        let Some(host) = self.hosts.remove(&party) else { return };
        self.shared.network.died(party, dark);
        if let Some(offsets) = self.acknowledged.get(&party) {
            *offsets.lock() = None;
        }
        drop(host);
    }

    fn befall(&mut self, fault: Fault) {
        trace::note(format_args!("fault: {fault:?}"));
        if let Some(kind) = fault.kind() {
            *self.counts.entry(kind).or_default() += 1;
        }
        let network = &self.shared.network;
        match fault {
            Fault::Cut(from, to) => network.change(from, to, |link| link.cut = true),
            Fault::Mend(from, to) => {
                let latency = self.shared.scenario.latency;
                network.change(from, to, |link| *link = Link { latency, loss: 0.0, cut: false });
            }
            Fault::Delay(from, to, most) => network.change(from, to, |link| link.latency = (most / 4, most)),
            Fault::Lose(from, to, share) => network.change(from, to, |link| link.loss = share),
            Fault::Crash(party, dark) => self.stop(party, dark),
            Fault::Start(party) => self.start(party),
            Fault::Pause(party, lasts) => {
                if let Some(host) = self.hosts.get_mut(&party) {
                    host.freeze(clock::now() + lasts);
                }
            }
            Fault::SlowFills(slow, most) => *self.shared.pace.lock() = Pace { slow, most },
            Fault::HoldWatch(party) => self.shared.etcd.hold_back(party, true),
            Fault::LetGo(party) => self.shared.etcd.hold_back(party, false),
            Fault::Stall(partition) => self.shared.kafka.lock().stall(partition, true),
            Fault::Flow(partition) => self.shared.kafka.lock().stall(partition, false),
            Fault::Repeat(partition, count) => self.shared.kafka.lock().repeat(partition, count),
            Fault::Leave(party) => {
                if let Some(leave) = self.leaving.get(&party) {
                    leave.cancel();
                }
            }
        }
    }

    /// Ends all faults.
    fn heal(&mut self) {
        trace::note(format_args!("all faults end"));
        self.shared.network.mend();
        *self.shared.pace.lock() = Pace::default();
        self.shared.kafka.lock().flow();
        let all = self.shared.scenario.hosts().into_iter().chain([Party::Node(NODES + 1)]);
        for party in all.chain((1..=CLIENTS).map(Party::Client)) {
            self.shared.etcd.hold_back(party, false);
        }
        for host in self.hosts.values_mut() {
            host.thaw();
        }
        for party in self.shared.scenario.hosts() {
            self.start(party);
        }
    }

    /// Waits until all is delivered and every node is in the ring, and then looks at everything once more.
    fn settle(&mut self) {
        let limit = clock::now() + SETTLE;
        let quarantine = millis(self.shared.scenario.quarantine);
        let mut calm = 0;
        while calm < quarantine + 150 {
            if clock::now() >= limit {
                let undelivered = !self.shared.truth.lock().all_delivered();
                let ring = membership::ring(&self.shared);
                self.shared.broken(format!("nothing settles: undelivered {undelivered}, {ring:?}"));
                return;
            }
            self.restart_who_left();
            self.step();
            calm = if self.is_calm() { calm + 1 } else { 0 };
        }
        self.quiet.store(true, SeqCst);
        self.shared.settled.store(true, SeqCst);
        while !self.shared.looked.load(SeqCst) {
            if clock::now() >= limit {
                self.shared.broken("the last look does not end".to_owned());
                return;
            }
            self.step();
        }
    }

    /// A node of the first ones that was still leaving when all was healed.
    fn restart_who_left(&mut self) {
        for party in self.shared.scenario.hosts() {
            self.start(party);
        }
    }

    fn is_calm(&self) -> bool {
        let ring = membership::ring(&self.shared);
        let active = |party: &Party| {
            !matches!(party, Party::Node(_))
                || ring.members().iter().any(|member| {
                    member.id.as_str() == party.to_string() && member.state == MemberState::Active
                })
        };
        self.hosts.keys().all(active)
            && self.shared.truth.lock().all_delivered()
            && self.shared.kafka.lock().drained()
    }
}
