//! What is read at once is bounded, and a batch beyond the bound neither stops its partition nor is passed in silence.

mod common;

use std::time::Duration;

use common::{Running, insert};
use daemon::config::{ByteSize, KafkaSource};
use prometheus_client::registry::Registry;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use sync_service::config::{OnUndecodable, Sync};
use sync_service::source::Error;
use sync_service::source::kafka::Kafka;

type Broker = MockCluster<'static, DefaultProducerContext>;

fn broker() -> Broker {
    let broker = MockCluster::new(1).expect("a broker");
    broker.create_topic("shop", 1, 1).expect("a topic");
    broker
}

/// Takes batches of up to 2 MiB.
fn source(broker: &Broker) -> KafkaSource {
    KafkaSource {
        brokers: broker.bootstrap_servers(),
        topics: vec!["shop".to_owned()],
        max_batch: ByteSize(2 << 20),
        ..KafkaSource::default()
    }
}

fn start(broker: &Broker, config: &Sync) -> Running {
    let source = source(broker);
    Running::start(config.clone(), |metrics| Kafka::new(&source, config, metrics).expect("a consumer"))
}

async fn produce(broker: &Broker, compression: &str, payload: &str) {
    let producer: FutureProducer<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("message.max.bytes", "100000000")
        .set("compression.type", compression)
        .create()
        .expect("a producer");
    let record = FutureRecord::<str, str>::to("shop").partition(0).payload(payload);
    producer.send(record, Duration::from_secs(30)).await.expect("produced");
}

/// A change whose message has this many bytes more.
fn large(id: u64, bytes: usize) -> String {
    insert(id).replace("\"name\":\"n\"", &format!("\"name\":\"{}\"", "n".repeat(bytes)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_beyond_the_bound_may_hide_is_flushed_and_told() {
    // Compressed, it is too large when it is unpacked; else the broker's answer is.
    for compression in ["zstd", "none"] {
        let broker = broker();
        let running = start(&broker, &Sync::default());
        running.node.wait(|state| state.flushes == 1).await;
        produce(&broker, compression, &large(1, 8 << 20)).await;
        running.node.wait(|state| state.flushes == 2).await;
        running.wait_metric("sync_gaps_total{reason=\"too_large\"}", 1.0).await;
        // The client may have asked for the batch once more: then what came meanwhile is flushed over as well.
        for id in 5.. {
            let flushes = running.node.state.lock().flushes;
            produce(&broker, compression, &insert(id)).await;
            let key = format!("user:{id}");
            running.node.wait(|state| state.removed.contains(&key) || state.flushes > flushes).await;
            if running.node.state.lock().removed.contains(&key) {
                break;
            }
        }
        running.stop().await.expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_beyond_the_bound_halts_where_that_is_wanted() {
    let broker = broker();
    let running = start(&broker, &Sync { on_undecodable: OnUndecodable::Halt, ..Sync::default() });
    running.node.wait(|state| state.flushes == 1).await;
    produce(&broker, "zstd", &large(1, 8 << 20)).await;
    let error = running.ended().await.expect_err("it halts").to_string();
    assert!(error.contains("raise source.kafka.max_batch"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_within_the_bound_are_read_whatever_room_there_is() {
    let broker = broker();
    let source = KafkaSource { memory: ByteSize(1 << 20), ..source(&broker) };
    let running = Running::start(Sync::default(), |metrics| {
        Kafka::new(&source, &Sync::default(), metrics).expect("a consumer")
    });
    running.node.wait(|state| state.flushes == 1).await;
    for id in 1..=20 {
        produce(&broker, "zstd", &large(id, 600_000)).await;
    }
    running.node.wait(|state| (1..=20).all(|id| state.removed.contains(&format!("user:{id}")))).await;
    running.node.wait(|state| state.flushes == 1).await;
    running.stop().await.expect("a clean end");
}

#[test]
fn librdkafka_takes_the_bounds_that_the_check_takes() {
    for (max_batch, fetch, memory) in [(2 << 20, 1 << 10, 1 << 20), (2_000_000_000, 16 << 20, 4 << 30)] {
        let source = KafkaSource {
            brokers: "127.0.0.1:1".to_owned(),
            topics: vec!["shop".to_owned()],
            max_batch: ByteSize(max_batch),
            fetch: ByteSize(fetch),
            memory: ByteSize(memory),
            ..KafkaSource::default()
        };
        let made = Kafka::new(&source, &Sync::default(), &mut Registry::default());
        assert!(!matches!(made, Err(Error::Config(_))), "{:?}", made.err());
    }
}
