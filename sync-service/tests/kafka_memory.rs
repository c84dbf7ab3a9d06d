//! What compressed batches take of memory, unpacked. Alone in its process, whose memory it measures.

mod common;

use std::{fs, time::Duration};

use common::{Running, insert};
use daemon::config::{ByteSize, KafkaSource};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use sync_service::config::{OnFirstStart, Sync};
use sync_service::source::kafka::Kafka;

type Broker = MockCluster<'static, DefaultProducerContext>;

/// Batches, and bytes of each.
const BATCHES: u64 = 8;
const BATCH: usize = 60 << 20;
/// Messages of a batch.
const MESSAGES: u64 = 60;

/// Writes batches to partition 0, each compressed as a whole.
fn produce(broker: &Broker) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("compression.type", "zstd")
        .set("message.max.bytes", "200000000")
        .set("batch.size", "200000000")
        .set("batch.num.messages", MESSAGES.to_string())
        .set("linger.ms", "5000")
        .create()
        .expect("a producer");
    for id in 0..BATCHES * MESSAGES {
        let name = "no two of these rows are alike ".repeat(BATCH / MESSAGES as usize / 31);
        let payload = insert(id).replace("\"name\":\"n\"", &format!("\"name\":\"{id}{name}\""));
        let record = BaseRecord::<str, str>::to("shop").partition(0).payload(&payload);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        if id % MESSAGES == MESSAGES - 1 {
            producer.flush(Duration::from_secs(30)).expect("produced");
        }
    }
}

/// KiB of memory of this process: at most since the last [`reset`], and now.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
    };
    (field("VmHWM:"), field("VmRSS:"))
}

fn reset() {
    fs::write("/proc/self/clear_refs", "5").expect("the most so far is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_batches_take_the_memory_of_a_few() {
    let broker: Broker = MockCluster::new(1).expect("a broker");
    broker.create_topic("shop", 1, 1).expect("a topic");
    tokio::task::block_in_place(|| produce(&broker));
    let memory_of = std::env::var("FRESHLINE_KAFKA_MEMORY").ok().map(|size| size.parse().expect("a size"));
    let source = KafkaSource {
        brokers: broker.bootstrap_servers(),
        topics: vec!["shop".to_owned()],
        memory: memory_of.unwrap_or(KafkaSource::default().memory),
        ..KafkaSource::default()
    };
    reset();
    let (_, before) = memory();
    let config = Sync { on_first_start: OnFirstStart::Replay, ..Sync::default() };
    let running =
        Running::start(config.clone(), |metrics| Kafka::new(&source, &config, metrics).expect("a consumer"));
    let last = format!("user:{}", BATCHES * MESSAGES - 1);
    running.node.wait(|state| state.removed.contains(&last)).await;
    let (most, _) = memory();
    running.stop().await.expect("a clean end");
    let (taken, bound) = (ByteSize((most - before) << 10), ByteSize(5 * BATCH as u64));
    eprintln!("{BATCHES} batches of {} took {taken}", ByteSize(BATCH as u64));
    assert!(taken < bound, "{BATCHES} batches of {} took {taken}", ByteSize(BATCH as u64));
}
