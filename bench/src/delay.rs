//! `delay`: from a commit in MySQL to the removal on the node, through real servers, and which part of it is Freshline's own.

mod bare;
mod table;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use cache_node::Hop;
use clap::builder::TypedValueParser as _;
use client::Outcome;
use daemon::config::{Database, DatabaseUrl};
use sync_service::Delivered;
use tests::stack::Stack;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    catalog_file,
    follower::Follower,
    kafka,
    nodes::{Cluster, Nodes},
    report::{self, Report},
    spread::Spread,
};

use bare::Bare;

const DATABASE: &str = "t_bench";
const NODES: usize = 3;
/// Updates before the first that counts.
const WARM_UP: u64 = 100;
/// How long the last removals may take.
const LAST: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Most seconds to go on updating; starting the servers takes about half a minute more
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Single-row updates, each of another row
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    updates: u64,
    /// Updates per second
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Holders of each slot, up to 3; a removal goes to its owner, and then to the others
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3).map(usize::from))]
    replicas: usize,
    /// Remove from all holders at once, which is not safe: to see what waiting costs
    #[cfg_attr(feature = "rule-switches", arg(long))]
    #[cfg_attr(not(feature = "rule-switches"), arg(skip))]
    without_phases: bool,
}

impl Options {
    /// Whether removals go in phases, as the protocol has it.
    pub(crate) fn phases(&self) -> bool {
        !self.without_phases
    }
}

/// What happened to one update, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    committed: Option<Instant>,
    /// When the service's batch with it was fetched.
    fetched: Option<Instant>,
    applied: Option<Instant>,
    acknowledged: Option<Instant>,
}

/// Updates rows one by one and follows each to its removal.
pub(crate) async fn measure(options: Options) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "delay: commit in mysql to removal on the nodes",
        &["from - to", "p50", "p90", "p99", "max"],
    );
    eprintln!("starting mysql, canal, kafka and etcd");
    let stack = Stack::start("bench").await;
    let rows = options.updates + WARM_UP;
    let pool = stack.database(DATABASE, &[catalog_file::TABLE]).await;
    let catalog = catalog_file::catalog(DATABASE)?;
    let cluster = Cluster::Etcd(stack.etcd_url(), options.replicas);
    let database = Database { url: DatabaseUrl::new(stack.mysql_url(DATABASE)), ..Database::default() };
    let nodes = Nodes::start(NODES, &catalog, &cluster, || Ok(loader::open(&database, &catalog)?)).await?;
    let follower =
        Follower::start(&stack.brokers(), DATABASE, "bench", catalog.clone(), cluster.membership()?)?;
    follower.assigned(kafka::PARTITIONS as usize).await?;
    table::fill(&pool, rows).await?;
    settled(&nodes, rows).await?;
    let bare = Bare::start(stack.brokers(), DATABASE.to_owned(), rows)?;

    eprintln!("filling {rows} keys and updating their rows");
    remember(&nodes, rows).await?;
    // A new subscription: the rows' INSERTs are behind.
    let gathering = gather(follower.delivered.resubscribe(), &nodes, rows);
    let updating = table::update(
        &pool,
        1..=rows,
        options.rate,
        Duration::from_secs_f64(options.seconds.clamp(1.0, 3600.0)),
    );
    let (commits, removed) = tokio::join!(updating, gathering);
    let (commits, removed) = (commits?, removed?);
    let received = bare.finish().await?;
    let fresh = answers(&nodes, &commits).await?;
    follower.stop().await?;
    nodes.stop().await;

    let mut all: HashMap<u64, Times> = removed;
    for (id, commit) in &commits {
        all.entry(*id).or_default().committed = Some(*commit);
    }
    let counted = |id: &u64| *id > WARM_UP;
    let between = |from: &dyn Fn(u64, &Times) -> Option<Instant>,
                   to: &dyn Fn(u64, &Times) -> Option<Instant>|
     -> Spread {
        all.iter()
            .filter(|(id, _)| counted(id))
            .filter_map(|(id, times)| Some(to(*id, times)?.saturating_duration_since(from(*id, times)?)))
            .collect()
    };
    let committed = |_: u64, times: &Times| times.committed;
    let fetched = |_: u64, times: &Times| times.fetched;
    let applied = |_: u64, times: &Times| times.applied;
    let acknowledged = |_: u64, times: &Times| times.acknowledged;
    let seen = |id: u64, _: &Times| received.get(&id).copied();
    let whole_applied = between(&committed, &applied);
    let whole = between(&committed, &acknowledged);
    let own = between(&fetched, &acknowledged);
    let own_applied = between(&fetched, &applied);
    let before = between(&committed, &seen);
    let updates = commits.iter().filter(|(id, _)| counted(id)).count() as u64;
    ensure!(updates > 0, "update rows: there was no time for a single one that counts");
    ensure!(whole.len() == updates, "follow all updates: {} of {updates} were acknowledged", whole.len());

    report.fact(format!(
        "{updates} single-row UPDATEs of {updates} rows, {} per second, each committed by itself, after {WARM_UP} that warm up",
        options.rate
    ));
    report.fact(format!(
        "mysql, canal, kafka, etcd in containers; {NODES} nodes, sync service and bare consumer in the measuring process, all on the same cores"
    ));
    let phases =
        if options.phases() { "removed in phases" } else { "removed from all at once (R4's phases are out)" };
    report.fact(format!("{} holders of each slot, {phases}", options.replicas));
    report.fact(format!(
        "every key was in its owner's memory before; afterwards {fresh} of {} keys had the new row",
        commits.len()
    ));
    for (name, spread) in [
        ("whole: commit - acknowledged by all nodes", &whole),
        ("whole: commit - removed on the owner", &whole_applied),
        ("commit - fetched by a bare consumer", &before),
        ("own: fetched - acknowledged by all nodes", &own),
        ("own: fetched - removed on the owner", &own_applied),
    ] {
        report.row([
            name.to_owned(),
            report::millis(spread.at(50.0)),
            report::millis(spread.at(90.0)),
            report::millis(spread.at(99.0)),
            report::millis(spread.max()),
        ]);
    }
    let share = |of: &Spread, to: &Spread, percent| {
        report::ratio(of.at(percent).as_secs_f64(), to.at(percent).as_secs_f64())
    };
    report.ratio("delay_own_share_p50", share(&own, &whole, 50.0));
    report.ratio("delay_own_share_p99", share(&own, &whole, 99.0));
    report.ratio("delay_whole_to_bare_p50", share(&whole, &before, 50.0));
    report.ratio("delay_whole_to_bare_p99", share(&whole, &before, 99.0));
    report.ratio("delay_own_p99_to_10ms", report::ratio(own.at(99.0).as_secs_f64(), 0.010));
    ensure!(fresh == commits.len(), "read the new rows: {fresh} of {} keys had them", commits.len());
    Ok(report)
}

