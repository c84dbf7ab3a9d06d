//! How fresh readers are told to be, with and without heartbeat rows, while Canal is dead.

use std::time::Duration;

use proto::v1::{GetReply, Outcome};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use tests::{
    cluster::Cluster,
    node::Node,
    stack::{PARTITIONS, Stack},
    wait,
};

use crate::shop::{self, sql, user};

const PATIENCE: Duration = Duration::from_secs(30);
/// What a healthy stack stays below, on a loaded machine.
const FRESH: u64 = 3_000;

async fn read(node: &Node, max_staleness_ms: Option<u64>) -> GetReply {
    node.get_with("user:1", max_staleness_ms).await.expect("an answer")
}

/// Waits until a value from memory is known to be fresher than its read.
async fn until_fresh(cluster: &Cluster) {
    wait::until("a hit to be fresh", PATIENCE, async || {
        for node in &cluster.nodes {
            let reply = read(node, None).await;
            if reply.outcome() != Outcome::Hit || reply.freshness_ms >= FRESH || reply.age_ms <= FRESH {
                return Err(reply);
            }
        }
        Ok(())
    })
    .await;
}

/// Canal dies: Kafka is idle and all of it is applied. Only a heartbeat row tells that nobody follows the database any more.
pub(crate) async fn dead_canal_shows(stack: &Stack) {
    let rows = "[sync.heartbeat]\ntable = \"t_beat.freshline_heartbeat\"\ninterval = \"500ms\"\nrows = 128\n";
    let beating = shop::database(stack, "t_beat").await;
    let told = Cluster::start(stack, "t_beat", 2, &format!("{rows}\n{}", shop::catalog("t_beat"))).await;
    let quiet = shop::database(stack, "t_nobeat").await;
    let blind = Cluster::start(stack, "t_nobeat", 1, &shop::catalog("t_nobeat")).await;
    for cluster in [&told, &blind] {
        read(&cluster.nodes[0], None).await;
        until_fresh(cluster).await;
    }
    // The sync service made the table, its rows reach all partitions, and they are no errors.
    let sync = told.sync();
    assert!(sync.metric("freshline_sync_partitions_without_heartbeat").await < 1.0);
    assert!(sync.metric("freshline_sync_undecodable_total").await < 1.0);
    assert!(told.nodes[0].process.metric("freshline_freshness_seconds").await < 3.0);

    stack.canal.kill().await;
    sql(&beating, "UPDATE users SET name = 'while Canal was dead' WHERE id = 1").await;
    sql(&quiet, "UPDATE users SET name = 'while Canal was dead' WHERE id = 1").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (old, unaware) = (read(&told.nodes[0], None).await, read(&blind.nodes[0], None).await);
    assert_eq!((old.outcome(), unaware.outcome()), (Outcome::Hit, Outcome::Hit));
    assert!(old.freshness_ms >= 7_000, "freshness grows: {old:?}");
    assert!(
        unaware.freshness_ms < FRESH,
        "without heartbeat rows Kafka's end is all that is known: {unaware:?}"
    );
    assert!(told.nodes[0].process.metric("freshline_freshness_seconds").await >= 7.0);
    // Who cares gets the row as it is.
    let strict = read(&told.nodes[1], Some(2_000)).await;
    assert_eq!(strict.outcome(), Outcome::Miss, "{strict:?}");
    let value: serde_json::Value = serde_json::from_slice(strict.value()).expect("JSON");
    assert_eq!(value, user(1, "while Canal was dead", "ada@example.com"));

    stack.canal.start_again().await;
    told.until_everywhere("user:1", &value).await;
    wait::until("freshness to shrink", Duration::from_mins(1), async || {
        let reply = read(&told.nodes[0], None).await;
        if reply.freshness_ms < FRESH { Ok(()) } else { Err(reply.freshness_ms) }
    })
    .await;
    blind.until_everywhere("user:1", &value).await;
}

/// A transaction's marker has an offset and is no message: the log ends with it, and nobody ever reads it.
pub(crate) async fn the_markers_of_transactions_hold_no_watermark_back(stack: &Stack) {
    let _database = shop::database(stack, "t_markers").await;
    let cluster = Cluster::start(stack, "t_markers", 1, &shop::catalog("t_markers")).await;
    read(&cluster.nodes[0], None).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.brokers())
        .set("transactional.id", "t_markers")
        .create()
        .expect("a producer");
    let message = r#"{"data":null,"database":"t_markers","table":"","type":"QUERY","isDdl":false,"sql":"-- a comment"}"#;
    tokio::task::block_in_place(|| {
        producer.init_transactions(PATIENCE).expect("transactions");
        producer.begin_transaction().expect("a transaction");
        for partition in 0..PARTITIONS {
            let record: BaseRecord<'_, [u8], str> =
                BaseRecord::to("t_markers").partition(partition).payload(message);
            producer.send(record).expect("a place in the queue");
        }
        producer.commit_transaction(PATIENCE).expect("a commit");
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    until_fresh(&cluster).await;
    wait::until("the markers to be committed too", PATIENCE, async || {
        let lag = cluster.sync().metric("freshline_sync_lag").await;
        if lag < 1.0 { Ok(()) } else { Err(lag) }
    })
    .await;
}
