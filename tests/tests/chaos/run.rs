//! A run from its start to its figures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::MySqlPool;
use tests::{
    history::{Clock, Read, Write},
    network::Remote,
    wait,
};
use tokio::task::JoinSet;

use crate::{
    deliveries::{self, Deliveries},
    faults::{self, Log},
    fleet::{Fleet, Members},
    load::{self, Writes},
    outages::Outages,
    readers::{self, Readers},
    registers::{self, ROWS},
    report::{Figures, Judgement},
    servers::Servers,
};

/// How long the stream may take to drain once all is mended.
const DRAIN: Duration = Duration::from_mins(3);
/// For how long load runs before the first fault, and after the last.
const CALM: Duration = Duration::from_secs(3);

/// Processes under load.
struct Run {
    fleet: Fleet,
    database: MySqlPool,
    deliveries: Deliveries,
    clock: Clock,
    writes: Writes,
    changes: Arc<AtomicU64>,
    stop_writing: Arc<AtomicBool>,
    writing: JoinSet<()>,
    readers: Readers,
    reading: JoinSet<Vec<Read>>,
}

/// Breaks things for `time`; an error tells what was wrong.
pub(crate) async fn break_things(
    servers: &Servers,
    members: Members,
    time: Duration,
    seed: u64,
) -> Result<(), String> {
    println!("chaos: seed {seed}, members by {members:?}, for {time:?}");
    let name = if members == Members::List { "t_chaos_list" } else { "t_chaos" };
    let mut run = Run::start(servers, name, members, seed).await?;
    let log = Log::new(run.clock);
    tokio::time::sleep(CALM).await;

    let begun = Instant::now();
    let until =
        tests::history::Moment(run.clock.now().0 + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let machine = servers.network.gateway;
    let etcd = Remote::Ports(machine, servers.stack.etcd_members().map(|member| member.port).collect());
    let kafka = Remote::Ports(machine, vec![servers.stack.kafka.port]);
    let syncs: Vec<_> = run.fleet.syncs.iter().map(|seat| seat.host.address).collect();
    tokio::join!(
        faults::break_nodes(&mut run.fleet.nodes, &syncs, &etcd, members, &log, seed, until),
        faults::break_others(
            &mut run.fleet.syncs,
            (&servers.stack, &kafka, &etcd),
            members,
            &log,
            seed,
            until
        ),
    );
    tokio::time::sleep(CALM).await;
    run.stop_writing().await;
    wait::until("all changes to be delivered", DRAIN, async || match run.deliveries.missing(&run.writes) {
        0 => Ok(()),
        missing => Err(format!("the last changes of {missing} rows")),
    })
    .await;
    let (reads, rows) = run.stop_reading().await;

    let faults = log.all();
    let (compared, remembered, stale) = compare(&run).await?;
    let figures = Figures {
        seed,
        took: begun.elapsed(),
        changes: run.changes.load(Ordering::Relaxed),
        failed: run.readers.failed.load(Ordering::Relaxed),
        judgement: Judgement::of(&reads, &rows, &faults),
        outages: run.readers.outages.longest(&faults),
        faults,
        compared,
        remembered,
        stale_at_end: stale.len(),
    };
    if members == Members::Etcd {
        figures.keep_line();
    } else {
        println!("members by {members:?}: {}", figures.line());
    }
    if figures.is_clean() {
        return Ok(());
    }
    run.fleet.folder.disable_cleanup(true);
    let mut told = figures.judgement.told.clone();
    told.extend(stale);
    Err(format!("{}\n{}\nlogs are in {}", figures.line(), told.join("\n"), run.fleet.folder.path().display()))
}

/// Moves the consumer group past changes that nobody has read, which must be found: in what readers see, and at the end.
pub(crate) async fn lose_changes(servers: &Servers) -> Result<(), String> {
    let mut run = Run::start(servers, "t_chaos_lost", Members::Etcd, 0).await?;
    tokio::time::sleep(CALM).await;
    for sync in &mut run.fleet.syncs {
        sync.kill();
    }
    tokio::time::sleep(CALM).await;
    run.stop_writing().await;
    run.deliveries.all_read(&run.writes).await;
    tokio::task::block_in_place(|| deliveries::skip_to_end(&servers.stack, "t_chaos_lost"));
    for sync in &mut run.fleet.syncs {
        sync.start();
        sync.ready().await;
    }
    wait::until("the lost changes to count as delivered", DRAIN, async || {
        match run.deliveries.missing(&run.writes) {
            0 => Ok(()),
            missing => Err(missing),
        }
    })
    .await;
    tokio::time::sleep(CALM).await;
    let (reads, rows) = run.stop_reading().await;
    let judgement = Judgement::of(&reads, &rows, &[]);
    let (_, _, stale) = compare(&run).await?;
    println!(
        "lost changes: {} of {} reads stale after delivery, {} keys stale at the end, as it had to be",
        judgement.stale,
        judgement.reads,
        stale.len()
    );
    if judgement.stale == 0 || stale.is_empty() {
        return Err("changes were lost, and nothing was found".to_owned());
    }
    Ok(())
}

impl Run {
    /// Starts everything and waits until the first start's flush is over.
    async fn start(
        servers: &Servers,
        name: &'static str,
        members: Members,
        seed: u64,
    ) -> Result<Self, String> {
        let stack = &servers.stack;
        let database = registers::create(stack, name).await;
        let clock = Clock::new();
        let fleet = Fleet::start(&servers.network, stack, name, members).await?;
        let deliveries = Deliveries::follow(stack, name, clock);
        wait::until("the first start to be committed", Duration::from_mins(1), async || {
            if deliveries.has_begun() { Ok(()) } else { Err("a partition has no committed offset") }
        })
        .await;
        let (writes, changes) = (load::first(), Arc::default());
        let stop_writing = Arc::default();
        let writing = load::write(&database, clock, &writes, &changes, &stop_writing, seed);
        let readers = Readers {
            clock,
            outages: Arc::new(Outages::new(ROWS)),
            answered: Arc::default(),
            failed: Arc::default(),
            stop: Arc::default(),
        };
        let reading = readers.start(&fleet.addresses(), seed).await;
        Ok(Self {
            fleet,
            database,
            deliveries,
            clock,
            writes,
            changes,
            stop_writing,
            writing,
            readers,
            reading,
        })
    }

    async fn stop_writing(&mut self) {
        self.stop_writing.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writing.join_next().await {
            ended.expect("a writer does not panic");
        }
    }

    /// All reads, and all writes with their deliveries.
    async fn stop_reading(&mut self) -> (Vec<Read>, Vec<Vec<Write>>) {
        self.readers.stop.store(true, Ordering::Relaxed);
        let mut reads = Vec::new();
        while let Some(ended) = self.reading.join_next().await {
            reads.extend(ended.expect("a reader does not panic"));
        }
        let mut rows: Vec<Vec<Write>> = self
            .writes
            .iter()
            .map(|row| row.lock().expect("no writer panics with the list").clone())
            .collect();
        self.deliveries.note(&mut rows);
        (reads, rows)
    }
}

/// Compares each node's memory, and what it answers by itself for every row, with the database: how many answers, how many entries in
/// memory, and which are wrong.
async fn compare(run: &Run) -> Result<(usize, usize, Vec<String>), String> {
    let rows = registers::all(&run.database).await;
    let (mut compared, mut remembered, mut stale) = (0, 0, Vec::new());
    for (seat, address) in run.fleet.nodes.iter().zip(run.fleet.addresses()) {
        // What is in memory first: asking may fill.
        let memory =
            readers::memory(&address).await.map_err(|error| format!("scan {}: {error}", seat.name))?;
        let replies =
            readers::ask_alone(&address, ROWS).await.map_err(|error| format!("{}: {error}", seat.name))?;
        for ((row, expected), reply) in (0..).zip(&rows).zip(replies) {
            compared += 1;
            let seen = registers::seen(row, reply.value.as_deref());
            if seen != *expected {
                stale.push(format!(
                    "{} answers {seen:?} for row {row} ({:?}), the database has {expected:?}",
                    seat.name,
                    reply.outcome()
                ));
            }
        }
        for (row, seen) in memory {
            remembered += 1;
            let expected = rows[row as usize];
            if seen != expected {
                stale.push(format!(
                    "{} has {seen:?} of row {row} in memory, the database has {expected:?}",
                    seat.name
                ));
            }
        }
    }
    Ok((compared, remembered, stale))
}
