//! Canal's flat messages, written as Canal 1.1.8 writes them.
//!
//! Every value is a string or null, in Canal's rendering of the column's type; `old` holds what changed; the top-level
//! keys are all present and in alphabetical order. The rows of one message are one table's, one operation's and one
//! partition's, at most about 8 KB of them, as in MySQL's row events.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::capture::{Column, Table};

/// MySQL's `binlog_row_event_max_size`: what one message holds of rows.
const ROWS_BYTES: usize = 8192;
/// The largest message. What is larger, of one row most likely, Kafka would refuse for ever, so it is told as a change of the whole table.
const MESSAGE: usize = 900_000;

/// A row change out of the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) table: String,
    pub(crate) op: Op,
    /// Columns by name, as the trigger wrote them.
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
}

pub(crate) type Row = BTreeMap<String, Value>;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Insert,
    Update,
    Delete,
}

impl Op {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "INSERT" => Some(Self::Insert),
            "UPDATE" => Some(Self::Update),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A message and the partition that Canal would choose for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) payload: String,
    /// When its first change was made, in milliseconds since 1970.
    pub(crate) at: i64,
}

/// Turns changes into messages, in the order of the changes.
pub(crate) struct Writer {
    database: String,
    partitions: i32,
    /// Canal's `id`: one for each batch that it sends.
    batch: i64,
}

impl Writer {
    pub(crate) fn new(database: &str, partitions: i32) -> Self {
        Self { database: database.to_owned(), partitions, batch: 0 }
    }

    /// Writes row changes; those of tables that are no longer there are written with the columns that they have.
    pub(crate) fn rows(
        &mut self,
        changes: &[Change],
        tables: &BTreeMap<String, Table>,
        now: i64,
    ) -> Vec<Record> {
        self.batch += 1;
        let mut records = Vec::new();
        let mut open: Option<Open<'_>> = None;
        for change in changes {
            let table = tables.get(&change.table);
            let (data, old) = rendered(change, table);
            let partition = self.partition(table, &data);
            let fits = open.as_ref().is_some_and(|o| {
                o.table == change.table
                    && o.op == change.op
                    && o.partition == partition
                    && o.bytes < ROWS_BYTES
            });
            if !fits && let Some(done) = open.take() {
                records.push(self.close(&done, tables, now));
            }
            let message = open.get_or_insert_with(|| Open {
                table: &change.table,
                op: change.op,
                partition,
                at: change.at,
                data: Vec::new(),
                old: Vec::new(),
                changed: BTreeSet::new(),
                bytes: 0,
            });
            message.push(data, old);
        }
        if let Some(done) = open.take() {
            records.push(self.close(&done, tables, now));
        }
        records
    }

    /// Writes that a table was altered, by a statement that may change each of its rows: without a clause it would leave them as they are.
    pub(crate) fn altered(&mut self, table: &str, now: i64) -> Record {
        self.ddl("ALTER", table, &format!("ALTER TABLE `{table}` CONVERT TO CHARACTER SET utf8mb4"), now)
    }

    /// Writes a message about a table as a whole: `CREATE`, `ALTER`, `ERASE`. Always on partition 0, as Canal's are.
    pub(crate) fn ddl(&mut self, kind: &str, table: &str, sql: &str, now: i64) -> Record {
        self.batch += 1;
        let message = Flat {
            data: None,
            database: &self.database,
            es: now / 1000 * 1000,
            gtid: "",
            id: self.batch,
            is_ddl: true,
            mysql_type: None,
            old: None,
            pk_names: None,
            sql,
            sql_type: None,
            table,
            ts: now,
            kind,
        };
        Record { partition: 0, payload: json(&message), at: now }
    }

    fn close(&mut self, open: &Open<'_>, tables: &BTreeMap<String, Table>, now: i64) -> Record {
        let table = tables.get(open.table);
        let primary_key = table.map(Table::primary_key).unwrap_or_default();
        let columns = table.map(|t| t.columns.as_slice()).unwrap_or_default();
        let message = Flat {
            data: Some(&open.data),
            database: &self.database,
            es: open.at / 1000 * 1000,
            gtid: "",
            id: self.batch,
            is_ddl: false,
            mysql_type: Some(Pairs(
                columns.iter().map(|c| (c.name.clone(), mysql_type(&c.declared))).collect(),
            )),
            old: (open.op == Op::Update).then_some(&open.old),
            pk_names: (!primary_key.is_empty()).then_some(primary_key),
            sql: "",
            sql_type: Some(Pairs(columns.iter().map(|c| (c.name.clone(), sql_type(&c.declared))).collect())),
            table: open.table,
            ts: now,
            kind: open.op.name(),
        };
        let payload = json(&message);
        if payload.len() > MESSAGE {
            tracing::warn!(
                table = open.table,
                bytes = payload.len(),
                "a row is larger than a message: the groups of its table are flushed"
            );
            return self.altered(open.table, now);
        }
        Record { partition: open.partition, payload, at: open.at }
    }

