//! Changes that the sync service may have missed: each noticed, and everything fresh again.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    consumer::Consumer,
    producer::{FutureProducer, FutureRecord},
};
use sqlx::MySqlPool;
use tests::{cluster::Cluster, stack::PARTITIONS, stack::Stack, wait};

use crate::shop::{self, sql, user};

/// Changes a user behind the binlog's back: only a flush or removal of something else makes it fresh.
async fn silently(database: &MySqlPool, statement: &str) {
    let mut connection = database.acquire().await.unwrap();
    for statement in ["SET sql_log_bin = 0", statement, "SET sql_log_bin = 1"] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *connection).await.unwrap();
    }
}

fn admin(stack: &Stack) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", stack.brokers()).create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)))
}

/// Deletes all messages of a topic, as retention does, once it has `messages` more than its partitions were read of.
async fn retention(stack: &Stack, topic: &str, more: i64, before: i64) {
    published(stack, topic, before + more).await;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::End).unwrap();
    }
    admin(stack).delete_records(&all, &options()).await.unwrap();
}

/// Waits until so many messages were ever in a topic.
async fn published(stack: &Stack, topic: &str, messages: i64) {
    wait::until("canal's messages to be in the topic", Duration::from_secs(30), async || {
        match end(stack, topic) {
            all if all >= messages => Ok(()),
            all => Err(all),
        }
    })
    .await;
}

/// How many messages were ever in a topic.
fn end(stack: &Stack, topic: &str) -> i64 {
    let consumer = stack.consumer(topic);
    let high = |partition| {
        let ask = || consumer.fetch_watermarks(topic, partition, Duration::from_secs(10));
        tokio::task::block_in_place(ask).unwrap().1
    };
    (0..PARTITIONS).map(high).sum()
}

async fn gaps(cluster: &Cluster, reason: &str) -> f64 {
    cluster.sync().metric(&format!("freshline_sync_gaps_total{{reason=\"{reason}\"}}")).await
}

/// Kills the sync service, after it has committed all of its partitions once.
async fn kill(cluster: &mut Cluster) {
    wait::until("the first commit", Duration::from_secs(30), async || {
        let sync = cluster.sync();
        let (commits, open) = (
            sync.metric("freshline_sync_commits_total").await,
            sync.metric("freshline_sync_unacknowledged").await,
        );
        if commits >= 1.0 && open < 1.0 { Ok(()) } else { Err((commits, open)) }
    })
    .await;
    drop(cluster.sync.take());
}

