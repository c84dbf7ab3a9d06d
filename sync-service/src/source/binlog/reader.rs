//! Reads the binlog: one connection that streams events, another that is asked about tables.
//!
//! What an event becomes is in `events`. A position is kept only when all before a mark is acknowledged. After a lost connection reading
//! goes on behind the last whole transaction.

use std::sync::Arc;
use std::time::Duration;

use catalog::Catalog;
use futures_util::{FutureExt as _, StreamExt as _};
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
use crate::config::{CatchUp, OnFirstStart, OnOutOfRange};
use crate::offsets::Offsets;
use crate::source::{BatchBuilder, Batching, Error, Event};

/// Bytes of messages in one batch.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes that wait for a definition to become certain; beyond it the tables' groups are flushed.
pub(super) const DOUBT_BYTES: usize = 16 << 20;
/// The longest pause before the server is tried again: values are as old as the outage and this.
const PAUSE: Duration = Duration::from_secs(1);
/// How long transactions without changes wait before they are noted on their own.
const IDLE: Duration = Duration::from_millis(500);

/// How reading ended.
pub(super) enum Ended {
    Stopped,
    /// Another instance may read by now.
    Lost,
}

/// How reading over one connection ended.
enum Left {
    Stopped,
    /// A backlog is skipped: reading begins anew behind it.
    Skipped,
}

/// A backlog that is too long if it spans too much time.
pub(super) struct Long {
    pub(super) transactions: u64,
    /// The server's time when it was counted.
    pub(super) now_ms: i64,
}

/// What it takes to read.
pub(super) struct Reader {
    pub(super) server: Server,
    pub(super) server_id: u32,
    pub(super) heartbeat: Duration,
    pub(super) on_first_start: OnFirstStart,
    pub(super) on_out_of_range: OnOutOfRange,
    pub(super) catch_up: CatchUp,
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
pub(super) struct Session {
    pub(super) stream: BinlogStream,
    /// For questions about tables.
    pub(super) side: Conn,
    pub(super) definitions: Definitions,
    pub(super) builder: BatchBuilder,
    /// Where the stream is.
    pub(super) place: LogPlace,
    pub(super) file: String,
    /// What was read may depend on what lies before this place.
    pub(super) doubt: LogPlace,
    pub(super) gtid: Option<Gtid>,
    pub(super) committed_ms: i64,
    pub(super) open: bool,
    /// Where a compressed transaction ends whose events are being read: their own places are those of another log.
    pub(super) packed: Option<u64>,
    /// Transactions that ended after the last message.
    pub(super) idle: bool,
    pub(super) idle_since: Instant,
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
                Ok(Left::Stopped) => return Ok(Ended::Stopped),
                Ok(Left::Skipped) => continue,
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
            pause = (pause * 2).min(PAUSE);
            tokio::select! {
                () = lost.cancelled() => return Ok(Ended::Lost),
                () = stop.cancelled() => return Ok(Ended::Stopped),
                () = tokio::time::sleep(jittered) => {}
            }
        }
    }

    /// Reads over one connection until the stop, an error, or a backlog that is skipped.
    async fn session(&mut self, read: &mut Option<GtidSet>) -> Result<Left, Error> {
        // Places in one server's log say nothing of another's.
        self.shared.seen.send_replace(None);
        self.shared.sessions.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        let mut conn = self.server.connect().await?;
        self.server.check(&mut conn).await?;
        let (start, mut long) = self.start(&mut conn, read).await?;
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
        info!(server = self.server.address, after = %start, "reading the binlog");
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
                    () = self.stop.cancelled() => return Ok(Left::Stopped),
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
            // The first transaction tells how far the backlog reaches back.
            if session.gtid.is_some()
                && let Some(long) = long.take()
            {
                let committed_ms = session.committed_ms;
                if self.spans_too_much(&mut session.side, read, &long, committed_ms).await? {
                    return Ok(Left::Skipped);
                }
            }
            let full =
                session.builder.len() >= self.batching.messages || session.builder.bytes() >= BATCH_BYTES;
            if full || (session.idle && session.idle_since.elapsed() >= IDLE) {
                self.deliver(&mut session).await?;
            }
            if self.stop.is_cancelled() {
                return Ok(Left::Stopped);
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

    pub(super) fn push(&mut self, session: &mut Session, message: &[u8], committed_ms: Option<i64>) {
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

    pub(super) fn tell(&self, session: &Session) {
        self.shared.places.read.set(session.place.number(), session.place.offset);
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
        self.tell(session);
        Ok(())
    }
}
