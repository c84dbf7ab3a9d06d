//! The bytes of replies: how many one may take, and how many all that are under way.
//!
//! A request of a few bytes can ask for gigabytes: one key of a megabyte, named a thousand times. So what is bounded is what a reply
//! holds, counted before it is built, and not how many keys its request names.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use wire::Answer;

use crate::{
    account::{Account, Share},
    config::Config,
    error::Error,
};

/// What a reply takes for each key beside its value: the key, numbers, the node's name.
const BESIDE: u64 = 128;

/// Single values from this size on are counted as well; smaller ones are bounded by the requests that a connection may have open.
pub(crate) const LARGE: usize = 64 << 10;

/// The bytes of a node's replies that are under way.
#[derive(Debug)]
pub(crate) struct Replies {
    /// Of one reply.
    most: u64,
    all: Arc<Account>,
    left_out: Counter,
}

impl Replies {
    pub(crate) fn register(config: &Config, registry: &mut Registry) -> Arc<Self> {
        let (bytes, left_out, refused) = (Gauge::default(), Counter::default(), Counter::default());
        registry.register_with_unit(
            "reply",
            "Values in replies that are under way, of many keys or large (node.reply_memory)",
            Unit::Bytes,
            bytes.clone(),
        );
        registry.register(
            "reply_keys_left_out",
            "Keys of a batch whose reply was full (node.max_reply)",
            left_out.clone(),
        );
        registry.register(
            "replies_refused",
            "Requests refused because other replies took node.reply_memory",
            refused.clone(),
        );
        let all = Account::new(config.reply_memory.0, bytes, refused);
        Arc::new(Self { most: config.max_reply.0, all, left_out })
    }

    /// The bytes that one reply may take, by this node and by its caller.
    pub(crate) fn most(&self, asked: u64) -> u64 {
        if asked == 0 { self.most } else { asked.min(self.most) }
    }

    /// Counts a reply of one value.
    ///
    /// # Errors
    ///
    /// [`Error::ReplyMemory`] if others take too much.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reserved, Error> {
        let reserved = self.begin();
        reserved.add(bytes).map(|()| reserved)
    }

    /// A reply that has no values yet.
    pub(crate) fn begin(self: &Arc<Self>) -> Reserved {
        Reserved { of: self.clone(), share: self.all.share() }
    }
}

/// What one reply takes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    of: Arc<Replies>,
    share: Share,
}

impl Reserved {
    fn add(&self, bytes: u64) -> Result<(), Error> {
        self.share.add(bytes).map_err(|_| Error::ReplyMemory { limit: self.of.all.limit() })
    }
}

/// The results of a batch, filled in any order and within its bytes.
#[derive(Debug)]
pub(crate) struct Filling {
    results: Vec<Option<Result<Answer, Error>>>,
    reserved: Reserved,
    most: u64,
    /// Keys that have a value or an answer without one.
    answered: u64,
    /// And those that have an error.
    ended: u64,
    /// Whether others take all memory for replies: then nothing more is looked for.
    crowded: bool,
}

impl Filling {
    pub(crate) fn new(of: &Arc<Replies>, keys: usize, most: u64) -> Self {
        let results = std::iter::repeat_with(|| None).take(keys).collect();
        Self { results, reserved: of.begin(), most, answered: 0, ended: 0, crowded: false }
    }

    /// What a value takes.
    pub(crate) fn cost(value: Option<&Bytes>) -> u64 {
        value.map_or(0, Bytes::len) as u64 + BESIDE
    }

    /// The bytes that are left for values.
    pub(crate) fn left(&self) -> u64 {
        self.most.saturating_sub(self.reserved.share.bytes())
    }

    /// Whether a value that takes so much beside what is `coming` has its place; the first always has.
    pub(crate) fn has_room(&self, coming: u64, cost: u64) -> bool {
        !self.crowded && (self.answered + coming == 0 || coming + cost <= self.left())
    }

    /// How many of the keys that wait are asked for at once, so that what comes is not much more than there is room for.
    pub(crate) fn wave(&self, waiting: usize) -> usize {
        const FIRST: usize = 64;
        // Errors take little: where all fail, the rest is to fail together.
        let average = self.reserved.share.bytes().checked_div(self.ended);
        let fitting = average
            .map_or(FIRST, |average| usize::try_from(self.left() / average.max(1)).unwrap_or(usize::MAX));
        waiting.min(fitting.max(1))
    }

    /// Takes the result of the key at `index`; an answer that has no place is left out.
    pub(crate) fn put(&mut self, index: usize, result: Result<Answer, Error>) {
        self.ended += 1;
        let result = match result {
            Ok(answer) => {
                let cost = Self::cost(answer.value.as_ref());
                if !self.has_room(0, cost) {
                    return self.leave_out(index);
                }
                match self.reserved.add(cost) {
                    Ok(()) => {
                        self.answered += 1;
                        Ok(answer)
                    }
                    // What is there is worth being sent; the rest may find room next time.
                    Err(_) if self.answered > 0 => return self.leave_out(index),
                    Err(error) => {
                        self.crowded = true;
                        Err(error)
                    }
                }
            }
            // Its text is in the reply too. It is short.
            Err(error) => Err(error),
        };
        self.results[index] = Some(result);
    }

    /// Says that the reply is full.
    pub(crate) fn leave_out(&mut self, index: usize) {
        self.reserved.of.left_out.inc();
        self.results[index] = Some(Err(Error::LeftOut { limit: self.most }));
    }

    /// The answer of another place in the request, for the same key.
    pub(crate) fn repeat(&mut self, index: usize, of: usize) {
        match self.results[of].clone() {
            Some(result) => self.put(index, result),
            None => self.put(index, Err(Error::Abandoned)),
        }
    }

    /// All results, and what keeps their bytes counted.
    pub(crate) fn end(self) -> (Vec<Result<Answer, Error>>, Reserved) {
        let results = self.results.into_iter().map(|result| result.unwrap_or(Err(Error::Abandoned)));
        (results.collect(), self.reserved)
    }
}

#[cfg(test)]
mod tests;
