//! What is broken, in which order, and for how long.
//!
//! Two hands work at the same time, so that faults meet each other: one on the nodes, the other on sync services and etcd. Each takes all
//! its kinds of faults in a shuffled order, then again. A fault is over when its process is ready again.

use std::{
    fmt,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use tests::{
    history::{Clock, Moment},
    network::{Cut, Remote},
    stack::Stack,
};

use crate::{
    etcd,
    fleet::{LEASE, Members, SESSION, Seat},
};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    NodeKilled,
    NodeRestarted,
    NodePausedBriefly,
    NodePausedLong,
    NodeCutFromEtcd,
    NodeCutFromSync,
    NodesCutApart,
    SyncKilled,
    SyncPausedBriefly,
    SyncPausedLong,
    SyncCutFromKafka,
    SyncCutFromEtcd,
    LeaderKilled,
    LeaderPaused,
}

const OF_NODES: [Kind; 7] = [
    Kind::NodeKilled,
    Kind::NodeRestarted,
    Kind::NodePausedBriefly,
    Kind::NodePausedLong,
    Kind::NodeCutFromEtcd,
    Kind::NodeCutFromSync,
    Kind::NodesCutApart,
];
const OF_OTHERS: [Kind; 7] = [
    Kind::SyncKilled,
    Kind::SyncPausedBriefly,
    Kind::SyncPausedLong,
    Kind::SyncCutFromKafka,
    Kind::SyncCutFromEtcd,
    Kind::LeaderKilled,
    Kind::LeaderPaused,
];
const CUTS: [Cut; 4] = [Cut::Silent, Cut::Outgoing, Cut::Incoming, Cut::Reset];

/// A fault that has begun.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    pub(crate) began: Moment,
    pub(crate) ended: Option<Moment>,
}

/// All faults so far; each is printed as it begins and ends.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    clock: Clock,
    past: Arc<Mutex<Vec<Past>>>,
}

impl Log {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, past: Arc::default() }
    }

    pub(crate) fn all(&self) -> Vec<Past> {
        self.past.lock().expect("nobody panics with the log").clone()
    }

    fn begin(&self, kind: Kind, detail: &str) -> usize {
        let (began, what) = (self.clock.now(), format!("{kind}: {detail}"));
        println!("{:8.3} s  {what}", seconds(began));
        let mut past = self.past.lock().expect("nobody panics with the log");
        past.push(Past { kind, what, began, ended: None });
        past.len() - 1
    }

    fn end(&self, index: usize) {
        let mut past = self.past.lock().expect("nobody panics with the log");
        let ended = self.clock.now();
        past[index].ended = Some(ended);
        println!("{:8.3} s  over: {}", seconds(ended), past[index].what);
    }
}

/// Breaks nodes until `until`.
pub(crate) async fn break_nodes(
    nodes: &mut [Seat],
    syncs: &[Ipv4Addr],
    etcd: &Remote,
    members: Members,
    log: &Log,
    seed: u64,
    until: Moment,
) {
    let mut random = StdRng::seed_from_u64(seed);
    for kind in kinds(&OF_NODES, members, seed) {
        pause(&mut random).await;
        if log.clock.now() >= until {
            return;
        }
        let index = random.random_range(0..nodes.len());
        let other = nodes[(index + random.random_range(1..nodes.len())) % nodes.len()].host.address;
        let node = &mut nodes[index];
        let cut = *CUTS.choose(&mut random).expect("there are cuts");
        match kind {
            Kind::NodeKilled => kill(node, kind, log, &mut random).await,
            Kind::NodeRestarted => {
                let fault = log.begin(kind, &node.name);
                node.stop().await;
                node.start();
                node.ready().await;
                log.end(fault);
            }
            Kind::NodePausedBriefly => {
                freeze(node, kind, log, LEASE.mul_f64(random.random_range(0.1..0.6))).await;
            }
            Kind::NodePausedLong => {
                freeze(node, kind, log, LEASE.mul_f64(random.random_range(1.5..2.5))).await;
            }
            Kind::NodeCutFromEtcd => {
                let hold = LEASE.mul_f64(random.random_range(0.3..2.5));
                separate(node, std::slice::from_ref(etcd), cut, kind, log, hold).await;
            }
            Kind::NodeCutFromSync => {
                let hold = LEASE.mul_f64(random.random_range(0.3..2.0));
                let syncs: Vec<Remote> = syncs.iter().copied().map(Remote::Host).collect();
                separate(node, &syncs, cut, kind, log, hold).await;
            }
            _ => {
                let hold = LEASE.mul_f64(random.random_range(0.3..2.0));
                separate(node, &[Remote::Host(other)], cut, kind, log, hold).await;
            }
        }
    }
}

