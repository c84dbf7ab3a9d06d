//! Text inside keys: what could be taken for the template's own characters is written as `%XX`.

use std::borrow::Cow;
use std::fmt;

/// Characters that a `str` part never has as such: separators, braces, white space, control characters, `%` itself.
pub(crate) fn is_special(letter: char) -> bool {
    matches!(letter, '%' | ':' | '{' | '}') || letter.is_whitespace() || letter.is_control()
}

/// Writes `text` with its special characters as the `%XX` of their UTF-8 bytes, in upper case.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(is_special) {
        f.write_str(&rest[..at])?;
        let length = rest[at..].chars().next().map_or(1, char::len_utf8);
        for byte in rest[at..at + length].bytes() {
            write!(f, "%{byte:02X}")?;
        }
        rest = &rest[at + length..];
    }
    f.write_str(rest)
}

/// Reads `%XX` back; `None` for a `%` without two hex digits, or bytes that are no UTF-8.
pub(crate) fn read(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}
