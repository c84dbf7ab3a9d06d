//! Which write was delivered when: the topic's messages, beside the offsets that the sync services have committed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use serde::Deserialize;
use tests::{
    history::{Clock, Moment, Write},
    stack::{PARTITIONS, Stack},
    wait,
};

/// How often the group is asked what it has committed.
const ASK: Duration = Duration::from_millis(100);
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows topic and group on a thread of its own, until dropped.
pub(crate) struct Deliveries {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Per row and write: when the committed offset was seen behind its message.
    delivered: HashMap<(u32, u32), Moment>,
    /// Per row: the greatest write whose message was read.
    read: HashMap<u32, u32>,
    /// Partitions for which something is committed.
    committed: usize,
}

#[derive(Deserialize)]
struct Change {
    #[serde(rename = "type")]
    kind: String,
    table: String,
    data: Option<Vec<Row>>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    version: String,
}

impl Deliveries {
    pub(crate) fn follow(stack: &Stack, name: &'static str, clock: Clock) -> Self {
        let (state, stop) = (Arc::<Mutex<State>>::default(), Arc::new(AtomicBool::new(false)));
        let consumer = consumer(stack, name);
        let thread = std::thread::spawn({
            let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
            move || follow(&consumer, name, clock, &state, &stop)
        });
        Self { state, stop, thread: Some(thread) }
    }

    /// Whether every partition has a committed offset: the first start is over.
    pub(crate) fn has_begun(&self) -> bool {
        self.lock().committed == usize::try_from(PARTITIONS).expect("partitions are few")
    }

    /// How many of the rows' last writes are not delivered yet.
    pub(crate) fn missing(&self, writes: &[Mutex<Vec<Write>>]) -> usize {
        let state = self.lock();
        (0_u32..)
            .zip(writes)
            .filter(|(row, list)| {
                let last = last(list);
                last > 0 && !state.delivered.contains_key(&(*row, last))
            })
            .count()
    }

    /// Waits until the messages of all writes are in the topic.
    pub(crate) async fn all_read(&self, writes: &[Mutex<Vec<Write>>]) {
        wait::until("all changes to be in the topic", Duration::from_mins(1), async || {
            let state = self.lock();
            let missing = (0_u32..)
                .zip(writes)
                .filter(|(row, list)| last(list) > state.read.get(row).copied().unwrap_or_default());
            match missing.count() {
                0 => Ok(()),
                missing => Err(format!("those of {missing} rows")),
            }
        })
        .await;
    }

    /// Notes in the writes when each was delivered.
    pub(crate) fn note(&self, rows: &mut [Vec<Write>]) {
        for (&(row, number), &moment) in &self.lock().delivered {
            if let Some(write) = rows.get_mut(row as usize).and_then(|row| row.get_mut(number as usize)) {
                write.delivered = write.delivered.or(Some(moment));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("the follower does not panic with the state")
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The number of a row's last write.
fn last(row: &Mutex<Vec<Write>>) -> u32 {
    row.lock().expect("no writer panics with the list").len() as u32 - 1
}

/// Commits the end of every partition in the group's name, while no instance runs: what an operator's slip does to whatever was not read.
pub(crate) fn skip_to_end(stack: &Stack, name: &str) {
    let consumer = consumer(stack, name);
    let mut ends = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let (_, end) =
            consumer.fetch_watermarks(name, partition, PATIENCE).expect("the broker tells a partition's end");
        ends.add_partition_offset(name, partition, Offset::Offset(end)).expect("an offset is an offset");
    }
    let begun = Instant::now();
    while let Err(error) = consumer.commit(&ends, CommitMode::Sync) {
        // The killed instances are members until their sessions are over.
        assert!(begun.elapsed() < Duration::from_mins(1), "commit for the group: {error}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// In the group's name, but no member of it.
fn consumer(stack: &Stack, name: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.brokers())
        .set("group.id", name)
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    consumer.assign(&partitions(name, Offset::Beginning)).expect("an assignment");
    consumer
}

fn partitions(name: &str, offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(name, partition, offset).expect("an offset is an offset");
    }
    list
}

fn follow(consumer: &BaseConsumer, name: &str, clock: Clock, state: &Mutex<State>, stop: &AtomicBool) {
    let mut waiting: HashMap<i32, VecDeque<(i64, u32, u32)>> = HashMap::new();
    let mut asked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            let queue = waiting.entry(message.partition()).or_default();
            for (row, number) in writes(message.payload().unwrap_or_default()) {
                queue.push_back((message.offset(), row, number));
                let mut state = state.lock().expect("nobody panics with the state");
                let read = state.read.entry(row).or_default();
                *read = number.max(*read);
            }
            if asked.elapsed() < ASK {
                continue;
            }
        }
        asked = Instant::now();
        let Ok(committed) = consumer.committed_offsets(partitions(name, Offset::Invalid), PATIENCE) else {
            continue;
        };
        let now = clock.now();
        let mut state = state.lock().expect("nobody panics with the state");
        state.committed = 0;
        for partition in committed.elements() {
            let Offset::Offset(next) = partition.offset() else { continue };
            state.committed += 1;
            let queue = waiting.entry(partition.partition()).or_default();
            while let Some((_, row, number)) = queue.pop_front_if(|(offset, _, _)| *offset < next) {
                state.delivered.entry((row, number)).or_insert(now);
            }
        }
    }
}

/// The writes that a message tells of. A deletion carries the row that it deleted, so its own number is one more.
fn writes(payload: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let change: Option<Change> = serde_json::from_slice(payload).ok();
    let rows =
        change.filter(|change| change.table == "registers").map(|change| {
            let deleted = u32::from(change.kind == "DELETE");
            change.data.unwrap_or_default().into_iter().filter_map(move |row| {
                Some((row.id.parse().ok()?, row.version.parse::<u32>().ok()? + deleted))
            })
        });
    rows.into_iter().flatten()
}
