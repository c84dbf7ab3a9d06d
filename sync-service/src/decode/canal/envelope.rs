//! One pass over a message that keeps its envelope and the columns of interest.
//!
//! Keys may come in any order: Canal writes `data` before `table`. A field of an unexpected shape doesn't end the pass;
//! it is noted, so that the table is still learnt and only its groups have to be flushed.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::decode::columns::Columns;
use crate::decode::row::{Cell, Rows, Scratch};

/// A message without its rows.
#[derive(Default, Debug)]
pub(super) struct Envelope<'a> {
    pub(super) database: Option<Cow<'a, str>>,
    pub(super) table: Option<Cow<'a, str>>,
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) sql: Option<Cow<'a, str>>,
    pub(super) is_ddl: Option<bool>,
    pub(super) executed_ms: Option<i64>,
    pub(super) written_ms: Option<i64>,
    pub(super) data: Shape,
    pub(super) old: Shape,
    /// The first field with a shape that can't be used.
    pub(super) problem: Option<String>,
    /// Whether a kept value was a floating point number, whose text is lost unless the pass is exact.
    pub(super) inexact: bool,
}

/// What stands in `data` or `old`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    #[default]
    Absent,
    Null,
    Rows,
}

impl<'a> Envelope<'a> {
    /// Reads a message; on an error the fields before it are set. `exact` keeps every number's own text.
    pub(super) fn read(
        &mut self,
        message: &'a [u8],
        scratch: &mut Scratch<'a>,
        columns: &Columns,
        exact: bool,
    ) -> Result<(), serde_json::Error> {
        scratch.clear();
        let mut json = serde_json::Deserializer::from_slice(message);
        json.deserialize_map(Fields { envelope: self, scratch, columns, exact })?;
        json.end()
    }

    fn note(&mut self, field: &str, expected: &str) {
        self.problem.get_or_insert_with(|| format!("`{field}` is not {expected}"));
    }
}

struct Fields<'s, 'a> {
    envelope: &'s mut Envelope<'a>,
    scratch: &'s mut Scratch<'a>,
    columns: &'s Columns,
    exact: bool,
}

impl<'a> Visitor<'a> for Fields<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { envelope, scratch, columns, exact } = self;
        while let Some(field) = map.next_key_seed(Name)? {
            match field {
                Field::Data => {
                    envelope.data = rows("data", &mut map, envelope, &mut scratch.data, columns, exact)?;
                }
                Field::Old => {
                    envelope.old = rows("old", &mut map, envelope, &mut scratch.old, columns, exact)?;
                }
                Field::Types => {
                    scratch.types.clear();
                    if !map.next_value_seed(Types { types: &mut scratch.types, columns })? {
                        envelope.note("mysqlType", "an object");
                    }
                }
                Field::Database => envelope.database = string("database", &mut map, envelope)?,
                Field::Table => envelope.table = string("table", &mut map, envelope)?,
                Field::Kind => envelope.kind = string("type", &mut map, envelope)?,
                Field::Sql => envelope.sql = string("sql", &mut map, envelope)?,
                Field::IsDdl => match map.next_value_seed(Value)? {
                    Scalar::Bool(is_ddl) => envelope.is_ddl = Some(is_ddl),
                    Scalar::Null => {}
                    _ => envelope.note("isDdl", "true or false"),
                },
                Field::Executed => envelope.executed_ms = integer(&mut map)?,
                Field::Written => envelope.written_ms = integer(&mut map)?,
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn string<'a, M: MapAccess<'a>>(
    name: &str,
    map: &mut M,
    envelope: &mut Envelope<'a>,
) -> Result<Option<Cow<'a, str>>, M::Error> {
    Ok(match map.next_value_seed(Value)? {
        Scalar::Text(text) => Some(text),
        Scalar::Null => None,
        _ => {
            envelope.note(name, "a string");
            None
        }
    })
}

/// Times are only measured by, so one of another shape counts as unknown.
fn integer<'a, M: MapAccess<'a>>(map: &mut M) -> Result<Option<i64>, M::Error> {
    Ok(match map.next_value_seed(Value)? {
        Scalar::Integer(number) => i64::try_from(number).ok(),
        _ => None,
    })
}

fn rows<'a, M: MapAccess<'a>>(
    name: &str,
    map: &mut M,
    envelope: &mut Envelope<'a>,
    rows: &mut Rows<'a>,
    columns: &Columns,
    exact: bool,
) -> Result<Shape, M::Error> {
    rows.clear();
    match map.next_value_seed(Array { rows, columns, exact, inexact: &mut envelope.inexact })? {
        Found::Rows => Ok(Shape::Rows),
        Found::Null => Ok(Shape::Null),
        Found::Wrong => {
            envelope.note(name, "an array of objects");
            Ok(Shape::Null)
        }
    }
}

enum Field {
    Data,
    Old,
    Types,
    Database,
    Table,
    Kind,
    Sql,
    IsDdl,
    Executed,
    Written,
    Other,
}

struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Field;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Field;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok(match name {
            "data" => Field::Data,
            "old" => Field::Old,
            "mysqlType" => Field::Types,
            "database" => Field::Database,
            "table" => Field::Table,
            "type" => Field::Kind,
            "sql" => Field::Sql,
            "isDdl" => Field::IsDdl,
            "es" => Field::Executed,
            "ts" => Field::Written,
            _ => Field::Other,
        })
    }
}

/// Any JSON value, as far as it is of use.
enum Scalar<'a> {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text(Cow<'a, str>),
    Nested,
}

struct Value;

impl<'a> DeserializeSeed<'a> for Value {
    type Value = Scalar<'a>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Scalar<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Value {
    type Value = Scalar<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Integer(value.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Float)
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<Scalar<'a>, S::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Scalar<'a>, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Rows,
    Null,
    Wrong,
}

/// An array of rows, or one row in it: the two differ only in what may stand there.
struct Array<'s, 'a> {
    rows: &'s mut Rows<'a>,
    columns: &'s Columns,
    exact: bool,
    inexact: &'s mut bool,
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
                    Scalar::Bool(value) => Cell::Text(boolean(value)),
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
        Some(b't') => Cell::Text(boolean(true)),
        Some(b'f') => Cell::Text(boolean(false)),
        Some(b'{' | b'[') => Cell::Unusable,
        _ => Cell::Text(Cow::Borrowed(text)),
    })
}

/// As MySQL writes BOOLEAN.
fn boolean(value: bool) -> Cow<'static, str> {
    Cow::Borrowed(if value { "1" } else { "0" })
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

struct Types<'s, 'a> {
    types: &'s mut Vec<(u16, Cow<'a, str>)>,
    columns: &'s Columns,
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