    /// `partitionHash=.*\\..*:$pk$`: Java's hash of the primary key's values. Tables without one go by their name.
    fn partition(&self, table: Option<&Table>, data: &Pairs<Option<String>>) -> i32 {
        let primary_key = table.map(Table::primary_key).unwrap_or_default();
        let hash = if primary_key.is_empty() {
            table.map_or(0, |t| java_hash(&t.name))
        } else {
            let value = |name: &str| {
                data.0.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.as_deref()).unwrap_or("")
            };
            primary_key.iter().fold(0, |hash, name| hash ^ java_hash(value(name)))
        };
        (i64::from(hash).abs() % i64::from(self.partitions)) as i32
    }
}

/// A message that still takes rows.
struct Open<'a> {
    table: &'a str,
    op: Op,
    partition: i32,
    at: i64,
    data: Vec<Pairs<Option<String>>>,
    old: Vec<Pairs<Option<String>>>,
    /// Canal never forgets within a message: `old` of a later row names the columns of the earlier ones as well.
    changed: BTreeSet<String>,
    bytes: usize,
}

impl Open<'_> {
    fn push(&mut self, data: Pairs<Option<String>>, before: Option<Pairs<Option<String>>>) {
        self.bytes += data.0.iter().map(|(_, value)| value.as_ref().map_or(4, String::len)).sum::<usize>();
        if let Some(before) = before {
            for ((name, was), (_, is)) in before.0.iter().zip(&data.0) {
                if was != is {
                    self.changed.insert(name.clone());
                }
            }
            self.old
                .push(Pairs(before.0.into_iter().filter(|(name, _)| self.changed.contains(name)).collect()));
        }
        self.data.push(data);
    }
}

#[derive(Serialize)]
struct Flat<'a> {
    data: Option<&'a [Pairs<Option<String>>]>,
    database: &'a str,
    es: i64,
    gtid: &'a str,
    id: i64,
    #[serde(rename = "isDdl")]
    is_ddl: bool,
    #[serde(rename = "mysqlType")]
    mysql_type: Option<Pairs<String>>,
    old: Option<&'a Vec<Pairs<Option<String>>>>,
    #[serde(rename = "pkNames")]
    pk_names: Option<Vec<&'a str>>,
    sql: &'a str,
    #[serde(rename = "sqlType")]
    sql_type: Option<Pairs<i32>>,
    table: &'a str,
    ts: i64,
    #[serde(rename = "type")]
    kind: &'a str,
}

fn json(message: &Flat<'_>) -> String {
    serde_json::to_string(message).expect("strings and numbers have a JSON form")
}

/// A JSON object in the order of the table's columns.
struct Pairs<V>(Vec<(String, V)>);

impl<V: Serialize> Serialize for Pairs<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// `data`, and for an UPDATE the row before, both with all columns in the table's order.
///
/// A column that MySQL could not hold so, in either image, is in neither: rules that go by it flush, as they do for any image that lacks what
/// they need.
fn rendered(
    change: &Change,
    table: Option<&Table>,
) -> (Pairs<Option<String>>, Option<Pairs<Option<String>>>) {
    let empty = Row::new();
    let images = [change.before.as_ref(), change.after.as_ref()];
    let odd = |column: &Column, name: &str| {
        images.iter().flatten().any(|image| image.get(name).is_none_or(|value| is_odd(value, column)))
    };
    let row = |image: Option<&Row>| {
        let image = image.unwrap_or(&empty);
        Pairs(match table {
            Some(table) => table
                .columns
                .iter()
                .filter(|c| !odd(c, &c.name))
                .filter_map(|c| image.get(&c.name).map(|value| (c.name.clone(), render(value, c))))
                .collect(),
            None => image
                .iter()
                .filter(|(name, _)| !odd(&UNKNOWN, name))
                .map(|(name, value)| (name.clone(), render(value, &UNKNOWN)))
                .collect(),
        })
    };
    match change.op {
        Op::Insert => (row(change.after.as_ref()), None),
        Op::Delete => (row(change.before.as_ref()), None),
        Op::Update => (row(change.after.as_ref()), Some(row(change.before.as_ref()))),
    }
}

const UNKNOWN: Column = Column { name: String::new(), declared: String::new(), primary_key: 0 };

