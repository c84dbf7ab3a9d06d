//! The quick pass over messages as Canal writes them: no spaces, plain field names, values that are strings, whole numbers or nulls.
//!
//! It accepts less than the pass of [`envelope`](super::envelope), which reads whatever this one gives up on and says what is wrong with
//! it; what it accepts, it understands in the same way. Types are the same in every message of a table, so their text is remembered, and
//! one comparison of bytes stands for reading it again.

use std::borrow::Cow;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::envelope::{Envelope, Shape};
use crate::decode::columns::Columns;
use crate::decode::row::{Cell, Rows, Scratch};

/// Objects remembered; a power of two.
const MEMOS: usize = 64;
/// What an object is found by: its first bytes.
const PREFIX: usize = 32;
/// Longer objects are read every time.
const LONGEST: usize = 16 << 10;
/// Values may be nested this deep; Canal nests one level.
const DEPTH: usize = 8;
/// More digits might not fit a number.
const DIGITS: usize = 18;

/// Objects that came before, and the columns of interest in them.
#[derive(Default)]
pub(in crate::decode) struct Memos(Vec<Memo>);

#[derive(Clone, Default)]
struct Memo {
    text: Vec<u8>,
    /// How many columns were of interest then.
    known: usize,
    types: Vec<(u16, Range<usize>)>,
}

/// Reads a message. `None`: it has a form that the other pass must look at; `scratch` holds anything then.
pub(super) fn read<'a>(
    message: &'a [u8],
    scratch: &mut Scratch<'a>,
    columns: &Columns,
    memos: &mut Memos,
) -> Option<Envelope<'a>> {
    scratch.clear();
    let text = std::str::from_utf8(message).ok()?;
    let mut pass = Pass { text, bytes: message, at: 0 };
    let mut envelope = Envelope::default();
    pass.take(b'{')?;
    loop {
        match pass.name()? {
            "data" => envelope.data = pass.rows(&mut scratch.data, columns)?,
            "old" => envelope.old = pass.rows(&mut scratch.old, columns)?,
            "mysqlType" => pass.types(&mut scratch.types, columns, memos)?,
            "database" => envelope.database = pass.optional()?,
            "table" => envelope.table = pass.optional()?,
            "type" => envelope.kind = pass.optional()?,
            "sql" => envelope.sql = pass.optional()?,
            "isDdl" => match pass.peek()? {
                b't' => envelope.is_ddl = pass.literal("true").map(|()| Some(true))?,
                b'f' => envelope.is_ddl = pass.literal("false").map(|()| Some(false))?,
                _ => pass.literal("null")?,
            },
            "es" => envelope.executed_ms = pass.time()?,
            "ts" => envelope.written_ms = pass.time()?,
            "id" => envelope.batch = pass.time()?,
            _ if pass.peek()? == b'{' => pass.remembered(memos)?,
            _ => pass.skip(DEPTH)?,
        }
        match pass.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    // The other pass tells what has no type.
    (pass.at == message.len() && envelope.kind.is_some()).then_some(envelope)
}

/// Where the pass is.
struct Pass<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

