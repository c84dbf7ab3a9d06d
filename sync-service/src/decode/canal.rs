//! Canal's flat messages: one rows event or statement each.
//!
//! The format is that of Canal's [`FlatMessage`](https://github.com/alibaba/canal/blob/master/protocol/src/main/java/com/alibaba/otter/canal/protocol/FlatMessage.java).
//! `TiCDC` and Flink write the same fields in another order and with native JSON values; both are understood.

mod envelope;
pub(super) mod quick;

use std::borrow::Cow;

use catalog::Op;

use self::envelope::{Envelope, Shape};
use super::{Concerned, Decoder, Event, Idle, Meaning, Reason, Scratch, Undecodable, ddl};

pub(super) fn decode<'a>(
    decoder: &mut Decoder,
    message: &'a [u8],
    named: Option<(&str, &str)>,
    scratch: &mut Scratch<'a>,
) -> Result<Event, Undecodable> {
    scratch.clear();
    let mut envelope = match quick::read(message, scratch, &decoder.columns, &mut decoder.memos) {
        Some(envelope) => envelope,
        None => read(decoder, message, scratch, false)?,
    };
    let (database, table) = names(&envelope, named);
    // Before any rule: a pattern may match the table too. A DROP or RENAME may concern others beside it, and goes on.
    if decoder.is_heartbeat(database, table)
        && let Some("INSERT" | "UPDATE" | "DELETE" | "CREATE" | "TRUNCATE") = envelope.kind.as_deref()
    {
        return Ok(Event {
            database: database.to_owned(),
            table: table.to_owned(),
            executed_ms: envelope.executed_ms,
            written_ms: envelope.written_ms,
            batch: envelope.batch,
            meaning: Meaning::Beat,
        });
    }
    let (rules, complete) = decoder.rules(database, table);
    // The first message of a table teaches which columns to keep; floating point numbers are read again as text.
    if !complete || envelope.inexact {
        let exact = envelope.inexact;
        envelope = read(decoder, message, scratch, exact)?;
        if envelope.inexact && !exact {
            envelope = read(decoder, message, scratch, true)?;
        }
    }
    let (database, table) = names(&envelope, named);
    let (database, table) = (database.to_owned(), table.to_owned());
    let undecodable = |reason: String| Undecodable::of(reason, &database, &table);
    if let Some(problem) = envelope.problem.take() {
        return Err(undecodable(problem));
    }
    let kind = match &envelope.kind {
        Some(kind) if kind.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            Cow::Owned(kind.to_ascii_uppercase())
        }
        Some(kind) if !kind.is_empty() => kind.clone(),
        _ => {
            let reason = "message has no `type`; is the topic written by canal with flatMessage=true?";
            return Err(undecodable(reason.to_owned()));
        }
    };
    let op = match &*kind {
        "INSERT" => Some(Op::Insert),
        "UPDATE" => Some(Op::Update),
        "DELETE" => Some(Op::Delete),
        _ => None,
    };
    let whole = |(concerned, reason): (Option<Concerned>, Reason)| match concerned {
        Some(concerned) => Meaning::Whole { concerned, reason },
        None => Meaning::Nothing(Idle::NoRowsTouched),
    };
    let sql = text(envelope.sql.as_ref());
    // A list without rows tells as little as none.
    let data =
        if scratch.data.is_empty() && envelope.data == Shape::Rows { Shape::Null } else { envelope.data };
    let meaning = if op.is_some() && data != Shape::Rows && !sql.trim().is_empty() {
        // A statement, which may change rows of other tables than the one that the message names.
        whole(ddl::message(&kind, &database, &table, sql))
    } else if let Some(op) = op {
        if table.is_empty() || (database.is_empty() && rules.is_none()) {
            // Of a topic whose messages have rows, it can be said.
            let remedy = match data {
                Shape::Rows => "its rows can't be mapped to keys; say whose they are in source.kafka.tables",
                Shape::Absent | Shape::Null => {
                    "it has neither rows nor the text of a statement; set binlog_format=ROW on the server"
                }
            };
            return Err(undecodable(format!("message names no database and table, and {remedy}")));
        }
        match (rules, data) {
            (None, _) => Meaning::Nothing(Idle::NoRules),
            (Some(_), Shape::Absent | Shape::Null) => {
                whole((Some(Concerned::table(&database, &table)), Reason::Statement))
            }
            (Some(rules), Shape::Rows) => {
                let (new, old) = (scratch.data.len(), scratch.old.len());
                if op == Op::Update && envelope.old == Shape::Rows && new != old {
                    return Err(undecodable(format!("`data` has {new} rows and `old` has {old}")));
                }
                to_utc(decoder, scratch);
                Meaning::Rows { rules, op }
            }
        }
    } else {
        match &*kind {
            "XACOMMIT" => Meaning::XaCommit,
            "XAROLLBACK" => Meaning::Nothing(Idle::XaRollback),
            "TIDB_WATERMARK" | "FRESHLINE_POSITION" => Meaning::Nothing(Idle::Heartbeat),
            // Canal always says whether it is one. Who doesn't may mean a statement.
            "QUERY" if envelope.is_ddl == Some(false) => Meaning::Nothing(Idle::Comment),
            // What the reader of the binlog says of its own: a statement, and rows that can't be told apart.
            "FRESHLINE_STATEMENT" => whole(ddl::statement(ddl::Session::Of(&database), sql)),
            "FRESHLINE_FLUSH" => {
                let of = (!table.is_empty()).then(|| Concerned::table(&database, &table));
                whole((Some(of.unwrap_or(Concerned::Everything)), Reason::Definition))
            }
            "TRUNCATE" | "CREATE" | "ALTER" | "ERASE" | "DROP" | "RENAME" | "CINDEX" | "DINDEX" | "QUERY" => {
                whole(ddl::message(&kind, &database, &table, sql))
            }
            _ if envelope.is_ddl == Some(true) => whole(ddl::message(&kind, &database, &table, sql)),
            _ => {
                let kind: String = kind.chars().take(40).collect();
                return Err(undecodable(format!("message has the unknown `type` {kind:?}")));
            }
        }
    };
    Ok(Event {
        database,
        table,
        executed_ms: envelope.executed_ms,
        written_ms: envelope.written_ms,
        batch: envelope.batch,
        meaning,
    })
}

