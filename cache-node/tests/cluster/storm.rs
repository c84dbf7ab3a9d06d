//! A full cache that is flushed under load: the database sees no more than its budget at once, and nobody is answered an error.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use cache_node::{Hop, Node};
use catalog::{Group, Key};
use loader::{Limits, Loaded, Loader, RowSource};
use tokio::time::{Instant, sleep};
use wire::Outcome;

use crate::stack::Stack;

const KEYS: usize = 4000;
const READERS: usize = 64;
const BUDGET: usize = 4;

/// A database that takes its time and counts who is in it.
#[derive(Default)]
struct Slow {
    running: AtomicUsize,
    most: AtomicUsize,
    reads: AtomicUsize,
}

#[async_trait]
impl RowSource for Slow {
    async fn load(&self, _: &Arc<Group>, keys: &[Key]) -> Result<Vec<Loaded>, loader::Error> {
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        self.reads.fetch_add(1, SeqCst);
        sleep(Duration::from_millis(5)).await;
        self.running.fetch_sub(1, SeqCst);
        let row = |key: &Key| Some(Bytes::from(format!("{{\"key\":\"{}\"}}", key.text)));
        Ok(keys.iter().map(|key| Loaded::from(row(key))).collect())
    }
}

#[derive(Default)]
struct Counts {
    asked: AtomicUsize,
    hits: AtomicUsize,
    errors: AtomicUsize,
}

async fn read(node: Arc<Node>, counts: Arc<Counts>, stop: Arc<AtomicBool>, mut at: usize) {
    while !stop.load(SeqCst) {
        at = (at + 1013) % KEYS; // through all of them
        match node.get(&format!("user:{at}"), Hop::First).await {
            Ok(answer) => {
                counts.hits.fetch_add(usize::from(answer.outcome == Outcome::Hit), SeqCst);
            }
            Err(_) => {
                counts.errors.fetch_add(1, SeqCst);
            }
        }
        counts.asked.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_under_load_never_costs_the_database_more_than_its_budget() {
    let stack = Stack::new();
    let database = Arc::new(Slow::default());
    let (_server, mut parts) = stack.parts("a");
    let limits =
        Limits { max_fills: BUDGET, batch: 16, deadline: Duration::from_secs(30), ..Limits::default() };
    parts.loader = Loader::new(database.clone(), limits, loader::Metrics::default());
    let node =
        Node::start(stack.config.clone(), parts, &mut prometheus_client::registry::Registry::default());
    node.join().await;

    let keys: Vec<String> = (0..KEYS).map(|id| format!("user:{id}")).collect();
    for answer in node.get_many(&keys, Hop::First).await.unwrap() {
        answer.unwrap();
    }
    let before = database.reads.load(SeqCst);
    let (counts, stop) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..READERS)
        .map(|reader| tokio::spawn(read(node.clone(), counts.clone(), stop.clone(), reader * 61)))
        .collect();
    while counts.asked.load(SeqCst) < 5000 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(database.reads.load(SeqCst), before, "the cache is full");

    database.most.store(0, SeqCst);
    database.reads.store(0, SeqCst);
    let flushed = Instant::now();
    node.flush(&[], Hop::First).await.unwrap();
    // Looked at in steps, until 99 of 100 are hits again.
    let (mut asked, mut hits) = (counts.asked.load(SeqCst), counts.hits.load(SeqCst));
    loop {
        sleep(Duration::from_millis(10)).await;
        let (now_asked, now_hits) = (counts.asked.load(SeqCst), counts.hits.load(SeqCst));
        if now_asked - asked >= 1000 {
            if (now_hits - hits) * 100 >= (now_asked - asked) * 99 {
                break;
            }
            (asked, hits) = (now_asked, now_hits);
        }
        assert!(flushed.elapsed() < Duration::from_mins(1), "the hit ratio does not come back");
    }
    let back = flushed.elapsed();
    stop.store(true, SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    let (most, reads, errors) =
        (database.most.load(SeqCst), database.reads.load(SeqCst), counts.errors.load(SeqCst));
    println!(
        "flush of {KEYS} keys under {READERS} readers: {most} reads at once of {BUDGET}, {reads} in all, hit ratio back after {back:?}, {errors} errors"
    );
    assert!(most <= BUDGET, "{most} reads at once");
    assert_eq!(errors, 0);
    node.shutdown(Duration::from_secs(5)).await;
}
