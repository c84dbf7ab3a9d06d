//! Requests of the Redis protocol: arrays of bulk strings, and inline commands, as `redis-server` takes them.
//!
//! The parser keeps its place: bytes that have been looked at are not looked at again when more arrive. Arguments are ranges of
//! the connection's buffer; nothing is copied.
//!
//! Errors are Redis's own words, since clients and people know them.

use std::ops::Range;

/// Most arguments of one request.
const MOST_ARGUMENTS: usize = 1 << 20;
/// Longest inline request, and longest line of a number.
const LONGEST_LINE: usize = 64 << 10;

/// What is wrong with what a client sends. The connection ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A line that does not end.
    #[error("Protocol error: too big inline request")]
    BigInline,
    /// A count that does not end.
    #[error("Protocol error: too big mbulk count string")]
    BigCount,
    /// A length that does not end.
    #[error("Protocol error: too big bulk count string")]
    BigLength,
    /// An inline command with a quote that is not closed.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// A count that is no number, or too large.
    #[error("Protocol error: invalid multibulk length")]
    Count,
    /// A length that is no number, or more than the node takes.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// Something else than a bulk string in a request.
    #[error("Protocol error: expected '$', got '{0}'")]
    NoBulk(char),
    /// A request that is too large for a client that has not shown its password.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedCount,
    /// The same, of one argument.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedLength,
}

/// How large a request may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one argument.
    pub argument: usize,
    /// Bytes of one request.
    pub request: usize,
    /// Whether the client has shown what it must.
    pub authenticated: bool,
}

/// Where requests end in a growing buffer.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes of the buffer that are understood.
    at: usize,
    /// Arguments still to come; `None` before their count is known.
    left: Option<usize>,
    arguments: Vec<Range<usize>>,
    /// Arguments of an inline command, unquoted, one after the other.
    inline: Vec<u8>,
    is_inline: bool,
}

/// The arguments of one request; never none.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    /// How many there are, the command's name counted.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument at a place.
    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.ranges.get(at).map(|range| &self.bytes[range.clone()])
    }

    /// A copy, without what stood around.
    pub fn keep(&self) -> Kept {
        let mut bytes = Vec::with_capacity(self.ranges.iter().map(ExactSizeIterator::len).sum());
        let ranges = self.ranges.iter().map(|range| {
            let from = bytes.len();
            bytes.extend_from_slice(&self.bytes[range.clone()]);
            from..bytes.len()
        });
        let ranges = ranges.collect();
        Kept { bytes: bytes.into(), ranges }
    }

    /// All from a place on.
    pub fn from(self, at: usize) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.ranges[at.min(self.ranges.len())..].iter().map(move |range| &self.bytes[range.clone()])
    }
}

/// A request that is kept for later.
#[derive(Debug)]
pub struct Kept {
    bytes: Box<[u8]>,
    ranges: Box<[Range<usize>]>,
}

impl Kept {
    /// The request's arguments.
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments { bytes: &self.bytes, ranges: &self.ranges }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val(&*self.ranges)
    }
}

