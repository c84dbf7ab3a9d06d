//! What a seed stands for: a cluster, its load, and the faults that befall it.

use std::{collections::BTreeMap, fmt, time::Duration};

use cache_node::Fenced;
use client::ReadFrom;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use crate::clock::{Millis, Party};

/// How long changes are made and faults happen, in milliseconds.
const ACTIVE: Millis = 2200;
/// Nodes of a cluster from the start; one more may join.
pub(crate) const NODES: u8 = 3;
/// Application processes: the first follows the membership, the second asks nodes for the ring.
pub(crate) const CLIENTS: u8 = 2;

/// One seed's cluster, load and faults.
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// Whether the members are a fixed list, without leases: then none joins.
    pub(crate) fixed: bool,
    pub(crate) replicas: usize,
    pub(crate) syncs: u8,
    pub(crate) partitions: usize,
    pub(crate) users: u64,
    pub(crate) orders: u64,
    pub(crate) baskets: u64,
    pub(crate) quarantine: Duration,
    /// The most that the log is ahead of what readers of the database see.
    pub(crate) gap: Millis,
    pub(crate) fenced: Fenced,
    pub(crate) read_from: ReadFrom,
    pub(crate) latency: (Millis, Millis),
    /// The pauses between changes, and between the reads of one reader.
    pub(crate) changes_every: (Millis, Millis),
    pub(crate) reads_every: (Millis, Millis),
    pub(crate) replay: i64,
    pub(crate) active: Millis,
    /// How long nodes mirror each other's keys; then some reads go to any node, which forwards.
    pub(crate) mirror_lease: Option<Duration>,
    /// Whether applications use plain groups too.
    pub(crate) plain: bool,
    /// In the order of their times.
    pub(crate) faults: Vec<(Millis, Fault)>,
}

/// Something that happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// A link carries nothing one way.
    Cut(Party, Party),
    Mend(Party, Party),
    /// A link is slow one way: most milliseconds of a packet.
    Delay(Party, Party, Millis),
    /// A link loses a share of its packets one way.
    Lose(Party, Party, f64),
    /// A process dies; with its machine, which then says nothing, or alone.
    Crash(Party, bool),
    Start(Party),
    /// A process is stopped and goes on later, after so many milliseconds.
    Pause(Party, Millis),
    /// Reads of the database are slow.
    SlowFills(f64, Millis),
    /// What a party sees of the membership lags.
    HoldWatch(Party),
    LetGo(Party),
    /// A partition's messages don't come out, so that those of others overtake them.
    Stall(usize),
    Flow(usize),
    /// Canal writes the last messages of a partition once more.
    Repeat(usize, usize),
    /// A node leaves as planned.
    Leave(Party),
}

/// How often each kind of fault happened.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

impl Fault {
    /// Its kind, for the count; `None` for the end of another one.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::Cut(..) => "cuts",
            Self::Delay(..) => "delays",
            Self::Lose(..) => "losses",
            Self::Crash(Party::Sync(_), _) => "takeovers",
            Self::Crash(..) => "crashes",
            Self::Pause(..) => "pauses",
            Self::SlowFills(share, _) if *share > 0.0 => "slow fills",
            Self::HoldWatch(_) => "lagging watches",
            Self::Stall(_) => "reorderings",
            Self::Repeat(..) => "replays",
            Self::Leave(_) => "leaves",
            Self::Start(Party::Node(number)) if *number > NODES => "joins",
            Self::Start(_) | Self::Mend(..) | Self::SlowFills(..) | Self::LetGo(_) | Self::Flow(_) => {
                return None;
            }
        })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {}replicas {}, sync services {}, partitions {}, log ahead by up to {} ms, latency {:?} ms, fenced {:?}",
            self.seed,
            if self.fixed { "fixed list, " } else { "" },
            self.replicas,
            self.syncs,
            self.partitions,
            self.gap,
            self.latency,
            self.fenced
        )
    }
}

/// By dice of its own, so that it changes nothing else of a seed.
fn mirror_lease(seed: u64) -> Option<Duration> {
    let rng = &mut SmallRng::seed_from_u64(seed ^ 0x6d69_7272);
    rng.random_bool(0.4).then(|| Duration::from_millis(rng.random_range(60..=250)))
}

