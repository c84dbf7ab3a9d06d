//! One value of one row, between the database's form and JSON.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use catalog::{Binary, Column, Value};
use serde_json::value::RawValue;

/// A value of a row, as its column's type says. `docs/values.md` is the table of all types.
#[derive(Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Signed(i64),
    Unsigned(u64),
    Single(f32),
    Double(f64),
    /// Plain ASCII that needs no escape: DECIMAL, dates and times.
    Plain(Cow<'a, str>),
    Text(&'a str),
    /// JSON text, embedded as it is.
    Json(&'a str),
    Bytes(&'a [u8]),
}

/// How the values of one column are written, beside what their type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// As the type says.
    Plain,
    /// Text as embedded JSON, where it is JSON.
    Json,
    /// Bytes as lower-case hex.
    Hex,
    /// 16 bytes as a uuid.
    Uuid,
}

impl Written {
    /// Of bytes in a group; `length` is the column's, where it is known.
    pub(crate) fn bytes(binary: Binary, length: Option<usize>) -> Self {
        match binary {
            Binary::Hex => Self::Hex,
            Binary::Uuid if length.is_none_or(|length| length == 16) => Self::Uuid,
            Binary::Base64 | Binary::Uuid => Self::Plain,
        }
    }

    /// A cell as it is written.
    pub(crate) fn of(self, cell: Cell<'_>) -> Cell<'_> {
        match (self, &cell) {
            (Self::Json, Cell::Text(text)) if serde_json::from_str::<&RawValue>(text).is_ok() => {
                Cell::Json(text)
            }
            (Self::Hex, Cell::Bytes(bytes)) => Cell::Plain(Value::Bytes(bytes.to_vec()).to_string().into()),
            (Self::Uuid, Cell::Bytes(bytes)) => match <[u8; 16]>::try_from(*bytes) {
                Ok(bytes) => Cell::Plain(Value::Uuid(bytes).to_string().into()),
                Err(_) => cell,
            },
            _ => cell,
        }
    }
}

impl Cell<'_> {
    /// Appends the value as JSON. A double that JSON can't write (SQLite has infinities) becomes null.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Signed(value) => number(out, value),
            Self::Unsigned(value) => number(out, value),
            Self::Single(value) => number(out, value),
            Self::Double(value) => number(out, value),
            Self::Plain(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            Self::Text(text) => number(out, text),
            Self::Json(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => {
                out.push(b'"');
                let at = out.len();
                out.resize(at + bytes.len().div_ceil(3) * 4, 0);
                STANDARD.encode_slice(bytes, &mut out[at..]).expect("the room was made just now");
                out.push(b'"');
            }
        }
    }

    /// The value as text or bytes, for the catalog to bring into a key's normal form.
    pub(crate) fn with_column<T>(&self, then: impl FnOnce(Column<'_>) -> T) -> T {
        let text;
        let text = match self {
            Self::Null => return then(Column::Null),
            Self::Bytes(bytes) => return then(Column::Bytes(bytes)),
            Self::Text(text) | Self::Json(text) => text,
            Self::Plain(plain) => plain.as_ref(),
            Self::Signed(value) => {
                text = value.to_string();
                &text
            }
            Self::Unsigned(value) => {
                text = value.to_string();
                &text
            }
            Self::Single(value) => {
                text = value.to_string();
                &text
            }
            Self::Double(value) => {
                text = value.to_string();
                &text
            }
        };
        then(Column::Text { text, mysql_type: None })
    }
}

/// Numbers and strings as serde writes them: integers with all digits, floats in the shortest form that reads back the same.
fn number(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("numbers and strings are always JSON");
}

/// Writes rows as JSON objects; the names are escaped once.
#[derive(Debug)]
pub(crate) struct Names(Vec<Box<[u8]>>);

impl Names {
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let fragment = |(index, name): (usize, &str)| {
            let mut fragment = vec![if index == 0 { b'{' } else { b',' }];
            number(&mut fragment, name);
            fragment.push(b':');
            fragment.into()
        };
        Self(names.enumerate().map(fragment).collect())
    }

    /// Appends one row: `cell(i)` is the value of the i-th column.
    pub(crate) fn write<'a, E>(
        &self,
        out: &mut Vec<u8>,
        cell: impl Fn(usize) -> Result<Cell<'a>, E>,
    ) -> Result<(), E> {
        if self.0.is_empty() {
            out.push(b'{');
        }
        for (index, name) in self.0.iter().enumerate() {
            out.extend_from_slice(name);
            cell(index)?.write(out);
        }
        out.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(cell: &Cell<'_>) -> String {
        let mut out = Vec::new();
        cell.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_lose_no_digit() {
        assert_eq!(json(&Cell::Unsigned(u64::MAX)), "18446744073709551615");
        assert_eq!(json(&Cell::Signed(i64::MIN)), "-9223372036854775808");
        assert_eq!(
            json(&Cell::Plain("12345678901234567890123456789.123456789".into())),
            "\"12345678901234567890123456789.123456789\""
        );
        assert_eq!(json(&Cell::Single(0.1)), "0.1");
        assert_eq!(json(&Cell::Double(0.1 + 0.2)), "0.30000000000000004");
        assert_eq!(json(&Cell::Double(f64::INFINITY)), "null");
    }

    #[test]
    fn bytes_are_base64_and_text_is_escaped() {
        for (bytes, expected) in [
            (&b""[..], "\"\""),
            (b"f", "\"Zg==\""),
            (b"fo", "\"Zm8=\""),
            (b"foo", "\"Zm9v\""),
            (b"\0\xff", "\"AP8=\""),
        ] {
            assert_eq!(json(&Cell::Bytes(bytes)), expected);
        }
        assert_eq!(json(&Cell::Text("a\"b\\c\n\u{1}\u{1f600}")), "\"a\\\"b\\\\c\\n\\u0001\u{1f600}\"");
    }

    #[test]
    fn a_row_keeps_the_order_of_its_columns() {
        let names = Names::new(["z", "a\"", "json"].into_iter());
        let mut out = Vec::new();
        names
            .write(&mut out, |index| {
                Ok::<_, ()>(
                    [Cell::Signed(-1), Cell::Null, Cell::Json("{\"n\": 1.10}")]
                        .into_iter()
                        .nth(index)
                        .unwrap(),
                )
            })
            .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"z":-1,"a\"":null,"json":{"n": 1.10}}"#);
    }
}
