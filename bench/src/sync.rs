//! `sync`: how much of a bare consumer's speed is left once messages become acknowledged removals.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use catalog::Catalog;
use loader::memory::Memory;
use ring::{Member, MemberState, Membership, NodeId, fixed::Fixed, memory::Registry};

use crate::{
    catalog_file,
    constant::Constant,
    core,
    follower::Follower,
    kafka::{self, Kafka, Reading},
    nodes::{Cluster, Nodes},
    report::{self, Report},
    side::{self, Side},
};

const TOPIC: &str = "shop";
const NODES: usize = 3;
/// How long one service may take for all messages before it counts as stuck.
const STUCK: Duration = Duration::from_mins(2);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Most seconds for all rounds; a round that has begun is finished
    #[arg(long, default_value_t = 90.0)]
    seconds: f64,
    /// Messages in the topic
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1_000..=5_000_000))]
    messages: u64,
    /// Rounds, after one that warms up
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Readings of one way to read the topic.
#[derive(Debug, Default)]
struct Readings(Vec<Reading>);

/// Reads one topic again and again, barely and with the sync service.
pub(crate) async fn measure(options: Options) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "sync: canal messages per second on one core, against a bare rdkafka consumer",
        &["reader", "messages/s", "slowest - fastest", "MB/s", "core busy", "core µs/message"],
    );
    eprintln!("starting kafka and writing {} messages", options.messages);
    let kafka = Kafka::start().await;
    kafka.fill(TOPIC, options.messages).await?;
    let kept = kafka.keep_off();
    let others = Side::start("nodes", core::OTHERS).await?;
    let catalog = catalog_file::catalog("shop")?;
    let registry = Registry::new(1);
    let (nodes, constants) = {
        let (catalog, cluster) = (catalog.clone(), Cluster::Here(registry.clone()));
        others
            .run(async move {
                let source = || Ok(Arc::new(Memory::new()) as Arc<dyn loader::RowSource>);
                let nodes = Nodes::start(NODES, &catalog, &cluster, source).await?;
                let mut constants = Vec::new();
                for number in 1..=NODES {
                    constants.push(Constant::new(&format!("node-{number}"), Bytes::new()).serve().await?);
                }
                anyhow::Ok((nodes, constants))
            })
            .await??
    };
    let constants: Arc<dyn Membership> = Arc::new(fixed(&constants));
    let removes = |nodes: &Nodes| nodes.all.iter().map(|node| node.stats().removes).sum::<u64>();

    let (mut bare, mut acked, mut applied) = (Readings::default(), Readings::default(), Readings::default());
    let begun = Instant::now();
    let mut gone = 0;
    for round in 0..=options.rounds {
        // The first round warms up: page cache, connections, nodes.
        let counts = round > 0;
        if counts && begun.elapsed().as_secs_f64() > options.seconds && round > 1 {
            break;
        }
        eprintln!("round {round} of {}{}", options.rounds, if counts { "" } else { " (warms up)" });
        let (brokers, messages) = (kafka.brokers(), options.messages);
        let reading =
            side::on_core(core::MEASURED, move || kafka::read(&brokers, TOPIC, messages, core::MEASURED))
                .await??;
        let by_constants =
            serve(&kafka, &format!("constants-{round}"), options.messages, &catalog, constants.clone())
                .await?;
        let before = removes(&nodes);
        let by_nodes =
            serve(&kafka, &format!("nodes-{round}"), options.messages, &catalog, registry.clone()).await?;
        gone = removes(&nodes) - before;
        if counts {
            bare.0.push(reading);
            acked.0.push(Reading { bytes: reading.bytes, ..by_constants });
            applied.0.push(Reading { bytes: reading.bytes, ..by_nodes });
        }
    }
    let reading = bare.0.first().context("measure a round")?;
    report.fact(format!(
        "{} UPDATE messages of {} bytes on average in {} partitions, 12 columns, 2 keys each; {} rounds, the median counts",
        report::count(reading.messages as f64),
        reading.bytes / reading.messages.max(1),
        kafka::PARTITIONS,
        bare.0.len(),
    ));
    report.fact(format!(
        "reader with all of its threads on one core, broker and {NODES} nodes on the other{}",
        if kept && others.kept { "" } else { " (not kept there: taskset or a second core is missing)" }
    ));
    report.fact(format!(
        "a round removed {} keys from the nodes: equal keys of a batch go once, the first batches to all nodes",
        report::count(gone as f64)
    ));
    for (name, readings) in [
        ("bare consumer, looks at lengths alone", &bare),
        ("sync service, removes acknowledged by constants", &acked),
        ("sync service, removes applied by nodes", &applied),
    ] {
        report.row([
            name.to_owned(),
            report::count(readings.median(Reading::rate)),
            format!(
                "{} - {}",
                report::count(readings.at(0, Reading::rate)),
                report::count(readings.at(usize::MAX, Reading::rate))
            ),
            report::count(
                readings
                    .median(|reading| report::ratio(reading.bytes as f64 / 1e6, reading.took.as_secs_f64())),
            ),
            report::percent(
                readings
                    .median(|reading| report::ratio(reading.used.as_secs_f64(), reading.took.as_secs_f64())),
            ),
            format!("{:.2}", readings.median(Reading::cost)),
        ]);
    }
    report.ratio("sync", report::ratio(applied.median(Reading::rate), bare.median(Reading::rate)));
    report.ratio("sync_constant_ack", report::ratio(acked.median(Reading::rate), bare.median(Reading::rate)));
    report.ratio("sync_core_time", report::ratio(applied.median(Reading::cost), bare.median(Reading::cost)));
    others.run(nodes.stop()).await?;
    Ok(report)
}