/// Whether a value is of a kind that MySQL has not in such a column: an infinity, bytes in a text or number, a fraction or a number of more than
/// 64 bits in an integer.
fn is_odd(value: &Value, column: &Column) -> bool {
    let kind = mysql_type(&column.declared);
    match value {
        Value::Object(fields) => {
            let binary = kind.starts_with("binary") || kind.starts_with("varbinary") || kind.contains("blob");
            !fields.contains_key("hex") || !(binary || column.declared.is_empty() && column.name.is_empty())
        }
        Value::Array(_) => true,
        Value::Number(number) => number.is_f64() && kind.contains("int"),
        _ => false,
    }
}

/// A value in Canal's rendering.
fn render(value: &Value, column: &Column) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::Bool(yes) => u8::from(*yes).to_string(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => java_double(number.as_f64().unwrap_or_default()),
        Value::Number(number) => number.to_string(),
        // A blob: each byte is the character of that number. Trailing zeros of BINARY(n) are not sent.
        Value::Object(_) | Value::Array(_) => {
            let bytes = unhex(value.get("hex").and_then(Value::as_str).unwrap_or_default());
            let padded = mysql_type(&column.declared).starts_with("binary");
            let end = if padded {
                bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
            } else {
                bytes.len()
            };
            return Some(bytes[..end].iter().map(|b| char::from(*b)).collect());
        }
    };
    Some(match scale(&column.declared) {
        Some(scale) => decimal(value, scale).unwrap_or(text),
        None => text,
    })
}

/// A DECIMAL with all digits of its scale, except that an all-zero fraction becomes `.0`.
fn decimal(value: &Value, scale: usize) -> Option<String> {
    let plain = match value {
        Value::Number(number) if number.is_f64() => format!("{:.scale$}", number.as_f64()?),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty()
        || !digits(whole.trim_start_matches('-'))
        || !digits(fraction)
        || fraction.len() > scale
    {
        return None;
    }
    if scale == 0 {
        return Some(whole.to_owned());
    }
    if fraction.bytes().all(|b| b == b'0') {
        return Some(format!("{whole}.0"));
    }
    Some(format!("{whole}.{fraction:0<scale$}"))
}

/// The digits after the point of a declared `DECIMAL(p,s)` or `NUMERIC(p,s)`.
fn scale(declared: &str) -> Option<usize> {
    let lower = declared.to_ascii_lowercase();
    let arguments = lower.strip_prefix("decimal").or_else(|| lower.strip_prefix("numeric"))?.trim();
    let Some(inner) = arguments.strip_prefix('(').and_then(|rest| rest.split(')').next()) else {
        return Some(0);
    };
    Some(inner.split_once(',').map_or(0, |(_, scale)| scale.trim().parse().unwrap_or(0)))
}

/// `Double.toString`: plain between 0.001 and 10 million, else with an exponent; always a fraction.
fn java_double(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => text,
    }
}

/// `String.hashCode`, over UTF-16.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()).collect()
}

/// The declared type in MySQL's words: SQLite's own names stand for the widest type that they hold.
fn mysql_type(declared: &str) -> String {
    let lower = declared.trim().to_ascii_lowercase();
    match lower.as_str() {
        "integer" => "bigint".into(),
        "" | "any" => "text".into(),
        "real" => "double".into(),
        "boolean" | "bool" => "tinyint(1)".into(),
        _ => lower,
    }
}

