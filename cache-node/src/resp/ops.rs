//! Operations on values: what was found for each, how it is written, and those whose replies wait.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use catalog::Key;
use memory::{place::Place, watermarks::Fresh};
use wire::Answer;

use super::{
    error,
    reads::{Read, Tracked},
    session::Session,
};
use crate::{error::Error, node::place};

/// Reads of pipelined requests that are under way together.
const TOGETHER: usize = 512;
/// Bytes that operations hold while they wait for their turn, after which they are waited for.
const PINNED: usize = 256 << 10;

/// What becomes of a read's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Get,
    MGet,
    Exists,
    Type,
    StrLen,
}

/// An operation whose reply waits, or waits for its turn.
pub(super) enum Op {
    Values(Values),
    Error(String),
}

/// An operation of values, read tracked or not.
pub(super) struct Values {
    pub(super) shape: Shape,
    pub(super) tracked: Tracked,
    /// The command's place in the table.
    pub(super) command: usize,
    pub(super) found: Vec<Found>,
    /// The places of its reads among those under way.
    pub(super) reads: Range<usize>,
}

/// What has come of the reads under way, by their places, until it is written.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    values: Vec<Result<Option<Bytes>, String>>,
    /// Bytes of the values of the operation whose turn it is.
    bytes: usize,
    /// Bytes of the largest.
    largest: usize,
}

/// One value of an operation.
#[derive(Debug)]
pub(super) enum Found {
    /// In memory when the key was looked for.
    Here(Key, Fresh),
    /// In memory, and already written. Where the value is in the operation's reply; the entry has an empty one in its place.
    Written(Key, Fresh, Range<usize>),
    /// The read at this place of those under way.
    Waits(usize),
}

impl Arrived {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Found {
    /// What was found in memory.
    pub(super) fn fresh(&self) -> Option<&Fresh> {
        match self {
            Self::Here(_, fresh) | Self::Written(_, fresh, _) => Some(fresh),
            Self::Waits(_) => None,
        }
    }

    /// Bytes of the value that is held for it.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Here(_, fresh) => fresh.entry.value.as_ref().map_or(0, Bytes::len),
            Self::Written(..) | Self::Waits(_) => 0,
        }
    }
}

impl Session {
    /// Takes what was written since `begun` out of the reply: it waits for a key that is not in memory.
    pub(super) fn take_back(&mut self, begun: usize, found: &mut [Found]) {
        let written = self.reply.bytes.split_off(begun).freeze();
        for found in found {
            if let Found::Written(key, fresh, reply) = found {
                if let Some(value) = &mut fresh.entry.value {
                    *value = bulk_of(&written.slice(reply.clone()));
                }
                *found = Found::Here(key.clone(), fresh.clone());
            }
        }
    }

    /// Whether operations that wait are to be answered before more are begun.
    pub(super) fn is_to_settle(&self) -> bool {
        self.under_way.len() >= TOGETHER || self.pinned >= PINNED
    }

    /// The reads to be carried out. What comes of each, in their order, has [`arrived`](Self::arrived); then operations are there to be
    /// [written](Self::write_next).
    pub(super) fn reads(&mut self) -> Vec<Read> {
        std::mem::take(&mut self.under_way)
    }

    /// How many reads may be under way together: their values are there before they can be written, and are as large as groups allow, or as
    /// those that came.
    pub(super) fn together(&self) -> usize {
        let most = usize::try_from(self.node.config.max_value.0).unwrap_or(usize::MAX);
        let largest = if self.arrived.values.is_empty() { most } else { self.arrived.largest };
        (self.output_limit() / largest.max(1)).clamp(1, TOGETHER)
    }

    /// Notes what came of the next read.
    pub(super) fn arrived(&mut self, read: &Read, result: Result<Answer, Error>) {
        let limit = self.output_limit();
        let value = match result {
            Ok(answer) => {
                if let Some(token) = answer.token.filter(|token| !token.is_empty()) {
                    self.tokens.keep(read.key.text.clone(), token);
                }
                let len = answer.value.as_ref().map_or(0, Bytes::len);
                self.arrived.largest = self.arrived.largest.max(len);
                if read.tracked == Tracked::No && !read.shown {
                    Ok(answer.value.map(|_| Bytes::new()))
                } else if self.arrived.bytes + len > limit {
                    Err(too_large(limit))
                } else {
                    self.arrived.bytes += len;
                    Ok(answer.value)
                }
            }
            Err(error) => Err(error::text(&error)),
        };
        self.arrived.values.push(value);
    }

