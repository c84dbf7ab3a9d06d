//! A value of SQLite becomes a cell by the declared type of its column, in the forms that MySQL's values have.

use std::borrow::Cow;

use catalog::{Binary, schema::Schema};
use serde_json::value::RawValue;
use sqlx::{
    Column as _, ColumnOrigin, Decode, Row as _, TypeInfo as _, ValueRef as _,
    sqlite::{Sqlite, SqliteColumn, SqliteRow, SqliteValueRef},
};

use crate::cell::{Cell, Written};

/// What a column's declared type asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the value is.
    Any,
    /// A string with so many digits of fraction, where declared.
    Decimal(Option<usize>),
    DateTime,
    Timestamp,
    Json,
    /// Of so many bytes, where declared.
    Bytes(Option<usize>),
}

/// The form of a declared type: `DECIMAL(10,2)`, `datetime`, `BINARY(16)`.
pub(crate) fn declared(declared: &str) -> Form {
    let upper = declared.trim().to_ascii_uppercase();
    let has = |names: &[&str]| names.iter().any(|name| upper.starts_with(name));
    if has(&["DECIMAL", "NUMERIC"]) {
        let scale = upper.split_once(',').and_then(|(_, rest)| rest.split(')').next()?.trim().parse().ok());
        Form::Decimal(scale)
    } else if has(&["DATETIME"]) {
        Form::DateTime
    } else if has(&["TIMESTAMP"]) {
        Form::Timestamp
    } else if has(&["JSON"]) {
        Form::Json
    } else if upper.contains("BLOB") || has(&["BINARY", "VARBINARY"]) {
        let length = upper.split_once('(').and_then(|(_, rest)| rest.split(')').next()?.trim().parse().ok());
        Form::Bytes(length)
    } else {
        Form::Any
    }
}

/// The form of a result column; `None` where its table or column is not in `schema`.
pub(super) fn form(column: &SqliteColumn, schema: &Schema) -> Option<Form> {
    let ColumnOrigin::Table(origin) = column.origin() else { return Some(Form::Any) };
    let table = origin.table.rsplit('.').next().unwrap_or(&origin.table);
    let field =
        schema.tables.iter().filter(|known| known.name.eq_ignore_ascii_case(table)).find_map(|known| {
            known.columns.iter().find(|field| field.name.eq_ignore_ascii_case(&origin.name))
        })?;
    Some(declared(&field.mysql_type))
}

impl Form {
    pub(crate) fn is_bytes(self) -> bool {
        matches!(self, Self::Bytes(_))
    }

    /// How its values are written in a group.
    pub(super) fn written(self, binary: Binary) -> Written {
        match self {
            // Without a length, bytes of a table are a BLOB; an expression's may be anything.
            Self::Bytes(length) => Written::bytes(binary, Some(length.unwrap_or(0))),
            _ => Written::bytes(binary, None),
        }
    }

    /// Reads the value of the column at `index`.
    pub(super) fn read(self, row: &SqliteRow, index: usize) -> Result<Cell<'_>, String> {
        let value = row.try_get_raw(index).map_err(|error| error.to_string())?;
        if value.is_null() {
            return Ok(Cell::Null);
        }
        let read = match value.type_info().name() {
            "INTEGER" | "BOOLEAN" => decode::<i64>(value).map(|number| self.integer(number)),
            "REAL" => decode::<f64>(value).map(|number| self.real(number)),
            "BLOB" => decode::<&[u8]>(value).map(Cell::Bytes),
            _ => decode::<&str>(value).map(|text| self.text(text)),
        };
        read.map_err(|error| format!("column {} can't be read: {error}", row.columns()[index].name()))
    }

    fn integer<'a>(self, number: i64) -> Cell<'a> {
        match self {
            Self::Decimal(scale) => {
                let fraction =
                    scale.filter(|scale| *scale > 0).map(|scale| format!(".{}", "0".repeat(scale)));
                Cell::Plain(format!("{number}{}", fraction.unwrap_or_default()).into())
            }
            _ => Cell::Signed(number),
        }
    }

    fn real<'a>(self, number: f64) -> Cell<'a> {
        match self {
            Self::Decimal(Some(scale)) => Cell::Plain(format!("{number:.scale$}").into()),
            Self::Decimal(None) => Cell::Plain(number.to_string().into()),
            _ => Cell::Double(number),
        }
    }

    fn text(self, text: &str) -> Cell<'_> {
        match self {
            Self::DateTime | Self::Timestamp if is_moment(text) => {
                let zone = if self == Self::Timestamp && !text.ends_with('Z') { "Z" } else { "" };
                Cell::Plain(Cow::Owned(format!("{}{zone}", text.replacen(' ', "T", 1))))
            }
            Self::Json if serde_json::from_str::<&RawValue>(text).is_ok() => Cell::Json(text),
            Self::Bytes(_) => Cell::Bytes(text.as_bytes()),
            _ => Cell::Text(text),
        }
    }
}

fn decode<'r, T: Decode<'r, Sqlite>>(value: SqliteValueRef<'r>) -> Result<T, sqlx::error::BoxDynError> {
    T::decode(value)
}

fn is_moment(text: &str) -> bool {
    text.len() >= 19
        && matches!(text.as_bytes()[10], b' ' | b'T')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b' ' | b'T' | b'-' | b':' | b'.' | b'Z'))
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
    fn declared_types_give_the_forms_of_mysql() {
        for (declaration, text, expected) in [
            ("DATETIME", "2026-11-20 12:34:56", "\"2026-11-20T12:34:56\""),
            ("datetime(3)", "2026-11-20T12:34:56.120", "\"2026-11-20T12:34:56.120\""),
            ("TIMESTAMP", "2026-11-20 12:34:56", "\"2026-11-20T12:34:56Z\""),
            ("DATETIME", "soon", "\"soon\""),
            ("JSON", "{\"n\": 1.10}", "{\"n\": 1.10}"),
            ("JSON", "{\"n\": 1.10", "\"{\\\"n\\\": 1.10\""),
            ("BINARY(3)", "abc", "\"YWJj\""),
            ("VARCHAR(10)", "abc", "\"abc\""),
            ("", "abc", "\"abc\""),
        ] {
            assert_eq!(json(&declared(declaration).text(text)), expected, "{declaration} {text}");
        }
        assert_eq!(json(&declared("decimal(10,2)").real(12.5)), "\"12.50\"");
        assert_eq!(json(&declared("decimal(10, 2)").integer(-12)), "\"-12.00\"");
        assert_eq!(json(&declared("DECIMAL(10,0)").integer(12)), "\"12\"");
        assert_eq!(json(&declared("DOUBLE").real(12.5)), "12.5");
    }
}
