//! Where changes come from: batches of raw messages, each with its place in a log.

mod batch;
pub mod binlog;
pub mod kafka;
pub mod memory;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::batch::{Batch, BatchBuilder, Headers, Message};
use crate::config::CatchUp;
use crate::decode::Reason;
use crate::offsets::{NextOffset, Offsets, Partition, Ticket};

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