/// Waits until the nodes keep what they fill again.
pub(crate) async fn cached(cluster: &Cluster, key: &str) {
    wait::until(&format!("{key} to be kept"), Duration::from_secs(30), async || {
        cluster.nodes[0].get(key).await.map_err(|status| status.to_string())?;
        match cluster.nodes[0].explain(key).await.map_err(|status| status.to_string())?.entry {
            1 => Err("it is not".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

pub(crate) async fn retention_overtakes_a_stopped_service(stack: &Stack) {
    let name = "t_retention";
    let (database, mut cluster) = shop::open(stack, name).await;
    cached(&cluster, "user:1").await;
    let before = end(stack, name);
    kill(&mut cluster).await;
    sql(&database, "UPDATE users SET name = 'never seen'").await;
    retention(stack, name, 1, before).await;
    cluster.start_sync().await;
    cluster.until_everywhere("user:1", &user(1, "never seen", "ada@example.com")).await;
    assert!(gaps(&cluster, "out_of_range").await >= 1.0);
    sql(&database, "UPDATE users SET name = 'seen' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "seen", "ada@example.com")).await;
    let log = cluster.sync().log();
    assert!(log.contains("changes were missed") && log.contains("out_of_range"), "{log}");
}

pub(crate) async fn retention_overtakes_a_running_service(stack: &Stack) {
    let name = "t_overtaken";
    let (database, cluster) = shop::open(stack, name).await;
    cached(&cluster, "user:1").await;
    let before = end(stack, name);
    cluster.sync().signal("STOP");
    sql(&database, "UPDATE users SET name = 'never seen'").await;
    retention(stack, name, 1, before).await;
    cluster.sync().signal("CONT");
    cluster.until_everywhere("user:1", &user(1, "never seen", "ada@example.com")).await;
    sql(&database, "UPDATE users SET name = 'seen' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "seen", "ada@example.com")).await;
}

pub(crate) async fn offsets_of_the_group_are_gone(stack: &Stack) {
    let name = "t_forgotten";
    let (database, mut cluster) = shop::open(stack, name).await;
    cached(&cluster, "user:1").await;
    kill(&mut cluster).await;
    silently(&database, "UPDATE users SET name = 'unlogged' WHERE id = 1").await;
    wait::until("the group to be empty and deleted", Duration::from_mins(1), async || {
        let done =
            admin(stack).delete_groups(&[name], &options()).await.map_err(|error| error.to_string())?;
        done.into_iter().try_for_each(|one| one.map(drop).map_err(|(_, code)| code.to_string()))
    })
    .await;
    cluster.start_sync().await;
    cluster.until_everywhere("user:1", &user(1, "unlogged", "ada@example.com")).await;
    assert!(gaps(&cluster, "first_start").await >= f64::from(PARTITIONS));
}

pub(crate) async fn a_long_backlog_is_skipped(stack: &Stack) {
    let name = "t_backlog";
    let database = shop::database(stack, name).await;
    let limits = "[sync.catch_up]\nmin_messages = 100\n";
    let catalog = format!("{}\n{limits}", shop::catalog(name));
    let mut cluster = Cluster::start(stack, name, 3, &catalog).await;
    cached(&cluster, "user:1").await;
    kill(&mut cluster).await;
    silently(&database, "UPDATE users SET name = 'unlogged' WHERE id = 1").await;

    // A thousand messages that span a quarter of an hour, and more than one batch.
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", stack.brokers()).create().unwrap();
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let payload = format!(
        r#"{{"id":0,"data":[{{"id":"77"}}],"database":"{name}","table":"nothing","type":"INSERT","isDdl":false,"old":null}}"#
    );
    let sent = (0..2000).map(|number| {
        let record = FutureRecord::<str, str>::to(name)
            .payload(&payload)
            .partition(1)
            .timestamp(now - 900_000 + number * 450);
        producer.send_result(record).map_err(|(error, _)| error).unwrap()
    });
    for delivery in sent.collect::<Vec<_>>() {
        delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
    }
    cluster.start_sync().await;
    cluster.until_everywhere("user:1", &user(1, "unlogged", "ada@example.com")).await;
    assert!(gaps(&cluster, "lag").await >= 1.0);
    assert!(cluster.sync().metric("freshline_sync_messages_total").await < 2000.0, "a cache needs no replay");
    sql(&database, "UPDATE users SET name = 'seen' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "seen", "ada@example.com")).await;
}

pub(crate) async fn a_partition_is_added(stack: &Stack) {
    let name = "t_added";
    let database = shop::database(stack, name).await;
    let refresh = "[source.kafka.properties]\n\"topic.metadata.refresh.interval.ms\" = 1000\n";
    let cluster = Cluster::start(stack, name, 3, &format!("{}\n{refresh}", shop::catalog(name))).await;
    // One message has been committed, so the topic is followed.
    sql(&database, "UPDATE users SET name = 'Cyd' WHERE id = 3").await;
    cluster.until_everywhere("user:3", &user(3, "Cyd", "cy@example.com")).await;
    cached(&cluster, "user:1").await;
    cached(&cluster, "user:2").await;
    silently(&database, "UPDATE users SET name = 'moved'").await;

    let grown = usize::try_from(PARTITIONS + 1).unwrap();
    admin(stack).create_partitions(&[NewPartitions::new(name, grown)], &options()).await.unwrap();
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", stack.brokers()).create().unwrap();
    let payload = format!(
        r#"{{"data":[{{"id":"1","name":"moved","email":"ada@example.com"}}],"database":"{name}","table":"users","type":"INSERT","isDdl":false,"mysqlType":{{"id":"bigint unsigned","name":"varchar(50)","email":"varchar(100)"}},"old":null}}"#
    );
    wait::until("the new partition to take a message", Duration::from_secs(30), async || {
        let record = FutureRecord::<str, str>::to(name).payload(&payload).partition(PARTITIONS);
        producer.send(record, Duration::from_secs(5)).await.map_err(|(error, _)| error.to_string())
    })
    .await;
    cluster.until_everywhere("user:1", &user(1, "moved", "ada@example.com")).await;
    assert!((gaps(&cluster, "new_partition").await - 1.0).abs() < 0.1);
    // Nothing else went.
    assert_eq!(cluster.nodes[0].value("user:2").await.unwrap(), user(2, "Ben", "ben@example.com"));
}

pub(crate) async fn tables_are_altered_and_renamed(stack: &Stack) {
    let name = "t_altered";
    let (database, cluster) = shop::open(stack, name).await;
    cached(&cluster, "user:1").await;
    silently(&database, "UPDATE users SET name = 'altered' WHERE id = 1").await;
    sql(&database, "ALTER TABLE users ADD COLUMN age INT NOT NULL DEFAULT 0").await;
    cluster.until_everywhere("user:1", &user(1, "altered", "ada@example.com")).await;

    cached(&cluster, "user:1").await;
    let before = end(stack, name);
    sql(&database, "CREATE TABLE others LIKE users").await;
    sql(&database, "INSERT INTO others VALUES (1, 'other', 'other@example.com', 3)").await;
    // Without a table history (tsdb) Canal asks MySQL for the columns of `others` when it reads this row, and stops for good if the table
    // has another name by then.
    published(stack, name, before + 2).await;
    sql(&database, "RENAME TABLE users TO gone, others TO users").await;
    cluster.until_everywhere("user:1", &user(1, "other", "other@example.com")).await;
    assert!(cluster.sync().metric("freshline_sync_flushes_total{reason=\"ddl\"}").await >= 2.0);
}
