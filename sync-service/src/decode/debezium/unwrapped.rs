//! Rows that `ExtractNewRecordState` took out of their events: no row before a change, and a table's name only where it was asked for.
//!
//! Of the row before an update the record's key alone is known. So keys over the primary key are removed, and groups whose keys need
//! another column are flushed.

use std::borrow::Cow;

use catalog::Op;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{cell, is_read, json, schema, unwrap};
use crate::decode::{About, Decoder, Event, Idle, Meaning, Scratch, Undecodable};
use crate::source;

/// What `add.fields=op,table,db,source.ts_ms` adds, under the default prefix.
#[derive(Deserialize, Default)]
struct Added<'a> {
    #[serde(borrow, default, rename = "__op")]
    op: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "__table")]
    table: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "__db")]
    db: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "__source_table")]
    source_table: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "__source_db")]
    source_db: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "__deleted")]
    deleted: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "__source_snapshot")]
    snapshot: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "__source_ts_ms")]
    ts_ms: Option<&'a RawValue>,
}

pub(in crate::decode) fn decode<'a>(
    decoder: &mut Decoder,
    message: &source::Message<'a>,
    named: Option<(&str, &str)>,
    scratch: &mut Scratch<'a>,
) -> Result<Event, Undecodable> {
    let key = message.key.and_then(|key| unwrap(key).ok());
    let value = message.payload.map(unwrap).transpose()?;
    let added: Added<'a> = match value {
        Some((row, _)) => json::message(row)?,
        None => Added::default(),
    };
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let headers = &message.headers;
    let of_schema = schema::table(value.and_then(|(_, schema)| schema))
        .or_else(|| schema::table(key.and_then(|(_, schema)| schema)));
    let table = owned(json::text(added.table.or(added.source_table)))
        .or_else(|| headers.table.map(str::to_owned))
        .or_else(|| named.map(|(_, table)| table.to_owned()))
        .or_else(|| of_schema.as_ref().map(|(_, table)| table.clone()))
        .unwrap_or_default();
    let database = owned(json::text(added.db.or(added.source_db)))
        .or_else(|| headers.database.map(str::to_owned))
        .or_else(|| named.map(|(database, _)| database.to_owned()))
        .or_else(|| of_schema.map(|(database, _)| database))
        .unwrap_or_default();
    let about = About { database, table, executed_ms: json::integer(added.ts_ms), written_ms: None };
    if value.is_none() && key.is_none() {
        return Err(about.bad("message has neither value nor key"));
    }
    if !about.names_a_table() {
        if is_sign_of_life(value.map(|(row, _)| row)) {
            return Ok(about.event(Meaning::Nothing(Idle::Heartbeat)));
        }
        let reason = "message names no database and table; let ExtractNewRecordState add them (add.fields = \"op,table,db\"), \
                      or say whose rows the topic carries in source.kafka.tables";
        return Err(about.bad(reason));
    }
    let rules = match decoder.rules_for(&about) {
        Ok(rules) => rules,
        Err(meaning) => return Ok(about.event(meaning)),
    };
    let told = owned(json::text(added.op)).or_else(|| headers.op.map(str::to_owned));
    let snapshot = json::text(added.snapshot).or(added.snapshot.map(|raw| raw.get().into()));
    let snapshot = snapshot.as_deref().or(headers.snapshot).unwrap_or_default();
    if let Some(reading) = decoder.reads_anew(&about, is_read(told.as_deref(), snapshot)) {
        return Ok(about.event(reading));
    }
    let deleted = json::text(added.deleted).or(headers.deleted.map(Cow::Borrowed));
    let op = match told.as_deref() {
        _ if deleted.as_deref() == Some("true") || value.is_none() => Op::Delete,
        Some("d") => Op::Delete,
        Some("c" | "r") => Op::Insert,
        // Where nobody says it, it may be an update.
        _ => Op::Update,
    };
    // Of a tombstone, the key is all that there is.
    let row = value.or(if op == Op::Delete { key } else { None });
    let Some((row, row_schema)) = row else { return Err(about.bad("message has no row")) };
    let fail = |error: Undecodable| about.bad(error.reason);
    let kinds = decoder.schemas.of(row_schema, None);
    let row = object(row).map_err(fail)?;
    json::row(row, &decoder.columns, &mut scratch.data, |name, raw| cell(kinds.as_deref(), name, raw))
        .map_err(fail)?;
    if op == Op::Update
        && let Some((key, key_schema)) = key
    {
        let kinds = decoder.schemas.of(key_schema, None);
        let key = object(key).map_err(fail)?;
        scratch.old_is_whole = true;
        json::row(key, &decoder.columns, &mut scratch.old, |name, raw| cell(kinds.as_deref(), name, raw))
            .map_err(fail)?;
    }
    Ok(about.event(Meaning::Rows { rules, op }))
}

fn object(bytes: &[u8]) -> Result<&RawValue, Undecodable> {
    let raw: &RawValue =
        serde_json::from_slice(bytes).map_err(|error| Undecodable::new(error.to_string()))?;
    if json::is_object(Some(raw)) { Ok(raw) } else { Err(Undecodable::new("a row is not an object")) }
}

fn is_sign_of_life(value: Option<&[u8]>) -> bool {
    let fields = value.and_then(|value| {
        serde_json::from_slice::<std::collections::BTreeMap<String, &RawValue>>(value).ok()
    });
    fields.is_some_and(|fields| !fields.is_empty() && fields.keys().all(|name| name.starts_with("ts_")))
}
