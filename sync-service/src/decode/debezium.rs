//! [Debezium's](https://debezium.io/documentation/reference/stable/connectors/mysql.html) change events for MySQL and MariaDB.
//!
//! One row each, with all of it before and after. A change of a primary key is three records: a delete, a tombstone, a create. With a
//! schema every value's type is known; without one a value that can be read in two ways is no key part, and its groups are flushed.

mod schema;
mod statement;
mod unwrapped;
mod value;

use catalog::{JsonForm, Op};
use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) use self::schema::Schemas;
pub(super) use self::unwrapped::decode as unwrapped;

use self::schema::Kinds;
use super::{About, Cell, Decoder, Event, Idle, Meaning, Reason, Scratch, Undecodable, json};
use crate::source;

/// What Connect's `JsonConverter` puts around a value where `schemas.enable=true`.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    op: Option<&'a RawValue>,
    #[serde(borrow, default)]
    before: Option<&'a RawValue>,
    #[serde(borrow, default)]
    after: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ts_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ddl: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "databaseName")]
    database_name: Option<&'a RawValue>,
    /// Which tables a statement made, changed or dropped, as Debezium understands it.
    #[serde(borrow, default, rename = "tableChanges")]
    table_changes: Option<&'a RawValue>,
    /// Of a transaction's beginning or end.
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    /// What Canal's and Maxwell's messages have.
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Origin<'a> {
    #[serde(borrow, default)]
    db: Option<&'a RawValue>,
    #[serde(borrow, default)]
    table: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ts_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    snapshot: Option<&'a RawValue>,
}

/// A value without what is around it: its text, and its schema's if it has one.
fn unwrap(bytes: &[u8]) -> Result<(&[u8], Option<&RawValue>), Undecodable> {
    let wrapped: Wrapped<'_> = json::message(bytes)?;
    Ok(match wrapped.payload {
        Some(payload) if json::is_object(Some(payload)) && is_schema(bytes, wrapped.schema) => {
            (payload.get().as_bytes(), wrapped.schema)
        }
        _ => (bytes, None),
    })
}

/// Tells a schema, or the null in its place, from a column of that name.
fn is_schema(bytes: &[u8], schema: Option<&RawValue>) -> bool {
    match schema {
        Some(schema) => json::is_object(Some(schema)),
        None => bytes.windows(8).any(|window| window == b"\"schema\""),
    }
}

