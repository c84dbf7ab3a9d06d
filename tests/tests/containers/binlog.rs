//! The small deployment: MySQL and etcd, the binlog read by the sync service itself.

use std::time::Duration;

use proto::v1::Outcome;
use serde_json::{Value, json};
use sqlx::MySqlPool;
use tests::{
    cluster::{Cluster, DELIVERED},
    small::Small,
    wait,
};

use crate::{
    gaps::cached,
    shop::{self, sql, user},
};

async fn open(stack: &Small, name: &str) -> (MySqlPool, Cluster) {
    let database = stack.database(name, &shop::TABLES).await;
    let cluster = Cluster::start_on_binlog(stack, name, 3, &shop::catalog(name)).await;
    (database, cluster)
}

async fn gaps(cluster: &Cluster, reason: &str) -> f64 {
    cluster.sync().metric(&format!("freshline_sync_gaps_total{{reason=\"{reason}\"}}")).await
}

/// Waits until the position that is kept has caught up with all that was read.
async fn committed(cluster: &Cluster) {
    wait::until("a commit", DELIVERED, async || {
        let commits = cluster.sync().metric("freshline_sync_commits_total").await;
        let open = cluster.sync().metric("freshline_sync_unacknowledged").await;
        if commits >= 1.0 && open < 1.0 { Ok(()) } else { Err((commits, open)) }
    })
    .await;
}

