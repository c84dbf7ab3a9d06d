//! Each server restarted under a running cluster, and servers that are down when the cluster starts. Nothing may be lost.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{cluster::Cluster, stack::Stack, wait};
use tonic::Code;

use crate::shop::{self, sql, user};

pub(crate) async fn mysql_restarted(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_mysql").await;
    assert_eq!(cluster.nodes[0].value("user:1").await.unwrap(), user(1, "Ada", "ada@example.com"));
    stack.mysql.kill().await;

    // What is in memory is still served; a fill fails with an error that says what is down, and is not cached.
    assert_eq!(cluster.nodes[0].value("user:1").await.unwrap(), user(1, "Ada", "ada@example.com"));
    let refused = cluster.nodes[0].get("user:2").await.unwrap_err();
    assert!(matches!(refused.code(), Code::Unavailable | Code::DeadlineExceeded), "{refused:?}");
    assert!(refused.message().contains("database"), "the message names what is down: {refused:?}");

    stack.mysql.start_again().await;
    stack.mysql_ready().await;
    cluster.until_everywhere("user:2", &user(2, "Ben", "ben@example.com")).await;
    sql(&database, "UPDATE users SET name = 'Ada L.' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "Ada L.", "ada@example.com")).await;
}

pub(crate) async fn kafka_restarted(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_kafka").await;
    for id in 1..=3 {
        cluster.nodes[0].get(&format!("user:{id}")).await.unwrap();
    }
    stack.kafka.kill().await;
    sql(&database, "UPDATE users SET name = 'while Kafka was down' WHERE id = 1").await;
    stack.kafka.start_again().await;
    sql(&database, "UPDATE users SET name = 'after' WHERE id = 2").await;
    cluster.until_everywhere("user:1", &user(1, "while Kafka was down", "ada@example.com")).await;
    cluster.until_everywhere("user:2", &user(2, "after", "ben@example.com")).await;
}

pub(crate) async fn canal_restarted(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_canal").await;
    cluster.nodes[0].get("user:1").await.unwrap();
    cluster.nodes[0].get("user:2").await.unwrap();
    // One change goes through first, so that Canal has a position to come back to.
    sql(&database, "UPDATE users SET name = 'before' WHERE id = 2").await;
    cluster.until_everywhere("user:2", &user(2, "before", "ben@example.com")).await;
    stack.canal.kill().await;
    sql(&database, "UPDATE users SET name = 'while Canal was down' WHERE id = 1").await;
    stack.canal.start_again().await;
    cluster.until_everywhere("user:1", &user(1, "while Canal was down", "ada@example.com")).await;
    // A restart is told by the numbers of its batches, in a partition that was read before it.
    sql(&database, "UPDATE users SET name = 'after' WHERE id = 2").await;
    cluster.until_everywhere("user:2", &user(2, "after", "ben@example.com")).await;
    // A node that did not have it in memory answers before the change is delivered.
    wait::until("the restart to be noticed", Duration::from_secs(30), async || {
        match cluster.sync().metric("freshline_sync_gaps_total{reason=\"canal_restart\"}").await {
            restarts if restarts >= 1.0 => Ok(()),
            restarts => Err(restarts),
        }
    })
    .await;
}

pub(crate) async fn etcd_restarted(stack: &Stack) {
    let (database, mut cluster) = shop::open(stack, "t_etcd").await;
    cluster.nodes[0].get("user:1").await.unwrap();
    stack.etcd.kill().await;
    sql(&database, "UPDATE users SET name = 'while etcd was down' WHERE id = 1").await;

    // The leases run out: fenced nodes serve nothing from memory and read through to the database.
    wait::until("every node to be fenced", Duration::from_secs(20), async || {
        for node in &cluster.nodes {
            if !node.stats().await.map_err(|s| s.to_string())?.fenced {
                return Err(node.id.clone());
            }
        }
        Ok(())
    })
    .await;
    for node in &cluster.nodes {
        assert_eq!(node.value("user:1").await.unwrap(), user(1, "while etcd was down", "ada@example.com"));
    }

    stack.etcd.start_again().await;
    wait::until("every node to be back as a member", Duration::from_secs(30), async || {
        for node in &cluster.nodes {
            let stats = node.stats().await.map_err(|s| s.to_string())?;
            if stats.fenced || node.ring().await.map_err(|s| s.to_string())?.members.len() != 3 {
                return Err(format!("{}: fenced {}", node.id, stats.fenced));
            }
        }
        Ok(())
    })
    .await;
    cluster.nodes[0].get("user:1").await.unwrap();
    sql(&database, "UPDATE users SET name = 'etcd is back' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "etcd is back", "ada@example.com")).await;
    cluster.add_node().await;
    cluster.until_everywhere("user:2", &user(2, "Ben", "ben@example.com")).await;
}

pub(crate) async fn servers_down_at_start(stack: &Stack) {
    let name = "t_late";
    let database = shop::database(stack, name).await;
    stack.etcd.kill().await;
    stack.mysql.kill().await;
    stack.kafka.kill().await;

    // Both binaries start, say what they wait for, and go on by themselves when it is there.
    let mut cluster = Cluster::prepare(stack, name, &shop::catalog(name));
    let folder = cluster.folder().to_owned();
    let servers = async {
        wait::until("the node to say what it waits for", Duration::from_secs(20), async || {
            let log = std::fs::read_to_string(folder.join("node-1.log")).unwrap_or_default();
            if log.contains("WARN") && log.contains("etcd") { Ok(()) } else { Err(log) }
        })
        .await;
        stack.etcd.start_again().await;
        stack.mysql.start_again().await;
        stack.kafka.start_again().await;
        stack.mysql_ready().await;
    };
    tokio::join!(cluster.add_node(), servers);
    cluster.start_sync().await;
    assert_eq!(cluster.nodes[0].value("user:1").await.unwrap(), user(1, "Ada", "ada@example.com"));
    sql(&database, "UPDATE users SET name = 'late' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "late", "ada@example.com")).await;
    assert_ne!(cluster.nodes[0].value("user:2").await.unwrap(), Value::Null);
    assert_eq!(cluster.nodes[0].value("user:9").await.unwrap(), json!(null));
}
