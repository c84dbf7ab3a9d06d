//! `get`: what a node costs over a bare gRPC service that returns a constant.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use cache_node::Hop;
use client::Outcome;
use loader::memory::Memory;
use proto::v1::{self, cache_client::CacheClient};
use ring::memory::Registry;
use tonic::transport::{Channel, Endpoint};

use crate::{
    catalog_file,
    constant::Constant,
    core,
    nodes::{Cluster, Nodes},
    report::{self, Report},
    side::Side,
    spread::Spread,
};

/// Keys that are asked for, all of them in the node's memory.
const KEYS: u64 = 10_000;
/// Bytes of a value, roughly a row of five columns as JSON.
const VALUE: usize = 120;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Most seconds to measure; starting takes a few more
    #[arg(long, default_value_t = 32.0)]
    seconds: f64,
    /// Callers at once, all on one connection
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    callers: u16,
    /// How often the two services take turns
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// One kind of load.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    keys: usize,
    callers: usize,
}

/// What came of it.
struct Outcomes {
    calls: u64,
    took: Duration,
    spread: Spread,
}

/// Runs all loads against both services in turn.
pub(crate) async fn measure(options: Options) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "get: one node against a bare tonic service that returns a constant",
        &[
            "call",
            "callers",
            "bare calls/s",
            "node calls/s",
            "node keys/s",
            "bare p50 / p99",
            "node p50 / p99",
        ],
    );
    let server = Side::start("server", core::OTHERS).await?;
    let caller = Side::start("callers", core::MEASURED).await?;
    let value = Bytes::from(row(1));
    let bare = server.run(Constant::new("node-1", value).serve()).await??;
    let (nodes, node) = server.run(start_node()).await??;

    let many = usize::from(options.callers);
    let loads = [
        Load { name: "Get", keys: 1, callers: 1 },
        Load { name: "Get", keys: 1, callers: many },
        Load { name: "GetMany(16)", keys: 16, callers: many },
        Load { name: "GetMany(64)", keys: 64, callers: many },
    ];
    let slice = Duration::from_secs_f64(
        (options.seconds.max(0.1) / (loads.len() as f64 * 2.0 * f64::from(options.rounds))).min(60.0),
    );
    report.fact(format!(
        "node with {KEYS} keys of {VALUE} bytes in memory, all hits; services on one core, callers on the other{}",
        if server.kept && caller.kept { "" } else { " (not kept there: taskset or a second core is missing)" }
    ));
    report.fact(format!(
        "callers on one connection with the same settings; {} turns of {:.2} s each per service and load",
        options.rounds,
        slice.as_secs_f64()
    ));
    for load in loads {
        let (mut of_bare, mut of_node) = (Outcomes::new(), Outcomes::new());
        for (service, outcomes) in [(bare, None), (node, None)]
            .into_iter()
            .chain((0..options.rounds).flat_map(|_| [(bare, Some(false)), (node, Some(true))]))
        {
            // The first turn of each warms up and isn't counted.
            let turn = if outcomes.is_some() { slice } else { slice.min(Duration::from_millis(300)) };
            let came = caller.run(call(service, load, turn)).await??;
            match outcomes {
                Some(false) => of_bare.add(&came),
                Some(true) => of_node.add(&came),
                None => {}
            }
        }
        let both = |spread: &Spread| {
            format!("{} / {}", report::millis(spread.at(50.0)), report::millis(spread.at(99.0)))
        };
        report.row([
            load.name.to_owned(),
            load.callers.to_string(),
            report::count(of_bare.rate()),
            report::count(of_node.rate()),
            report::count(of_node.rate() * load.keys as f64),
            both(&of_bare.spread),
            both(&of_node.spread),
        ]);
        let name = match (load.keys, load.callers) {
            (1, 1) => "get_one_caller".to_owned(),
            (1, _) => "get".to_owned(),
            (keys, _) => format!("get_many_{keys}"),
        };
        report.ratio(name, report::ratio(of_node.rate(), of_bare.rate()));
    }
    server.run(nodes.stop()).await?;
    Ok(report)
}

