//! Every public sample message and what it says, beside it in a file that a person can read: `tests/samples/*.changes`.
//!
//! `FRESHLINE_SNAPSHOTS=write` writes the files anew; read the difference before it is committed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use catalog::{Catalog, Column, JsonForm, Op, RowImage};
use daemon::config::{KafkaFormat, KafkaFormats, KafkaSource};
use serde_json::Value;
use sync_service::decode::{Decoder, Image, Meaning, Reason, Scratch, Topics, Zone};
use sync_service::offsets::Partition;
use sync_service::source::{Headers, Message};

/// File, format, and the table whose rows its messages carry where they don't say.
const SAMPLES: [(&str, KafkaFormat, Option<&str>); 16] = [
    ("mysql-9.7.4-all-types", KafkaFormat::Canal, None),
    ("mysql-9.7.4-gtid-tzShanghai", KafkaFormat::Canal, None),
    ("mysql-9.7.4-gtid-with-3way-partition-split", KafkaFormat::Canal, None),
    ("mysql-9.7.4-partial-json-invisible-metadata-full", KafkaFormat::Canal, None),
    ("mariadb-10.11", KafkaFormat::Canal, None),
    ("flink-canal", KafkaFormat::Canal, None),
    ("paimon-canal", KafkaFormat::Canal, Some("test.sink")),
    ("ticdc-canal", KafkaFormat::Canal, None),
    ("paimon-debezium", KafkaFormat::Debezium, None),
    ("debezium-serde", KafkaFormat::Debezium, None),
    ("debezium-docs", KafkaFormat::Debezium, None),
    ("debezium-records", KafkaFormat::Debezium, None),
    ("debezium-unwrapped", KafkaFormat::DebeziumUnwrapped, Some("inventory.customers")),
    ("paimon-maxwell", KafkaFormat::Maxwell, None),
    ("maxwell", KafkaFormat::Maxwell, None),
    ("paimon-aliyun", KafkaFormat::Aliyun, None),
];

/// A record of a file: a value alone, or an object of `topic`, `key`, `headers` and `value`.
struct Record {
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, String)>,
}

fn record(line: &str) -> Record {
    let parsed: Option<Value> = serde_json::from_str(line).ok();
    match parsed {
        Some(Value::Object(fields)) if fields.contains_key("record") => {
            let fields = &fields["record"];
            let part = |name: &str| fields.get(name).filter(|part| !part.is_null()).map(ToString::to_string);
            let headers = fields["headers"].as_object().into_iter().flatten();
            Record {
                key: part("key"),
                value: part("value"),
                headers: headers
                    .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                    .collect(),
            }
        }
        _ => Record { key: None, value: Some(line.to_owned()), headers: Vec::new() },
    }
}

/// All names of fields in all messages: columns are among them.
fn names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
                    names.insert(name.to_lowercase());
                }
                if name == "field" {
                    names.extend(value.as_str().map(str::to_lowercase));
                }
                self::names(value, names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| self::names(value, names)),
        _ => {}
    }
}

/// A catalog with a rule for any table that looks at all of these columns.
fn catalog(columns: &BTreeSet<String>) -> Arc<Catalog> {
    let columns: Vec<String> = columns.iter().map(|name| format!("{name:?}")).collect();
    let text = format!(
        "[[group]]\nname = \"any\"\nkey = \"any:{{id:u64}}\"\nttl = \"10m\"\n\n\
         [[rule]]\ntable = \"*.*\"\ngroups = [\"any\"]\nwhen_changed = [{}]\n",
        columns.join(", ")
    );
    match Catalog::parse("freshline.toml", &text) {
        Ok(catalog) => Arc::new(catalog),
        Err(report) => panic!("{:?}", report.problems),
    }
}

fn told(image: &Image<'_, '_>, columns: &BTreeSet<String>) -> String {
    let mut text = String::from("{");
    for name in columns {
        let value = match image.column(name) {
            Column::Missing => continue,
            Column::Null | Column::Json { form: JsonForm::Null, .. } => "null".to_owned(),
            Column::Text { text, .. }
            | Column::Json { text, form: JsonForm::String | JsonForm::Exact | JsonForm::Stripped } => {
                format!("{text:?}")
            }
            Column::Bytes(bytes) => {
                bytes.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
            }
            Column::Json { text, form: JsonForm::Number } => text.to_owned(),
            Column::Json { text, form: JsonForm::Boolean } => format!("{text} (or true)"),
            Column::Json { text, form: JsonForm::Java } => format!("{text} (java)"),
            Column::Json { text, form: JsonForm::Packed } => format!("{text:?} (or packed)"),
        };
        let comma = if text.len() > 1 { ", " } else { "" };
        let _ = write!(text, "{comma}{name}: {value}");
    }
    text + "}"
}