/// By dice of its own, too.
fn fixed(seed: u64) -> bool {
    SmallRng::seed_from_u64(seed ^ 0x6669_7865).random_bool(0.2)
}

impl Scenario {
    /// Draws everything from the seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let syncs = rng.random_range(1..=2);
        let partitions = rng.random_range(1..=3);
        let mut scenario = Self {
            seed,
            fixed: fixed(seed),
            replicas: rng.random_range(1..=2),
            syncs,
            partitions,
            users: 5,
            orders: 3,
            baskets: 3,
            quarantine: Duration::from_millis(100),
            gap: *[0, 30, 60].choose(rng).expect("some"),
            fenced: if rng.random_bool(0.7) { Fenced::ReadThrough } else { Fenced::Unavailable },
            read_from: if rng.random_bool(0.5) { ReadFrom::Any } else { ReadFrom::Owner },
            latency: (1, rng.random_range(1..=5)),
            changes_every: (10, rng.random_range(30..=160)),
            reads_every: (2, rng.random_range(10..=40)),
            replay: if rng.random_bool(0.3) { rng.random_range(1..=5) } else { 0 },
            active: ACTIVE,
            mirror_lease: mirror_lease(seed),
            plain: false,
            faults: Vec::new(),
        };
        let mut draw = Draw { rng, scenario: &scenario, faults: Vec::new() };
        for _ in 0..draw.rng.random_range(3..=7) {
            draw.one();
        }
        let mut faults = draw.faults;
        if scenario.fixed {
            let newcomer = Party::Node(NODES + 1);
            faults.retain(|(_, fault)| {
                !matches!(fault, Fault::Start(party) | Fault::Leave(party) if *party == newcomer)
            });
        }
        faults.sort_by_key(|(at, _)| *at);
        scenario.faults = faults;
        scenario
    }

    /// Everybody that can crash or be paused.
    pub(crate) fn hosts(&self) -> Vec<Party> {
        let nodes = (1..=NODES).map(Party::Node);
        nodes.chain((1..=self.syncs).map(Party::Sync)).chain((1..=CLIENTS).map(Party::Client)).collect()
    }
}

struct Draw<'a> {
    rng: &'a mut SmallRng,
    scenario: &'a Scenario,
    faults: Vec<(Millis, Fault)>,
}

