//! Canal's part in the embedded stack: reads the outbox that the triggers fill and produces flat messages to Kafka.
//!
//! A change leaves the outbox when the broker has acknowledged its message, so a crash sends it again and loses none.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use sqlx::{Row as _, SqliteConnection};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    canal::{Change, Op, Record, Row, Writer},
    capture::{self, OUTBOX, Table},
    database,
};

/// How often the file is asked whether another connection has written to it; a question costs some microseconds.
const POLL: Duration = Duration::from_millis(4);
/// The most changes read from the outbox at once.
const BATCH: i64 = 2000;
/// How many messages [`Sent`] knows.
const REMEMBERED: usize = 10_000;
/// How long to wait after an error, such as a file that another process has locked.
const PAUSE: Duration = Duration::from_millis(250);
/// How long errors may go on. The nodes know nothing of them: they claim to be fresh, so the stack must end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Follows one SQLite file.
pub(crate) struct Tail {
    connection: SqliteConnection,
    producer: FutureProducer,
    topic: String,
    writer: Writer,
    tables: BTreeMap<String, Table>,
    schema_version: i64,
    data_version: i64,
    sent: Arc<Sent>,
}

/// When the changes of the newest messages were made, by partition and offset. Canal's messages tell it in whole seconds.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Bounded by [`REMEMBERED`].
    times: Mutex<BTreeMap<(i32, i64), i64>>,
}

impl Sent {
    /// How long ago the change at `topic/partition@offset` was made.
    pub(crate) fn age(&self, origin: &str) -> Option<Duration> {
        let (partition, offset) = origin.rsplit_once('/')?.1.split_once('@')?;
        let at = *self.lock().get(&(partition.parse().ok()?, offset.parse().ok()?))?;
        Some(Duration::from_millis(u64::try_from(now() - at).unwrap_or_default()))
    }

    fn remember(&self, place: (i32, i64), at: i64) {
        let mut times = self.lock();
        times.insert(place, at);
        while times.len() > REMEMBERED {
            times.pop_first();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(i32, i64), i64>> {
        // A map of times is whole after any panic.
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    /// Opens the file and installs capture on its tables. Changes made after this are delivered.
    pub(crate) async fn open(
        file: &Path,
        schema: &str,
        brokers: &str,
        topic: &str,
        partitions: i32,
        sent: Arc<Sent>,
    ) -> anyhow::Result<Self> {
        let mut connection = database::open(file).await?;
        let tables = capture::tables(&mut connection).await.context("read the schema")?;
        capture::install(&mut connection, &tables).await.context("install the capture triggers")?;
        let schema_version = pragma(&mut connection, "PRAGMA schema_version").await?;
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("socket.nagle.disable", "true")
            .create()
            .context("create the producer")?;
        let writer = Writer::new(schema, partitions);
        // -1: the first round always looks, for what an earlier run left behind.
        let (topic, data_version) = (topic.to_owned(), -1);
        Ok(Self { connection, producer, topic, writer, tables, schema_version, data_version, sent })
    }

    /// Delivers changes until `stop`. An error means that none could be delivered for [`PATIENCE`].
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut failing: Option<Instant> = None;
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // `round` is never dropped half-way; `tick` loses nothing when dropped.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = tick.tick() => {}
            }
            if let Err(error) = self.round().await {
                if failing.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(error.context(format!("deliver changes, for {PATIENCE:?}")));
                }
                warn!(error = format!("{error:#}"), "changes wait: failed to deliver, trying again");
                self.data_version = -1;
                tick.reset_at(Instant::now() + PAUSE);
            } else {
                failing = None;
            }
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let data_version = pragma(&mut self.connection, "PRAGMA data_version").await?;
        if data_version == self.data_version {
            return Ok(());
        }
        while self.deliver().await? {}
        if pragma(&mut self.connection, "PRAGMA schema_version").await? != self.schema_version {
            self.follow_schema().await?;
        }
        self.data_version = data_version;
        Ok(())
    }