fn changes(file: &str, format: KafkaFormat, table: Option<&str>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(format!("{file}.jsonl"));
    let text = std::fs::read_to_string(&path).expect("a sample file");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut columns = BTreeSet::new();
    for line in &lines {
        if let Ok(value) = serde_json::from_str::<Value>(line) {
            names(&value, &mut columns);
        }
    }
    let source = KafkaSource {
        format: KafkaFormats::One(format),
        tables: table.map(|table| ("sample".to_owned(), table.to_owned())).into_iter().collect(),
        ..KafkaSource::default()
    };
    let topics = Topics::new(&source).expect("plain names");
    let mut decoder = Decoder::new(catalog(&columns), Zone::default()).with_topics(topics);
    let partition = Partition::new("sample", 0);
    let mut snapshot = String::new();
    for (number, line) in lines.iter().enumerate() {
        let record = record(line);
        let header =
            |name: &str| record.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str());
        let message = Message {
            partition: &partition,
            offset: 0,
            timestamp_ms: None,
            key: record.key.as_deref().map(str::as_bytes),
            payload: record.value.as_deref().map(str::as_bytes),
            headers: Headers {
                database: header("__db"),
                table: header("__table"),
                op: header("__op"),
                deleted: header("__deleted"),
                snapshot: header("__source_snapshot"),
            },
        };
        let mut scratch = Scratch::default();
        let mut said = Vec::new();
        let mut outcome = decoder.decode(&message, &mut scratch);
        if let Ok(event) = &outcome
            && let Meaning::Whole { reason: Reason::Snapshot, .. } = &event.meaning
            && format != KafkaFormat::Maxwell
        {
            // Only the first row of a table flushes; the next one would be taken as it is.
            said.push(format!("flush {}.{} (snapshot), and once it is", event.database, event.table));
            outcome = decoder.decode(&message, &mut scratch);
        }
        match outcome {
            Err(error) => said.push(format!("dead letter: {error}")),
            Ok(event) => match event.meaning {
                Meaning::Rows { op, .. } => {
                    for row in 0..scratch.data.len() {
                        let image = told(&scratch.image(row, decoder.columns()), &columns);
                        let of = format!("{}.{}", event.database, event.table);
                        said.push(match op {
                            Op::Insert => format!("insert {of} {image}"),
                            Op::Delete => format!("delete {of} {image}"),
                            Op::Update => {
                                let before = scratch.before(row, decoder.columns());
                                let before =
                                    before.map_or("unknown".to_owned(), |before| told(&before, &columns));
                                format!("update {of} {before} -> {image}")
                            }
                        });
                    }
                }
                Meaning::Whole { concerned, reason } => {
                    said.push(format!("flush {concerned} ({})", reason.label()));
                }
                Meaning::XaCommit => said.push("flush everything (xa_commit)".to_owned()),
                Meaning::Beat => said.push("heartbeat row".to_owned()),
                Meaning::Nothing(idle) => said.push(format!("nothing ({})", idle.label())),
            },
        }
        for said in said {
            let _ = writeln!(snapshot, "{}: {said}", number + 1);
        }
    }
    snapshot
}

#[test]
fn every_sample_says_what_is_written_beside_it() {
    let mut wrong = Vec::new();
    for (file, format, table) in SAMPLES {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(format!("{file}.changes"));
        let found = changes(file, format, table);
        if std::env::var_os("FRESHLINE_SNAPSHOTS").is_some_and(|mode| mode == "write") {
            std::fs::write(&path, &found).expect("a file can be written");
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in found.lines().enumerate() {
            if expected.lines().nth(number) != Some(line) {
                wrong.push(format!("{file}.changes, line {}: now {line}", number + 1));
            }
        }
        if expected.lines().count() != found.lines().count() {
            wrong.push(format!(
                "{file}.changes has {} lines, now {}",
                expected.lines().count(),
                found.lines().count()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