impl Parser {
    /// Looks for a request at the beginning of `buffer`, which may have grown since the last call. Returns the request's length;
    /// then [`arguments`](Self::arguments) are there until [`next`](Self::next) is called. A length with no arguments is an empty line.
    pub fn parse(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let left = match self.left {
            Some(left) => left,
            None => match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some((count, after)) =
                        number(buffer, 1, ProtocolError::BigCount, ProtocolError::Count)?
                    else {
                        return Ok(None);
                    };
                    self.at = after;
                    let count = usize::try_from(count).unwrap_or(0); // as Redis: none or fewer is an empty request
                    if count > MOST_ARGUMENTS {
                        return Err(ProtocolError::Count);
                    }
                    if count > 10 && !limits.authenticated {
                        return Err(ProtocolError::UnauthenticatedCount);
                    }
                    self.left = Some(count);
                    count
                }
                Some(_) => return self.parse_inline(buffer),
            },
        };
        for done in 0..left {
            self.left = Some(left - done);
            match buffer.get(self.at) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(other) => return Err(ProtocolError::NoBulk(char::from(*other))),
            }
            let Some((length, after)) =
                number(buffer, self.at + 1, ProtocolError::BigLength, ProtocolError::Length)?
            else {
                return Ok(None);
            };
            let length = usize::try_from(length).map_err(|_| ProtocolError::Length)?;
            if length > limits.argument || after.saturating_add(length) > limits.request {
                return Err(ProtocolError::Length);
            }
            if length > 16384 && !limits.authenticated {
                return Err(ProtocolError::UnauthenticatedLength);
            }
            let end = after + length;
            if buffer.len() < end + 2 {
                return Ok(None);
            }
            self.arguments.push(after..end);
            self.at = end + 2; // as Redis, which does not look at what should be CR and LF
        }
        self.left = Some(0);
        Ok(Some(self.at))
    }

    /// The arguments of the request that was found in `buffer`.
    pub fn arguments<'a>(&'a self, buffer: &'a [u8]) -> Arguments<'a> {
        Arguments { bytes: if self.is_inline { &self.inline } else { buffer }, ranges: &self.arguments }
    }

    /// The length of the request that was found.
    pub fn length(&self) -> usize {
        self.at
    }

    /// Bytes that the parser's own lists take.
    pub fn holds(&self) -> usize {
        self.arguments.capacity() * size_of::<Range<usize>>() + self.inline.capacity()
    }

    /// Gives back what a large request took.
    pub fn shrink(&mut self) {
        self.arguments.shrink_to(64);
        self.inline.shrink_to(1024);
    }

    /// Forgets the request that was found; the caller takes its bytes out of the buffer.
    pub fn next(&mut self) {
        self.at = 0;
        self.left = None;
        self.arguments.clear();
        self.inline.clear();
        self.is_inline = false;
    }

    fn parse_inline(&mut self, buffer: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(end) = buffer[self.at..].iter().position(|byte| *byte == b'\n').map(|end| self.at + end)
        else {
            self.at = buffer.len();
            return if self.at > LONGEST_LINE { Err(ProtocolError::BigInline) } else { Ok(None) };
        };
        if end > LONGEST_LINE {
            return Err(ProtocolError::BigInline);
        }
        let line = &buffer[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.is_inline = true;
        split(line, &mut self.inline, &mut self.arguments)?;
        self.at = end + 1;
        self.left = Some(0);
        Ok(Some(self.at))
    }
}