    /// Sends one batch and returns whether there was one.
    async fn deliver(&mut self) -> anyhow::Result<bool> {
        // As bytes: what a row's text holds need not be UTF-8, and reading it must not depend on that.
        let rows = sqlx::query(
            "SELECT seq, CAST(at AS INTEGER), CAST(tbl AS BLOB), CAST(op AS BLOB), CAST(before AS BLOB), CAST(after AS BLOB) \
             FROM _freshline_changes ORDER BY seq LIMIT ?",
        )
        .bind(BATCH)
        .fetch_all(&mut self.connection)
        .await
        .context("read the outbox")?;
        let mut notes = Vec::with_capacity(rows.len());
        for row in &rows {
            notes.push(note(row).context("read a change in the outbox")?);
        }
        let Some(last) = notes.last().map(|note| note.seq) else { return Ok(false) };
        let mut records = Vec::new();
        // In the order of the changes, with what can't be read as a change of its whole table.
        for run in notes.chunk_by(|a, b| a.change.is_some() && b.change.is_some()) {
            let changes: Vec<Change> = run.iter().filter_map(|note| note.change.clone()).collect();
            if changes.is_empty() {
                records.extend(run.iter().flat_map(|note| self.unreadable(note)));
            } else {
                records.extend(self.writer.rows(&changes, &self.tables, now()));
            }
        }
        self.send(&records).await?;
        debug!(changes = notes.len(), messages = records.len(), "sent");
        sqlx::query("DELETE FROM _freshline_changes WHERE seq <= ?")
            .bind(last)
            .execute(&mut self.connection)
            .await
            .with_context(|| format!("empty {OUTBOX}"))?;
        Ok(true)
    }

    /// What is told of a change that can't be read: its table was altered, or all were if even that is not known. Their groups are flushed.
    fn unreadable(&mut self, note: &Note) -> Vec<Record> {
        let names: Vec<String> = match &note.table {
            Some(name) => vec![name.clone()],
            None => self.tables.keys().cloned().collect(),
        };
        warn!(seq = note.seq, tables = ?names, "a change in the outbox can't be read: the groups of its table are flushed");
        let now = now();
        names.iter().map(|name| self.writer.altered(name, now)).collect()
    }

    /// Takes new, altered and dropped tables over, and tells of them. The triggers are in place before the message
    /// leaves, so that what was written in between is covered by what the message causes.
    async fn follow_schema(&mut self) -> anyhow::Result<()> {
        let tables = capture::tables(&mut self.connection).await.context("read the schema")?;
        let uncaptured = capture::install(&mut self.connection, &tables).await;
        let uncaptured = uncaptured.context("install the capture triggers")?;
        self.schema_version = pragma(&mut self.connection, "PRAGMA schema_version").await?;
        let before = std::mem::replace(&mut self.tables, tables);
        let mut records = Vec::new();
        let now = now();
        for name in before.keys().filter(|name| !self.tables.contains_key(*name)) {
            records.push(self.writer.ddl("ERASE", name, &format!("DROP TABLE `{name}`"), now));
        }
        for (name, table) in &self.tables {
            match before.get(name) {
                None => records.push(self.writer.ddl("CREATE", name, &format!("CREATE TABLE `{name}`"), now)),
                // Also one that is defined as before and is not the same any more.
                Some(was) if was != table || uncaptured.contains(name) => {
                    records.push(self.writer.altered(name, now));
                }
                Some(_) => {}
            }
        }
        if !records.is_empty() {
            info!(messages = records.len(), "the schema changed");
        }
        self.send(&records).await
    }

    async fn send(&self, records: &[Record]) -> anyhow::Result<()> {
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            // As Canal's: no key, an explicit partition.
            let message =
                FutureRecord::<(), _>::to(&self.topic).payload(&record.payload).partition(record.partition);
            let delivery =
                self.producer.send_result(message).map_err(|(error, _)| error).context("produce")?;
            deliveries.push((delivery, record.at));
        }
        for (delivery, at) in deliveries {
            let place = delivery
                .await
                .context("the producer is gone")?
                .map_err(|(error, _)| error)
                .context("produce")?;
            self.sent.remember((place.partition, place.offset), at);
        }
        Ok(())
    }
}

/// A row of the outbox.
#[derive(Debug)]
struct Note {
    seq: i64,
    /// The changed table, if that can be read.
    table: Option<String>,
    /// The change, if all of it can be read.
    change: Option<Change>,
}

