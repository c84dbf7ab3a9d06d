//! One pass over a message that keeps its envelope and the columns of interest.
//!
//! Keys may come in any order: Canal writes `data` before `table`. A field of an unexpected shape doesn't end the pass;
//! it is noted, so that the table is still learnt and only its groups have to be flushed.

mod rows;
mod scalar;

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use self::rows::{Array, Found, Types};
use self::scalar::{Scalar, Value};
use crate::decode::columns::Columns;
use crate::decode::row::{Rows, Scratch};

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
    /// The number of Canal's batch.
    pub(super) batch: Option<i64>,
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
                Field::Batch => envelope.batch = integer(&mut map)?,
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
    Batch,
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
            "id" => Field::Batch,
            _ => Field::Other,
        })
    }
}
