//! Nodes that come and go and a sync service that dies, while applications read and write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tests::{
    cluster::{Cluster, DELIVERED},
    stack::Stack,
    wait,
};

use crate::shop::sql;

/// Rows of the table that the load reads and writes.
const ROWS: u64 = 300;

async fn counters(stack: &Stack, name: &str) -> (sqlx::MySqlPool, String) {
    let database = stack
        .database(
            name,
            &[
                "CREATE TABLE counters (id BIGINT UNSIGNED PRIMARY KEY, n BIGINT UNSIGNED NOT NULL)",
                "INSERT INTO counters WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 300) SELECT i, 0 FROM i",
            ],
        )
        .await;
    let catalog = format!(
        "[[group]]\nname = \"counter\"\nkey = \"counter:{{id:u64}}\"\nquery = \"SELECT n FROM {name}.counters WHERE id = {{id}}\"\nttl = \"10m\"\n"
    );
    (database, catalog)
}

/// Waits until every node's answer for every row is what the database holds.
async fn until_all_equal(cluster: &Cluster, database: &sqlx::MySqlPool) {
    let rows: Vec<(u64, u64)> =
        sqlx::query_as("SELECT id, n FROM counters ORDER BY id").fetch_all(database).await.unwrap();
    let keys: Vec<String> = rows.iter().map(|(id, _)| format!("counter:{id}")).collect();
    wait::until("every key to equal its row on every node", DELIVERED, async || {
        for node in &cluster.nodes {
            let replies = node.get_many(&keys).await.map_err(|status| status.to_string())?;
            for (reply, (id, n)) in replies.iter().zip(&rows) {
                let value: Value = serde_json::from_slice(reply.value.as_deref().unwrap_or(b"null")).unwrap();
                if value["n"] != *n {
                    return Err(format!("{} answers counter:{id} = {value}, the row says {n}", node.id));
                }
            }
        }
        Ok(())
    })
    .await;
}

pub(crate) async fn nodes_join_and_leave_under_load(stack: &Stack) {
    let name = "t_join";
    let (database, catalog) = counters(stack, name).await;
    let mut cluster = Cluster::start(stack, name, 3, &catalog).await;

    // Writers and readers go on until the topology has stopped changing.
    let stop = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (database, stop) = (database.clone(), Arc::clone(&stop));
        async move {
            let mut writes = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                sql(
                    &database,
                    &format!("UPDATE counters SET n = n + 1 WHERE id = {}", 1 + writes * 7 % ROWS),
                )
                .await;
                writes += 1;
            }
            writes
        }
    });
    let reader = tokio::spawn({
        let (stop, reads) = (Arc::clone(&stop), Arc::clone(&reads));
        let node = cluster.nodes.remove(0);
        async move {
            let keys: Vec<String> = (1..=ROWS).map(|id| format!("counter:{id}")).collect();
            while !stop.load(Ordering::Relaxed) {
                for chunk in keys.chunks(50) {
                    let replies = node
                        .get_many(chunk)
                        .await
                        .expect("a node that stays answers through joins and leaves");
                    reads.fetch_add(replies.len() as u64, Ordering::Relaxed);
                }
            }
            node
        }
    });

    cluster.add_node().await;
    cluster.add_node().await;
    let leaver = cluster.nodes.remove(0);
    assert!(leaver.process.stop().await, "a node that is asked to stop leaves in order");
    let crashed = cluster.nodes.remove(0);
    crashed.process.kill();
    cluster.add_node().await;

    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    cluster.nodes.push(reader.await.unwrap());
    assert!(written > 0 && reads.load(Ordering::Relaxed) > ROWS);
    until_all_equal(&cluster, &database).await;

    // All survivors agree on the ring, and the crashed node's lease has ended.
    wait::until("all nodes to see the same four members", DELIVERED, async || {
        for node in &cluster.nodes {
            let mut members: Vec<String> =
                node.ring().await.map_err(|s| s.to_string())?.members.into_iter().map(|m| m.id).collect();
            members.sort();
            let mut expected: Vec<String> = cluster.nodes.iter().map(|node| node.id.clone()).collect();
            expected.sort();
            if members != expected {
                return Err(format!("{} sees {members:?}", node.id));
            }
        }
        Ok(())
    })
    .await;
}

pub(crate) async fn sync_service_killed_in_mid_batch_loses_nothing(stack: &Stack) {
    let name = "t_kill_sync";
    let (database, catalog) = counters(stack, name).await;
    let mut cluster = Cluster::start(stack, name, 3, &catalog).await;
    let keys: Vec<String> = (1..=ROWS).map(|id| format!("counter:{id}")).collect();

    for round in 1..=3_u64 {
        for node in &cluster.nodes {
            node.get_many(&keys).await.unwrap();
        }
        // A frozen node holds every batch back, so the kill below hits batches that are sent but not acknowledged.
        let frozen = &cluster.nodes[usize::try_from(round).unwrap() % cluster.nodes.len()];
        frozen.process.signal("STOP");
        sql(&database, &format!("UPDATE counters SET n = {round}")).await;
        wait::until("the sync service to hold unacknowledged batches", Duration::from_secs(20), async || {
            let waiting = cluster.sync().metric("freshline_sync_unacknowledged").await;
            if waiting >= 1.0 { Ok(()) } else { Err(waiting) }
        })
        .await;
        cluster.sync.take().unwrap().kill();
        frozen.process.signal("CONT");
        cluster.start_sync().await;
        until_all_equal(&cluster, &database).await;
    }
}
