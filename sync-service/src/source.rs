//! Where changes come from: batches of raw messages, each with its place in a log.

pub mod binlog;
pub mod kafka;
pub mod memory;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::CatchUp;
use crate::decode::Reason;
use crate::offsets::{NextOffset, Offsets, Partition, Read, Ticket};

/// A log of change messages, in partitions that are shared out among the instances of a consumer group.
///
/// The contract: partitions are told to [`Offsets`] when they are assigned and before they are given up; messages of a
/// partition come in the order of their offsets, all of them, from the committed offset on; where that is not possible a
/// [`Gap`] comes instead, before any message after it.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Starts to read, in the background, until `stop`; then `events` is dropped. Partitions stay assigned until
    /// [`close`](Self::close), so that what was read can still be committed.
    fn start(
        &self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Result<(), Error>;

    /// Commits offsets of owned partitions.
    async fn commit(&self, offsets: &[NextOffset]) -> Result<(), Error>;

    /// Keeps a message that can't be decoded. Returns when it is safe.
    async fn dead_letter(&self, letter: &Letter) -> Result<(), Error>;

    /// Gives up all partitions, after the last commit.
    async fn close(&self);

    /// Why nothing can be read at the moment, if so.
    fn waits_for(&self) -> Option<String>;

    /// The end of the log of each assigned partition, where it is known.
    fn ends(&self) -> Vec<NextOffset>;

    /// Asks the log where these partitions end *now*, and which partitions there are: the answer is of a moment after the call,
    /// never of one before it. Cancel safe.
    async fn survey(&self, owned: Vec<Partition>) -> Result<Survey, Error>;
}

#[async_trait]
impl Source for Box<dyn Source> {
    fn start(
        &self,
        offsets: Arc<Offsets>,
        batching: Batching,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        (**self).start(offsets, batching, events, stop)
    }

    async fn commit(&self, offsets: &[NextOffset]) -> Result<(), Error> {
        (**self).commit(offsets).await
    }

    async fn dead_letter(&self, letter: &Letter) -> Result<(), Error> {
        (**self).dead_letter(letter).await
    }

    async fn close(&self) {
        (**self).close().await;
    }

    fn waits_for(&self) -> Option<String> {
        (**self).waits_for()
    }

    fn ends(&self) -> Vec<NextOffset> {
        (**self).ends()
    }

    async fn survey(&self, owned: Vec<Partition>) -> Result<Survey, Error> {
        (**self).survey(owned).await
    }
}

/// What a log says of itself at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The ends of the partitions that were asked for; those that can't be told are left out.
    pub ends: Vec<NextOffset>,
    /// All partitions of all topics that are subscribed to, whoever reads them, in order; empty if that can't be told.
    pub all: Vec<Partition>,
}

/// How messages are read, and become batches.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Most messages of a batch.
    pub messages: usize,
    /// How long a batch waits for more messages while earlier ones are under way.
    pub wait: Duration,
    /// Which backlogs are skipped.
    pub catch_up: CatchUp,
}

/// What a source tells.
#[derive(Debug)]
pub enum Event {
    /// Messages to apply.
    Batch(Batch),
    /// Changes were missed.
    Gap(Gap),
    /// The source can't go on; the process should stop.
    Failed(Error),
}

/// Changes that were not seen, or may not have been; all that was noticed at the same time.
#[derive(Debug)]
pub struct Gap {
    /// What was missed, per partition.
    pub missed: Vec<Missed>,
    /// To be acknowledged when the flush is: then reading may start after the gap for good.
    pub ticket: Ticket,
}

/// What was missed in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missed {
    /// Where.
    pub partition: Partition,
    /// How it was noticed.
    pub reason: Reason,
    /// The offset that reading goes on at. It is fixed before a flush is planned: what is older is flushed, what is newer is read.
    pub next: i64,
    /// What was missed and where reading goes on; for the log.
    pub detail: String,
    /// What is done.
    pub reaction: Reaction,
}

/// What is done about changes that were missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// Everything that was cached before goes.
    Flush,
    /// All messages are still there, and are read.
    Read,
}

impl Gap {
    /// Registers a gap. Where there is a flush, nothing after it is committed before the flush is acknowledged.
    pub fn begin(missed: Vec<Missed>, offsets: &Offsets) -> Self {
        let flushed: Vec<_> = missed
            .iter()
            .filter(|missed| missed.reaction == Reaction::Flush)
            .map(|missed| NextOffset { partition: missed.partition.clone(), next: missed.next })
            .collect();
        Self { ticket: offsets.begin_flush(&flushed), missed }
    }
}

/// Messages, in one buffer.
#[derive(Debug)]
pub struct Batch {
    buffer: Vec<u8>,
    messages: Vec<Place>,
    partitions: Vec<Partition>,
    /// When the first message was handed over by the log's client.
    pub fetched_at: Instant,
    /// To be acknowledged when all messages are applied.
    pub ticket: Ticket,
}

#[derive(Debug)]
struct Place {
    partition: usize,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    headers: Vec<(HeaderName, Range<usize>)>,
}

/// The headers that tell whose row a message carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HeaderName {
    Database,
    Table,
    Op,
    Deleted,
}

/// What `ExtractNewRecordState` says in a record's headers where `add.headers` asks for it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Headers<'a> {
    /// `__db`.
    pub database: Option<&'a str>,
    /// `__table`.
    pub table: Option<&'a str>,
    /// `__op`.
    pub op: Option<&'a str>,
    /// `__deleted`.
    pub deleted: Option<&'a str>,
}

impl HeaderName {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "__db" | "__source_db" => Self::Database,
            "__table" | "__source_table" => Self::Table,
            "__op" => Self::Op,
            "__deleted" => Self::Deleted,
            _ => return None,
        })
    }
}