/// Lets a sync service read the whole topic as a new consumer group, on a core of its own.
async fn serve(
    kafka: &Kafka,
    group: &str,
    messages: u64,
    catalog: &Arc<Catalog>,
    membership: Arc<dyn Membership>,
) -> anyhow::Result<Reading> {
    kafka.rewind(TOPIC, group).await?;
    let side = Side::start("sync", core::MEASURED).await?;
    let (brokers, group, catalog) = (kafka.brokers(), group.to_owned(), catalog.clone());
    let mut follower =
        side.run(async move { Follower::start(&brokers, TOPIC, &group, catalog, membership) }).await??;
    follower.assigned(kafka::PARTITIONS as usize).await?;
    let first = tokio::time::timeout(STUCK, follower.delivered.recv())
        .await
        .context("get a first batch acknowledged in time")?
        .context("get a first batch acknowledged")?;
    let begun = first.fetched_at.into_std();
    // The core was busy since the first fetch, a few milliseconds ago, and its time is known in ticks of 10 ms.
    let (used, late) = (core::used(core::MEASURED), begun.elapsed());
    let offsets = follower.offsets().context("find the offsets of the service")?;
    // Announcements aren't needed any more, and cost the service a little.
    follower.deafen();
    let took = loop {
        let acknowledged =
            offsets.acknowledged().into_iter().filter_map(|(_, next)| next).sum::<i64>().cast_unsigned();
        if acknowledged >= messages {
            break begun.elapsed();
        }
        if begun.elapsed() > STUCK {
            bail!("get all messages acknowledged: {acknowledged} of {messages} after {STUCK:?}");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let used = core::used(core::MEASURED).saturating_sub(used) + late;
    follower.stop().await?;
    Ok(Reading { messages, bytes: 0, took, used: used.min(took) })
}

/// Constant servers as a fixed list of nodes.
fn fixed(addresses: &[SocketAddr]) -> Fixed {
    let member = |(index, address): (usize, &SocketAddr)| Member {
        id: NodeId::from(format!("node-{}", index + 1).as_str()),
        incarnation: 1,
        grpc: format!("http://{address}"),
        http: format!("http://{address}"),
        resp: String::new(),
        weight: 1,
        state: MemberState::Active,
        terms: ring::Terms::default(),
    };
    Fixed::new(addresses.iter().enumerate().map(member).collect(), 1)
}

impl Reading {
    /// Messages per second.
    fn rate(&self) -> f64 {
        report::ratio(self.messages as f64, self.took.as_secs_f64())
    }

    /// Microseconds of the core per message.
    fn cost(&self) -> f64 {
        report::ratio(self.used.as_secs_f64() * 1e6, self.messages as f64)
    }
}

impl Readings {
    fn sorted(&self, figure: impl Fn(&Reading) -> f64) -> Vec<f64> {
        let mut figures: Vec<f64> = self.0.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    }

    fn median(&self, figure: impl Fn(&Reading) -> f64) -> f64 {
        let figures = self.sorted(figure);
        figures.get(figures.len() / 2).copied().unwrap_or(0.0)
    }

    /// The figure at a place of the sorted ones, or the last.
    fn at(&self, place: usize, figure: impl Fn(&Reading) -> f64) -> f64 {
        let figures = self.sorted(figure);
        figures.get(place.min(figures.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}
