//! Operations on values: what was found for each, how it is written, and those whose replies wait.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use catalog::Key;
use client::Answer;

use super::{
    error,
    reads::{Read, Tracked},
    session::{Session, Silence},
};
use crate::{error::Error, gate::Place, node::place, watermarks::Fresh};

/// What becomes of a read's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Get,
    MGet,
    Exists,
    Type,
}

/// An operation whose reply waits, or waits for its turn.
pub(super) enum Op {
    /// Of values, read tracked or not.
    Values(Shape, Tracked, Vec<Found>),
    Error(String),
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

impl Found {
    /// What was found in memory.
    pub(super) fn fresh(&self) -> Option<&Fresh> {
        match self {
            Self::Here(_, fresh) | Self::Written(_, fresh, _) => Some(fresh),
            Self::Waits(_) => None,
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

    /// How many reads are under way.
    pub(super) fn waiting(&self) -> usize {
        self.under_way.len()
    }

    /// The reads to be carried out; [`settle`](Self::settle) wants their results.
    pub(super) fn reads(&mut self) -> Vec<Read> {
        std::mem::take(&mut self.under_way)
    }

    /// Writes the replies of all operations that have waited.
    ///
    /// All of their values were found before: by the reads that were waited for, or by a look while others were. So each is proven here, at the
    /// moment of writing. *A hit waits behind a miss; its key is removed, and the push goes out; the old value follows, and
    /// nobody is registered for it any more.*
    pub(super) fn settle(&mut self, results: Vec<(Read, Result<Answer, Error>)>) {
        if self.ops.is_empty() {
            return;
        }
        let mut values = Vec::with_capacity(results.len());
        let mut not_kept: Vec<(Arc<str>, Place)> = Vec::new();
        for op in &self.ops {
            let Op::Values(_, tracked, found) = op else { continue };
            for found in found {
                if let Found::Here(key, fresh) = found
                    && *tracked != Tracked::No
                    && !self.keeps(key, *tracked, fresh.entry.value.as_ref())
                {
                    not_kept.push((key.text.clone(), place(key)));
                }
            }
        }
        for (read, result) in results {
            values.push(match result {
                Ok(answer) => {
                    if read.tracked != Tracked::No
                        && !self.keeps(&read.key, read.tracked, answer.value.as_ref())
                    {
                        not_kept.push((read.key.text.clone(), place(&read.key)));
                    }
                    if let Some(token) = answer.token.filter(|token| !token.is_empty()) {
                        self.tokens.keep(read.key.text.clone(), token);
                    }
                    Ok(answer.value)
                }
                Err(error) => Err(error::text(&error)),
            });
        }
        let written = self.reply.bytes.len();
        for op in std::mem::take(&mut self.ops) {
            match op {
                Op::Values(shape, _, found) => self.write(shape, &found, &values),
                Op::Error(text) => self.error(&text),
            }
        }
        if self.silence != Silence::No {
            self.silenced(written);
        }
        // After the replies that they are about.
        if !not_kept.is_empty() {
            self.not_kept(&not_kept);
        }
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
            self.ops.push(Op::Error(text));
        }
    }
}

/// The value in a bulk reply.
fn bulk_of(reply: &Bytes) -> Bytes {
    let head = reply.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    reply.slice(head..reply.len().saturating_sub(2).max(head))
}