impl Draw<'_> {
    /// One fault, with its end.
    fn one(&mut self) {
        let at = self.rng.random_range(350..ACTIVE - 300);
        let lasts = *[40, 120, 300, 700, 1100].choose(self.rng).expect("some") + self.rng.random_range(0..60);
        let end = at + lasts;
        let node = self.node();
        match self.rng.random_range(0..17) {
            0 => {
                let (a, b) = self.link();
                self.cut(at, end, a, b);
            }
            1 => {
                let (a, b) = self.link();
                let fault = Fault::Delay(a, b, self.rng.random_range(10..=150));
                self.push(at, fault);
                self.push(end, Fault::Mend(a, b));
            }
            2 => {
                let (a, b) = self.link();
                let fault = Fault::Lose(a, b, self.rng.random_range(0.05..0.5));
                self.push(at, fault);
                self.push(end, Fault::Mend(a, b));
            }
            3 => self.crash(at, end, node),
            4 => {
                let who = *self.scenario.hosts().choose(self.rng).expect("hosts");
                self.push(at, Fault::Pause(who, lasts));
            }
            5 | 14 => {
                let share = self.rng.random_range(0.2..0.9);
                let most = self.rng.random_range(20..=400);
                self.push(at, Fault::SlowFills(share, most));
                self.push(end + 300, Fault::SlowFills(0.0, 0));
            }
            6 => {
                let who = *self.scenario.hosts().choose(self.rng).expect("hosts");
                self.hold(at, end, who);
            }
            7 => {
                let sync = self.sync();
                self.crash(at, end, sync);
            }
            8 => {
                let partition = self.rng.random_range(0..self.scenario.partitions);
                self.push(at, Fault::Stall(partition));
                self.push(end, Fault::Flow(partition));
            }
            9 => {
                let partition = self.rng.random_range(0..self.scenario.partitions);
                let count = self.rng.random_range(1..=6);
                self.push(at, Fault::Repeat(partition, count));
            }
            // A planned restart, while some still go by the old ring.
            10 => {
                self.push(at, Fault::Leave(node));
                self.push(end + 200, Fault::Start(node));
                self.bystanders(at, end + 400, node);
            }
            // A node joins.
            11 => {
                self.push(at, Fault::Start(Party::Node(NODES + 1)));
                self.bystanders(at, end + 400, Party::Node(NODES + 1));
                if self.rng.random_bool(0.5) {
                    self.push(end + 500, Fault::Leave(Party::Node(NODES + 1)));
                }
            }
            // A node that etcd does not hear of any more, or that is frozen, and that others still believe in.
            12 => {
                let end = at + self.rng.random_range(600..1000);
                if self.rng.random_bool(0.7) {
                    self.cut(at, end, node, Party::Etcd);
                } else {
                    let lasts = self.rng.random_range(450..=900);
                    self.push(at, Fault::Pause(node, lasts));
                }
                self.bystanders(at, end + 150, node);
            }
            // A node that gets removals later than others do.
            15 => {
                for sync in 1..=self.scenario.syncs {
                    let most = self.rng.random_range(40..=240);
                    self.push(at, Fault::Delay(Party::Sync(sync), node, most));
                    self.push(end, Fault::Mend(Party::Sync(sync), node));
                }
            }
            // A node that goes by an old ring and that the sync services don't reach, while slots go from it to a new node.
            16 => {
                self.push(at, Fault::Start(Party::Node(NODES + 1)));
                let end = at + self.rng.random_range(400..700);
                self.hold(at.saturating_sub(20), end, node);
                self.hold(at.saturating_sub(20), end, Party::Client(1));
                for sync in 1..=self.scenario.syncs {
                    self.push(at.saturating_sub(20), Fault::Cut(Party::Sync(sync), node));
                    self.push(end, Fault::Mend(Party::Sync(sync), node));
                }
            }
            // A node that the sync service does not reach.
            _ => {
                let sync = self.sync();
                self.cut(at, end, sync, node);
            }
        }
    }

    /// Holds the watches of some who have to do with a node.
    fn bystanders(&mut self, at: Millis, end: Millis, node: Party) {
        let nodes = (1..=NODES).map(|number| (Party::Node(number), 0.4));
        let others = [(Party::Client(1), 0.7), (self.sync(), 0.2), (node, 0.3)];
        for (party, share) in nodes.chain(others) {
            if self.rng.random_bool(share) {
                self.hold(at.saturating_sub(20), end, party);
            }
        }
    }

    fn hold(&mut self, at: Millis, end: Millis, party: Party) {
        self.push(at, Fault::HoldWatch(party));
        self.push(end, Fault::LetGo(party));
    }

    fn crash(&mut self, at: Millis, end: Millis, party: Party) {
        let dark = self.rng.random_bool(0.4);
        self.push(at, Fault::Crash(party, dark));
        self.push(end, Fault::Start(party));
    }

    fn cut(&mut self, at: Millis, end: Millis, a: Party, b: Party) {
        let (there, back) = *[(true, true), (true, false), (false, true)].choose(self.rng).expect("some");
        for (from, to, cut) in [(a, b, there), (b, a, back)] {
            if cut {
                self.push(at, Fault::Cut(from, to));
                self.push(end, Fault::Mend(from, to));
            }
        }
    }

    /// Two parties that talk to each other.
    fn link(&mut self) -> (Party, Party) {
        let (node, sync) = (self.node(), self.sync());
        let mut others = [Party::Node(1), Party::Node(2), Party::Node(3)].to_vec();
        others.retain(|other| *other != node);
        let other = *others.choose(self.rng).expect("another node");
        let client = Party::Client(self.rng.random_range(1..=CLIENTS));
        let links = [
            (node, Party::Etcd),
            (node, Party::Database),
            (node, other),
            (sync, node),
            (sync, Party::Etcd),
            (sync, Party::Kafka),
            (client, node),
        ];
        *links.choose(self.rng).expect("links")
    }

    fn node(&mut self) -> Party {
        Party::Node(self.rng.random_range(1..=NODES))
    }

    fn sync(&mut self) -> Party {
        Party::Sync(self.rng.random_range(1..=self.scenario.syncs))
    }

    fn push(&mut self, at: Millis, fault: Fault) {
        self.faults.push((at, fault));
    }
}
