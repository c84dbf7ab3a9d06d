//! Replies of the Redis protocol, in the version that the connection speaks.

use bytes::{BufMut, BytesMut};

/// Which version of the protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// RESP2, as every connection begins.
    Two,
    /// RESP3, after `HELLO 3`.
    Three,
}

/// What is to be written to one client.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: BytesMut,
    pub(crate) protocol: Protocol,
    /// Bytes beyond which nothing is put into `bytes`.
    most: usize,
    /// Whether something was not.
    too_large: bool,
}

impl Reply {
    pub(crate) fn new() -> Self {
        Self {
            bytes: BytesMut::with_capacity(4096),
            protocol: Protocol::Two,
            most: usize::MAX,
            too_large: false,
        }
    }

    /// Begins a reply of at most so many bytes; returns where it begins.
    pub(crate) fn open(&mut self, most: usize) -> usize {
        self.most = self.bytes.len().saturating_add(most);
        self.bytes.len()
    }

    /// Ends the reply that began there. One that was too large is taken back, and false returned.
    pub(crate) fn close(&mut self, begun: usize) -> bool {
        self.most = usize::MAX;
        let fits = !std::mem::take(&mut self.too_large);
        if !fits {
            self.bytes.truncate(begun);
        }
        fits
    }

    /// Whether the reply has become too large: what is written to it now goes nowhere.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large
    }

    fn fits(&mut self, more: usize) -> bool {
        self.too_large |= self.bytes.len().saturating_add(more) > self.most;
        !self.too_large
    }

    pub(crate) fn ok(&mut self) {
        self.simple("OK");
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error; the text begins with its class.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    pub(crate) fn integer(&mut self, number: i64) {
        self.head(b':', number);
    }

    pub(crate) fn bulk(&mut self, value: &[u8]) {
        if !self.fits(value.len() + 24) {
            return;
        }
        // A value's length and bytes are written at once, into room for both.
        self.bytes.reserve(value.len() + 24);
        self.head(b'$', value.len() as i64);
        self.bytes.put_slice(value);
        self.bytes.put_slice(b"\r\n");
    }

    pub(crate) fn bulk_or_null(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.null(),
        }
    }

    /// Text for people.
    pub(crate) fn text(&mut self, text: &str) {
        match self.protocol {
            Protocol::Two => self.bulk(text.as_bytes()),
            Protocol::Three => {
                if !self.fits(text.len() + 24) {
                    return;
                }
                self.head(b'=', text.len() as i64 + 4);
                self.bytes.put_slice(b"txt:");
                self.bytes.put_slice(text.as_bytes());
                self.bytes.put_slice(b"\r\n");
            }
        }
    }

    pub(crate) fn null(&mut self) {
        if self.fits(5) {
            self.bytes.put_slice(if self.protocol == Protocol::Three { b"_\r\n" } else { b"$-1\r\n" });
        }
    }

    pub(crate) fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }

    /// Pairs follow, keys and values in turn.
    pub(crate) fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Two => self.head(b'*', len as i64 * 2),
            Protocol::Three => self.head(b'%', len as i64),
        }
    }

    pub(crate) fn set(&mut self, len: usize) {
        self.head(if self.protocol == Protocol::Three { b'~' } else { b'*' }, len as i64);
    }

    /// Something that nobody has asked for.
    pub(crate) fn push(&mut self, len: usize) {
        self.head(if self.protocol == Protocol::Three { b'>' } else { b'*' }, len as i64);
    }

    fn line(&mut self, kind: u8, text: &str) {
        if !self.fits(text.len() + 3) {
            return;
        }
        self.bytes.reserve(text.len() + 3);
        self.bytes.put_u8(kind);
        // A line break would end the reply in its middle.
        for byte in text.bytes() {
            self.bytes.put_u8(if byte == b'\r' || byte == b'\n' { b' ' } else { byte });
        }
        self.bytes.put_slice(b"\r\n");
    }

    fn head(&mut self, kind: u8, number: i64) {
        if !self.fits(24) {
            return;
        }
        let (mut digits, mut at, mut left) = ([0u8; 20], 20, number.unsigned_abs());
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.bytes.put_u8(kind);
        if number < 0 {
            self.bytes.put_u8(b'-');
        }
        self.bytes.put_slice(&digits[at..]);
        self.bytes.put_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_is_too_large_is_taken_back_and_takes_no_room() {
        let mut reply = Reply::new();
        reply.ok();
        let begun = reply.open(100);
        reply.bulk(&[b'x'; 60]);
        assert!(!reply.is_too_large());
        for _ in 0..1000 {
            reply.bulk(&[b'x'; 60]);
        }
        assert!(reply.is_too_large() && reply.bytes.len() < 200);
        assert!(!reply.close(begun));
        reply.integer(1);
        assert_eq!(&reply.bytes[..], b"+OK\r\n:1\r\n");
    }

    #[test]
    fn replies_are_written_in_either_version() {
        let written = |protocol| {
            let mut reply = Reply { protocol, ..Reply::new() };
            reply.integer(-120);
            reply.bulk(b"ab");
            reply.null();
            reply.map(1);
            reply.push(2);
            reply.text("x");
            reply.error("ERR a\r\nb");
            String::from_utf8(reply.bytes.to_vec()).unwrap()
        };
        assert_eq!(
            written(Protocol::Two),
            ":-120\r\n$2\r\nab\r\n$-1\r\n*2\r\n*2\r\n$1\r\nx\r\n-ERR a  b\r\n"
        );
        assert_eq!(
            written(Protocol::Three),
            ":-120\r\n$2\r\nab\r\n_\r\n%1\r\n>2\r\n=5\r\ntxt:x\r\n-ERR a  b\r\n"
        );
    }
}
