//! `resp`: Redis commands at a node, against redis-server, both driven by redis-benchmark.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use cache_node::Hop;
use catalog::Catalog;
use client::Outcome;
use loader::memory::Memory;
use ring::memory::Registry;
use tests::port::free_port;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    core,
    nodes::{Cluster, Nodes},
    report::{self, Report},
    side::Side,
};

/// Keys that are asked for, all of them in memory on both sides.
const KEYS: u64 = 10_000;
/// How long a server may take to start.
const START: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// About how many seconds to measure; starting takes a few more
    #[arg(long, default_value_t = 64.0)]
    seconds: f64,
    /// Connections of redis-benchmark
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Bytes of a value
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    value: u32,
    /// How often the two servers take turns
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// One kind of load.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    keys: usize,
    pipelined: u32,
}

const LOADS: [Load; 4] = [
    Load { name: "get", keys: 1, pipelined: 1 },
    Load { name: "get_pipelined", keys: 1, pipelined: 16 },
    Load { name: "mget_16", keys: 16, pipelined: 1 },
    Load { name: "mget_16_pipelined", keys: 16, pipelined: 16 },
];

/// What redis-benchmark says of one turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    rate: f64,
    p50: f64,
    p99: f64,
}

/// Runs all loads against both servers in turn.
pub(crate) async fn measure(options: Options) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "resp: redis-benchmark against one node and against redis-server",
        &[
            "command",
            "pipelined",
            "redis requests/s",
            "node requests/s",
            "node keys/s",
            "redis p50 / p99",
            "node p50 / p99",
        ],
    );
    let version = version().await?;
    let server = Side::start("server", core::MEASURED).await?;
    let value = "x".repeat(options.value as usize);
    let (nodes, node) = server.run(start_node(value.clone())).await??;
    let (mut redis, opponent) = start_redis(&value).await?;

    report.fact(format!(
        "{version}, without persistence, one I/O thread; {KEYS} keys with values of {} bytes in memory on both sides, all hits",
        options.value
    ));
    report.fact(format!(
        "redis-benchmark with {} connections on one core, each server alone on the other{}; {} turns each",
        options.connections,
        if server.kept { "" } else { " (not kept there: taskset or a second core is missing)" },
        options.rounds
    ));
    let turns = LOADS.len() as f64 * 2.0 * f64::from(options.rounds);
    let slice = (options.seconds.max(0.1) / turns).min(60.0);
    for load in LOADS {
        // As many requests as a server answers in a turn, found by a short one that warms up too.
        let mut requests = [0.0; 2];
        for (target, requests) in [opponent, node].into_iter().zip(&mut requests) {
            let first = benchmark(target, load, &options, 20_000.0).await?;
            *requests = (first.rate * slice).round().max(20_000.0);
        }
        let (mut of_redis, mut of_node) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            of_redis.push(benchmark(opponent, load, &options, requests[0]).await?);
            of_node.push(benchmark(node, load, &options, requests[1]).await?);
        }
        let (redis, node) = (mean(&of_redis), mean(&of_node));
        report.row([
            if load.keys == 1 { "GET".to_owned() } else { format!("MGET of {}", load.keys) },
            load.pipelined.to_string(),
            report::count(redis.rate),
            report::count(node.rate),
            report::count(node.rate * load.keys as f64),
            format!("{:.2} / {:.2} ms", redis.p50, redis.p99),
            format!("{:.2} / {:.2} ms", node.p50, node.p99),
        ]);
        report.ratio(format!("resp_{}", load.name), report::ratio(node.rate, redis.rate));
    }
    redis.kill().await.context("stop redis-server")?;
    server.run(nodes.stop()).await?;
    Ok(report)
}

/// Every turn counts the same.
fn mean(turns: &[Turn]) -> Turn {
    let of = |get: fn(&Turn) -> f64| report::ratio(turns.iter().map(get).sum(), turns.len() as f64);
    Turn { rate: of(|turn| turn.rate), p50: of(|turn| turn.p50), p99: of(|turn| turn.p99) }
}

/// What redis-benchmark calls key number `number`: it writes twelve digits.
fn key(number: u64) -> String {
    format!("row:{number:012}")
}

