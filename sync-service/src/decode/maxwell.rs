//! [Maxwell's](https://maxwells-daemon.io/dataformat/) messages: one row or statement each.

use catalog::{JsonForm, Op};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    About, Cell, Concerned, Decoder, Event, Idle, Meaning, Named, Reason, Scratch, Undecodable, ddl, json,
};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    database: Option<&'a RawValue>,
    #[serde(borrow, default)]
    table: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ts: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old: Option<&'a RawValue>,
    #[serde(borrow, default)]
    def: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sql: Option<&'a RawValue>,
    /// Of a row that was too large: only its primary key is left.
    #[serde(borrow, default)]
    reason: Option<&'a RawValue>,
    #[serde(borrow, default)]
    encrypted: Option<&'a RawValue>,
}

/// The names in a table's definition before and after an ALTER.
#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(borrow, default)]
    database: Option<&'a RawValue>,
    #[serde(borrow, default)]
    table: Option<&'a RawValue>,
}

pub(super) fn decode<'a>(
    decoder: &mut Decoder,
    bytes: &'a [u8],
    scratch: &mut Scratch<'a>,
) -> Result<Event, Undecodable> {
    let message: Message<'a> = json::message(bytes)?;
    let (database, table) = (json::name(message.database), json::name(message.table));
    let mut about = About { database, table, executed_ms: json::integer(message.ts), written_ms: None };
    if message.encrypted.is_some() {
        return Err(about.bad("message is encrypted; set encrypt=none in maxwell's configuration"));
    }
    let Some(kind) = json::text(message.kind) else {
        return Err(about.bad("message has no `type`, as all of maxwell's do"));
    };
    let op = match &*kind {
        "insert" | "bootstrap-insert" => Op::Insert,
        "update" => Op::Update,
        "delete" => Op::Delete,
        // Statements carry their time in milliseconds.
        _ => return statement(&kind, &about, &message).map(|meaning| about.event(meaning)),
    };
    // Rows carry theirs in seconds.
    about.executed_ms = about.executed_ms.map(|seconds| seconds.saturating_mul(1000));
    if !about.names_a_table() {
        return Err(about.bad("message names no database and table, so its row can't be mapped to keys"));
    }
    let rules = match decoder.rules_for(&about) {
        Ok(rules) => rules,
        Err(meaning) => return Ok(about.event(meaning)),
    };
    let data = message.data.filter(|data| json::is_object(Some(data)));
    let (Some(data), None) = (data, message.reason) else {
        let meaning = about.whole(Reason::Statement);
        return Ok(about.event(meaning));
    };
    let columns = &decoder.columns;
    let fail = |error: Undecodable| about.bad(error.reason);
    json::row(data, columns, &mut scratch.data, |_, raw| cell(raw)).map_err(fail)?;
    if op == Op::Update
        && let Some(old) = message.old.filter(|old| json::is_object(Some(old)))
    {
        json::row(old, columns, &mut scratch.old, |_, raw| cell(raw)).map_err(fail)?;
    }
    Ok(about.event(Meaning::Rows { rules, op }))
}

/// Maxwell writes numbers with all their digits, bytes as base64 without the zeros at the end of BINARY, labels of ENUM and, as an array, of
/// SET. Of BIT from 32 on it writes wrong numbers, which nobody can tell from others.
fn cell(raw: &RawValue) -> Cell<'_> {
    if raw.get().starts_with('[') {
        // A SET; arrays of JSON columns that hold strings alone look the same, and JSON is no key part.
        return match serde_json::from_str::<Vec<String>>(raw.get()) {
            Ok(labels) => Cell::Text(labels.join(",").into()),
            Err(_) => Cell::Unusable,
        };
    }
    json::scalar(raw, JsonForm::Stripped, JsonForm::Number)
}

fn statement(kind: &str, about: &About, message: &Message<'_>) -> Result<Meaning, Undecodable> {
    let (database, table) = (&*about.database, &*about.table);
    let flush = |concerned| Ok(Meaning::Whole { concerned, reason: Reason::Ddl });
    match kind {
        // The table is read from its beginning on: rows that were deleted unseen never come.
        "bootstrap-start" if about.names_a_table() => Ok(about.whole(Reason::Snapshot)),
        "bootstrap-start" | "bootstrap-complete" => Ok(Meaning::Nothing(Idle::Comment)),
        "database-create" | "database-alter" => Ok(Meaning::Nothing(Idle::NoRowsTouched)),
        "database-drop" if !database.is_empty() => flush(Concerned::Database(database.to_owned())),
        "table-create" | "table-alter" | "table-drop" => {
            let mut tables: Vec<(String, String)> = Vec::new();
            let mut add = |database: &str, table: &str| {
                let name = (database.to_owned(), table.to_owned());
                if !database.is_empty() && !table.is_empty() && !tables.contains(&name) {
                    tables.push(name);
                }
            };
            add(database, table);
            // A rename is an ALTER with two names.
            for raw in [message.old, message.def].into_iter().flatten() {
                if let Ok(definition) = serde_json::from_str::<Definition<'_>>(raw.get()) {
                    let of = json::text(definition.database).unwrap_or(database.into());
                    add(&of, &json::text(definition.table).unwrap_or_default());
                }
            }
            // The text may name others, whose partitions are exchanged with this one's.
            let told = json::text(message.sql).unwrap_or_default();
            let concerned = match &*told {
                "" => None,
                sql => ddl::statement(ddl::Session::Changed(&tables), sql).0,
            };
            let all = tables.iter().fold(concerned, |concerned, (database, table)| {
                Some(ddl::with(concerned, Named::table(database, table)))
            });
            flush(all.unwrap_or(Concerned::Everything))
        }
        _ => {
            let told: String = kind.chars().take(40).collect();
            Err(about.bad(format!("message has the unknown `type` {told:?}")))
        }
    }
}
