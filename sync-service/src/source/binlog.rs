//! MySQL's binlog, read directly: no Kafka, no Canal.
//!
//! One instance reads at a time: the one that holds the place in etcd, or the only one there is, with a position in a file. The whole log is
//! one partition, `binlog/0`. A position is a set of GTIDs, which means the same on every server of a replication group, so that a failover
//! is no gap. It is kept when all that was read up to the end of a transaction is acknowledged, never in the midst of one.

mod events;
mod gtid;
mod messages;
mod position;
mod reader;
mod render;
mod server;
mod start;
mod tables;

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use catalog::Catalog;
use daemon::config::BinlogSource;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use ring::etcd::{Claim, Options};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::gtid::{Gtid, GtidSet};
use self::position::{Place, Position, Right};
use self::reader::{Ended, Reader};
use self::server::{LogPlace, Server};
use super::{Batching, Error, Event, Letter, Source, Survey};
use crate::config::{CatchUp, OnFirstStart, OnOutOfRange, Sync};
use crate::metrics::{BinlogMetrics, SourceMetrics};
use crate::offsets::{NextOffset, Offsets, Partition};

/// The longest that a survey waits for the reader to come as far as the log was.
const PATIENCE: Duration = Duration::from_secs(5);

/// The binlog of one server.
pub struct Binlog {
    config: BinlogSource,
    server: Server,
    catalog: Arc<Catalog>,
    beats: Vec<(String, String)>,
    on_first_start: OnFirstStart,
    on_out_of_range: OnOutOfRange,
    catch_up: CatchUp,
    who: String,
    shared: Arc<Shared>,
    offsets: std::sync::OnceLock<Arc<Offsets>>,
    /// For surveys.
    side: tokio::sync::Mutex<Option<(u64, mysql_async::Conn)>>,
    closed: CancellationToken,
}

/// What the reader and the service share.
pub(super) struct Shared {
    partition: Partition,
    place: Place,
    /// Held while this instance reads, and until it has committed.
    right: Mutex<Option<Arc<Right>>>,
    marks: Mutex<Marks>,
    /// Where the reader is, and the offset of what comes next.
    seen: watch::Sender<Option<(LogPlace, i64)>>,
    waits: Mutex<Option<String>>,
    /// Grows with each connection of the reader: the server behind the address may be another one then.
    sessions: AtomicU64,
    metrics: Arc<SourceMetrics>,
    places: BinlogMetrics,
    /// Ends everything.
    stop: CancellationToken,
}

/// Which transactions end at which offsets.
#[derive(Default)]
pub(super) struct Marks {
    applied: GtidSet,
    waiting: VecDeque<(i64, Mark)>,
    kept: Option<Position>,
}

enum Mark {
    /// A transaction ends.
    Add(Gtid),
    /// A gap ends: from here on this is what was read.
    Set(GtidSet),
}

impl Marks {
    fn begin(&mut self, set: GtidSet) {
        *self = Self { applied: set, ..Self::default() };
    }

    fn add(&mut self, end: i64, gtid: Gtid) {
        self.waiting.push_back((end, Mark::Add(gtid)));
    }

    fn set(&mut self, end: i64, set: GtidSet) {
        self.waiting.push_back((end, Mark::Set(set)));
    }

    /// What is applied once everything before `next` is.
    fn reach(&mut self, next: i64) {
        while self.waiting.front().is_some_and(|(end, _)| *end <= next) {
            match self.waiting.pop_front() {
                Some((_, Mark::Add(gtid))) => self.applied.add(&gtid),
                Some((_, Mark::Set(set))) => self.applied = set,
                None => {}
            }
        }
    }
}

impl Binlog {
    /// Makes a reader; connects to nothing yet. `etcd` keeps the position where no file does.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the setting that can never work.
    pub fn new(
        config: &BinlogSource,
        etcd: Option<Options>,
        catalog: Arc<Catalog>,
        sync: &Sync,
        beats: &[(String, String)],
        registry: &mut Registry,
    ) -> Result<Self, Error> {
        let registry = registry.sub_registry_with_prefix("sync");
        let (metrics, places) = (SourceMetrics::register(registry), BinlogMetrics::register(registry));
        let server = Server::new(config.url.expose())?;
        let place = match (&config.position_file, etcd) {
            (Some(file), _) => Place::File(file.clone()),
            (None, Some(options)) => Place::Etcd(
                Claim::new(options, "binlog", config.lease)
                    .map_err(|error| Error::Config(error.to_string()))?,
            ),
            (None, None) => {
                return Err(Error::Config(
                    "source.binlog: neither a file nor etcd keeps the position; set position_file or cluster.etcd".to_owned(),
                ));
            }
        };
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "sync-service".to_owned());
        Ok(Self {
            server,
            catalog,
            beats: beats.to_vec(),
            on_first_start: sync.on_first_start,
            on_out_of_range: sync.on_out_of_range,
            catch_up: sync.catch_up,
            who: format!("{host} {}", std::process::id()),
            shared: Arc::new(Shared {
                partition: Partition::new("binlog", 0),
                place,
                right: Mutex::default(),
                marks: Mutex::default(),
                seen: watch::Sender::new(None),
                waits: Mutex::new(Some("the binlog's position has not been read yet".to_owned())),
                sessions: AtomicU64::new(0),
                metrics,
                places,
                stop: CancellationToken::new(),
            }),
            offsets: std::sync::OnceLock::new(),
            side: tokio::sync::Mutex::default(),
            closed: CancellationToken::new(),
            config: config.clone(),
        })
    }

    /// Where the log ends, on a connection of its own.
    async fn end_of_log(&self) -> Result<LogPlace, Error> {
        let mut side = self.side.lock().await;
        let session = self.shared.sessions.load(Ordering::Acquire);
        let mut conn = match side.take() {
            Some((of, conn)) if of == session => conn,
            _ => self.server.connect().await?,
        };
        let place = self.server.place(&mut conn).await?;
        *side = Some((session, conn));
        Ok(place)
    }
}