/// A node alone, with all keys in memory; where it serves Redis clients.
async fn start_node(value: String) -> anyhow::Result<(Nodes, SocketAddr)> {
    let text = r#"
[[group]]
name = "row"
key = "row:{id:str}"
query = "SELECT * FROM shop.rows WHERE id = {id}"
ttl = "1h"
"#;
    let catalog =
        Arc::new(Catalog::parse("bench.toml", text).context("read the catalog of the measurement")?);
    let database = Memory::new();
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    for key in &keys {
        database.put(key, value.clone());
    }
    let nodes =
        Nodes::start(1, &catalog, &Cluster::Here(Registry::new(1)), || Ok(Arc::new(database.clone())))
            .await?;
    let address = *nodes.resp.first().context("start a node")?;
    let node = nodes.owner(&key(0))?;
    let begun = Instant::now();
    loop {
        let answers = node.get_many(&keys, Hop::First).await.context("fill the node")?;
        if answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.outcome == Outcome::Hit)) {
            return Ok((nodes, address));
        }
        // What was filled right after the node took its slots is not stored: that is the quarantine.
        ensure!(begun.elapsed() < START, "fill the node: some keys stay out of its memory");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A program that is kept to a core where that can be.
fn program(core: usize, name: &str) -> Command {
    let mut command = if core::count() > 1 {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string(), name]);
        command
    } else {
        Command::new(name)
    };
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

const MISSING: &str = "run redis-server and redis-benchmark; Debian has both in the package `redis`";

async fn version() -> anyhow::Result<String> {
    let output = Command::new("redis-server").arg("--version").output().await.context(MISSING)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Ok(format!("redis-server {}", version.unwrap_or("of an unknown version")))
}

/// redis-server with all keys set.
async fn start_redis(value: &str) -> anyhow::Result<(Child, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let port = address.port().to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let mut redis = program(core::MEASURED, "redis-server")
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .context(MISSING)?;
    let begun = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) if begun.elapsed() < START => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error).context("connect to redis-server"),
        }
        if let Some(status) = redis.try_wait()? {
            bail!("start redis-server: it ended with {status}");
        }
    };
    let mut replies = vec![0; 5 * KEYS as usize];
    let (mut read, mut write) = stream.split();
    let set = async {
        for number in 0..KEYS {
            let key = key(number);
            let request =
                format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len());
            write.write_all(request.as_bytes()).await?;
        }
        Ok(())
    };
    tokio::try_join!(set, read.read_exact(&mut replies)).context("set the keys of redis-server")?;
    ensure!(
        replies.chunks(5).all(|reply| reply == b"+OK\r\n"),
        "set the keys of redis-server: it refused some"
    );
    Ok((redis, address))
}

/// One turn of redis-benchmark.
async fn benchmark(target: SocketAddr, load: Load, options: &Options, requests: f64) -> anyhow::Result<Turn> {
    let mut command = program(core::OTHERS, "redis-benchmark");
    command.args(["-h", "127.0.0.1", "-p", &target.port().to_string(), "--csv", "--precision", "3"]);
    command.args(["-n", &requests.to_string(), "-c", &options.connections.to_string()]);
    command.args(["-P", &load.pipelined.to_string(), "-r", &KEYS.to_string()]);
    command.arg(if load.keys == 1 { "GET" } else { "MGET" });
    command.args(vec!["row:__rand_int__"; load.keys]);
    let output = command.stdout(Stdio::piped()).output().await.context(MISSING)?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    parse(output.status, &text)
        .with_context(|| format!("read what redis-benchmark says of {}: {text}{errors}", load.name))
}

/// Reads the line of figures: command, requests per second, then latencies in milliseconds: mean, least, p50, p95, p99, most.
fn parse(status: ExitStatus, text: &str) -> anyhow::Result<Turn> {
    ensure!(status.success(), "it ended with {status}");
    ensure!(!text.contains("rror"), "it met errors");
    let line = text.lines().rfind(|line| line.starts_with('"')).context("it printed no figures")?;
    let mut figures = line.split(',').skip(1).map(|field| field.trim_matches('"').parse::<f64>());
    let mut next = || figures.next().context("a figure is missing")?.context("a figure is no number");
    let (rate, _, _, p50, _, p99) = (next()?, next()?, next()?, next()?, next()?, next()?);
    Ok(Turn { rate, p50, p99 })
}
