//! What an event of the binlog becomes: every rows event and statement a message, the end of a transaction a mark at the offset that it
//! ends at.

use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event as LogEvent, EventData, RowsEventData, TransactionPayloadEvent};
use tokio::time::Instant;
use tracing::warn;

use super::gtid::{Gtid, GtidSet};
use super::messages;
use super::reader::{DOUBT_BYTES, Reader, Session};
use super::server::LogPlace;
use crate::source::Error;

impl Reader {
    pub(super) async fn event(
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
            // LOAD DATA as a statement.
            Some(EventData::ExecuteLoadQueryEvent(load)) => {
                self.query(session, &load.schema(), &load.query(), read);
            }
            // A server that says that events are missing.
            Some(EventData::IncidentEvent(_)) => {
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
            // A rollback that is not to a savepoint ends it too; what it changed for good came as rows.
            ("COMMIT", _) | ("XA", "ROLLBACK") | ("ROLLBACK", "" | "WORK") => self.end(session, read),
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
}

/// When a transaction was committed: servers before 8.0 tell only the second of its event.
fn committed_ms(micros: u64, seconds: u32) -> i64 {
    if micros > 0 { i64::try_from(micros / 1000).unwrap_or(0) } else { i64::from(seconds) * 1000 }
}
