//! What the formats but Canal's share: JSON read piece by piece, with every number's own text.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::JsonForm;
use serde::Deserialize;
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Undecodable;
use super::columns::Columns;
use super::row::{Cell, Rows};

/// A name or a string value, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A string; `None` for anything else.
pub(super) fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let raw = raw?.get();
    raw.starts_with('"').then(|| serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0)).flatten()
}

/// A name; empty for what is no string.
pub(super) fn name(raw: Option<&RawValue>) -> String {
    text(raw).map(Cow::into_owned).unwrap_or_default()
}

/// A whole number, also in quotes.
pub(super) fn integer(raw: Option<&RawValue>) -> Option<i64> {
    raw?.get().trim_matches('"').parse().ok()
}

/// Whether a value is an object.
pub(super) fn is_object(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| raw.get().starts_with('{'))
}

/// The message as an object, or what is wrong with it.
pub(super) fn message<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Undecodable> {
    match bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace()) {
        None => Err(Undecodable::new("message is empty")),
        Some(b'{') => serde_json::from_slice(bytes)
            .map_err(|error| Undecodable::new(format!("message is not valid json: {error}"))),
        Some(0) => Err(Undecodable::new(
            "message is not json: it begins with 0, as messages in Avro or Protobuf do that need a schema registry; use JSON",
        )),
        Some(_) => Err(Undecodable::new("message is not a json object")),
    }
}

/// A value whose column's type is not told.
pub(super) fn scalar(raw: &RawValue, string: JsonForm, number: JsonForm) -> Cell<'_> {
    match raw.get().as_bytes().first() {
        Some(b'"') => text(Some(raw)).map_or(Cell::Unusable, |text| Cell::Json(text, string)),
        Some(b'n') | None => Cell::Null,
        Some(b't') => Cell::truth(true),
        Some(b'f') => Cell::truth(false),
        Some(b'{' | b'[') => Cell::Unusable,
        Some(_) => Cell::Json(raw.get().into(), number),
    }
}

/// Bytes from base64; nothing usable for anything else.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Reads an object as a row: of the columns of interest what `cell` makes of them. An error is one of the JSON's form.
pub(super) fn row<'a>(
    raw: &'a RawValue,
    columns: &Columns,
    rows: &mut Rows<'a>,
    cell: impl FnMut(&str, &'a RawValue) -> Cell<'a>,
) -> Result<(), Undecodable> {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    let any = json
        .deserialize_map(Row { columns, rows, cell })
        .map_err(|error| Undecodable::new(format!("a row is not valid json: {error}")))?;
    rows.end_row(any);
    Ok(())
}

struct Row<'s, 'a, F> {
    columns: &'s Columns,
    rows: &'s mut Rows<'a>,
    cell: F,
}

impl<'a, F: FnMut(&str, &'a RawValue) -> Cell<'a>> Visitor<'a> for Row<'_, 'a, F> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a row")
    }

    fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<bool, M::Error> {
        let mut any = false;
        while let Some(Text(name)) = map.next_key()? {
            any = true;
            match self.columns.id(&name) {
                Some(column) => {
                    let raw: &'a RawValue = map.next_value()?;
                    self.rows.push(column, (self.cell)(&name, raw));
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(any)
    }
}