#[expect(
    clippy::option_option,
    reason = "the outer says whether the pass goes on, the inner what stands there"
)]
impl<'a> Pass<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn literal(&mut self, literal: &str) -> Option<()> {
        self.bytes[self.at..].starts_with(literal.as_bytes()).then(|| self.at += literal.len())
    }

    /// A name and its colon.
    fn name(&mut self) -> Option<&'a str> {
        let name = self.string()?;
        self.take(b':')?;
        Some(name)
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at;
        self.at += self.bytes[start..].iter().position(|byte| STOPS[usize::from(*byte)])?;
        let text = &self.text[start..self.at];
        self.take(b'"')?;
        Some(text)
    }

    /// A string that is of no interest.
    fn skip_string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            self.at += self.bytes[self.at..].iter().position(|byte| STOPS[usize::from(*byte)])?;
            match self.next()? {
                b'"' => return Some(()),
                // A code point may be half of a pair; the other pass knows.
                b'\\' if matches!(self.next()?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                _ => return None,
            }
        }
    }

    /// A string or null.
    fn optional(&mut self) -> Option<Option<Cow<'a, str>>> {
        if self.peek()? == b'"' {
            return self.string().map(|text| Some(Cow::Borrowed(text)));
        }
        self.literal("null").map(|()| None)
    }

    /// The text of a whole number that fits.
    fn number(&mut self) -> Option<&'a str> {
        let start = self.at;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let digits = self.bytes[self.at..].iter().position(|byte| !byte.is_ascii_digit())?;
        let leading_zero = self.peek()? == b'0' && (digits > 1 || negative);
        if digits == 0 || digits > DIGITS || leading_zero {
            return None;
        }
        self.at += digits;
        matches!(self.peek()?, b',' | b'}' | b']').then(|| &self.text[start..self.at])
    }

    /// A time in milliseconds, or null.
    fn time(&mut self) -> Option<Option<i64>> {
        if self.peek()? == b'n' {
            return self.literal("null").map(|()| None);
        }
        self.number()?.parse().ok().map(Some)
    }

    /// An array of rows, or null.
    fn rows(&mut self, rows: &mut Rows<'a>, columns: &Columns) -> Option<Shape> {
        rows.clear();
        if self.peek()? == b'n' {
            return self.literal("null").map(|()| Shape::Null);
        }
        self.take(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(Shape::Rows);
        }
        loop {
            self.row(rows, columns)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(Shape::Rows),
                _ => return None,
            }
        }
    }

    /// One row. Null stands for one that has not changed.
    fn row(&mut self, rows: &mut Rows<'a>, columns: &Columns) -> Option<()> {
        if self.peek()? == b'n' {
            rows.end_row(false);
            return self.literal("null");
        }
        self.take(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            rows.end_row(false);
            return Some(());
        }
        loop {
            match columns.id(self.name()?) {
                Some(column) => rows.push(column, self.cell()?),
                None if self.peek()? == b'"' => self.skip_string()?,
                None => self.skip(DEPTH)?,
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        rows.end_row(true);
        Some(())
    }

    fn cell(&mut self) -> Option<Cell<'a>> {
        Some(match self.peek()? {
            b'"' => Cell::Text(Cow::Borrowed(self.string()?)),
            b'n' => self.literal("null").map(|()| Cell::Null)?,
            b't' => self.literal("true").map(|()| Cell::truth(true))?,
            b'f' => self.literal("false").map(|()| Cell::truth(false))?,
            _ => Cell::Text(Cow::Borrowed(self.number()?)),
        })
    }

    /// The types of the columns of interest.
    fn types(
        &mut self,
        types: &mut Vec<(u16, Cow<'a, str>)>,
        columns: &Columns,
        memos: &mut Memos,
    ) -> Option<()> {
        types.clear();
        if self.peek()? == b'n' {
            return self.literal("null");
        }
        let start = self.at;
        let memo = memos.find(&self.bytes[start..]);
        if memo.known == columns.len() && !memo.text.is_empty() && self.bytes[start..].starts_with(&memo.text)
        {
            types.extend(memo.types.iter().map(|(column, range)| {
                (*column, Cow::Borrowed(&self.text[start + range.start..start + range.end]))
            }));
            self.at += memo.text.len();
            return Some(());
        }
        // Not whole until it is set.
        memo.text.clear();
        memo.types.clear();
        self.take(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let column = columns.id(self.name()?);
            let text = self.string()?;
            if let Some(column) = column {
                types.push((column, Cow::Borrowed(text)));
                let end = self.at - 1 - start;
                memo.types.push((column, end - text.len()..end));
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        memo.set(&self.bytes[start..self.at], columns.len());
        Some(())
    }

    /// An object that is of no interest, and is likely to come again.
    fn remembered(&mut self, memos: &mut Memos) -> Option<()> {
        let start = self.at;
        let memo = memos.find(&self.bytes[start..]);
        if !memo.text.is_empty() && self.bytes[start..].starts_with(&memo.text) {
            self.at += memo.text.len();
            return Some(());
        }
        self.skip(DEPTH)?;
        // No number of columns: what is of no interest now may be the types of another message.
        memo.set(&self.bytes[start..self.at], usize::MAX);
        Some(())
    }

    /// Any value.
    fn skip(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.skip_string(),
            b'n' => self.literal("null"),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            open @ (b'{' | b'[') => {
                let depth = depth.checked_sub(1)?;
                let close = if open == b'{' { b'}' } else { b']' };
                self.at += 1;
                if self.peek()? == close {
                    self.at += 1;
                    return Some(());
                }
                loop {
                    if open == b'{' {
                        self.skip_string()?;
                        self.take(b':')?;
                    }
                    self.skip(depth)?;
                    match self.next()? {
                        b',' => {}
                        byte if byte == close => return Some(()),
                        _ => return None,
                    }
                }
            }
            _ => self.number().map(drop),
        }
    }
}

impl Memos {
    /// The place for an object that begins like this.
    fn find(&mut self, bytes: &[u8]) -> &mut Memo {
        if self.0.is_empty() {
            self.0.resize_with(MEMOS, Memo::default);
        }
        let hash = xxh3_64(&bytes[..bytes.len().min(PREFIX)]) as usize;
        &mut self.0[hash % MEMOS]
    }
}

impl Memo {
    /// Remembers a whole object, from its opening brace to its closing one.
    fn set(&mut self, text: &[u8], known: usize) {
        self.text.clear();
        if text.len() <= LONGEST {
            self.text.extend_from_slice(text);
        }
        self.known = known;
    }
}

/// Bytes at which the inside of a string ends, or isn't plain any more.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        stops[byte] = true;
        byte += 1;
    }
    stops[b'"' as usize] = true;
    stops[b'\\' as usize] = true;
    stops
};

#[cfg(test)]
mod tests;
