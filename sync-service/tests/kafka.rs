//! The whole service on librdkafka's in-process broker.

mod common;

use std::time::Duration;

use common::{Running, insert};
use daemon::config::KafkaSource;
use prometheus_client::registry::Registry;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use sync_service::config::Sync;
use sync_service::source::Error;
use sync_service::source::kafka::Kafka;

type Broker = MockCluster<'static, DefaultProducerContext>;

fn broker(partitions: i32) -> Broker {
    let broker = MockCluster::new(1).expect("a broker");
    broker.create_topic("shop", partitions, 1).expect("a topic");
    broker.create_topic("freshline.dead-letters", 1, 1).expect("a topic");
    broker
}

fn source(broker: &Broker) -> KafkaSource {
    KafkaSource {
        brokers: broker.bootstrap_servers(),
        topics: vec!["shop".to_owned()],
        ..KafkaSource::default()
    }
}

fn config() -> Sync {
    Sync { commit_interval: Duration::from_millis(50), ..Sync::default() }
}

fn start(broker: &Broker) -> Running {
    let source = source(broker);
    Running::start(config(), |metrics| Kafka::new(&source, &config(), metrics).expect("a consumer"))
}

async fn produce(broker: &Broker, partition: i32, payload: &str) {
    let producer: FutureProducer<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .expect("a producer");
    let record = FutureRecord::<str, str>::to("shop").partition(partition).payload(payload);
    producer.send(record, Duration::from_secs(10)).await.expect("produced");
}