#[async_trait]
impl Source for Binlog {
    fn start(
        &self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        if self.offsets.set(offsets.clone()).is_err() {
            return Err(Error::Config("the source has been started before".to_owned()));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut reader = Reader {
            server: self.server.clone(),
            server_id: match self.config.server_id {
                0 => rand::random::<u32>() | 1 << 31,
                id => id,
            },
            heartbeat: self.config.heartbeat,
            on_first_start: self.on_first_start,
            on_out_of_range: self.on_out_of_range,
            catch_up: self.catch_up,
            catalog: self.catalog.clone(),
            beats: self.beats.clone(),
            offsets: offsets.clone(),
            batching,
            events: events.clone(),
            shared: self.shared.clone(),
            stop: stop.clone(),
            next: i64::try_from(since.as_micros()).unwrap_or(0),
        };
        let (shared, who, closed) = (self.shared.clone(), self.who.clone(), self.closed.clone().drop_guard());
        tokio::spawn(async move {
            let _closed = closed;
            loop {
                let right = tokio::select! {
                    () = stop.cancelled() => return,
                    right = shared.place.take(&who) => Arc::new(right),
                };
                *shared.right.lock() = Some(right.clone());
                shared.metrics.rebalances.inc();
                shared.metrics.assigned.set(1);
                match reader.hold(&right).await {
                    Ok(Ended::Stopped) => return,
                    Ok(Ended::Lost) => {
                        warn!("the place in etcd is lost: another instance may read the binlog now");
                        offsets.revoke(std::slice::from_ref(&shared.partition));
                        shared.right.lock().take();
                        shared.metrics.rebalances.inc();
                        shared.metrics.assigned.set(0);
                        *shared.waits.lock() = Some("another instance reads the binlog".to_owned());
                    }
                    Err(error) => {
                        // Whoever does not listen any more has ended already.
                        let _ = events.send(Event::Failed(error)).await;
                        return;
                    }
                }
            }
        });
        info!(server = self.server.address, "following the binlog");
        Ok(())
    }

    async fn commit(&self, offsets: &[NextOffset]) -> Result<(), Error> {
        let Some(offset) = offsets.iter().find(|offset| offset.partition == self.shared.partition) else {
            return Ok(());
        };
        let owed = self.offsets.get().is_some_and(|book| book.owes(&self.shared.partition));
        let right = self.shared.right.lock().clone();
        let Some(right) = right else {
            return Err(Error::Unavailable("another instance reads the binlog".to_owned()));
        };
        let position = {
            let mut marks = self.shared.marks.lock();
            marks.reach(offset.next);
            let position = Position::new(&marks.applied, owed);
            if marks.kept.as_ref() == Some(&position) {
                return Ok(());
            }
            position
        };
        right.write(&position).await?;
        self.shared.marks.lock().kept = Some(position);
        Ok(())
    }

    async fn dead_letter(&self, letter: &Letter) -> Result<(), Error> {
        let payload = letter.payload.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let Some(file) = self.config.dead_letter_file.clone() else {
            let beginning: String = payload.chars().take(1000).collect();
            warn!(
                offset = letter.offset,
                reason = letter.reason,
                table = letter.table,
                beginning,
                "dead letter"
            );
            return Ok(());
        };
        let line = serde_json::json!({
            "offset": letter.offset, "reason": letter.reason, "table": letter.table, "payload": payload,
        });
        let written = tokio::task::spawn_blocking(move || append(&file, &format!("{line}\n"))).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map_err(|error| Error::Unavailable(format!("source.binlog.dead_letter_file: {error}")))
    }

    async fn close(&self) {
        self.shared.stop.cancel();
        if let Some(offsets) = self.offsets.get() {
            self.closed.cancelled().await;
            offsets.revoke(std::slice::from_ref(&self.shared.partition));
        }
        let right = self.shared.right.lock().take();
        if let Some(Right::Etcd(held)) = right.and_then(Arc::into_inner) {
            held.release().await;
        }
    }

    fn waits_for(&self) -> Option<String> {
        self.shared.waits.lock().clone()
    }

    fn ends(&self) -> Vec<NextOffset> {
        let owned = self.offsets.get().is_some_and(|offsets| offsets.owns(&self.shared.partition));
        let seen = self.shared.seen.borrow().as_ref().map(|(_, next)| *next).filter(|_| owned);
        seen.map(|next| NextOffset { partition: self.shared.partition.clone(), next }).into_iter().collect()
    }

    async fn survey(&self, owned: Vec<Partition>) -> Result<Survey, Error> {
        let all = vec![self.shared.partition.clone()];
        if !owned.contains(&self.shared.partition) {
            return Ok(Survey { ends: Vec::new(), all });
        }
        let end = self.end_of_log().await?;
        self.shared.places.end.set(end.number(), end.offset);
        // Offsets are the reader's own: how many there are up to the log's end is known when it has come there.
        let mut seen = self.shared.seen.subscribe();
        let reached = seen.wait_for(|seen| seen.as_ref().is_some_and(|(place, _)| *place >= end));
        let next = match tokio::time::timeout(PATIENCE, reached).await {
            Ok(Ok(seen)) => seen.as_ref().map(|(_, next)| *next),
            _ => None,
        };
        let ends = next.map(|next| NextOffset { partition: self.shared.partition.clone(), next });
        Ok(Survey { ends: ends.into_iter().collect(), all })
    }
}

impl Drop for Binlog {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

fn append(file: &PathBuf, line: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::options().create(true).append(true).open(file)?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_covers_whole_acknowledged_transactions_alone() {
        let server = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set = |text: &str| format!("{server}:{text}").parse::<GtidSet>().expect("a set");
        let mut marks = Marks::default();
        marks.begin(set("1-4"));
        for (end, number) in [(10, 5), (20, 6), (20, 7)] {
            marks.add(end, Gtid::of(server, number));
        }
        marks.reach(9);
        assert_eq!(marks.applied, set("1-4"));
        // In the midst of a transaction.
        marks.reach(15);
        assert_eq!(marks.applied, set("1-5"));
        // One that changed nothing of interest ends where the one before it did.
        marks.reach(20);
        assert_eq!(marks.applied, set("1-7"));
        // Behind a gap the position is where reading went on, once the gap's flush is acknowledged.
        marks.set(20, set("1-90"));
        marks.add(25, Gtid::of(server, 91));
        marks.reach(24);
        assert_eq!(marks.applied, set("1-90"));
        marks.reach(25);
        assert_eq!(marks.applied, set("1-91"));
    }

    /// The position in the file is all that a restart goes by: what is not in it is read again.
    #[tokio::test]
    async fn what_is_kept_is_what_is_acknowledged_and_only_by_who_holds_the_place() {
        let folder = std::env::temp_dir().join(format!("freshline-binlog-{}", std::process::id()));
        let file = folder.join("position.json");
        let config = BinlogSource {
            url: daemon::config::DatabaseUrl::new("mysql://reader@127.0.0.1:3306/"),
            position_file: Some(file.clone()),
            ..BinlogSource::default()
        };
        let catalog =
            Arc::new(Catalog::parse("freshline.toml", "").unwrap_or_else(|report| panic!("{report}")));
        let binlog = Binlog::new(&config, None, catalog, &Sync::default(), &[], &mut Registry::default());
        let binlog = binlog.expect("nothing is connected to yet");
        let kept = async || {
            let position = binlog.shared.place.read().await.expect("a file that can be read");
            position.map(|position| position.gtid_set.rsplit(':').next().expect("transactions").to_owned())
        };
        let commit = async |next| {
            let partition = binlog.shared.partition.clone();
            binlog.commit(&[NextOffset { partition, next }]).await
        };
        let server = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        {
            let mut marks = binlog.shared.marks.lock();
            marks.begin(format!("{server}:1-4").parse().expect("a set"));
            for (end, number) in [(10, 5), (20, 6)] {
                marks.add(end, Gtid::of(server, number));
            }
        }
        assert!(commit(10).await.is_err(), "another instance reads");
        *binlog.shared.right.lock() = Some(Arc::new(Right::File(file)));
        assert!(commit(10).await.is_err(), "there is no such folder");
        std::fs::create_dir_all(&folder).expect("a folder");
        assert_eq!(kept().await, None);
        commit(9).await.expect("kept");
        assert_eq!(kept().await.as_deref(), Some("1-5"), "what was acknowledged stays acknowledged");
        commit(19).await.expect("kept");
        assert_eq!(kept().await.as_deref(), Some("1-5"), "the next one is read, and not acknowledged");
        commit(20).await.expect("kept");
        assert_eq!(kept().await.as_deref(), Some("1-6"));
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
