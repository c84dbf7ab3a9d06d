//! Readers: applications with the ring-aware client, and others that ask one node alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use client::{Answer, Client, Outcome, ReadOptions};
use proto::v1::{
    self, GetManyRequest, GetRequest, ScanRequest, cache_client::CacheClient, key_result::Result as KeyResult,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tests::history::{Clock, Moment, Read, Seen};
use tokio::task::JoinSet;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    load::some_row,
    outages::Outages,
    registers::{key, seen},
};

/// Clients, each with connections and a ring of its own.
const CLIENTS: u64 = 4;
/// Tasks that share a client.
const TASKS: u64 = 6;
/// Keys of a read of many.
const MANY: usize = 8;
/// What some readers demand.
const DEMAND: Duration = Duration::from_secs(2);

/// What the readers share.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    pub(crate) clock: Clock,
    pub(crate) outages: Arc<Outages>,
    pub(crate) answered: Arc<AtomicU64>,
    pub(crate) failed: Arc<AtomicU64>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Readers {
    /// Starts all readers; each ends with what it has read, once `stop` is set.
    pub(crate) async fn start(&self, addresses: &[String], seed: u64) -> JoinSet<Vec<Read>> {
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client::from_seeds(addresses.to_vec(), client::Config::default())
                .await
                .expect("ready nodes tell the ring");
            for task in 0..TASKS {
                let random = StdRng::seed_from_u64(seed ^ (1000 + number * 100 + task));
                tasks.spawn(self.clone().application(client.clone(), random));
            }
        }
        for (number, address) in (0_u64..).zip(addresses) {
            for forwarded in [false, true] {
                let random = StdRng::seed_from_u64(seed ^ (5000 + number * 100 + u64::from(forwarded)));
                tasks.spawn(self.clone().neighbour(direct(address), forwarded, random));
            }
        }
        tasks
    }

    /// Reads by the owner, one key or many; sometimes with a demand. What failed is read again at once, so that outages are measured and not
    /// merely sampled.
    async fn application(self, client: Client, mut random: StdRng) -> Vec<Read> {
        let (mut reads, mut failed) = (Vec::new(), Vec::new());
        while !self.stop.load(Ordering::Relaxed) {
            let count = if random.random_bool(0.2) { MANY } else { 1 };
            let rows: Vec<u32> = match std::mem::take(&mut failed) {
                none if none.is_empty() => (0..count).map(|_| some_row(&mut random)).collect(),
                failed => failed,
            };
            let keys: Vec<String> = rows.iter().copied().map(key).collect();
            let max_staleness = random.random_bool(0.1).then_some(DEMAND);
            let options = ReadOptions { max_staleness, ..ReadOptions::default() };
            let began = self.clock.now();
            let answers = if let [key] = keys.as_slice() {
                vec![client.get_with(key, options).await]
            } else {
                client.get_many_with(&keys, options).await
            };
            let ended = self.clock.now();
            for (row, answer) in rows.into_iter().zip(answers) {
                if let Ok(answer) = answer {
                    self.outages.answered(row, began, ended);
                    reads.push(self.read(row, &answer, max_staleness, began, ended));
                } else {
                    self.outages.failed(row, began);
                    failed.push(row);
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(5..25))).await;
        }
        reads
    }

    /// Reads at one node, which forwards what it does not hold, or, told that the call is forwarded already, answers by itself.
    async fn neighbour(
        self,
        mut node: CacheClient<Channel>,
        forwarded: bool,
        mut random: StdRng,
    ) -> Vec<Read> {
        let mut reads = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let row = some_row(&mut random);
            let request = GetRequest { key: key(row), forwarded, ..GetRequest::default() };
            let began = self.clock.now();
            let reply = node.get(request).await;
            let ended = self.clock.now();
            if let Ok(reply) = reply {
                reads.push(self.told(row, &reply.into_inner(), began, ended));
            } else {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(5..25))).await;
        }
        reads
    }

    fn read(
        &self,
        row: u32,
        answer: &Answer,
        demand: Option<Duration>,
        began: Moment,
        ended: Moment,
    ) -> Read {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let asking = ended.since(began);
        let claim = answer.freshness.min(demand.unwrap_or(Duration::MAX)) + asking;
        let memory = matches!(answer.outcome, Outcome::Hit | Outcome::NegativeHit);
        Read {
            row,
            seen: seen(row, answer.value.as_deref()),
            began,
            ended,
            claim,
            node: number(&answer.node),
            memory,
        }
    }

    fn told(&self, row: u32, reply: &v1::GetReply, began: Moment, ended: Moment) -> Read {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let claim = Duration::from_millis(reply.freshness_ms) + ended.since(began);
        let memory = matches!(reply.outcome(), v1::Outcome::Hit | v1::Outcome::NegativeHit);
        Read {
            row,
            seen: seen(row, reply.value.as_deref()),
            began,
            ended,
            claim,
            node: number(&reply.node),
            memory,
        }
    }
}

/// Asks one node for the values of all rows as it would answer by itself.
pub(crate) async fn ask_alone(address: &str, rows: u32) -> Result<Vec<v1::GetReply>, Status> {
    let keys = (0..rows).map(key).collect();
    let request = GetManyRequest { keys, forwarded: true, ..GetManyRequest::default() };
    let reply = direct(address).get_many(request).await?.into_inner();
    let results = reply.results.into_iter().map(|result| match result.result {
        Some(KeyResult::Reply(reply)) => Ok(reply),
        Some(KeyResult::Error(error)) => Err(Status::new(error.code.into(), error.message)),
        Some(KeyResult::LeftOut(_)) => Err(Status::resource_exhausted("left out of a full reply")),
        None => Err(Status::internal("a result without a reply")),
    });
    results.collect()
}

/// All that is in a node's memory, by row.
pub(crate) async fn memory(address: &str) -> Result<Vec<(u32, Seen)>, Status> {
    let mut node = direct(address);
    let (mut all, mut cursor) = (Vec::new(), 0);
    loop {
        let page =
            node.scan(ScanRequest { cursor, values: true, ..ScanRequest::default() }).await?.into_inner();
        for entry in page.entries {
            let row = entry.key.rsplit(':').next().and_then(|row| row.parse().ok());
            let row = row.ok_or_else(|| Status::internal(format!("{} is no key of ours", entry.key)))?;
            all.push((row, seen(row, entry.value.as_deref())));
        }
        cursor = page.cursor;
        if cursor == 0 {
            return Ok(all);
        }
    }
}

fn direct(address: &str) -> CacheClient<Channel> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .expect("an address is a URI")
        .connect_timeout(Duration::from_millis(300))
        .timeout(Duration::from_secs(2));
    CacheClient::new(endpoint.connect_lazy())
}

/// `node-2` is 2.
fn number(node: &str) -> u8 {
    node.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