pub(super) fn decode<'a>(
    decoder: &mut Decoder,
    message: &source::Message<'a>,
    scratch: &mut Scratch<'a>,
) -> Result<Event, Undecodable> {
    // The delete came before it.
    let Some(bytes) = message.payload else {
        return Ok(About::default().event(Meaning::Nothing(Idle::Tombstone)));
    };
    let (bytes, schema) = unwrap(bytes)?;
    let envelope: Envelope<'a> = json::message(bytes)?;
    let origin = envelope
        .source
        .and_then(|raw| serde_json::from_str::<Origin<'_>>(raw.get()).ok())
        .unwrap_or_default();
    let about = About {
        database: json::name(origin.db),
        table: json::name(origin.table),
        executed_ms: json::integer(origin.ts_ms),
        written_ms: json::integer(envelope.ts_ms),
    };
    let Some(op) = json::text(envelope.op) else {
        return other(bytes, &envelope, &about).map(|meaning| about.event(meaning));
    };
    let op = match &*op {
        "c" | "r" => Op::Insert,
        "u" => Op::Update,
        "d" => Op::Delete,
        "m" => return Ok(about.event(Meaning::Nothing(Idle::Comment))),
        "t" if about.table.is_empty() => return Err(about.bad("truncation names no table in `source`")),
        "t" => {
            let meaning = about.whole(Reason::Truncate);
            return Ok(about.event(meaning));
        }
        op => {
            let op: String = op.chars().take(40).collect();
            return Err(about.bad(format!("message has the unknown `op` {op:?}")));
        }
    };
    if !about.names_a_table() {
        let reason = "`source` names no db and table, so the row can't be mapped to keys; Flink SQL's debezium-json has none: \
                      let it write canal-json, and say whose rows the topic carries in source.kafka.tables";
        return Err(about.bad(reason));
    }
    let rules = match decoder.rules_for(&about) {
        Ok(rules) => rules,
        Err(meaning) => return Ok(about.event(meaning)),
    };
    let snapshot = json::text(origin.snapshot).unwrap_or(origin.snapshot.map_or("", RawValue::get).into());
    let is_read = is_read(json::text(envelope.op).as_deref(), &snapshot);
    if let Some(reading) = decoder.reads_anew(&about, is_read) {
        return Ok(about.event(reading));
    }
    let (before, after) = (envelope.before, envelope.after);
    let (data, lacks) = if op == Op::Delete { (before, "before") } else { (after, "after") };
    let Some(data) = data.filter(|data| json::is_object(Some(data))) else {
        return Err(about.bad(format!("`{lacks}` is no row")));
    };
    let kinds = decoder.schemas.of(schema, Some(lacks));
    let columns = &decoder.columns;
    let fail = |error: Undecodable| about.bad(error.reason);
    json::row(data, columns, &mut scratch.data, |name, raw| cell(kinds.as_deref(), name, raw))
        .map_err(fail)?;
    if op == Op::Update
        && let Some(before) = before.filter(|before| json::is_object(Some(before)))
    {
        scratch.old_is_whole = true;
        json::row(before, columns, &mut scratch.old, |name, raw| cell(kinds.as_deref(), name, raw))
            .map_err(fail)?;
    }
    Ok(about.event(Meaning::Rows { rules, op }))
}

impl Decoder {
    /// Rows of a table are read from its beginning on, not as they change: what came before may have been missed, the rows that were
    /// deleted then come never. Once per table that makes all of it stale; its rows are taken as they come after that.
    fn reads_anew(&mut self, about: &About, is_read: bool) -> Option<Meaning> {
        let name = (about.database.clone(), about.table.clone());
        if !is_read {
            if !self.snapshots.is_empty() {
                self.snapshots.remove(&name);
            }
            return None;
        }
        self.snapshots.insert(name).then(|| about.whole(Reason::Snapshot))
    }
}

/// Whether a row is of a snapshot, in which a table is read from its beginning on: before 2.0 it is a create that the source marks.
/// An incremental snapshot reads a table beside its changes, and misses none.
fn is_read(op: Option<&str>, snapshot: &str) -> bool {
    match op {
        Some("r") => snapshot != "incremental",
        // `true`, and the first and last row of the whole and of each table.
        Some("c") => !matches!(snapshot, "" | "false" | "null" | "incremental"),
        _ => false,
    }
}

/// A value by its column's kind, or by its form alone.
fn cell<'a>(kinds: Option<&Kinds>, name: &str, raw: &'a RawValue) -> Cell<'a> {
    match kinds.and_then(|kinds| kinds.get(name)) {
        Some(kind) => value::cell(*kind, raw),
        None => untyped(raw),
    }
}

/// Without a schema a string may be text, base64 or a decimal's digits, and a number may have been unsigned, a decimal or a date.
fn untyped(raw: &RawValue) -> Cell<'_> {
    match json::scalar(raw, JsonForm::Packed, JsonForm::Java) {
        Cell::Json(text, _) if text == "__debezium_unavailable_value" => Cell::Unusable,
        cell => cell,
    }
}

/// Messages that are about no row: statements, transactions, signs of life.
fn other(bytes: &[u8], envelope: &Envelope<'_>, about: &About) -> Result<Meaning, Undecodable> {
    if envelope.ddl.is_some() || envelope.table_changes.is_some() {
        return Ok(statement::meaning(envelope, about));
    }
    if envelope.status.is_some() {
        return Ok(Meaning::Nothing(Idle::Transaction));
    }
    let rows = envelope.before.is_some() || envelope.after.is_some() || envelope.kind.is_some();
    let fields = serde_json::from_slice::<std::collections::BTreeMap<String, &RawValue>>(bytes);
    if !rows && fields.is_ok_and(|fields| fields.keys().all(|name| name.starts_with("ts_"))) {
        return Ok(Meaning::Nothing(Idle::Heartbeat));
    }
    Err(Undecodable::new("message has no `op`, as a change event of Debezium has it"))
}