/// Breaks sync services and etcd until `until`.
pub(crate) async fn break_others(
    syncs: &mut [Seat],
    (stack, kafka, etcd): (&Stack, &Remote, &Remote),
    members: Members,
    log: &Log,
    seed: u64,
    until: Moment,
) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(1));
    for kind in kinds(&OF_OTHERS, members, seed.wrapping_add(1)) {
        pause(&mut random).await;
        if log.clock.now() >= until {
            return;
        }
        let index = random.random_range(0..syncs.len());
        let sync = &mut syncs[index];
        let cut = *CUTS.choose(&mut random).expect("there are cuts");
        match kind {
            Kind::SyncKilled => kill(sync, kind, log, &mut random).await,
            Kind::SyncPausedBriefly => {
                freeze(sync, kind, log, SESSION.mul_f64(random.random_range(0.1..0.6))).await;
            }
            Kind::SyncPausedLong => {
                freeze(sync, kind, log, SESSION.mul_f64(random.random_range(1.2..1.6))).await;
            }
            Kind::SyncCutFromKafka => {
                let hold = SESSION.mul_f64(random.random_range(0.2..1.5));
                separate(sync, std::slice::from_ref(kafka), cut, kind, log, hold).await;
            }
            Kind::SyncCutFromEtcd => {
                let hold = Duration::from_secs(random.random_range(1..6));
                separate(sync, std::slice::from_ref(etcd), cut, kind, log, hold).await;
            }
            _ => {
                let (number, leader) = etcd::leader(stack).await;
                let fault = log.begin(kind, &format!("member {number}"));
                let hold = Duration::from_millis(random.random_range(1_000..6_000));
                if kind == Kind::LeaderKilled {
                    leader.kill().await;
                    tokio::time::sleep(hold).await;
                    leader.start_again().await;
                } else {
                    leader.pause().await;
                    tokio::time::sleep(hold).await;
                    leader.unpause().await;
                }
                log.end(fault);
            }
        }
    }
}

impl Kind {
    /// Whether it breaks what only a cluster with etcd has.
    fn is_of_etcd(self) -> bool {
        matches!(
            self,
            Self::NodeCutFromEtcd | Self::SyncCutFromEtcd | Self::LeaderKilled | Self::LeaderPaused
        )
    }
}

/// All kinds that these members can meet in some order, then in another one, and so on.
fn kinds(all: &'static [Kind], members: Members, seed: u64) -> impl Iterator<Item = Kind> {
    let mut random = StdRng::seed_from_u64(seed ^ 0x6b69_6e64);
    std::iter::repeat_with(move || {
        let mut round = all.to_vec();
        round.retain(|kind| members == Members::Etcd || !kind.is_of_etcd());
        round.shuffle(&mut random);
        round
    })
    .flatten()
}

async fn pause(random: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(random.random_range(500..2_500))).await;
}

async fn kill(seat: &mut Seat, kind: Kind, log: &Log, random: &mut StdRng) {
    let down = LEASE.mul_f64(random.random_range(0.0..1.6));
    let fault = log.begin(kind, &format!("{}, started again after {down:.1?}", seat.name));
    seat.kill();
    tokio::time::sleep(down).await;
    seat.start();
    seat.ready().await;
    log.end(fault);
}

async fn freeze(seat: &Seat, kind: Kind, log: &Log, time: Duration) {
    let fault = log.begin(kind, &format!("{} for {time:.1?}", seat.name));
    seat.process().signal("STOP");
    tokio::time::sleep(time).await;
    seat.process().signal("CONT");
    log.end(fault);
    seat.ready().await;
}

async fn separate(seat: &Seat, remotes: &[Remote], cut: Cut, kind: Kind, log: &Log, time: Duration) {
    let fault = log.begin(kind, &format!("{} for {time:.1?}, {cut}", seat.name));
    for remote in remotes {
        seat.host.cut(remote, cut);
    }
    tokio::time::sleep(time).await;
    seat.host.heal();
    log.end(fault);
    seat.ready().await;
}

fn seconds(moment: Moment) -> f64 {
    Duration::from_nanos(moment.0).as_secs_f64()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeKilled => "node killed",
            Self::NodeRestarted => "node restarted",
            Self::NodePausedBriefly => "node frozen within its lease",
            Self::NodePausedLong => "node frozen beyond its lease",
            Self::NodeCutFromEtcd => "node cut off from etcd",
            Self::NodeCutFromSync => "node cut off from the sync services",
            Self::NodesCutApart => "two nodes cut apart",
            Self::SyncKilled => "sync service killed",
            Self::SyncPausedBriefly => "sync service frozen within its session",
            Self::SyncPausedLong => "sync service frozen beyond its session",
            Self::SyncCutFromKafka => "sync service cut off from Kafka",
            Self::SyncCutFromEtcd => "sync service cut off from etcd",
            Self::LeaderKilled => "etcd's leader killed",
            Self::LeaderPaused => "etcd's leader frozen",
        })
    }
}