fn read<'a>(
    decoder: &Decoder,
    message: &'a [u8],
    scratch: &mut Scratch<'a>,
    exact: bool,
) -> Result<Envelope<'a>, Undecodable> {
    let first = message.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    let hint = match first {
        None => Some("message is empty"),
        Some(b'{') => None,
        Some(_) => Some(
            "message is not a JSON object, such as canal's protobuf packets are none; set canal.mq.flatMessage=true",
        ),
    };
    if let Some(hint) = hint {
        return Err(Undecodable { reason: hint.to_owned(), table: None });
    }
    let mut envelope = Envelope::default();
    match envelope.read(message, scratch, &decoder.columns, exact) {
        Ok(()) => Ok(envelope),
        Err(error) => {
            // What stands before the break is trusted only if it is all of the name.
            let (database, table) = (text(envelope.database.as_ref()), text(envelope.table.as_ref()));
            // What comes after a whole message may be of any table.
            let more = error.to_string().starts_with("trailing characters");
            let told = !database.is_empty() && !table.is_empty() && !more;
            let table = told.then(|| (database.to_owned(), table.to_owned()));
            Err(Undecodable { reason: format!("message is not valid json: {error}"), table })
        }
    }
}

/// Database and table of a message; those of its topic where it names no table itself, as Flink SQL writes it.
fn names<'s>(envelope: &'s Envelope<'_>, named: Option<(&'s str, &'s str)>) -> (&'s str, &'s str) {
    match (text(envelope.database.as_ref()), text(envelope.table.as_ref())) {
        ("", "") if envelope.sql.as_deref().is_none_or(str::is_empty) => named.unwrap_or_default(),
        ("", table) if !table.is_empty() => match named {
            Some((database, of)) if of.eq_ignore_ascii_case(table) => (database, table),
            _ => ("", table),
        },
        told => told,
    }
}

fn text<'s>(field: Option<&'s Cow<'_, str>>) -> &'s str {
    field.map_or("", |text| text)
}

/// Rewrites TIMESTAMP columns from the stream's zone.
fn to_utc(decoder: &Decoder, scratch: &mut Scratch<'_>) {
    if decoder.zone.is_utc() {
        return;
    }
    let Scratch { data, old, types, .. } = scratch;
    let is_timestamp =
        |text: &str| text.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("timestamp"));
    for (column, _) in types.iter().filter(|(_, text)| is_timestamp(text)) {
        data.rewrite(*column, |text| decoder.zone.to_utc(text));
        old.rewrite(*column, |text| decoder.zone.to_utc(text));
    }
}
