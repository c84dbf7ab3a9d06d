//! From a column of a row image to a key part.
//!
//! Change streams write values in ways of their own (Canal: DECIMAL `100.00` as `100.0`, ENUM as an ordinal, SET as a
//! bitmask, BINARY without its trailing zeros). Here they become the one normal form that keys are rendered from.

mod json;
mod packed;

use crate::calendar::{DateTime, Time};
use crate::mysql_type::{Kind, MysqlType};
use crate::param::{self, ParamType};
use crate::value::Value;

/// A column of a row image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column<'a> {
    /// The image doesn't have the column.
    Missing,
    /// SQL NULL.
    Null,
    /// A value as text.
    Text {
        /// As Canal writes it; TIMESTAMP in UTC. Labels of ENUM and SET, and full BINARY, are understood too.
        text: &'a str,
        /// The column's type as the server writes it (`bigint unsigned`, `enum('a','b')`), in any case.
        mysql_type: Option<&'a str>,
    },
    /// A value as bytes: the column's own for binary types, big-endian for BIT.
    Bytes(&'a [u8]),
    /// A JSON value of a column whose type the source doesn't tell.
    Json {
        /// A string's own text, or a number's as it was written; `1` and `0` for true and false.
        text: &'a str,
        /// What that text may stand for.
        form: JsonForm,
    },
}

/// What the text of a JSON value may stand for where the column's type is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonForm {
    /// A string: text, a date, a number in plain digits, base64 or hex of bytes.
    String,
    /// The same, but a number may also be base64 of its big-endian digits, as Debezium writes decimals.
    Packed,
    /// A string as Maxwell writes it: text, a date, base64 of bytes of which zeros at the end are missing, a time of which days are missing.
    Stripped,
    /// A date or time as MySQL writes it.
    Exact,
    /// A number, exact.
    Number,
    /// A number that was a 64-bit integer of Java or a double: unsigned numbers may have become negative, decimals may have lost digits.
    Java,
    /// True or false. A number that is not 0 may have become true.
    Boolean,
    /// Null of a source that has no other word for dates with zeros in them.
    Null,
}

/// What a column's value is to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Normal {
    /// A part of a key.
    Value(Value),
    /// No key has this part: NULL, nothing left after the filters, a number out of the type's range. So nothing can be
    /// cached under it, and there is nothing to remove.
    NoKey,
}

