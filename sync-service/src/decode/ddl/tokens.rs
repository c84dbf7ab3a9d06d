//! The lexis of MySQL and MariaDB: what is a word, a name, a string, a comment.
//!
//! Some texts are read in more than one way: a backslash in a string escapes or not (`NO_BACKSLASH_ESCAPES`), what stands in double quotes is
//! a string or a name (`ANSI_QUOTES`), and a comment with a version counts on some servers only. A [`Reading`] is one of these ways; what no
//! server could have read so has no tokens.

use std::borrow::Cow;

/// One token. Comments and spaces are none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token<'a> {
    /// A keyword, or a name without quotes.
    Word(&'a str),
    /// A name in backticks.
    Name(Cow<'a, str>),
    /// What stands in double quotes: a name or a string.
    Double(Cow<'a, str>),
    /// A string. What it says is of no interest.
    Text,
    /// Digits alone.
    Number,
    /// Any other sign.
    Sign(char),
}

/// One way to read a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    /// Whether `\` escapes in single quotes.
    single: bool,
    /// Whether `\` escapes in double quotes.
    double: bool,
    /// Whether comments that only some servers execute count.
    versioned: bool,
}

/// Comments for servers from this version on count everywhere: there is none older.
const OLDEST: u32 = 50_500;

/// All ways to read a text, the plain one first.
pub(super) fn readings(text: &str) -> Vec<Reading> {
    let quotes: &[(bool, bool)] =
        if text.contains('\\') { &[(true, true), (false, false), (true, false)] } else { &[(true, true)] };
    let comments: &[bool] =
        if text.contains("/*!") || text.contains("/*M!") { &[true, false] } else { &[true] };
    let ways = quotes.iter().flat_map(|(single, double)| {
        comments.iter().map(|versioned| Reading { single: *single, double: *double, versioned: *versioned })
    });
    ways.collect()
}

/// The tokens of a text; `None` if it can't be read in this way.
pub(super) fn tokens(text: &str, reading: Reading) -> Option<Vec<Token<'_>>> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, open: 0, reading };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    (lexer.open == 0).then_some(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Comments that are being executed.
    open: usize,
    reading: Reading,
}

#[expect(
    clippy::option_option,
    reason = "the outer says whether the text can be read, the inner whether it has ended"
)]
impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Option<Token<'a>>> {
        loop {
            let Some(byte) = self.byte(0) else { return Some(None) };
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'#' => self.line(),
                b'-' if self.byte(1) == Some(b'-')
                    && self.byte(2).is_none_or(|byte| byte <= b' ' || byte == 0x7f) =>
                {
                    self.line();
                }
                b'/' if self.byte(1) == Some(b'*') => self.comment()?,
                b'*' if self.byte(1) == Some(b'/') && self.open > 0 => {
                    self.at += 2;
                    self.open -= 1;
                }
                b'`' => return self.quoted(b'`', false).map(|name| Some(Token::Name(name))),
                b'"' => {
                    return self.quoted(b'"', self.reading.double).map(|text| Some(Token::Double(text)));
                }
                b'\'' => return self.quoted(b'\'', self.reading.single).map(|_| Some(Token::Text)),
                _ if is_word(byte) => {
                    let start = self.at;
                    self.at += self.bytes[start..].iter().take_while(|byte| is_word(**byte)).count();
                    let word = &self.text[start..self.at];
                    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
                    return Some(Some(if digits { Token::Number } else { Token::Word(word) }));
                }
                // NULL, as dumps write it.
                b'\\' if self.byte(1) == Some(b'N') => {
                    self.at += 2;
                    return Some(Some(Token::Number));
                }
                b'\\' | 0..=0x1f | 0x7f => return None,
                _ => {
                    self.at += 1;
                    return Some(Some(Token::Sign(char::from(byte))));
                }
            }
        }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn line(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }

    /// Passes a comment, or steps into one whose content counts.
    fn comment(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let (content, foreign) = if let Some(content) = rest.strip_prefix("/*!") {
            (content, false)
        } else if let Some(content) = rest.strip_prefix("/*M!") {
            (content, true)
        } else {
            self.at += 2 + rest[2..].find("*/")? + 2;
            return Some(());
        };
        let digits = content.bytes().take(6).take_while(u8::is_ascii_digit).count();
        let version: u32 = if digits < 5 { 0 } else { content[..digits].parse().ok()? };
        let everywhere = !foreign && version <= OLDEST;
        self.at = self.text.len() - content.len() + if digits < 5 { 0 } else { digits };
        if everywhere || self.reading.versioned {
            self.open += 1;
            return Some(());
        }
        // Comments may be nested in it.
        let mut depth = 1;
        while depth > 0 {
            match (self.byte(0)?, self.byte(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        Some(())
    }

    /// What stands between quotes; two of them are one.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Option<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        let mut doubled = false;
        loop {
            match self.byte(0)? {
                b'\\' if escapes => self.at += 2,
                byte if byte == quote && self.byte(1) == Some(quote) => {
                    doubled = true;
                    self.at += 2;
                }
                byte if byte == quote => break,
                _ => self.at += 1,
            }
        }
        let content = self.text.get(start..self.at)?;
        self.at += 1;
        if !doubled {
            return Some(Cow::Borrowed(content));
        }
        let quote = char::from(quote);
        Some(Cow::Owned(content.replace(&format!("{quote}{quote}"), &quote.to_string())))
    }
}

/// What names and keywords are made of. Letters of other scripts have bytes from 0x80 on.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Option<Vec<Token<'_>>> {
        tokens(text, readings(text)[0])
    }

    #[test]
    fn comments_and_quotes_are_those_of_the_server() {
        use Token::{Double, Name, Number, Sign, Text, Word};
        let cases: [(&str, &[Token<'_>]); 9] = [
            ("/* a */ -- b\n# c\n alter", &[Word("alter")]),
            ("a--1", &[Word("a"), Sign('-'), Sign('-'), Number]),
            ("/*!40000 a */ b", &[Word("a"), Word("b")]),
            ("/*! a /* b */ c */ d", &[Word("a"), Word("c"), Word("d")]),
            ("`a``b`.c", &[Name("a`b".into()), Sign('.'), Word("c")]),
            ("'it''s' 'it\\'s' x", &[Text, Text, Word("x")]),
            ("\"a\"\"b\"", &[Double("a\"b".into())]),
            ("2026_users 12", &[Word("2026_users"), Number]),
            ("größe", &[Word("größe")]),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text).as_deref(), Some(expected), "{text}");
        }
        for broken in ["/* never ends", "'never ends", "`", "\u{0}", "/*! a", "a \\ b"] {
            assert_eq!(plain(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn what_servers_read_differently_has_more_than_one_reading() {
        let of = |text| readings(text).into_iter().filter_map(|way| tokens(text, way)).collect::<Vec<_>>();
        assert_eq!(of("/*!99999 a */ b").len(), 2);
        assert_eq!(of("/*M! a */ b")[1], [Token::Word("b")]);
        // Only one of these is a whole string.
        assert!(of("'it\\'s'").iter().all(|tokens| *tokens == [Token::Text]));
        assert_eq!(of("'a\\', b 'c'"), [[Token::Text, Token::Sign(','), Token::Word("b"), Token::Text]]);
    }
}
