//! Messages as they are handed on: many in one buffer, each with its place in the log.

use std::ops::Range;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::offsets::{NextOffset, Offsets, Partition, Read, Ticket};

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
    /// What it holds of the room for batches, until it is dropped.
    _held: Option<OwnedSemaphorePermit>,
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
    Snapshot,
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
    /// `__source_snapshot`.
    pub snapshot: Option<&'a str>,
}

impl HeaderName {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "__db" | "__source_db" => Self::Database,
            "__table" | "__source_table" => Self::Table,
            "__op" => Self::Op,
            "__deleted" => Self::Deleted,
            "__source_snapshot" | "__snapshot" => Self::Snapshot,
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
            HeaderName::Snapshot => &mut self.snapshot,
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

    /// The same, and it holds this room.
    pub(crate) fn holding(self, room: OwnedSemaphorePermit) -> Self {
        Self { _held: Some(room), ..self }
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
            _held: None,
        }
    }
}