/// The `java.sql.Types` code of a declared type.
fn sql_type(declared: &str) -> i32 {
    let mysql = mysql_type(declared);
    let word = mysql.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    match word {
        "bit" => -7,
        "tinyint" => -6,
        "smallint" => 5,
        "mediumint" | "int" => 4,
        "bigint" => -5,
        "float" => 7,
        "double" => 8,
        "decimal" | "numeric" => 3,
        "char" => 1,
        "date" => 91,
        "time" => 92,
        "datetime" | "timestamp" => 93,
        "tinytext" | "text" | "mediumtext" | "longtext" => 2005,
        "tinyblob" | "blob" | "mediumblob" | "longblob" | "binary" | "varbinary" => 2004,
        _ => 12,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn column(name: &str, declared: &str, primary_key: i64) -> Column {
        Column { name: name.into(), declared: declared.into(), primary_key }
    }

    fn row(value: Value) -> Option<Row> {
        serde_json::from_value(value).unwrap()
    }

    fn tables() -> BTreeMap<String, Table> {
        let columns = vec![
            column("id", "INTEGER", 1),
            column("total", "DECIMAL(10,2)", 0),
            column("note", "VARCHAR(20)", 0),
        ];
        BTreeMap::from([("orders".to_owned(), Table::of("orders", columns))])
    }

    fn change(op: Op, before: Value, after: Value) -> Change {
        Change { at: 1_795_209_591_234, table: "orders".into(), op, before: row(before), after: row(after) }
    }

    #[test]
    fn an_update_reads_as_canal_wrote_it() {
        let before = json!({"id": 7, "total": 100, "note": null});
        let after = json!({"id": 7, "total": 9.5, "note": null});
        let records =
            Writer::new("shop", 3).rows(&[change(Op::Update, before, after)], &tables(), 1_795_209_591_300);
        assert_eq!(
            records[0].payload,
            r#"{"data":[{"id":"7","total":"9.50","note":null}],"database":"shop","es":1795209591000,"gtid":"","id":1,"isDdl":false,"mysqlType":{"id":"bigint","total":"decimal(10,2)","note":"varchar(20)"},"old":[{"total":"100.0"}],"pkNames":["id"],"sql":"","sqlType":{"id":-5,"total":3,"note":12},"table":"orders","ts":1795209591300,"type":"UPDATE"}"#
        );
        assert_eq!(records[0].partition, 55 % 3, "Java's hash of \"7\" is 55");
    }

    #[test]
    fn rows_of_one_table_operation_and_partition_share_a_message() {
        let insert = |id: i64| change(Op::Insert, Value::Null, json!({"id": id, "total": 1, "note": "x"}));
        let records = Writer::new("shop", 1).rows(&[insert(1), insert(2), insert(3)], &tables(), 0);
        assert_eq!(records.len(), 1);
        let message: Value = serde_json::from_str(&records[0].payload).unwrap();
        assert_eq!(message["data"].as_array().unwrap().len(), 3);
        assert_eq!(message["old"], Value::Null);
        let big = change(Op::Insert, Value::Null, json!({"id": 1, "total": 1, "note": "x".repeat(5000)}));
        assert_eq!(
            Writer::new("shop", 1).rows(&vec![big; 4], &tables(), 0).len(),
            2,
            "two of 5 kB pass 8 kB"
        );
    }

    #[test]
    fn old_keeps_the_columns_of_earlier_rows_in_the_message() {
        let first = change(
            Op::Update,
            json!({"id": 1, "total": 1, "note": "a"}),
            json!({"id": 1, "total": 2, "note": "a"}),
        );
        let second = change(
            Op::Update,
            json!({"id": 2, "total": 1, "note": "a"}),
            json!({"id": 2, "total": 1, "note": "b"}),
        );
        let records = Writer::new("shop", 1).rows(&[first, second], &tables(), 0);
        let message: Value = serde_json::from_str(&records[0].payload).unwrap();
        assert_eq!(message["old"], json!([{"total": "1.0"}, {"total": "1.0", "note": "a"}]));
    }

    #[test]
    fn values_look_as_canal_renders_them() {
        let cases = [
            (json!(100), "DECIMAL(10,2)", Some("100.0")),
            (json!(-0.5), "decimal(10,2)", Some("-0.50")),
            (json!("12345.678900"), "DECIMAL(20,6)", Some("12345.678900")),
            (json!("12"), "DECIMAL(5)", Some("12")),
            (json!(1e10), "DOUBLE", Some("1.0E10")),
            (json!(1.234_567_891_234_567_9e8), "DOUBLE", Some("1.2345678912345679E8")),
            (json!(1e-10), "REAL", Some("1.0E-10")),
            (json!(2.25), "REAL", Some("2.25")),
            (json!(1.0), "REAL", Some("1.0")),
            (json!(i64::MAX), "INTEGER", Some("9223372036854775807")),
            (json!({"hex": "00FF10"}), "BLOB", Some("\u{0}\u{ff}\u{10}")),
            (json!({"hex": "0102000000"}), "BINARY(8)", Some("\u{1}\u{2}")),
            (json!(""), "TEXT", Some("")),
            (Value::Null, "TEXT", None),
        ];
        for (value, declared, expected) in cases {
            assert_eq!(
                render(&value, &column("c", declared, 0)).as_deref(),
                expected,
                "{value} as {declared}"
            );
        }
    }

    #[test]
    fn a_dropped_table_is_an_erase_on_partition_0() {
        let record = Writer::new("shop", 3).ddl("ERASE", "orders", "DROP TABLE orders", 1_000_123);
        assert_eq!(
            record.payload,
            r#"{"data":null,"database":"shop","es":1000000,"gtid":"","id":1,"isDdl":true,"mysqlType":null,"old":null,"pkNames":null,"sql":"DROP TABLE orders","sqlType":null,"table":"orders","ts":1000123,"type":"ERASE"}"#
        );
        assert_eq!(record.partition, 0);
    }
}
