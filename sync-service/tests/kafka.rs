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
use rdkafka::producer::{
    BaseRecord, DefaultProducerContext, FutureProducer, FutureRecord, Producer as _, ThreadedProducer,
};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use sync_service::config::{CatchUp, Sync};
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

/// Produces many to partition 0.
async fn produce_all(broker: &Broker, payloads: impl Iterator<Item = String>) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .expect("a producer");
    for payload in payloads {
        let record = BaseRecord::<str, str>::to("shop").partition(0).payload(&payload);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    let flush = move || producer.flush(Duration::from_secs(10));
    tokio::task::spawn_blocking(flush).await.expect("no panic").expect("produced");
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
async fn of_a_dead_letter_that_is_too_large_the_beginning_is_kept() {
    let broker = broker(1);
    commit(&broker, 0, "").await;
    let poison = "x".repeat(300_000);
    produce(&broker, 0, &poison).await;
    broker.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let running = start(&broker);
    running.wait_metric("sync_dead_letters_total", 1.0).await;
    assert_eq!(running.metric("sync_dead_letter_failures_total"), Some(0.0));
    running.stop().await.expect("a clean end");
    assert_eq!(committed(&broker, 0).await, Offset::Offset(1));
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
        assert_eq!(letter.payload().expect("a payload"), &poison.as_bytes()[..100_000]);
        let told =
            letter.headers().expect("headers").iter().find(|header| header.key == "freshline.truncated");
        assert_eq!(told.expect("the header").value, Some(&b"300000"[..]));
    };
    tokio::task::spawn_blocking(read).await.expect("a letter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_matches_the_pattern_later_is_a_first_start() {
    let broker = broker(1);
    let source = KafkaSource {
        topics: vec!["^shop.*".to_owned()],
        properties: [("topic.metadata.refresh.interval.ms", "500")].into_iter().collect(),
        ..source(&broker)
    };
    let running =
        Running::start(config(), |metrics| Kafka::new(&source, &config(), metrics).expect("a consumer"));
    running.node.wait(|state| state.flushes == 1).await;
    broker.create_topic("shop-2", 1, 1).expect("a topic");
    running.wait_metric("sync_gaps_total{reason=\"first_start\"}", 2.0).await;
    running.node.wait(|state| state.flushes == 2).await;
    running.stop().await.expect("a clean end");
}

/// Commits an offset of partition 0 as a member of the group, with what a service would write beside it.
async fn commit(broker: &Broker, next: i64, metadata: &str) {
    let (servers, metadata) = (broker.bootstrap_servers(), metadata.to_owned());
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
        let mut element = list.add_partition("shop", 0);
        element.set_offset(Offset::Offset(next)).expect("an offset");
        element.set_metadata(metadata);
        consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).expect("committed");
    };
    tokio::task::spawn_blocking(commit).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_gone_flushes_everything_and_goes_on() {
    let broker = broker(1);
    produce(&broker, 0, &insert(1)).await;
    // As if the topic had been made anew: what is committed lies beyond its end.
    commit(&broker, 1000, "").await;
    let running = start(&broker);
    running.node.wait(|state| state.flushed.len() == 2).await;
    assert_eq!(running.metric("sync_gaps_total{reason=\"out_of_range\"}"), Some(1.0));
    produce(&broker, 0, &insert(2)).await;
    running.node.wait(|state| state.removed.contains("user:2")).await;
    running.stop().await.expect("a clean end");
    assert_eq!(committed(&broker, 0).await, Offset::Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_was_not_acknowledged_is_made_by_whoever_comes_next() {
    let broker = broker(1);
    produce(&broker, 0, &insert(1)).await;
    commit(&broker, 1000, "").await;
    // The first one finds the gap, and is stopped before its nodes have flushed; meanwhile the log grows over the committed offset.
    let running = Running::start(Sync { drain: Duration::from_secs(1), ..config() }, |metrics| {
        Kafka::new(&source(&broker), &config(), metrics).expect("a consumer")
    });
    running.node.set_down(true);
    running.wait_metric("sync_gaps_total{reason=\"out_of_range\"}", 1.0).await;
    produce_all(&broker, (0..1010).map(|_| insert(3))).await;
    running.stop().await.expect("a bounded end");
    assert_eq!(committed(&broker, 0).await, Offset::Offset(1000));

    let running = start(&broker);
    running.node.wait(|state| state.flushed.len() == 2).await;
    assert_eq!(running.metric("sync_gaps_total{reason=\"owed\"}"), Some(1.0));
    produce(&broker, 0, &insert(4)).await;
    running.node.wait(|state| state.removed.contains("user:4")).await;
    running.stop().await.expect("a clean end");
    // The mark is gone with the flush.
    let running = start(&broker);
    produce(&broker, 0, &insert(5)).await;
    running.node.wait(|state| state.removed.contains("user:5")).await;
    assert_eq!(running.node.state.lock().flushes, 0);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_is_skipped_by_a_flush() {
    let broker = broker(1);
    produce(&broker, 0, &insert(1)).await;
    commit(&broker, 1, "").await;
    produce_all(&broker, (0..500).map(|id| insert(1000 + id))).await;
    produce(&broker, 0, &insert(2)).await;
    let config = Sync {
        catch_up: CatchUp { min_messages: 10, max_messages: 100, ..CatchUp::default() },
        batch_messages: 1,
        ..config()
    };
    let running = Running::start(config.clone(), |metrics| {
        Kafka::new(&source(&broker), &config, metrics).expect("a consumer")
    });
    running.node.wait(|state| state.flushed.len() == 2).await;
    assert_eq!(running.metric("sync_gaps_total{reason=\"lag\"}"), Some(1.0));
    produce(&broker, 0, &insert(3)).await;
    running.node.wait(|state| state.removed.contains("user:3")).await;
    assert!(!running.node.state.lock().removed.contains("user:2"), "a cache needs no replay");
    running.stop().await.expect("a clean end");
    assert_eq!(committed(&broker, 0).await, Offset::Offset(503));
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

#[tokio::test(flavor = "multi_thread")]
async fn idle_topics_keep_nodes_fresh_and_a_dead_broker_does_not() {
    let broker = broker(2);
    // A pattern and a name: the partitions of both are known, each once.
    let source = KafkaSource { topics: vec!["^sh.p$".to_owned(), "shop".to_owned()], ..source(&broker) };
    let config = Sync { heartbeat_interval: Duration::from_millis(50), ..config() };
    let running =
        Running::start(config, |metrics| Kafka::new(&source, &self::config(), metrics).expect("a consumer"));
    let fresh = |running: &Running| {
        running.node.freshness().is_some_and(|freshness| freshness < Duration::from_secs(1))
    };
    tokio::time::timeout(Duration::from_secs(30), async {
        while !fresh(&running) {
            running.node.changed.notified().await;
        }
    })
    .await
    .expect("all partitions are owned, flushed, and at their end");
    let told = running.node.state.lock().told.clone().expect("watermarks");
    assert_eq!((told.partitions.len(), told.all.len()), (2, 2));
    drop(broker);
    tokio::time::timeout(Duration::from_secs(30), async {
        while running.node.freshness().is_some_and(|freshness| freshness < Duration::from_secs(2)) {
            running.node.changed.notified().await;
        }
    })
    .await
    .expect("freshness grows");
    running.stop().await.expect("a clean end");
}