/// Waits until the INSERT of every row has come all the way.
async fn settled(nodes: &Nodes, rows: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    for key in (1..=rows).map(catalog_file::order) {
        let owner = nodes.owner(&key)?;
        loop {
            let explained = owner.explain(&key, Hop::Forwarded).await.context("explain a key")?;
            if explained.last_removal.is_some_and(|removal| removal.origin.starts_with(DATABASE)) {
                break;
            }
            ensure!(
                begun.elapsed() < LAST,
                "follow the first rows: the INSERT of {key} did not come within {LAST:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Gets every key until each is a hit on its owner.
async fn remember(nodes: &Nodes, rows: u64) -> anyhow::Result<()> {
    let keys: Vec<String> = (1..=rows).map(catalog_file::order).collect();
    let begun = Instant::now();
    loop {
        let mut hits = 0;
        for key in &keys {
            let answer = nodes.owner(key)?.get(key, Hop::Forwarded).await.context("fill a key")?;
            hits += usize::from(answer.outcome == Outcome::Hit);
        }
        if hits == keys.len() {
            return Ok(());
        }
        // What was removed a moment ago, by the rows' INSERTs, is in quarantine.
        ensure!(begun.elapsed() < LAST, "fill the keys: {hits} of {} stay in memory", keys.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Notes when each row's removal was fetched, applied and acknowledged, until all were or nothing comes any more.
async fn gather(
    mut delivered: Receiver<Delivered>,
    nodes: &Nodes,
    rows: u64,
) -> anyhow::Result<HashMap<u64, Times>> {
    let mut all = HashMap::new();
    while (all.len() as u64) < rows {
        let batch = match tokio::time::timeout(LAST, delivered.recv()).await {
            Ok(Ok(batch)) => batch,
            Ok(Err(RecvError::Lagged(_))) => continue,
            Ok(Err(RecvError::Closed)) | Err(_) => break,
        };
        for key in batch.keys.iter() {
            let Some(id) = key.strip_prefix("order:").and_then(|id| id.parse().ok()) else { continue };
            let owner = nodes.owner(key)?;
            let explained = owner.explain(key, Hop::Forwarded).await.context("explain a key")?;
            let applied = explained.last_removal.and_then(|removal| Instant::now().checked_sub(removal.age));
            all.insert(
                id,
                Times {
                    committed: None,
                    fetched: Some(batch.fetched_at.into_std()),
                    applied,
                    acknowledged: Some(batch.acknowledged_at.into_std()),
                },
            );
        }
    }
    Ok(all)
}

/// How many of the updated keys the nodes answer with their new rows.
async fn answers(nodes: &Nodes, commits: &[(u64, Instant)]) -> anyhow::Result<usize> {
    let mut fresh = 0;
    for (id, _) in commits {
        let key = catalog_file::order(*id);
        let answer = nodes.owner(&key)?.get(&key, Hop::Forwarded).await.context("get an updated key")?;
        let row: serde_json::Value =
            serde_json::from_slice(&answer.value.unwrap_or_default()).unwrap_or_default();
        fresh += usize::from(row["note"] == table::note(*id));
    }
    Ok(fresh)
}
