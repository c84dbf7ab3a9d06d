//! Reads the binlog: one connection that streams events, another that is asked about tables.
//!
//! Every rows event and statement becomes a message; the end of a transaction becomes a mark at the offset that it ends at. A position is
//! kept only when all before a mark is acknowledged. After a lost connection reading goes on behind the last whole transaction.

use std::sync::Arc;
use std::time::Duration;

use catalog::Catalog;
use futures_util::{FutureExt as _, StreamExt as _};
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event as LogEvent, EventData, RowsEventData, TransactionPayloadEvent};
use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use rand::Rng as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::gtid::{Gtid, GtidSet};
use super::position::Right;
use super::server::{LogPlace, Server};
use super::tables::Definitions;
use super::{Shared, messages};
use crate::config::{OnFirstStart, OnOutOfRange};
use crate::offsets::Offsets;
use crate::source::{BatchBuilder, Batching, Error, Event};

/// Bytes of messages in one batch.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes that wait for a definition to become certain; beyond it the tables' groups are flushed.
const DOUBT_BYTES: usize = 16 << 20;
/// How long transactions without changes wait before they are noted on their own.
const IDLE: Duration = Duration::from_millis(500);

/// How reading ended.
pub(super) enum Ended {
    Stopped,
    /// Another instance may read by now.
    Lost,
}

/// What it takes to read.
pub(super) struct Reader {
    pub(super) server: Server,
    pub(super) server_id: u32,
    pub(super) heartbeat: Duration,
    pub(super) on_first_start: OnFirstStart,
    pub(super) on_out_of_range: OnOutOfRange,
    pub(super) catalog: Arc<Catalog>,
    pub(super) beats: Vec<(String, String)>,
    pub(super) offsets: Arc<Offsets>,
    pub(super) batching: Batching,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: CancellationToken,
    /// The offset of the next message. It begins with the time, so that it grows over restarts and instances.
    pub(super) next: i64,
}

/// One connection's state.
struct Session {
    stream: BinlogStream,
    /// For questions about tables.
    side: Conn,
    definitions: Definitions,
    builder: BatchBuilder,
    /// Where the stream is.
    place: LogPlace,
    file: String,
    /// What was read may depend on what lies before this place.
    doubt: LogPlace,
    gtid: Option<Gtid>,
    committed_ms: i64,
    open: bool,
    /// Where a compressed transaction ends whose events are being read: their own places are those of another log.
    packed: Option<u64>,
    /// Transactions that ended after the last message.
    idle: bool,
    idle_since: Instant,
}

impl Reader {
    /// Reads while the right to it is held.
    pub(super) async fn hold(&mut self, right: &Arc<Right>) -> Result<Ended, Error> {
        let (lost, closed, stop) = (right.lost(), self.shared.stop.clone(), self.stop.clone());
        let mut read: Option<GtidSet> = None;
        let mut pause = Duration::from_millis(100);
        loop {
            let began = Instant::now();
            let session = self.session(&mut read);
            let ended = tokio::select! {
                () = lost.cancelled() => return Ok(Ended::Lost),
                () = closed.cancelled() => return Ok(Ended::Stopped),
                // What is read and not sent is read again by the next start.
                () = stop.cancelled() => return Ok(Ended::Stopped),
                ended = session => ended,
            };
            match ended {
                Ok(()) => return Ok(Ended::Stopped),
                Err(Error::Unavailable(reason)) => {
                    self.shared.metrics.errors.inc();
                    warn!(reason, "the binlog can't be read, trying again");
                    *self.shared.waits.lock() = Some(reason);
                }
                Err(error) => return Err(error),
            }
            if began.elapsed() > Duration::from_secs(30) {
                pause = Duration::from_millis(100);
            }
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            pause = (pause * 2).min(Duration::from_secs(5));
            tokio::select! {
                () = lost.cancelled() => return Ok(Ended::Lost),
                () = stop.cancelled() => return Ok(Ended::Stopped),
                () = tokio::time::sleep(jittered) => {}
            }
        }
    }