    /// Writes the reply of the operation whose turn it is, if all of its reads have come.
    ///
    /// Its values were found before: by reads that were waited for, or by a look while others were. So each is proven here, at the
    /// moment of writing. *A hit waits behind a miss; its key is removed, and the push goes out; the old value follows, and
    /// nobody is registered for it any more.*
    pub(super) fn write_next(&mut self, reads: &[Read]) -> bool {
        let written = self.reply.bytes.len();
        match self.ops.pop_front() {
            None => return false,
            Some(Op::Values(values)) if values.reads.end > self.arrived.values.len() => {
                self.ops.push_front(Op::Values(values));
                return false;
            }
            Some(Op::Error(text)) => {
                self.error(&text);
                self.silenced(written);
            }
            Some(Op::Values(values)) => {
                let not_kept = self.not_kept_of(&values, reads);
                let arrived = std::mem::take(&mut self.arrived.values);
                let begun = self.reply.open(self.output_limit());
                self.now = Some(values.command);
                self.write(values.shape, &values.found, &arrived);
                if !self.reply.close(begun) {
                    self.error(&too_large(self.output_limit()));
                }
                self.arrived.values = arrived;
                for value in &mut self.arrived.values[values.reads] {
                    *value = Ok(None);
                }
                self.arrived.bytes = 0;
                self.silenced(written);
                // After the reply that they are about.
                if !not_kept.is_empty() {
                    self.not_kept(&not_kept);
                }
            }
        }
        if self.ops.is_empty() {
            self.pinned = 0;
        }
        true
    }

    /// All that waited is written.
    pub(super) fn settled(&mut self) {
        self.arrived = Arrived::default();
    }

    /// The keys of an operation that is about to be written whose values are not to be kept.
    fn not_kept_of(&self, values: &Values, reads: &[Read]) -> Vec<(Arc<str>, Place)> {
        let here = values.found.iter().filter_map(|found| match found {
            Found::Here(key, fresh) if values.tracked != Tracked::No => {
                Some((key, values.tracked, fresh.entry.value.as_ref()))
            }
            _ => None,
        });
        let came = values.reads.clone().filter_map(|at| match &self.arrived.values[at] {
            Ok(value) if reads[at].tracked != Tracked::No => {
                Some((&reads[at].key, reads[at].tracked, value.as_ref()))
            }
            _ => None,
        });
        let not_kept = here.chain(came).filter(|(key, tracked, value)| !self.keeps(key, *tracked, *value));
        not_kept.map(|(key, ..)| (key.text.clone(), place(key))).collect()
    }

    pub(super) fn write(&mut self, shape: Shape, found: &[Found], values: &[Result<Option<Bytes>, String>]) {
        // Borrowed: a copy of the handle would cost an allocation for each value.
        let all = found.iter().map(|found| match found {
            Found::Here(_, fresh) | Found::Written(_, fresh, _) => Ok(fresh.entry.value.as_deref()),
            Found::Waits(at) => match values.get(*at) {
                Some(Ok(value)) => Ok(value.as_deref()),
                Some(Err(text)) => Err(text.clone()),
                None => Err(error::text(&Error::Abandoned)),
            },
        });
        let all: Vec<Option<&[u8]>> = match all.collect() {
            Ok(all) => all,
            Err(text) => return self.error(&text),
        };
        match shape {
            Shape::Get => self.reply.bulk_or_null(all.first().copied().flatten()),
            Shape::MGet => {
                self.reply.array(all.len());
                for value in &all {
                    self.reply.bulk_or_null(*value);
                }
            }
            Shape::Exists => self.reply.integer(all.iter().filter(|value| value.is_some()).count() as i64),
            Shape::StrLen => {
                self.reply.integer(all.first().copied().flatten().map_or(0, |value| value.len() as i64));
            }
            Shape::Type => {
                self.reply.simple(if all.first().is_some_and(Option::is_some) { "string" } else { "none" });
            }
        }
    }

    /// An error that is written in its turn.
    pub(super) fn in_turn_error(&mut self, text: String) {
        if self.ops.is_empty() {
            self.error(&text);
        } else {
            self.pinned += size_of::<Op>() + text.len();
            self.ops.push_back(Op::Error(text));
        }
    }

    /// Has an operation wait for its reads, or for its turn.
    pub(super) fn wait(&mut self, values: Values) {
        let found: usize = values.found.iter().map(|found| size_of::<Found>() + found.len()).sum();
        self.pinned += size_of::<Op>() + found;
        self.ops.push_back(Op::Values(values));
    }
}

/// What is answered instead of a reply that would be too large.
pub(super) fn too_large(limit: usize) -> String {
    format!(
        "ERR the reply would have more than the {limit} bytes of node.resp_output_limit: ask for less at once"
    )
}

/// The value in a bulk reply.
fn bulk_of(reply: &Bytes) -> Bytes {
    let head = reply.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    reply.slice(head..reply.len().saturating_sub(2).max(head))
}