/// The committed offset of a partition of `shop`.
async fn committed(broker: &Broker, partition: i32) -> Offset {
    let servers = broker.bootstrap_servers();
    let ask = move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "freshline")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition("shop", partition);
        let committed = consumer.committed_offsets(list, Duration::from_secs(10)).expect("an answer");
        committed.elements()[0].offset()
    };
    tokio::task::spawn_blocking(ask).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_consumed_committed_and_resumed_after_a_restart() {
    let broker = broker(1);
    produce(&broker, 0, &insert(1)).await;
    let running = start(&broker);
    // A first start: what is in the log already is covered by the flush.
    running.node.wait(|state| state.flushed.len() == 2).await;
    produce(&broker, 0, &insert(2)).await;
    running.node.wait(|state| state.removed.contains("user:2")).await;
    assert!(!running.node.state.lock().removed.contains("user:1"));
    running.stop().await.expect("a clean end");
    assert_eq!(committed(&broker, 0).await, Offset::Offset(2));

    produce(&broker, 0, &insert(3)).await;
    let running = start(&broker);
    running.node.wait(|state| state.removed.contains("user:3")).await;
    {
        let state = running.node.state.lock();
        assert!(!state.removed.contains("user:2"));
        assert_eq!(state.flushes, 0, "a restart is no gap");
    }
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_goes_to_the_dead_letters_with_its_place_and_reason() {
    let broker = broker(1);
    let running = start(&broker);
    running.node.wait(|state| state.flushes > 0).await;
    produce(&broker, 0, "poison").await;
    produce(&broker, 0, &insert(5)).await;
    running.node.wait(|state| state.removed.contains("user:5")).await;
    running.stop().await.expect("a clean end");
    assert_eq!(committed(&broker, 0).await, Offset::Offset(2));

    let servers = broker.bootstrap_servers();
    let read = move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "reader")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("freshline.dead-letters", 0, Offset::Beginning).expect("a place");
        consumer.assign(&list).expect("assigned");
        let letter = consumer.poll(Duration::from_secs(20)).expect("a letter").expect("a letter");
        let headers = letter.headers().expect("headers");
        let header = |name: &str| {
            let found = headers.iter().find(|header| header.key == name)?;
            Some(String::from_utf8_lossy(found.value?).into_owned())
        };
        assert_eq!(letter.payload(), Some(&b"poison"[..]));
        assert_eq!(header("freshline.topic").as_deref(), Some("shop"));
        assert_eq!(header("freshline.partition").as_deref(), Some("0"));
        assert_eq!(header("freshline.offset").as_deref(), Some("0"));
        assert!(header("freshline.reason").expect("a reason").contains("flatMessage"));
    };
    tokio::task::spawn_blocking(read).await.expect("a letter");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_gone_flushes_everything_and_goes_on() {
    let broker = broker(1);
    produce(&broker, 0, &insert(1)).await;
    // As if the topic had been made anew: what is committed lies beyond its end.
    let servers = broker.bootstrap_servers();
    let commit = move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "freshline")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .create()
            .expect("a consumer");
        consumer.subscribe(&["shop"]).expect("subscribed");
        while consumer.assignment().expect("an answer").count() == 0 {
            consumer.poll(Duration::from_millis(100));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("shop", 0, Offset::Offset(1000)).expect("a place");
        consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).expect("committed");
    };
    tokio::task::spawn_blocking(commit).await.expect("committed");
    let running = start(&broker);
    running.node.wait(|state| state.flushed.len() == 2).await;
    assert_eq!(running.metric("sync_gaps_total{reason=\"out_of_range\"}"), Some(1.0));
    produce(&broker, 0, &insert(2)).await;
    running.node.wait(|state| state.removed.contains("user:2")).await;
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_is_noticed_also_where_the_committed_offset_could_not_be_asked_for() {
    let broker = broker(1);
    produce(&broker, 0, &insert(1)).await;
    broker.request_errors(
        RDKafkaApiKey::OffsetFetch,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED],
    );
    let running = start(&broker);
    running.node.wait(|state| state.flushed.len() == 2).await;
    produce(&broker, 0, &insert(2)).await;
    running.node.wait(|state| state.removed.contains("user:2")).await;
    running.stop().await.expect("a clean end");
    assert_eq!(committed(&broker, 0).await, Offset::Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_the_partitions_and_one_takes_over_from_the_other() {
    let broker = broker(4);
    let first = start(&broker);
    first.node.wait(|state| state.flushes > 0).await;
    let second = start(&broker);
    let mut id = 0;
    // Messages to all partitions, until the second one has got some.
    let shared = async {
        loop {
            for partition in 0..4 {
                id += 1;
                produce(&broker, partition, &insert(id)).await;
            }
            if !second.node.state.lock().removed.is_empty() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), shared).await.expect("the second instance gets partitions");
    first.stop().await.expect("a clean end");
    for partition in 0..4 {
        produce(&broker, partition, &insert(10_000 + u64::try_from(partition).expect("small"))).await;
    }
    let all = (10_000..10_004).map(|id| format!("user:{id}")).collect::<Vec<_>>();
    second.node.wait(|state| all.iter().all(|key| state.removed.contains(key))).await;
    second.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_waited_for_and_readiness_says_so() {
    let source = KafkaSource {
        brokers: "127.0.0.1:1".to_owned(),
        topics: vec!["shop".to_owned()],
        ..KafkaSource::default()
    };
    let running =
        Running::start(config(), |metrics| Kafka::new(&source, &config(), metrics).expect("a consumer"));
    let mut reasons = running.readiness.subscribe();
    let told = reasons.wait_for(|reasons| {
        reasons.get("source").is_some_and(|reason| reason.contains("127.0.0.1:1 is not reachable"))
    });
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("in time").expect("a reason");
    running.stop().await.expect("a clean end");
}

#[tokio::test]
async fn a_property_that_librdkafka_refuses_is_named() {
    let source = KafkaSource {
        brokers: "127.0.0.1:1".to_owned(),
        topics: vec!["shop".to_owned()],
        properties: [("session.timeout", "5")].into_iter().collect(),
        ..KafkaSource::default()
    };
    let Err(Error::Config(error)) = Kafka::new(&source, &config(), &mut Registry::default()) else {
        panic!("must be refused")
    };
    assert!(error.contains("source.kafka.properties") && error.contains("session.timeout"), "{error}");
}
