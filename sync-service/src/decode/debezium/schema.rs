//! The schema that a message carries with it: which kind of value each column has.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a column's values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Whole numbers that are what they seem.
    Integer,
    /// 64-bit integers, in which unsigned ones may have become negative; floating point numbers.
    Java,
    /// Base64 of an unscaled big-endian integer; digits after the point.
    Decimal(u32),
    Boolean,
    /// Base64 of little-endian bytes.
    Bits,
    Bytes,
    /// Days since 1970.
    Date,
    /// A point in time or a time of day in units of so many of a millionth second; 0: thousandths of it.
    Timestamp(i64),
    Time(i64),
    /// ISO 8601, in UTC.
    Iso,
    Text,
    /// Nothing that a key can be made of.
    Unusable,
}

/// The kinds of a row's columns.
pub(super) type Kinds = HashMap<Box<str>, Kind>;

/// Schemas that came before: they are the same in every message of a table, and larger than the rest of it.
#[derive(Default)]
pub(in crate::decode) struct Schemas(HashMap<u64, (Box<str>, Arc<Kinds>)>);

/// Schemas remembered; a table has one, or one per key and value.
const MAX_KNOWN: usize = 4096;

#[derive(Deserialize)]
struct Struct<'a> {
    #[serde(borrow, default)]
    fields: Vec<Field<'a>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Field<'a> {
    #[serde(borrow, default, rename = "field")]
    column: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: &'a RawValue,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    fields: Vec<Field<'a>>,
}

impl Schemas {
    /// The kinds of the columns of a row, which is the schema's field `part`, or all of it. `None` if there is no schema that can be read.
    pub(super) fn of(&mut self, schema: Option<&RawValue>, part: Option<&str>) -> Option<Arc<Kinds>> {
        let text = schema?.get();
        let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes()) ^ part.map_or(0, |part| part.len() as u64);
        if let Some((known, kinds)) = self.0.get(&hash)
            && **known == *text
        {
            return Some(kinds.clone());
        }
        let all: Struct<'_> = serde_json::from_str(text).ok()?;
        let fields = match part {
            Some(part) => all.fields.into_iter().find(|field| field.column.as_deref() == Some(part))?.fields,
            None => all.fields,
        };
        if fields.is_empty() {
            return None;
        }
        let kinds: Kinds =
            fields.iter().filter_map(|field| Some((field.column.as_deref()?.into(), field.kind()))).collect();
        if self.0.len() >= MAX_KNOWN {
            self.0.clear();
        }
        let kinds = Arc::new(kinds);
        self.0.insert(hash, (text.into(), kinds.clone()));
        Some(kinds)
    }
}

/// Database and table in the name of a schema: `<prefix>.<database>.<table>.Value`, or `.Key`.
pub(super) fn table(schema: Option<&RawValue>) -> Option<(String, String)> {
    let all: Struct<'_> = serde_json::from_str(schema?.get()).ok()?;
    let name = all.name?;
    let mut parts = name.rsplit('.');
    let (last, table, database) = (parts.next()?, parts.next()?, parts.next()?);
    // A prefix must be left, else these are other words.
    (matches!(last, "Value" | "Key") && parts.next().is_some())
        .then(|| (database.to_owned(), table.to_owned()))
}

impl Field<'_> {
    fn kind(&self) -> Kind {
        let kind: Cow<'_, str> = super::json::text(Some(self.kind)).unwrap_or_default();
        match self.name.as_deref() {
            Some("org.apache.kafka.connect.data.Decimal") => {
                let scale = self.parameters.and_then(|raw| {
                    let parameters: BTreeMap<String, String> = serde_json::from_str(raw.get()).ok()?;
                    parameters.get("scale")?.parse().ok()
                });
                return scale.map_or(Kind::Unusable, Kind::Decimal);
            }
            Some("io.debezium.data.Bits") => return Kind::Bits,
            Some("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date") => return Kind::Date,
            Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp") => {
                return Kind::Timestamp(1000);
            }
            Some("io.debezium.time.MicroTimestamp") => return Kind::Timestamp(1),
            Some("io.debezium.time.NanoTimestamp") => return Kind::Timestamp(0),
            Some("io.debezium.time.Time" | "org.apache.kafka.connect.data.Time") => return Kind::Time(1000),
            Some("io.debezium.time.MicroTime") => return Kind::Time(1),
            Some("io.debezium.time.NanoTime") => return Kind::Time(0),
            Some(
                "io.debezium.time.ZonedTimestamp"
                | "io.debezium.time.IsoTimestamp"
                | "io.debezium.time.IsoDate"
                | "io.debezium.time.IsoTime",
            ) => return Kind::Iso,
            Some("io.debezium.time.Year") => return Kind::Integer,
            Some("io.debezium.data.Enum" | "io.debezium.data.EnumSet") | None => {}
            // JSON, XML, geometry, vectors, and what is not known.
            Some(_) => return Kind::Unusable,
        }
        match &*kind {
            "int8" | "int16" | "int32" => Kind::Integer,
            "int64" | "float" | "double" | "float32" | "float64" => Kind::Java,
            "boolean" => Kind::Boolean,
            "string" => Kind::Text,
            "bytes" => Kind::Bytes,
            _ => Kind::Unusable,
        }
    }
}