    /// Reads over one connection until the stop, or an error.
    async fn session(&mut self, read: &mut Option<GtidSet>) -> Result<(), Error> {
        // Places in one server's log say nothing of another's.
        self.shared.seen.send_replace(None);
        self.shared.sessions.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        let mut conn = self.server.connect().await?;
        self.server.check(&mut conn).await?;
        let start = self.start(&mut conn, read).await?;
        let side = self.server.connect().await?;
        let period = self.heartbeat.as_nanos();
        let own = format!("freshline-{:x}", self.server_id);
        for statement in [
            format!("SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}"),
            format!("SET @slave_uuid = '{own}', @replica_uuid = '{own}'"),
        ] {
            conn.query_drop(statement)
                .await
                .map_err(|error| Error::Unavailable(format!("mysql: {error}")))?;
        }
        let set =
            start.sids().map_err(|error| Error::Unavailable(format!("binlog position {start}: {error}")))?;
        let request = BinlogStreamRequest::new(self.server_id).with_gtid().with_gtid_set(set);
        let stream = conn.get_binlog_stream(request).await.map_err(|error| self.refused(&error))?;
        info!(server = self.server.address, from = %start, "reading the binlog");
        let mut session = Session {
            stream,
            side,
            definitions: Definitions::default(),
            builder: BatchBuilder::default(),
            place: LogPlace::default(),
            file: String::new(),
            doubt: LogPlace::default(),
            gtid: None,
            committed_ms: 0,
            open: false,
            packed: None,
            idle: false,
            idle_since: Instant::now(),
        };
        let silence = self.heartbeat * 3 + Duration::from_secs(10);
        loop {
            let event = if let Some(event) = session.stream.next().now_or_never() {
                event
            } else {
                self.deliver(&mut session).await?;
                let wait = if session.idle { IDLE } else { silence };
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(()),
                    // Dropping the wait for an event loses nothing: the stream keeps what it has read of it.
                    event = tokio::time::timeout(wait, session.stream.next()) => match event {
                        Ok(event) => event,
                        Err(_) if session.idle => {
                            self.note_idle(&mut session);
                            continue;
                        }
                        Err(_) => return Err(Error::Unavailable(format!("mysql {}: silent for {silence:?}", self.server.address))),
                    },
                }
            };
            let event = match event {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Err(self.refused(&error)),
                None => {
                    return Err(Error::Unavailable(format!(
                        "mysql {}: ended the binlog's stream",
                        self.server.address
                    )));
                }
            };
            *self.shared.waits.lock() = None;
            self.event(&mut session, &event, read).await?;
            let full =
                session.builder.len() >= self.batching.messages || session.builder.bytes() >= BATCH_BYTES;
            if full || (session.idle && session.idle_since.elapsed() >= IDLE) {
                self.deliver(&mut session).await?;
            }
            if self.stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    fn refused(&self, error: &mysql_async::Error) -> Error {
        let text = format!("mysql {}: {error}", self.server.address);
        match error {
            mysql_async::Error::Server(server) if matches!(server.code, 1227 | 1045) => {
                Error::Config(format!(
                    "source.binlog: {text}; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to the account"
                ))
            }
            _ => Error::Unavailable(text),
        }
    }

    async fn event(
        &mut self,
        session: &mut Session,
        event: &LogEvent,
        read: &mut Option<GtidSet>,
    ) -> Result<(), Error> {
        let header = event.header();
        let raw = header.event_type_raw();
        let data = match event.read_data() {
            Ok(data) => data,
            Err(error) => {
                warn!(event_type = raw, place = ?session.place, %error, "an event of the binlog can't be read: flushing all groups");
                self.push(session, &messages::flush("", ""), None);
                None
            }
        };
        match data {
            Some(EventData::RotateEvent(rotate)) => {
                session.file = rotate.name().into_owned();
                session.place = LogPlace::new(session.file.clone(), rotate.position());
                self.tell(session);
                return Ok(());
            }
            Some(EventData::GtidEvent(gtid)) => {
                session.gtid = Some(Gtid::from(&gtid));
                session.committed_ms = committed_ms(gtid.immediate_commit_timestamp(), header.timestamp());
                session.open = false;
            }
            Some(EventData::AnonymousGtidEvent(_)) => {
                session.gtid = None;
                session.committed_ms = i64::from(header.timestamp()) * 1000;
                session.open = false;
            }
            Some(EventData::QueryEvent(query)) => self.query(session, &query.schema(), &query.query(), read),
            Some(EventData::RowsEvent(rows)) => self.rows(session, &rows).await?,
            Some(EventData::XidEvent(_) | EventData::XaPrepareLogEvent(_)) => self.end(session, read),
            Some(EventData::TransactionPayloadEvent(_)) | None
                if raw == EventType::TRANSACTION_PAYLOAD_EVENT as u8 =>
            {
                // Its events come next, unless it can't be unpacked; then they don't come at all.
                session.packed = Some(u64::from(header.log_pos()));
                if event.read_event::<TransactionPayloadEvent<'_>>().is_err() {
                    warn!("a compressed transaction can't be unpacked: flushing all groups");
                    self.push(session, &messages::flush("", ""), None);
                    self.end(session, read);
                }
            }
            // LOAD DATA as a statement, and a server that says that events are missing.
            Some(EventData::ExecuteLoadQueryEvent(_) | EventData::IncidentEvent(_)) => {
                warn!(event_type = raw, "the binlog carries a change without its rows: flushing all groups");
                self.push(session, &messages::flush("", ""), None);
            }
            _ => {}
        }
        // Events that the server makes up have no place of their own. A compressed transaction is passed when all of it has been read.
        let passed = match session.packed {
            Some(_) if session.gtid.is_some() => 0,
            Some(end) => {
                session.packed = None;
                end
            }
            None => u64::from(header.log_pos()),
        };
        if passed > 0 && !session.file.is_empty() {
            let place = LogPlace::new(session.file.clone(), passed);
            if place > session.place {
                session.place = place;
            }
        }
        self.tell(session);
        Ok(())
    }