/// A node alone, with all keys in memory.
async fn start_node() -> anyhow::Result<(Nodes, SocketAddr)> {
    let database = Memory::new();
    for id in 1..=KEYS {
        database.put(&catalog_file::order(id), row(id));
    }
    let catalog = catalog_file::catalog("shop")?;
    let nodes =
        Nodes::start(1, &catalog, &Cluster::Here(Registry::new(1)), || Ok(Arc::new(database.clone())))
            .await?;
    let address = *nodes.addresses.first().context("start a node")?;
    let keys: Vec<String> = (1..=KEYS).map(catalog_file::order).collect();
    let node = nodes.owner("order:1")?;
    let begun = Instant::now();
    loop {
        let answers = node.get_many(&keys, Hop::First).await.context("fill the node")?;
        if answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.outcome == Outcome::Hit)) {
            return Ok((nodes, address));
        }
        // What was filled right after the node took its slots is not stored: that is the quarantine.
        ensure!(begun.elapsed() < Duration::from_secs(10), "fill the node: some keys stay out of its memory");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A row as JSON.
fn row(id: u64) -> String {
    let start = format!(r#"{{"id":{id},"customer_id":{},"status":3,"total":"129.90","note":""#, id * 7);
    format!("{start}{}\"}}", "x".repeat(VALUE.saturating_sub(start.len() + 2)))
}

/// Calls a service for a while, from `load.callers` tasks.
async fn call(service: SocketAddr, load: Load, turn: Duration) -> anyhow::Result<Outcomes> {
    let channel = Endpoint::from_shared(format!("http://{service}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await
        .context("connect to the service")?;
    let client = CacheClient::new(channel).max_decoding_message_size(client::MAX_MESSAGE);
    let begun = Instant::now();
    let callers: Vec<_> = (0..load.callers)
        .map(|number| tokio::spawn(keep_calling(client.clone(), load, number, begun + turn)))
        .collect();
    let mut all = Outcomes::new();
    for caller in callers {
        let spread = caller.await.context("finish a caller")??;
        all.calls += spread.len();
        all.spread.add(&spread);
    }
    all.took = begun.elapsed();
    Ok(all)
}

async fn keep_calling(
    mut client: CacheClient<Channel>,
    load: Load,
    number: usize,
    until: Instant,
) -> anyhow::Result<Spread> {
    let mut spread = Spread::new();
    let mut next = number as u64 * 7919;
    let mut key = || {
        next += 1;
        catalog_file::order(next % KEYS + 1)
    };
    loop {
        let begun = Instant::now();
        if begun >= until {
            return Ok(spread);
        }
        let hits = if load.keys == 1 {
            let request = v1::GetRequest { key: key(), ..v1::GetRequest::default() };
            let reply = client.get(request).await.context("get a key")?.into_inner();
            usize::from(reply.outcome() == v1::Outcome::Hit)
        } else {
            let keys = (0..load.keys).map(|_| key()).collect();
            let request = v1::GetManyRequest { keys, ..v1::GetManyRequest::default() };
            let reply = client.get_many(request).await.context("get keys")?.into_inner();
            let is_hit = |result: &v1::KeyResult| matches!(&result.result, Some(v1::key_result::Result::Reply(reply)) if reply.outcome() == v1::Outcome::Hit);
            reply.results.iter().filter(|result| is_hit(result)).count()
        };
        spread.record(begun.elapsed());
        ensure!(hits == load.keys, "get keys: {hits} of {} were hits", load.keys);
    }
}

impl Outcomes {
    fn new() -> Self {
        Self { calls: 0, took: Duration::ZERO, spread: Spread::new() }
    }

    fn add(&mut self, other: &Outcomes) {
        self.calls += other.calls;
        self.took += other.took;
        self.spread.add(&other.spread);
    }

    fn rate(&self) -> f64 {
        report::ratio(self.calls as f64, self.took.as_secs_f64())
    }
}
