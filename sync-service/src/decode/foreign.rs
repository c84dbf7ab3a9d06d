//! Messages of another program than the configuration names: which it probably is, and what to do.
//!
//! Programs are told by the fields at the top, the most particular first. Asked only of messages that can't be decoded.

use std::collections::BTreeMap;

use daemon::config::KafkaFormat;
use serde_json::value::RawValue;

use super::{Undecodable, json};

/// A program, and the format of its messages if there is one.
struct Program {
    name: &'static str,
    format: Option<KafkaFormat>,
    /// What to do where there is none.
    remedy: &'static str,
}

const READ_BY_NONE: &str = "no format reads it: let Canal, Debezium or Maxwell write the topic, or follow MySQL itself by [source.binlog]";

/// Adds to an error which program's message this looks like, if it is another one than the format's.
pub(super) fn explain(
    error: Undecodable,
    format: Option<KafkaFormat>,
    payload: Option<&[u8]>,
) -> Undecodable {
    let fields = payload.and_then(|payload| serde_json::from_slice(payload).ok());
    let (Some(fields), Some(format)) = (fields, format) else { return error };
    let fields: BTreeMap<String, &RawValue> = fields;
    let Some(Program { name, format: theirs, remedy }) = program(&fields) else {
        // A row alone has no marks.
        let envelope = ["before", "after", "source", "op", "type", "payload"];
        if format == KafkaFormat::Debezium && !envelope.iter().any(|name| fields.contains_key(*name)) {
            let hint =
                "if ExtractNewRecordState unwraps it, set source.kafka.format = \"debezium_unwrapped\"";
            return Undecodable { reason: format!("{}; {hint}", error.reason), ..error };
        }
        return error;
    };
    let remedy = match theirs {
        Some(theirs) if theirs == format => return error,
        Some(theirs) => format!("set source.kafka.format = \"{}\" for its topic", theirs.name()),
        None => remedy.to_owned(),
    };
    let format = format.name();
    let reason = error.reason;
    Undecodable {
        reason: format!(
            "{reason}; this looks like a message of {name}, and source.kafka.format is {format}: {remedy}"
        ),
        ..error
    }
}

fn program(fields: &BTreeMap<String, &RawValue>) -> Option<Program> {
    let has = |name: &str| fields.contains_key(name);
    let all = |names: &[&str]| names.iter().all(|name| has(name));
    let field = |name: &str| fields.get(name).copied();
    let text = |name: &str| json::text(field(name)).unwrap_or_default();
    let inside = |name: &str, part: &str| field(name).is_some_and(|raw| raw.get().contains(part));
    let unread = |name: &'static str, remedy: &'static str| Some(Program { name, format: None, remedy });
    let read =
        |name: &'static str, format: KafkaFormat| Some(Program { name, format: Some(format), remedy: "" });

    if has("specversion") && (has("data") || has("data_base64")) {
        return unread(
            "CloudEvents",
            "no format reads it: in Debezium set value.converter=org.apache.kafka.connect.json.JsonConverter instead of CloudEventsConverter",
        );
    }
    if has("op_type") && ["op_ts", "current_ts", "pos"].iter().any(|name| has(name)) {
        return unread("Oracle GoldenGate", READ_BY_NONE);
    }
    if inside("metadata", "\"record-type\"") {
        return unread("AWS DMS", READ_BY_NONE);
    }
    if text("magic") == "atMSG" || inside("message", "\"beforeData\"") {
        return unread("Qlik Replicate", READ_BY_NONE);
    }
    if all(&["source_metadata", "payload"]) {
        return unread("Google Datastream", READ_BY_NONE);
    }
    if has("record") && text("type") == "RECORD" {
        return unread("Airbyte", READ_BY_NONE);
    }
    if inside("schema", "\"dataColumn\"") || inside("payload", "\"dataColumn\"") {
        return read("Alibaba Cloud DataWorks", KafkaFormat::Aliyun);
    }
    let added = ["__op", "__deleted", "__table", "__db", "__source_ts_ms"];
    if added.iter().any(|name| has(name) || inside("payload", &format!("\"{name}\""))) {
        return read("Debezium with ExtractNewRecordState", KafkaFormat::DebeziumUnwrapped);
    }
    let row = |inside: &dyn Fn(&str) -> bool| {
        inside("op") && (inside("before") || inside("after")) || inside("ddl") && inside("databaseName")
    };
    if row(&|name| has(name)) || row(&|name| inside("payload", &format!("\"{name}\""))) {
        return read("Debezium", KafkaFormat::Debezium);
    }
    let kind = text("type");
    let letters = kind.bytes().filter(u8::is_ascii_alphabetic);
    let (upper, lower) = letters.fold((0, 0), |(upper, lower), letter| {
        if letter.is_ascii_uppercase() { (upper + 1, lower) } else { (upper, lower + 1) }
    });
    if has("isDdl") || (upper > 0 && lower == 0 && (has("data") || has("mysqlType"))) {
        return read("Canal", KafkaFormat::Canal);
    }
    let of_maxwell = ["ts", "xid", "data", "def"].iter().any(|name| has(name));
    if lower > 0 && upper == 0 && !kind.contains('.') && all(&["database", "table"]) && of_maxwell {
        return read("Maxwell", KafkaFormat::Maxwell);
    }
    None
}
