//! A planned restart under steady reads: what the database feels of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tests::{
    cluster::Cluster,
    node::{Node, Reader},
    stack::Stack,
};
use tokio::time::MissedTickBehavior;

/// Rows that are read, keys of one request, and how often one is sent by each reader.
const ROWS: u64 = 4000;
const CHUNK: u64 = 50;
const EVERY: Duration = Duration::from_millis(40);
/// How long the database's reads are counted, without a restart and with one.
const SPAN: Duration = Duration::from_secs(30);
/// By how much the database may be read more because of a restart.
const MOST_MORE: f64 = 0.2;

/// Rows that the nodes have read from the database so far.
async fn fills(nodes: &[Node]) -> f64 {
    let mut fills = 0.0;
    for node in nodes {
        fills += node.process.metric("freshline_node_fills_total").await;
    }
    fills
}

pub(crate) async fn a_planned_restart_spares_the_database(stack: &Stack) {
    let name = "t_handover";
    stack
        .database(
            name,
            &[
                "CREATE TABLE items (id BIGINT UNSIGNED PRIMARY KEY, n BIGINT UNSIGNED NOT NULL)",
                "INSERT INTO items WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 1000) SELECT i, 0 FROM i",
                "INSERT INTO items SELECT id + 1000, 0 FROM items",
                "INSERT INTO items SELECT id + 2000, 0 FROM items",
            ],
        )
        .await;
    // Entries live so short that the database is read all the time, also without any restart.
    let catalog = format!(
        "[[group]]\nname = \"item\"\nkey = \"item:{{id:u64}}\"\nquery = \"SELECT n FROM {name}.items WHERE id = {{id}}\"\nttl = \"10s\"\nttl_jitter = 0.5\n"
    );
    let mut cluster = Cluster::start(stack, name, 3, &catalog).await;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..2)
        .map(|at| {
            let reader = cluster.nodes[at].reader();
            tokio::spawn(read(reader, at as u64, Arc::clone(&stop), Arc::clone(&asked)))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(20)).await; // entries of all ages

    let (before, begun) = (fills(&cluster.nodes).await, Instant::now());
    tokio::time::sleep(SPAN).await;
    let between = fills(&cluster.nodes).await;
    let steady = (between - before) / begun.elapsed().as_secs_f64();

    let (reads, begun) = (asked.load(Ordering::Relaxed), Instant::now());
    let restarted = cluster.nodes.pop().expect("there are three nodes");
    // What it reads while it leaves is forwarded to the new owners, and counted there.
    let had = fills(std::slice::from_ref(&restarted)).await;
    let again = cluster.restart(restarted).await;
    cluster.nodes.push(again);
    tokio::time::sleep(SPAN.saturating_sub(begun.elapsed())).await;
    let with_restart = (fills(&cluster.nodes).await + had - between) / begun.elapsed().as_secs_f64();
    let later = asked.load(Ordering::Relaxed);
    let taken = cluster.nodes[2].process.metric("freshline_node_pulled_entries_total").await;
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("every read is answered");
    }
    let more = with_restart / steady - 1.0;
    println!(
        "planned restart of one node of three: {steady:.1} rows/s read from MySQL without, {with_restart:.1} with it: {:+.1} %; \
         {} keys asked for meanwhile; {taken:.0} entries offered to or by the node that came back",
        more * 100.0,
        later - reads,
    );
    assert!(steady > 50.0, "there are natural misses: {steady} rows/s");
    assert!(taken > 100.0, "it came back warm: {taken}");
    assert!(more <= MOST_MORE, "the database was read {:.0} % more", more * 100.0);
}

/// Reads all keys in turn, steadily, through one node that stays.
async fn read(node: Reader, at: u64, stop: Arc<AtomicBool>, asked: Arc<AtomicU64>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut from = at * ROWS / 2;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let keys: Vec<String> = (from..from + CHUNK).map(|id| format!("item:{}", 1 + id % ROWS)).collect();
        from += CHUNK;
        let replies = node.get_many(&keys).await.expect("a node that stays answers");
        asked.fetch_add(replies.len() as u64, Ordering::Relaxed);
    }
}
