//! Canal's part in the embedded stack: reads the outbox that the triggers fill and produces flat messages to Kafka.
//!
//! A change leaves the outbox when the broker has acknowledged its message, so a crash sends it again and loses none.

use std::{collections::BTreeMap, path::Path, time::Duration};

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
/// How long to wait after an error, such as a file that another process has locked.
const PAUSE: Duration = Duration::from_millis(250);

/// Follows one SQLite file.
pub(crate) struct Tail {
    connection: SqliteConnection,
    producer: FutureProducer,
    topic: String,
    writer: Writer,
    tables: BTreeMap<String, Table>,
    schema_version: i64,
    data_version: i64,
}

impl Tail {
    /// Opens the file and installs capture on its tables. Changes made after this are delivered.
    pub(crate) async fn open(
        file: &Path,
        schema: &str,
        brokers: &str,
        topic: &str,
        partitions: i32,
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
        let tail =
            Self { connection, producer, topic: topic.to_owned(), writer, tables, schema_version, data_version: -1 };
        Ok(tail)
    }

    /// Delivers changes until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // `round` is never dropped half-way; `tick` loses nothing when dropped.
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.round().await {
                warn!(error = format!("{error:#}"), "changes wait: failed to deliver, trying again");
                self.data_version = -1;
                tick.reset_at(Instant::now() + PAUSE);
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
        let rows = sqlx::query(
            "SELECT seq, at, tbl, op, before, after FROM _freshline_changes ORDER BY seq LIMIT ?",
        )
        .bind(BATCH)
        .fetch_all(&mut self.connection)
        .await
        .context("read the outbox")?;
        let Some(last) = rows.last().map(|row| row.get::<i64, _>("seq")) else { return Ok(false) };
        let changes: Vec<Change> = rows.iter().filter_map(change).collect();
        let records = self.writer.rows(&changes, &self.tables, now());
        self.send(&records).await?;
        debug!(changes = changes.len(), messages = records.len(), "sent");
        sqlx::query("DELETE FROM _freshline_changes WHERE seq <= ?")
            .bind(last)
            .execute(&mut self.connection)
            .await
            .with_context(|| format!("empty {OUTBOX}"))?;
        Ok(true)
    }

    /// Takes new, altered and dropped tables over, and tells of them. The triggers are in place before the message
    /// leaves, so that what was written in between is covered by what the message causes.
    async fn follow_schema(&mut self) -> anyhow::Result<()> {
        let tables = capture::tables(&mut self.connection).await.context("read the schema")?;
        capture::install(&mut self.connection, &tables).await.context("install the capture triggers")?;
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
                Some(was) if was != table => {
                    records.push(self.writer.ddl("ALTER", name, &format!("ALTER TABLE `{name}`"), now));
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
            let message = FutureRecord::<(), _>::to(&self.topic).payload(&record.payload).partition(record.partition);
            let delivery = self.producer.send_result(message).map_err(|(error, _)| error).context("produce")?;
            deliveries.push(delivery);
        }
        for delivery in deliveries {
            delivery.await.context("the producer is gone")?.map_err(|(error, _)| error).context("produce")?;
        }
        Ok(())
    }
}

fn change(row: &sqlx::sqlite::SqliteRow) -> Option<Change> {
    let image = |name: &str| {
        let text: Option<String> = row.get(name);
        let objects: Vec<Row> = serde_json::from_str(&text?).ok()?;
        Some(objects.into_iter().flatten().collect::<Row>())
    };
    Some(Change {
        at: row.get("at"),
        table: row.get("tbl"),
        op: Op::parse(row.get("op"))?,
        before: image("before"),
        after: image("after"),
    })
}

async fn pragma(connection: &mut SqliteConnection, sql: &'static str) -> anyhow::Result<i64> {
    sqlx::query_scalar(sql).fetch_one(connection).await.context("ask the database for its version")
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