impl<'a> Headers<'a> {
    /// Takes of a record's headers what tells whose row it carries; of several with one name the first.
    pub fn of(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut all = Self::default();
        for (name, value) in headers {
            if let Some(name) = HeaderName::of(name) {
                all.set(name, value);
            }
        }
        all
    }

    fn set(&mut self, name: HeaderName, value: &'a [u8]) {
        let place = match name {
            HeaderName::Database => &mut self.database,
            HeaderName::Table => &mut self.table,
            HeaderName::Op => &mut self.op,
            HeaderName::Deleted => &mut self.deleted,
        };
        // Connect's JSON converter writes header values as JSON.
        *place = place.or(std::str::from_utf8(value).ok().map(|text| text.trim_matches('"')));
    }
}

/// One message of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Where it comes from.
    pub partition: &'a Partition,
    /// Its place there.
    pub offset: i64,
    /// The log's own time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, if it has one.
    pub payload: Option<&'a [u8]>,
    /// What its headers say of it.
    pub headers: Headers<'a>,
}

impl Batch {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages, in the order of their offsets per partition.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.messages.iter().map(|place| Message {
            partition: &self.partitions[place.partition],
            offset: place.offset,
            timestamp_ms: place.timestamp_ms,
            key: place.key.clone().map(|range| &self.buffer[range]),
            payload: place.payload.clone().map(|range| &self.buffer[range]),
            headers: self.headers(&place.headers),
        })
    }

    fn headers(&self, headers: &[(HeaderName, Range<usize>)]) -> Headers<'_> {
        let mut all = Headers::default();
        for (name, range) in headers {
            all.set(*name, &self.buffer[range.clone()]);
        }
        all
    }

    /// Where its newest message comes from: `topic/partition@offset`.
    pub fn origin(&self) -> String {
        self.messages().last().map_or_else(String::new, |last| format!("{}@{}", last.partition, last.offset))
    }
}

/// A batch in the making.
#[derive(Default, Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    messages: Vec<Place>,
    read: Vec<Read>,
    /// The entries of `read` from here on are of this generation of the offsets, and not claimed yet.
    current: usize,
    generation: u64,
    /// The entries of `read` up to here are claimed by the ticket.
    claimed: usize,
    ticket: Ticket,
    fetched_at: Option<Instant>,
}

impl BatchBuilder {
    /// How many messages are in.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes are in.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// How far each partition has been read, as far as it is not claimed yet.
    pub(crate) fn unclaimed(&self) -> &[Read] {
        &self.read[self.claimed..]
    }

    /// Claims what is in so far, so that a gap can begin after it and before what is read next.
    pub fn claim(&mut self, offsets: &Offsets) {
        self.ticket.absorb(offsets.begin_read(&self.read[self.claimed..]));
        self.claimed = self.read.len();
        self.current = self.read.len();
    }

    /// Copies a message in that was just read.
    #[expect(clippy::too_many_arguments, reason = "a message has that many parts")]
    pub fn push(
        &mut self,
        offsets: &Offsets,
        topic: &str,
        partition: i32,
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) {
        self.fetched_at.get_or_insert_with(Instant::now);
        let generation = offsets.generation();
        if generation != self.generation {
            self.generation = generation;
            self.current = self.read.len();
        }
        let known = self.read[self.current..]
            .iter()
            .position(|read| read.end.partition.number == partition && *read.end.partition.topic == *topic);
        let index = if let Some(known) = known {
            self.current + known
        } else {
            let partition = Partition::new(topic, partition);
            let assignment = offsets.assignment(&partition);
            self.read.push(Read { end: NextOffset { partition, next: 0 }, timestamp_ms, assignment });
            self.read.len() - 1
        };
        let read = &mut self.read[index];
        (read.end.next, read.timestamp_ms) = (offset + 1, timestamp_ms);
        let mut copy = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                let start = self.buffer.len();
                self.buffer.extend_from_slice(bytes);
                start..self.buffer.len()
            })
        };
        let (key, payload) = (copy(key), copy(payload));
        self.messages.push(Place {
            partition: index,
            offset,
            timestamp_ms,
            key,
            payload,
            headers: Vec::new(),
        });
    }

    /// Notes a header of the message that was pushed last, if it is one that tells whose row it carries.
    pub fn header(&mut self, name: &str, value: &[u8]) {
        let Some(name) = HeaderName::of(name) else { return };
        let Some(last) = self.messages.last_mut() else { return };
        let start = self.buffer.len();
        self.buffer.extend_from_slice(value);
        last.headers.push((name, start..self.buffer.len()));
    }

    /// Takes what is in as a batch that `offsets` knows of, and is empty again.
    pub fn finish(&mut self, offsets: &Offsets) -> Batch {
        self.claim(offsets);
        let built = std::mem::take(self);
        Batch {
            ticket: built.ticket,
            buffer: built.buffer,
            messages: built.messages,
            partitions: built.read.into_iter().map(|read| read.end.partition).collect(),
            fetched_at: built.fetched_at.unwrap_or_else(Instant::now),
        }
    }
}

/// A message that can't be decoded, with all that is needed to look into it and to send it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Where it comes from.
    pub partition: Partition,
    /// Its place there.
    pub offset: i64,
    /// The log's own time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// What is wrong with it.
    pub reason: String,
    /// `database.table`, if that much could be read.
    pub table: Option<String>,
    /// Its key as it came.
    pub key: Option<Vec<u8>>,
    /// Its value as it came.
    pub payload: Option<Vec<u8>>,
}

/// What can go wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't work; only a person can help.
    #[error("{0}")]
    Config(String),
    /// The log is not reachable or refuses for now; trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// Something was declared to end the service.
    #[error("{0}")]
    Halted(String),
}