/// Why a column's value can't become a key part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// The image doesn't have the column.
    #[error("the row image lacks it")]
    Missing,
    /// No column of this type can be a part of this type.
    #[error("a {mysql_type} column can't be a key part of type {param}")]
    Type {
        /// The column's type.
        mysql_type: String,
        /// The parameter's type.
        param: &'static str,
    },
    /// The source could not carry the value's characters.
    #[error(
        "{text:?} has the sign U+FFFD in the place of characters that the source can't carry; see `freshline check --database`"
    )]
    Unreadable {
        /// The value, shortened.
        text: String,
    },
    /// The value is not one of the parameter's type.
    #[error("{text:?} is not {expected}")]
    Value {
        /// The value, shortened.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl ParamType {
    /// The key part that a column's value stands for.
    pub fn normalize(&self, column: Column<'_>) -> Result<Normal, ColumnError> {
        match column {
            Column::Missing => Err(ColumnError::Missing),
            Column::Null => Ok(Normal::NoKey),
            Column::Text { text, mysql_type } => match mysql_type.map(MysqlType::new) {
                Some(mysql_type) => self.of_type(text, mysql_type),
                None => self.of_untyped(text),
            },
            Column::Bytes(bytes) => self.of_bytes(bytes),
            Column::Json { text, form } => self.of_json(text, form),
        }
    }

    /// The key parts that a column's value may stand for, one of which it does; none: it is in no key.
    pub(crate) fn readings(&self, column: Column<'_>) -> Result<Vec<Value>, ColumnError> {
        if let Column::Json { text, form } = column {
            return self.of_json_readings(text, form);
        }
        if let (Self::Compared, Column::Text { text, mysql_type: None }) = (self, column) {
            // Of a text or number column, or of bytes as Canal writes them.
            let bytes = latin1(text).and_then(|bytes| param::compared_bytes(&bytes));
            let Normal::Value(value) = self.of_text(text)? else { return Ok(Vec::new()) };
            return Ok([Some(value), bytes].into_iter().flatten().collect());
        }
        self.normalize(column).map(|normal| match normal {
            Normal::Value(value) => vec![value],
            Normal::NoKey => Vec::new(),
        })
    }

    fn of_type(&self, text: &str, mysql_type: MysqlType<'_>) -> Result<Normal, ColumnError> {
        let kind = mysql_type.kind();
        if !self.accepts(kind) {
            return Err(ColumnError::Type { mysql_type: mysql_type.text().to_owned(), param: self.name() });
        }
        match (self, kind) {
            (Self::Str(_), Kind::Enum) => match mysql_type.enum_label(text) {
                Some(label) => self.of_text(&label),
                None => Err(self.bad(text)),
            },
            (Self::Str(_), Kind::Set) => match mysql_type.set_labels(text) {
                Some(labels) => self.of_text(&labels),
                None => Err(self.bad(text)),
            },
            (_, Kind::Binary | Kind::Blob) => {
                let mut bytes = latin1(text).ok_or_else(|| self.bad(text))?;
                if kind == Kind::Binary {
                    let length = mysql_type.length().unwrap_or(1);
                    bytes.resize(bytes.len().max(length), 0);
                }
                self.of_bytes(&bytes)
            }
            _ => self.of_text(text),
        }
    }

    /// A value whose column's type the source doesn't tell.
    fn of_untyped(&self, text: &str) -> Result<Normal, ColumnError> {
        match self {
            Self::Hex => match latin1(text) {
                Some(bytes) => self.of_bytes(&bytes),
                None => Err(self.bad(text)),
            },
            Self::Uuid if param::read_uuid(text).is_none() => match latin1(text) {
                Some(bytes) => self.of_bytes(&bytes),
                None => Err(self.bad(text)),
            },
            _ => self.of_text(text),
        }
    }

    fn of_text(&self, text: &str) -> Result<Normal, ColumnError> {
        let value = match self {
            Self::Str(_) | Self::Compared if text.contains(char::REPLACEMENT_CHARACTER) => {
                return Err(ColumnError::Unreadable { text: text.chars().take(40).collect() });
            }
            Self::Str(filters) => {
                return Ok(param::filter(filters, text)
                    .map_or(Normal::NoKey, |text| Normal::Value(Value::Str(text))));
            }
            Self::U64 | Self::I64 | Self::Bool => return self.of_number(text),
            Self::Decimal => param::canonical_decimal(text).map(Value::Decimal),
            Self::Date => {
                let moment = DateTime::parse(text).ok_or_else(|| self.bad(text))?;
                return Ok(if moment.is_midnight() {
                    Normal::Value(Value::Date(moment.date))
                } else {
                    Normal::NoKey
                });
            }
            Self::DateTime => DateTime::parse(text).map(Value::DateTime),
            Self::Time => Time::parse(text).map(Value::Time),
            Self::Uuid => param::read_uuid(text).map(Value::Uuid),
            Self::Hex => None,
            Self::Compared => param::read_compared(text),
        };
        value.map(Normal::Value).ok_or_else(|| self.bad(text))
    }

    /// Whole numbers, also as `101.0`. Numbers that the type doesn't have are in no key.
    fn of_number(&self, text: &str) -> Result<Normal, ColumnError> {
        let read = |text: &str| match self {
            Self::U64 => param::read_u64(text).map(Value::U64),
            Self::I64 => param::read_i64(text).map(Value::I64),
            _ => match text {
                "1" | "true" => Some(Value::Bool(true)),
                "0" | "false" => Some(Value::Bool(false)),
                _ => None,
            },
        };
        if let Some(value) = read(text) {
            return Ok(Normal::Value(value));
        }
        let canonical = param::canonical_decimal(text).ok_or_else(|| self.bad(text))?;
        Ok(read(&canonical).map_or(Normal::NoKey, Normal::Value))
    }

    fn of_bytes(&self, bytes: &[u8]) -> Result<Normal, ColumnError> {
        let bad = || ColumnError::Value { text: format!("{} bytes", bytes.len()), expected: self.describe() };
        if *self == Self::Compared {
            return param::compared_bytes(bytes).map(Normal::Value).ok_or_else(bad);
        }
        if bytes.is_empty() {
            return Ok(Normal::NoKey);
        }
        match self {
            Self::Hex => Ok(Normal::Value(Value::Bytes(bytes.to_vec()))),
            Self::Uuid => match <[u8; 16]>::try_from(bytes) {
                Ok(bytes) => Ok(Normal::Value(Value::Uuid(bytes))),
                Err(_) => std::str::from_utf8(bytes).map_err(|_| bad()).and_then(|text| self.of_text(text)),
            },
            Self::U64 | Self::I64 | Self::Bool if bytes.len() <= 8 => {
                let number = bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
                self.of_number(&number.to_string())
            }
            _ => std::str::from_utf8(bytes).map_err(|_| bad()).and_then(|text| self.of_text(text)),
        }
    }

    /// Whether columns of this kind can be key parts of this type.
    pub(crate) fn accepts(&self, kind: Kind) -> bool {
        match self {
            Self::U64 | Self::I64 => {
                matches!(kind, Kind::Int | Kind::Unsigned | Kind::Decimal | Kind::Bit | Kind::Year)
            }
            Self::Bool => matches!(kind, Kind::Int | Kind::Unsigned | Kind::Bit),
            Self::Decimal => matches!(kind, Kind::Int | Kind::Unsigned | Kind::Decimal),
            Self::Str(_) => {
                matches!(kind, Kind::Char | Kind::Text | Kind::Enum | Kind::Set | Kind::Binary | Kind::Blob)
            }
            Self::Date | Self::DateTime => matches!(kind, Kind::Date | Kind::DateTime | Kind::Timestamp),
            Self::Time => kind == Kind::Time,
            Self::Uuid => matches!(kind, Kind::Binary | Kind::Blob | Kind::Char | Kind::Text),
            Self::Hex => matches!(kind, Kind::Binary | Kind::Blob),
            Self::Compared => {
                matches!(
                    kind,
                    Kind::Int
                        | Kind::Unsigned
                        | Kind::Decimal
                        | Kind::Year
                        | Kind::Char
                        | Kind::Text
                        | Kind::Binary
                        | Kind::Blob
                )
            }
        }
    }

    fn bad(&self, text: &str) -> ColumnError {
        ColumnError::Value { text: text.chars().take(40).collect(), expected: self.describe() }
    }
}

/// Canal writes each byte of a binary column as the character of that number.
fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect()
}

#[cfg(test)]
mod tests;
