//! A key part in its normal form.

use std::fmt;

use crate::calendar::{Date, DateTime, Time};
use crate::template::escape;

/// One part of a key, in normal form: equal values are equal parts, however they were written.
///
/// `Display` gives the canonical text of the part inside a key; [`sql_text`](Self::sql_text) what MySQL would show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// An unsigned integer, BIT or YEAR.
    U64(u64),
    /// A signed integer.
    I64(i64),
    /// `true` or `false`; in MySQL 1 or 0.
    Bool(bool),
    /// Text, filters applied, not escaped, never empty.
    Str(Box<str>),
    /// A decimal number without needless zeros: `100`, `-0.5`.
    Decimal(Box<str>),
    /// A date.
    Date(Date),
    /// A date with a time of day; TIMESTAMP in UTC.
    DateTime(DateTime),
    /// A time or a duration up to 838 hours.
    Time(Time),
    /// A UUID, from BINARY(16) or CHAR(36).
    Uuid([u8; 16]),
    /// Bytes, never empty, from BINARY, VARBINARY and BLOB.
    Bytes(Vec<u8>),
}

impl Value {
    /// The value as MySQL writes it, not escaped: for a text parameter of a statement, or to compare with a row.
    ///
    /// Bytes are written as lower-case hex and a UUID in its 36 characters; bind those as bytes where the column is binary.
    pub fn sql_text(&self) -> String {
        match self {
            Self::Bool(value) => u8::from(*value).to_string(),
            Self::Str(text) => text.to_string(),
            Self::DateTime(value) => value.sql_text(),
            Self::Time(value) => value.sql_text(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U64(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Str(text) => escape::write(f, text),
            Self::Decimal(text) => f.write_str(text),
            Self::Date(value) => value.fmt(f),
            Self::DateTime(value) => value.fmt(f),
            Self::Time(value) => value.fmt(f),
            Self::Uuid(bytes) => {
                for (index, byte) in bytes.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}