    fn query(&mut self, session: &mut Session, database: &str, sql: &str, read: &mut Option<GtidSet>) {
        let mut words = sql.split_ascii_whitespace();
        let first = words.next().unwrap_or_default().trim_end_matches(';').to_ascii_uppercase();
        let second = words.next().unwrap_or_default().to_ascii_uppercase();
        match (first.as_str(), second.as_str()) {
            ("BEGIN", _) | ("XA", "START" | "BEGIN") => session.open = true,
            ("COMMIT", _) | ("XA", "ROLLBACK") => self.end(session, read),
            ("XA", "COMMIT") => {
                self.push(session, &messages::xa_commit(session.committed_ms), Some(session.committed_ms));
                self.end(session, read);
            }
            ("XA" | "SAVEPOINT" | "RELEASE" | "ROLLBACK", _) => {}
            _ => {
                // Names of columns are of their time.
                session.definitions.clear();
                // CREATE TABLE .. SELECT goes on with its rows.
                let rows = "START TRANSACTION";
                let text = sql.trim_end();
                let cut = text.len().saturating_sub(rows.len());
                let has_rows = text.get(cut..).is_some_and(|end| end.eq_ignore_ascii_case(rows));
                let message = messages::statement(
                    database,
                    if has_rows { &text[..cut] } else { sql },
                    session.committed_ms,
                );
                self.push(session, &message, Some(session.committed_ms));
                if has_rows {
                    session.open = true;
                } else if !session.open {
                    self.end(session, read);
                }
            }
        }
    }