/// The number in the line that begins at `from`, and where the next line begins; `None` while the line has no end.
fn number(
    buffer: &[u8],
    from: usize,
    too_long: ProtocolError,
    wrong: ProtocolError,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    let rest = &buffer[from.min(buffer.len())..];
    // A number has at most 20 digits; what is longer is looked at no further than that.
    let Some(end) = rest.iter().take(32).position(|byte| *byte == b'\r') else {
        return if rest.len() >= 32 {
            Err(if rest.len() > LONGEST_LINE { too_long } else { wrong })
        } else {
            Ok(None)
        };
    };
    if rest.len() < end + 2 {
        return Ok(None);
    }
    let (digits, negative) = match rest[..end].strip_prefix(b"-") {
        Some(digits) => (digits, true),
        None => (&rest[..end], false),
    };
    if digits.is_empty() || digits.len() > 18 {
        return Err(wrong);
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(wrong);
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Ok(Some((if negative { -value } else { value }, from + end + 2)))
}

/// Splits a line as a person writes it: words, `"with \n and \x00"` and `'without'`.
fn split(line: &[u8], into: &mut Vec<u8>, words: &mut Vec<Range<usize>>) -> Result<(), ProtocolError> {
    let mut rest = line;
    loop {
        while let [first, after @ ..] = rest
            && (first.is_ascii_whitespace() || *first == 0)
        {
            rest = after;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let start = into.len();
        loop {
            match rest {
                [] => break,
                [space, ..] if space.is_ascii_whitespace() || *space == 0 => break,
                [quote @ (b'"' | b'\''), after @ ..] => {
                    rest = quoted(*quote, after, into)?;
                    if rest.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                        return Err(ProtocolError::Quotes);
                    }
                }
                [byte, after @ ..] => {
                    into.push(*byte);
                    rest = after;
                }
            }
        }
        words.push(start..into.len());
    }
}

/// Takes what stands before the closing quote; returns what comes after it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], into: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] => return Err(ProtocolError::Quotes),
            [byte, after @ ..] if *byte == quote => return Ok(after),
            [b'\\', b'x', high, low, after @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                into.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            [b'\\', escaped, after @ ..] if quote == b'"' => {
                into.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [b'\\', b'\'', after @ ..] if quote == b'\'' => {
                into.push(b'\'');
                rest = after;
            }
            [byte, after @ ..] => {
                into.push(*byte);
                rest = after;
            }
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { argument: 1 << 20, request: 4 << 20, authenticated: true };

    type Parsed = Option<(usize, Vec<Vec<u8>>)>;

    fn parse(bytes: &[u8]) -> Result<Parsed, ProtocolError> {
        let mut parser = Parser::default();
        let length = parser.parse(bytes, &LIMITS)?;
        Ok(length.map(|length| (length, parser.arguments(bytes).from(0).map(<[u8]>::to_vec).collect())))
    }

    fn words(line: &str) -> Vec<String> {
        let (_, words) = parse(line.as_bytes()).unwrap().unwrap();
        words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn inline_commands_are_split_as_redis_does() {
        assert_eq!(words("PING\r\n"), ["PING"]);
        assert_eq!(words("  get  user:1 \n"), ["get", "user:1"]);
        assert_eq!(words("echo \"a \\x41\\n\" 'b \\' c'\r\n"), ["echo", "a A\n", "b ' c"]);
        assert_eq!(words("\r\n"), Vec::<String>::new());
        assert_eq!(parse(b"get \"user\n"), Err(ProtocolError::Quotes));
        assert_eq!(parse(b"get \"a\"b\n"), Err(ProtocolError::Quotes));
        assert_eq!(parse(&vec![b'a'; LONGEST_LINE + 1]), Err(ProtocolError::BigInline));
        assert_eq!(parse(b"PIN"), Ok(None));
    }

    #[test]
    fn what_is_no_request_is_told_in_redis_words() {
        for (bytes, error) in [
            (&b"*x\r\n"[..], ProtocolError::Count),
            (b"*1048577\r\n", ProtocolError::Count),
            (b"*1\r\n:1\r\n", ProtocolError::NoBulk(':')),
            (b"*1\r\n$-1\r\n", ProtocolError::Length),
            (b"*1\r\n$2097152\r\n", ProtocolError::Length),
            (b"*1\r\n$1x\r\n", ProtocolError::Length),
        ] {
            assert_eq!(parse(bytes), Err(error), "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(parse(b"*0\r\n"), Ok(Some((4, vec![]))));
        assert_eq!(parse(b"*-1\r\n"), Ok(Some((5, vec![]))));
    }

    #[test]
    fn who_has_no_password_may_send_little() {
        let limits = Limits { authenticated: false, ..LIMITS };
        let mut parser = Parser::default();
        assert_eq!(parser.parse(b"*11\r\n", &limits), Err(ProtocolError::UnauthenticatedCount));
        let mut parser = Parser::default();
        assert_eq!(parser.parse(b"*1\r\n$16385\r\n", &limits), Err(ProtocolError::UnauthenticatedLength));
    }

    fn request(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
            bytes.extend(argument);
            bytes.extend(b"\r\n");
        }
        bytes
    }

    proptest! {
        #[test]
        fn the_parser_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_looks_like_requests_never_panics(text in "[*$0-9a-z\r\n\"'\\\\ -]{0,80}") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn a_request_is_the_same_however_it_is_cut(
            arguments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..6),
            cuts in proptest::collection::vec(1usize..9, 1..200),
        ) {
            let bytes = request(&arguments);
            let mut parser = Parser::default();
            let (mut end, mut cuts) = (0, cuts.into_iter().cycle());
            let found = loop {
                end = (end + cuts.next().unwrap()).min(bytes.len());
                if let Some(found) = parser.parse(&bytes[..end], &LIMITS).unwrap() {
                    break found;
                }
                prop_assert!(end < bytes.len());
            };
            prop_assert_eq!(found, bytes.len());
            let seen: Vec<Vec<u8>> = parser.arguments(&bytes).from(0).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(seen, arguments);
        }
    }
}
