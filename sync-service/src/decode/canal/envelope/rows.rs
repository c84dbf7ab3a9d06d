//! The nested parts: rows, and the types of their columns. Only columns of interest are kept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::scalar::{Scalar, Value};
use crate::decode::columns::Columns;
use crate::decode::row::{Cell, Rows};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Rows,
    Null,
    Wrong,
}

/// An array of rows, or one row in it: the two differ only in what may stand there.
pub(super) struct Array<'s, 'a> {
    pub(super) rows: &'s mut Rows<'a>,
    pub(super) columns: &'s Columns,
    pub(super) exact: bool,
    pub(super) inexact: &'s mut bool,
}

impl<'a> DeserializeSeed<'a> for Array<'_, 'a> {
    type Value = Found;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// What a visitor says to scalars where it wants something nested.
macro_rules! no_scalars {
    () => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::WRONG)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::WRONG)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::WRONG)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::WRONG)
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::WRONG)
        }
    };
}

impl Array<'_, '_> {
    const WRONG: Found = Found::Wrong;
}

impl<'a> Visitor<'a> for Array<'_, 'a> {
    type Value = Found;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of rows or null")
    }

    no_scalars!();

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Null)
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Found, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Wrong)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<Found, S::Error> {
        let mut found = Found::Rows;
        loop {
            let row = Row {
                rows: &mut *self.rows,
                columns: self.columns,
                exact: self.exact,
                inexact: &mut *self.inexact,
            };
            match seq.next_element_seed(row)? {
                Some(true) => {}
                Some(false) => found = Found::Wrong,
                None => return Ok(found),
            }
        }
    }
}

struct Row<'s, 'a> {
    rows: &'s mut Rows<'a>,
    columns: &'s Columns,
    exact: bool,
    inexact: &'s mut bool,
}

impl Row<'_, '_> {
    const WRONG: bool = false;
}

impl<'a> DeserializeSeed<'a> for Row<'_, 'a> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Row<'_, 'a> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a row")
    }

    no_scalars!();

    /// A row of `old` may be null where a producer knows of no change.
    fn visit_unit<E>(self) -> Result<bool, E> {
        self.rows.end_row(false);
        Ok(true)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<bool, S::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<bool, M::Error> {
        let mut any = false;
        while let Some(column) = map.next_key_seed(ColumnName(self.columns))? {
            any = true;
            let Some(column) = column else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let cell = if self.exact {
                exact(map.next_value()?)?
            } else {
                match map.next_value_seed(Value)? {
                    Scalar::Text(text) => Cell::Text(text),
                    Scalar::Null => Cell::Null,
                    Scalar::Bool(value) => Cell::truth(value),
                    Scalar::Integer(number) => Cell::Text(number.to_string().into()),
                    Scalar::Float => {
                        *self.inexact = true;
                        Cell::Unusable
                    }
                    Scalar::Nested => Cell::Unusable,
                }
            };
            self.rows.push(column, cell);
        }
        self.rows.end_row(any);
        Ok(true)
    }
}

/// A value with every number's own text.
fn exact<E: serde::de::Error>(raw: &RawValue) -> Result<Cell<'_>, E> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'"') => {
            let mut json = serde_json::Deserializer::from_str(text);
            match Value.deserialize(&mut json).map_err(E::custom)? {
                Scalar::Text(text) => Cell::Text(text),
                _ => Cell::Unusable,
            }
        }
        Some(b'n') => Cell::Null,
        Some(b't') => Cell::truth(true),
        Some(b'f') => Cell::truth(false),
        Some(b'{' | b'[') => Cell::Unusable,
        _ => Cell::Text(Cow::Borrowed(text)),
    })
}

struct ColumnName<'s>(&'s Columns);

impl<'a> DeserializeSeed<'a> for ColumnName<'_> {
    type Value = Option<u16>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Option<u16>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ColumnName<'_> {
    type Value = Option<u16>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a column name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<u16>, E> {
        Ok(self.0.id(name))
    }
}

pub(super) struct Types<'s, 'a> {
    pub(super) types: &'s mut Vec<(u16, Cow<'a, str>)>,
    pub(super) columns: &'s Columns,
}

impl Types<'_, '_> {
    const WRONG: bool = false;
}

impl<'a> DeserializeSeed<'a> for Types<'_, 'a> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Types<'_, 'a> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of types or null")
    }

    no_scalars!();

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<bool, S::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<bool, M::Error> {
        while let Some(column) = map.next_key_seed(ColumnName(self.columns))? {
            let Some(column) = column else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if let Scalar::Text(text) = map.next_value_seed(Value)? {
                self.types.push((column, text));
            }
        }
        Ok(true)
    }
}