    async fn rows(&mut self, session: &mut Session, rows: &RowsEventData<'_>) -> Result<(), Error> {
        let Some(table_map) = session.stream.get_tme(rows.table_id()) else {
            warn!("rows of the binlog without their table: flushing all groups");
            self.push(session, &messages::flush("", ""), None);
            return Ok(());
        };
        let (database, table) = (table_map.database_name().into_owned(), table_map.table_name().into_owned());
        let is_beat = self
            .beats
            .iter()
            .any(|(of, name)| of.eq_ignore_ascii_case(&database) && name.eq_ignore_ascii_case(&table));
        let rules = self.catalog.table(&database, &table);
        if rules.is_none() && !is_beat {
            return Ok(());
        }
        let columns: Option<Vec<Box<str>>> = rules.filter(|_| !is_beat).map(|rules| rules.columns().to_vec());
        let committed_ms = session.committed_ms;
        let definition = session.definitions.of(&mut session.side, &self.server, &database, &table).await?;
        let message = match &definition {
            Some(definition) if definition.columns.len() as u64 == rows.num_columns() => {
                let certain = session.place >= definition.until;
                if !certain && session.builder.bytes() >= DOUBT_BYTES {
                    messages::flush(&database, &table)
                } else {
                    if !certain && definition.until > session.doubt {
                        session.doubt = definition.until.clone();
                    }
                    let made = messages::rows(
                        rows,
                        table_map,
                        definition,
                        columns.as_deref(),
                        (&database, &table),
                        committed_ms,
                    );
                    made.unwrap_or_else(|error| {
                        warn!(database, table, %error, "rows of the binlog can't be read: flushing the groups that read the table");
                        messages::flush(&database, &table)
                    })
                }
            }
            // The table was changed or dropped since.
            _ => {
                session.definitions.forget(&database, &table);
                messages::flush(&database, &table)
            }
        };
        self.push(session, &message, Some(committed_ms));
        Ok(())
    }

    /// A transaction is whole.
    fn end(&mut self, session: &mut Session, read: &mut Option<GtidSet>) {
        session.open = false;
        if let Some(gtid) = session.gtid.take() {
            if let Some(read) = read {
                read.add(&gtid);
            }
            self.shared.marks.lock().add(self.next, gtid);
        }
        if !session.idle {
            session.idle_since = Instant::now();
        }
        session.idle = true;
    }

    fn push(&mut self, session: &mut Session, message: &[u8], committed_ms: Option<i64>) {
        let partition = &self.shared.partition;
        let (topic, number) = (partition.topic.clone(), partition.number);
        session.builder.push(&self.offsets, &topic, number, self.next, committed_ms, None, Some(message));
        self.next += 1;
        session.idle = false;
        if self.next % 1024 == 0 {
            self.tell(session);
        }
    }

    /// Lets a message of its own carry the position past transactions that changed nothing of interest.
    fn note_idle(&mut self, session: &mut Session) {
        self.push(session, messages::POSITION, None);
    }

    fn tell(&self, session: &Session) {
        self.shared.seen.send_replace(Some((session.place.clone(), self.next)));
    }

    /// Sends what was read, unless it may depend on what lies ahead.
    async fn deliver(&mut self, session: &mut Session) -> Result<(), Error> {
        if session.idle && session.idle_since.elapsed() >= IDLE {
            self.note_idle(session);
        }
        let certain = session.place >= session.doubt || session.builder.bytes() >= 2 * DOUBT_BYTES;
        if session.builder.is_empty() || !certain {
            return Ok(());
        }
        let permit = tokio::select! {
            // What is not sent is read again by the next start.
            () = self.stop.cancelled() => return Ok(()),
            permit = self.events.reserve() => permit.map_err(|_| Error::Unavailable("the service has ended".to_owned()))?,
        };
        permit.send(Event::Batch(session.builder.finish(&self.offsets)));
        self.shared.seen.send_replace(Some((session.place.clone(), self.next)));
        Ok(())
    }
}

/// When a transaction was committed: servers before 8.0 tell only the second of its event.
fn committed_ms(micros: u64, seconds: u32) -> i64 {
    if micros > 0 { i64::try_from(micros / 1000).unwrap_or(0) } else { i64::from(seconds) * 1000 }
}