fn note(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Note> {
    let bytes = |index: usize| row.try_get::<Option<Vec<u8>>, _>(index);
    let (seq, at) = (row.try_get(0)?, row.try_get::<Option<i64>, _>(1)?);
    let text = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let (table, op) = (text(bytes(2)?), text(bytes(3)?));
    let (before, after) = (image(bytes(4)?), image(bytes(5)?));
    let change = || {
        let (op, before, after) = (Op::parse(op.as_deref()?)?, before.ok()?, after.ok()?);
        let (needs_before, needs_after) = (op != Op::Insert, op != Op::Delete);
        (needs_before == before.is_some() && needs_after == after.is_some()).then_some(Change {
            at: at?,
            table: table.clone()?,
            op,
            before,
            after,
        })
    };
    Ok(Note { seq, change: change(), table })
}

/// A row as the trigger wrote it. Of text that is not UTF-8 only the column's name is there, with a value that no column has.
fn image(bytes: Option<Vec<u8>>) -> serde_json::Result<Option<Row>> {
    let Some(bytes) = bytes else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let objects: Vec<Row> = serde_json::from_str(&text)?;
    let mut row: Row = objects.into_iter().flatten().collect();
    if matches!(text, std::borrow::Cow::Owned(_)) {
        for value in
            row.values_mut().filter(|value| value.as_str().is_some_and(|text| text.contains('\u{fffd}')))
        {
            *value = serde_json::Value::Array(Vec::new());
        }
    }
    Ok(Some(row))
}

async fn pragma(connection: &mut SqliteConnection, sql: &'static str) -> anyhow::Result<i64> {
    sqlx::query_scalar(sql).fetch_one(connection).await.context("ask the database for its version")
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        Message, Offset, TopicPartitionList,
        consumer::{BaseConsumer, Consumer},
    };
    use serde_json::Value;

    use super::{super::broker::Broker, *};

    /// Reads messages of all partitions until `count` are there.
    fn read(brokers: &str, count: usize) -> Vec<Value> {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "test").create().unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in 0..3 {
            partitions.add_partition_offset("shop", partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&partitions).unwrap();
        let mut messages = Vec::new();
        while messages.len() < count {
            let message = consumer.poll(Duration::from_secs(20)).expect("a message arrives").unwrap();
            messages.push(serde_json::from_slice(message.payload().unwrap()).unwrap());
        }
        messages
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_another_connection_writes_arrives_and_the_outbox_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.db");
        database::create(&file, super::super::shop::script).await.unwrap();
        let broker = Broker::start(&[("shop", 3)]).unwrap();
        let tail = Tail::open(&file, "shop", broker.address(), "shop", 3, Arc::default()).await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(tail.run(stop.clone()));

        let mut user = database::open_as(&file, "shop").await.unwrap();
        sqlx::raw_sql("UPDATE shop.users SET name = 'Ada' WHERE id = 42").execute(&mut user).await.unwrap();
        sqlx::raw_sql("CREATE TABLE shop.notes (id INTEGER PRIMARY KEY); ").execute(&mut user).await.unwrap();
        let address = broker.address().to_owned();
        let messages = tokio::task::spawn_blocking(move || read(&address, 2)).await.unwrap();
        let kinds: Vec<_> =
            messages.iter().map(|m| (m["type"].as_str().unwrap(), m["table"].as_str().unwrap())).collect();
        assert!(kinds.contains(&("UPDATE", "users")) && kinds.contains(&("CREATE", "notes")), "{kinds:?}");

        // A table that is dropped and made anew, as it was: what was put in before its triggers were there is told of as an ALTER.
        sqlx::raw_sql("BEGIN; DROP TABLE notes; CREATE TABLE shop.notes (id INTEGER PRIMARY KEY); COMMIT")
            .execute(&mut user)
            .await
            .unwrap();
        let address = broker.address().to_owned();
        let messages = tokio::task::spawn_blocking(move || read(&address, 3)).await.unwrap();
        assert!(messages.iter().any(|m| m["type"] == "ALTER" && m["table"] == "notes"), "{messages:?}");

        // The CREATE left after the new table's triggers were in place.
        sqlx::raw_sql("INSERT INTO notes VALUES (1)").execute(&mut user).await.unwrap();
        let address = broker.address().to_owned();
        let messages = tokio::task::spawn_blocking(move || read(&address, 4)).await.unwrap();
        assert!(messages.iter().any(|m| m["type"] == "INSERT" && m["data"][0]["id"] == "1"));

        stop.cancel();
        running.await.unwrap().unwrap();
        let tail = Tail::open(&file, "shop", broker.address(), "shop", 3, Arc::default()).await.unwrap();
        drop(tail);
    }
}
