//! Messages of another program than `source.kafka.format` says: the dead letter names the right one, and what helps.

mod common_replay;

use common_replay::Stream;
use daemon::config::KafkaFormat;
use serde_json::{Value, json};

const CATALOG: &str = r#"
[[group]]
name = "users"
key = "u:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"
"#;

const FORMATS: [KafkaFormat; 5] = [
    KafkaFormat::Canal,
    KafkaFormat::Debezium,
    KafkaFormat::DebeziumUnwrapped,
    KafkaFormat::Maxwell,
    KafkaFormat::Aliyun,
];

/// Program, its format if it has one, and a message of it.
fn messages() -> Vec<(&'static str, Option<KafkaFormat>, Value)> {
    let row = json!({ "id": 1, "name": "n" });
    let source = json!({ "db": "shop", "table": "users", "snapshot": "false", "ts_ms": 1 });
    let envelope = json!({ "before": null, "after": row, "source": source, "op": "c", "ts_ms": 1 });
    let schema = json!({ "type": "struct", "fields": [] });
    vec![
        (
            "Canal",
            Some(KafkaFormat::Canal),
            json!({ "data": [{ "id": "1" }], "database": "shop", "es": 1, "id": 1, "isDdl": false, "mysqlType": { "id": "int" }, "old": null,
                "table": "users", "ts": 1, "type": "INSERT" }),
        ),
        ("Debezium", Some(KafkaFormat::Debezium), envelope.clone()),
        ("Debezium", Some(KafkaFormat::Debezium), json!({ "schema": schema, "payload": envelope })),
        (
            "Debezium with ExtractNewRecordState",
            Some(KafkaFormat::DebeziumUnwrapped),
            json!({ "id": 1, "name": "n", "__op": "c", "__db": "shop", "__table": "users" }),
        ),
        (
            "Maxwell",
            Some(KafkaFormat::Maxwell),
            json!({ "database": "shop", "table": "users", "type": "insert", "ts": 1, "xid": 2, "commit": true, "data": row }),
        ),
        (
            "Alibaba Cloud DataWorks",
            Some(KafkaFormat::Aliyun),
            json!({ "schema": { "dataColumn": [], "source": { "dbName": "shop", "tableName": "users" } },
                "payload": { "op": "INSERT", "after": { "dataColumn": { "id": 1 } } }, "version": "1.0.0" }),
        ),
        (
            "Oracle GoldenGate",
            None,
            json!({ "table": "SHOP.USERS", "op_type": "U", "op_ts": "2026-11-30 10:00:00.000000", "current_ts": "2026-11-30T10:00:01.000",
                "pos": "00000000000000002928", "before": row, "after": row }),
        ),
        (
            "CloudEvents",
            None,
            json!({ "id": "name:shop;lsn:1", "source": "/debezium/mysql/shop", "specversion": "1.0", "type": "io.debezium.connector.mysql.DataChangeEvent",
                "time": "2026-11-30T10:00:00Z", "datacontenttype": "application/json", "iodebeziumop": "c",
                "data": { "schema": schema, "payload": { "before": null, "after": row } } }),
        ),
        (
            "AWS DMS",
            None,
            json!({ "data": row, "metadata": { "timestamp": "2026-11-30T10:00:00Z", "record-type": "data", "operation": "update", "schema-name": "shop", "table-name": "users" } }),
        ),
    ]
}

#[test]
fn a_message_of_another_program_names_it_and_what_helps() {
    for (name, format, message) in messages() {
        for configured in FORMATS {
            let said = Stream::new(CATALOG, configured).said(&message);
            if format == Some(configured) {
                assert!(!said.contains("looks like"), "{name}: {said}");
                continue;
            }
            let told =
                format!("looks like a message of {name}, and source.kafka.format is {}: ", configured.name());
            assert!(said.contains(&told), "{name} as {}: {said}", configured.name());
            let remedy = match format {
                Some(format) => format!("set source.kafka.format = \"{}\"", format.name()),
                None => "no format reads it".to_owned(),
            };
            assert!(said.contains(&remedy), "{name}: {said}");
        }
    }
}

#[test]
fn a_setting_is_advised_only_where_it_helps() {
    let rows = json!({ "data": [{ "id": "1" }], "type": "INSERT" });
    let said = Stream::new(CATALOG, KafkaFormat::Canal).said(&rows);
    assert!(said.contains("source.kafka.tables") && !said.contains("looks like"), "{said}");
    let statement =
        json!({ "data": null, "database": "", "table": "", "type": "UPDATE", "isDdl": false, "sql": "" });
    let said = Stream::new(CATALOG, KafkaFormat::Canal).said(&statement);
    assert!(said.contains("binlog_format=ROW") && !said.contains("source.kafka.tables"), "{said}");
    // Nobody needs to be told of a statement that can be read.
    let several = json!({ "data": null, "database": "", "table": "", "type": "UPDATE", "isDdl": false, "sql": "UPDATE users u, b SET u.name = 1" });
    assert_eq!(Stream::new(CATALOG, KafkaFormat::Canal).said(&several), "flush users (statement)");
    let flink = json!({ "before": null, "after": { "id": 1 }, "op": "c" });
    let said = Stream::new(CATALOG, KafkaFormat::Debezium).said(&flink);
    assert!(said.contains("canal-json"), "{said}");
}
