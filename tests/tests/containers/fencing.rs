//! A node that was stopped for longer than its lease, and wakes up with an old memory and a full socket (R6).

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use proto::v1::Outcome;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::Value;
use tests::{
    cluster::{Cluster, DELIVERED},
    stack::{PARTITIONS, Stack},
    wait,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::shop::sql;

const ROWS: u64 = 300;
/// Connections whose requests wait in the stopped node's sockets, and requests of each.
const CONNECTIONS: usize = 48;
const PIPELINED: usize = 8;
/// Readers that go on over gRPC from before the node wakes up.
const READERS: usize = 8;

/// Succeeds when everything that is in the topic has been committed: delivered to all, or the lease of who did not answer is gone.
pub(crate) fn all_committed(stack: &Stack, name: &str) -> Result<(), String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.brokers())
        .set("group.id", name)
        .create()
        .map_err(|error| error.to_string())?;
    let limit = Duration::from_secs(5);
    let mut partitions = TopicPartitionList::new();
    (0..PARTITIONS).for_each(|number| {
        partitions.add_partition(name, number);
    });
    let committed = consumer.committed_offsets(partitions, limit).map_err(|error| error.to_string())?;
    for partition in committed.elements() {
        let (_, end) = consumer
            .fetch_watermarks(name, partition.partition(), limit)
            .map_err(|error| error.to_string())?;
        let next = match partition.offset() {
            Offset::Offset(next) => next,
            _ => 0,
        };
        if next < end {
            return Err(format!("partition {}: committed {next} of {end}", partition.partition()));
        }
    }
    Ok(())
}

/// Every `"n":N` in a stream of HTTP responses.
fn values(responses: &str) -> impl Iterator<Item = u64> {
    responses.split("\"n\":").skip(1).map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("n is a number")
    })
}

pub(crate) async fn a_node_that_wakes_up_after_its_lease_serves_nothing_old(stack: &Stack) {
    let name = "t_fence";
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
        "[[group]]\nname = \"counter\"\nkey = \"counter:{{id:u64}}\"\nquery = \"SELECT n FROM {name}.counters WHERE id = {{id}}\"\nttl = \"1h\"\n"
    );
    let cluster = Cluster::start(stack, name, 2, &catalog).await;
    let all: Vec<String> = (1..=ROWS).map(|id| format!("counter:{id}")).collect();

    for (round, victim) in (1..).zip(&cluster.nodes) {
        let survivor = cluster.nodes.iter().find(|node| node.id != victim.id).expect("there are two nodes");
        // All that the victim owns is in its memory.
        let warm = async || {
            victim.get_many(&all).await.map_err(|status| status.to_string())?;
            let replies = victim.get_many(&all).await.map_err(|status| status.to_string())?;
            let own: Vec<String> = all
                .iter()
                .zip(&replies)
                .filter(|(_, reply)| reply.node == victim.id && reply.outcome() == Outcome::Hit)
                .map(|(key, _)| key.clone())
                .collect();
            if own.len() > all.len() / 4 { Ok(own) } else { Err(format!("{} keys", own.len())) }
        };
        let (own, _) = wait::until("the victim's memory to be full", DELIVERED, warm).await;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(TcpStream::connect(victim.process.http()).await.unwrap());
        }
        let before = victim.stats().await.unwrap().incarnation;
        let rows = cluster.sync().metric("freshline_sync_rows_total").await;

        victim.process.signal("STOP");
        sql(&database, &format!("UPDATE counters SET n = {round}")).await;
        wait::until("the stopped node's lease to end", DELIVERED, async || {
            let ring = survivor.ring().await.map_err(|status| status.to_string())?;
            let members: BTreeSet<String> = ring.members.into_iter().map(|member| member.id).collect();
            if members.contains(&victim.id) { Err(format!("{members:?}")) } else { Ok(()) }
        })
        .await;
        wait::until("the change to be delivered without the stopped node", DELIVERED, async || {
            let read = cluster.sync().metric("freshline_sync_rows_total").await;
            if read < rows + ROWS as f64 {
                return Err(format!("{} rows of {ROWS} read", read - rows));
            }
            tokio::task::block_in_place(|| all_committed(stack, name))
        })
        .await;

        // Everything from here on is sent after the delivery. The requests over HTTP are in the stopped node's sockets before it wakes up.
        for (at, connection) in connections.iter_mut().enumerate() {
            let mut requests = String::new();
            for n in 0..PIPELINED {
                let key = &own[(at * PIPELINED + n) % own.len()];
                let close = if n + 1 == PIPELINED { "connection: close\r\n" } else { "" };
                let _ = write!(requests, "GET /v1/keys/{key} HTTP/1.1\r\nhost: node\r\n{close}\r\n");
            }
            connection.write_all(requests.as_bytes()).await.unwrap();
        }
        let stop = AtomicBool::new(false);
        let stop = Arc::new(stop);
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (node, keys, stop) = (victim.reader(), own.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let (mut read, mut stale) = (0_usize, Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        // A node that is fenced or comes back may fail to answer; it must not answer wrongly.
                        let Ok(replies) = node.get_many(&keys).await else { continue };
                        for (key, reply) in keys.iter().zip(replies) {
                            read += 1;
                            let value: Value =
                                serde_json::from_slice(&reply.value.unwrap_or_default()).unwrap();
                            if value["n"] != round {
                                stale.push(format!("{key} = {value}, {:?}", reply.outcome));
                            }
                        }
                    }
                    (read, stale)
                })
            })
            .collect();

        victim.process.signal("CONT");
        let (mut read, mut stale) = (0, Vec::new());
        for mut connection in connections {
            let mut responses = String::new();
            connection.read_to_string(&mut responses).await.unwrap();
            let found: Vec<u64> = values(&responses).collect();
            read += found.len();
            stale.extend(found.into_iter().filter(|n| *n != round).map(|n| format!("n = {n} over HTTP")));
        }
        assert!(read > CONNECTIONS, "the queued requests are answered: {read}");
        victim.process.ready().await;
        wait::until("the victim to be back as a new incarnation", DELIVERED, async || {
            let now = victim.stats().await.map_err(|status| status.to_string())?;
            if now.incarnation > before && now.slots > 0 { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            let (more, wrong) = reader.await.unwrap();
            read += more;
            stale.extend(wrong);
        }
        println!("fencing: {read} reads of {} after the delivery, {} stale", victim.id, stale.len());
        assert!(
            stale.is_empty(),
            "{} of {read} reads are stale, such as {:?}",
            stale.len(),
            &stale[..stale.len().min(5)]
        );
    }
}
