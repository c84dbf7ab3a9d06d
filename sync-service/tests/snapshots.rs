//! Tables that are read from their beginning on: what was deleted unseen never comes, so the first row flushes.

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

fn envelope(op: &str, snapshot: &Value, id: u64) -> Value {
    json!({ "op": op, "before": null, "after": { "id": id, "name": "n" }, "ts_ms": 1,
        "source": { "db": "shop", "table": "users", "snapshot": snapshot } })
}

/// What two rows, one after the other, flush and remove.
fn two(format: KafkaFormat, messages: [Value; 2]) -> (String, String) {
    let mut stream = Stream::new(CATALOG, format);
    let [first, second] = messages.map(|message| stream.said(&message));
    (first, second)
}

#[test]
fn rows_that_a_source_marks_as_a_snapshots_are_one_whatever_their_op_is() {
    for (op, snapshot) in [
        ("r", json!("true")),
        ("r", json!("last")),
        ("r", json!("first_in_data_collection")),
        ("r", json!("false")),
        ("r", Value::Null),
        // Before 2.0.
        ("c", json!("true")),
        ("c", json!(true)),
        ("c", json!("last")),
        ("c", json!("first")),
        ("c", json!("last_in_data_collection")),
    ] {
        let rows = [envelope(op, &snapshot, 1), envelope(op, &snapshot, 2)];
        let expected = ("flush users (snapshot)".to_owned(), "u:2".to_owned());
        assert_eq!(two(KafkaFormat::Debezium, rows), expected, "{op} {snapshot}");
    }
    for (op, snapshot) in [
        ("c", json!("false")),
        ("c", json!(false)),
        ("c", Value::Null),
        ("c", json!("incremental")),
        ("r", json!("incremental")),
    ] {
        let rows = [envelope(op, &snapshot, 1), envelope(op, &snapshot, 2)];
        assert_eq!(two(KafkaFormat::Debezium, rows), ("u:1".to_owned(), "u:2".to_owned()), "{op} {snapshot}");
    }
}

#[test]
fn unwrapped_rows_and_maxwells_bootstrap_are_snapshots_too() {
    let row = |id: u64| json!({ "id": id, "name": "n", "__op": "c", "__db": "shop", "__table": "users", "__source_snapshot": "true" });
    let expected = ("flush users (snapshot)".to_owned(), "u:2".to_owned());
    assert_eq!(two(KafkaFormat::DebeziumUnwrapped, [row(1), row(2)]), expected);
    let maxwell = |kind: &str| json!({ "type": kind, "database": "shop", "table": "users", "ts": 1, "data": { "id": 2 } });
    assert_eq!(
        two(KafkaFormat::Maxwell, [maxwell("bootstrap-start"), maxwell("bootstrap-insert")]),
        expected
    );
}