pub(crate) async fn changes_reach_every_node_without_kafka_and_canal(stack: &Small) {
    let (database, mut cluster) = open(stack, "t_small").await;
    let (old, new) = ("user_by_email:ben@example.com", "user_by_email:benjamin@example.com");
    for key in ["user:1", "user:2", "user:77", old, new, "user:1:orders"] {
        for node in &cluster.nodes {
            node.get(key).await.unwrap();
        }
    }
    // A row that changes, one that comes, one whose key columns change, a list.
    sql(&database, "UPDATE users SET name = 'Ada L.' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "Ada L.", "ada@example.com")).await;
    sql(&database, "INSERT INTO users VALUES (77, 'Gus', 'gus@example.com')").await;
    cluster.until_everywhere("user:77", &user(77, "Gus", "gus@example.com")).await;
    sql(&database, "UPDATE users SET id = 200, email = 'benjamin@example.com' WHERE id = 2").await;
    cluster.until_everywhere("user:2", &Value::Null).await;
    cluster.until_everywhere(old, &Value::Null).await;
    cluster.until_everywhere(new, &user(200, "Ben", "benjamin@example.com")).await;
    sql(&database, "DELETE FROM orders WHERE id = 11").await;
    cluster.until_everywhere("user:1:orders", &json!([{ "id": 10, "total": "9.90" }])).await;
    assert!(cluster.sync().metric("freshline_sync_removes_sent_total").await >= 1.0);
    let flushes = cluster.sync().metric("freshline_sync_flushes_total").await;

    // Many rows in one transaction.
    sql(&database, "INSERT INTO users SELECT 1000 + n.i, 'before', CONCAT('u', n.i) FROM (WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 1000) SELECT i FROM s) n").await;
    let keys: Vec<String> = (1001..=2000).map(|id| format!("user:{id}")).collect();
    wait::until("a thousand keys to be read", DELIVERED, async || {
        cluster.nodes[0].get_many(&keys).await.map(drop).map_err(|status| status.to_string())
    })
    .await;
    sql(&database, "UPDATE users SET name = 'after' WHERE id > 1000").await;
    wait::until("a thousand keys to be fresh", DELIVERED, async || {
        for node in &cluster.nodes {
            for reply in node.get_many(&keys).await.map_err(|status| status.to_string())? {
                let value: Value = serde_json::from_slice(&reply.value.unwrap_or_default())
                    .map_err(|error| error.to_string())?;
                if value["name"] != "after" {
                    return Err(value.to_string());
                }
            }
        }
        Ok(())
    })
    .await;
    let since = cluster.sync().metric("freshline_sync_flushes_total").await - flushes;
    assert!(since < 1.0, "rows were removed one by one, and {since} groups flushed");

    // Definitions that change: by name, and then other columns in other places.
    sql(&database, "ALTER TABLE users ADD COLUMN note VARCHAR(9) FIRST, DROP COLUMN name, ADD COLUMN name VARCHAR(50) NOT NULL DEFAULT 'new'").await;
    cluster.until_everywhere("user:1", &user(1, "new", "ada@example.com")).await;
    sql(&database, "UPDATE users SET name = 'renamed' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "renamed", "ada@example.com")).await;
    sql(&database, "TRUNCATE TABLE orders").await;
    cluster.until_everywhere("user:1:orders", &json!([])).await;

    // Nothing happens for a while, and answers from memory are still known to be fresh.
    tokio::time::sleep(Duration::from_secs(4)).await;
    wait::until("an idle binlog to be fresh", DELIVERED, async || {
        let reply =
            cluster.nodes[0].get_with("user:1", Some(3000)).await.map_err(|status| status.to_string())?;
        if reply.outcome() == Outcome::Hit && reply.age_ms > reply.freshness_ms {
            Ok(())
        } else {
            Err(format!("{reply:?}"))
        }
    })
    .await;

    // A restart goes on where it had stopped, and flushes nothing.
    committed(&cluster).await;
    assert!(cluster.sync.take().unwrap().stop().await);
    sql(&database, "UPDATE users SET name = 'meanwhile' WHERE id = 1").await;
    cluster.start_sync().await;
    cluster.until_everywhere("user:1", &user(1, "meanwhile", "ada@example.com")).await;
    assert!(cluster.sync().metric("freshline_sync_gaps_total").await < 1.0);
    assert!(cluster.sync().metric("freshline_sync_undecodable_total").await < 1.0);
}

pub(crate) async fn a_purged_binlog_flushes(stack: &Small) {
    let (database, mut cluster) = open(stack, "t_purged").await;
    cluster.nodes[0].get("user:1").await.unwrap();
    sql(&database, "UPDATE users SET name = 'read' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "read", "ada@example.com")).await;
    cached(&cluster, "user:1").await;
    committed(&cluster).await;
    assert!(cluster.sync.take().unwrap().stop().await);

    sql(&database, "UPDATE users SET name = 'lost' WHERE id = 1").await;
    sql(&database, "FLUSH BINARY LOGS").await;
    let logs: Vec<String> = sqlx::query("SHOW BINARY LOGS")
        .fetch_all(&database)
        .await
        .unwrap()
        .iter()
        .map(|row| sqlx::Row::get(row, 0))
        .collect();
    // As text: it can't be prepared.
    let purge = format!("PURGE BINARY LOGS TO '{}'", logs.last().unwrap());
    sqlx::raw_sql(sqlx::AssertSqlSafe(purge)).execute(&database).await.unwrap();
    assert_eq!(cluster.nodes[0].value("user:1").await.unwrap(), user(1, "read", "ada@example.com"));
    cluster.start_sync().await;
    cluster.until_everywhere("user:1", &user(1, "lost", "ada@example.com")).await;
    assert!(gaps(&cluster, "purged").await >= 1.0);
    // And it goes on from there.
    sql(&database, "UPDATE users SET name = 'after' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "after", "ada@example.com")).await;
}

pub(crate) async fn a_long_backlog_is_skipped(stack: &Small) {
    let name = "t_long";
    let database = stack.database(name, &shop::TABLES).await;
    let limits = "[sync.catch_up]\nmin_messages = 20\nmax_lag = \"2s\"\n";
    let catalog = format!("{limits}{}", shop::catalog(name));
    let mut cluster = Cluster::start_on_binlog(stack, name, 2, &catalog).await;
    let rename =
        async |name: &str| sql(&database, &format!("UPDATE users SET name = '{name}' WHERE id = 1")).await;
    let read = async |cluster: &Cluster, name: &str| {
        cluster.until_everywhere("user:1", &user(1, name, "ada@example.com")).await;
    };
    let stop = async |cluster: &mut Cluster| {
        cached(cluster, "user:1").await;
        committed(cluster).await;
        assert!(cluster.sync.take().unwrap().stop().await);
    };
    rename("before").await;
    read(&cluster, "before").await;

    // Few transactions are read however old they are.
    stop(&mut cluster).await;
    rename("few").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.start_sync().await;
    read(&cluster, "few").await;
    assert!(gaps(&cluster, "lag").await < 1.0);

    // Many, and the first is older than 2 s: what they say is not read, and not needed.
    stop(&mut cluster).await;
    for number in 0..30 {
        rename(&format!("many {number}")).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    rename("last").await;
    cluster.start_sync().await;
    read(&cluster, "last").await;
    assert!(gaps(&cluster, "lag").await >= 1.0);
    assert!(cluster.sync().log().contains("31 transactions are left to read"));
    let rows = cluster.sync().metric("freshline_sync_rows_total").await;
    assert!(rows < 20.0, "{rows} of the skipped rows were read");
    // And it goes on from there, also after a restart: the position is that of the gap's end.
    rename("after").await;
    read(&cluster, "after").await;
    stop(&mut cluster).await;
    rename("later").await;
    cluster.start_sync().await;
    read(&cluster, "later").await;
    assert!(cluster.sync().metric("freshline_sync_gaps_total").await < 1.0);
}

pub(crate) async fn another_instance_takes_over(stack: &Small) {
    let (database, mut cluster) = open(stack, "t_leader").await;
    sql(&database, "UPDATE users SET name = 'first' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "first", "ada@example.com")).await;
    committed(&cluster).await;
    let second = cluster.another_sync("sync-2");
    wait::until("the second instance to wait", DELIVERED, async || {
        if second.log().contains("another instance holds it") { Ok(()) } else { Err("it does not say so") }
    })
    .await;
    cluster.sync.take().unwrap().kill();
    sql(&database, "UPDATE users SET name = 'second' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "second", "ada@example.com")).await;
    assert!(second.metric("freshline_sync_gaps_total").await < 1.0, "a takeover is no gap");
    assert!(second.stop().await);
}

pub(crate) async fn dropped_connections_and_compressed_transactions(stack: &Small) {
    let (database, cluster) = open(stack, "t_dropped").await;
    for node in &cluster.nodes {
        node.get("user:1").await.unwrap();
    }
    let threads: Vec<u64> =
        sqlx::query("SELECT id FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")
            .fetch_all(&database)
            .await
            .unwrap()
            .iter()
            .map(|row| sqlx::Row::get(row, 0))
            .collect();
    assert_eq!(threads.len(), 1, "one instance reads");
    sql(&database, &format!("KILL {}", threads[0])).await;
    sql(&database, "UPDATE users SET name = 'cut' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "cut", "ada@example.com")).await;

    let mut connection = database.acquire().await.unwrap();
    for statement in
        ["SET SESSION binlog_transaction_compression = ON", "UPDATE users SET name = 'small' WHERE id = 1"]
    {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
    cluster.until_everywhere("user:1", &user(1, "small", "ada@example.com")).await;
    // A row image without the key: what reads the table is flushed.
    for statement in [
        "SET SESSION binlog_transaction_compression = OFF, binlog_row_image = MINIMAL",
        "UPDATE users SET email = 'a@b' WHERE id = 1",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
    cluster.until_everywhere("user:1", &user(1, "small", "a@b")).await;
    // Prepared transactions: their rows come before their commit.
    for statement in [
        "XA START 'x'",
        "UPDATE users SET name = 'prepared' WHERE id = 1",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
    ] {
        sqlx::raw_sql(statement).execute(&mut *connection).await.unwrap();
    }
    cluster.until_everywhere("user:1", &user(1, "prepared", "a@b")).await;
    assert!(cluster.sync().metric("freshline_sync_undecodable_total").await < 1.0);
}
