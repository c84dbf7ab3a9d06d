//! What Alibaba Cloud's `DataWorks` writes to Kafka when it synchronises a database: one row each, before and after.
//!
//! Types are told by coarse names, and dates come as milliseconds in the writer's zone, so values are taken as those of Debezium without a
//! schema are: what can be read in two ways is no key part.

use catalog::{JsonForm, Op};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{About, Decoder, Event, Idle, Meaning, Scratch, Undecodable, ddl, json};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    schema: Option<Schema<'a>>,
    #[serde(borrow, default)]
    payload: Option<Payload<'a>>,
}

#[derive(Deserialize)]
struct Schema<'a> {
    #[serde(borrow, default)]
    source: Option<Names<'a>>,
}

#[derive(Deserialize)]
struct Names<'a> {
    #[serde(borrow, default, rename = "dbName")]
    database: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "tableName")]
    table: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, default)]
    op: Option<&'a RawValue>,
    #[serde(borrow, default)]
    before: Option<Row<'a>>,
    #[serde(borrow, default)]
    after: Option<Row<'a>>,
    #[serde(borrow, default)]
    ddl: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<Times<'a>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default, rename = "dataColumn")]
    columns: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Times<'a> {
    #[serde(borrow, default, rename = "eventTime")]
    event: Option<&'a RawValue>,
}

pub(super) fn decode<'a>(
    decoder: &mut Decoder,
    bytes: &'a [u8],
    scratch: &mut Scratch<'a>,
) -> Result<Event, Undecodable> {
    let message: Message<'a> = json::message(bytes)?;
    let names = message.schema.and_then(|schema| schema.source);
    let (database, table) =
        names.map_or_else(Default::default, |names| (json::name(names.database), json::name(names.table)));
    let mut about = About { database, table, ..About::default() };
    let Some(payload) = message.payload else {
        return Err(about.bad("message has no `payload`; source.kafka.format is aliyun"));
    };
    let time = payload.timestamp.and_then(|times| json::integer(times.event));
    about.executed_ms = time.filter(|time| *time > 0);
    if let Some(sql) = json::text(payload.ddl) {
        let changed = [(about.database.clone(), about.table.clone())];
        let meaning = match ddl::statement(ddl::Session::Changed(&changed), &sql) {
            (Some(concerned), reason) => Meaning::Whole { concerned, reason },
            (None, _) => Meaning::Nothing(Idle::NoRowsTouched),
        };
        return Ok(about.event(meaning));
    }
    let op = match json::text(payload.op).as_deref() {
        Some("INSERT") => Op::Insert,
        Some("UPDATE" | "UPDATE_AFTER") => Op::Update,
        // The row before alone: its keys go as if it had been deleted.
        Some("DELETE" | "UPDATE_BEFORE") => Op::Delete,
        op => {
            let op: String = op.unwrap_or("none").chars().take(40).collect();
            return Err(about.bad(format!("message has the unknown `op` {op}")));
        }
    };
    if !about.names_a_table() {
        let reason = "`schema.source` names no database and table, so the row can't be mapped to keys";
        return Err(about.bad(reason));
    }
    let rules = match decoder.rules_for(&about) {
        Ok(rules) => rules,
        Err(meaning) => return Ok(about.event(meaning)),
    };
    let row = |row: &Option<Row<'a>>| {
        row.as_ref().and_then(|row| row.columns).filter(|raw| json::is_object(Some(raw)))
    };
    let cell = |_: &str, raw: &'a RawValue| json::scalar(raw, JsonForm::Packed, JsonForm::Java);
    let (before, after) = (row(&payload.before), row(&payload.after));
    let Some(data) = (if op == Op::Delete { before } else { after }) else {
        return Err(about.bad("message has no row"));
    };
    let fail = |error: Undecodable| about.bad(error.reason);
    json::row(data, &decoder.columns, &mut scratch.data, cell).map_err(fail)?;
    if let (Op::Update, Some(before)) = (op, before) {
        scratch.old_is_whole = true;
        json::row(before, &decoder.columns, &mut scratch.old, cell).map_err(fail)?;
    }
    Ok(about.event(Meaning::Rows { rules, op }))
}
