//! Values that can be read in more than one way: each is the right key, with others beside it perhaps, or flushes.

mod common_replay;

use common_replay::Stream;
use daemon::config::KafkaFormat;
use serde_json::{Value, json};

/// What an insert with this value in the column of a key of type `param` removes or flushes.
fn said(format: KafkaFormat, param: &str, message: &Value) -> String {
    let catalog = format!(
        "[[group]]\nname = \"g\"\nkey = \"g:{{k:{param}}}\"\nttl = \"10m\"\n\n[[rule]]\ntable = \"shop.t\"\nkeys = [\"g:{{k}}\"]\n"
    );
    Stream::new(&catalog, format).said(message)
}

/// As Flink CDC writes `canal-json`: native values, no types.
fn flink(param: &str, value: &Value) -> String {
    let message = json!({ "old": null, "data": [{ "k": value }], "type": "INSERT", "database": "shop", "table": "t", "pkNames": ["id"] });
    said(KafkaFormat::Canal, param, &message)
}

fn canal(param: &str, mysql_type: &str, value: &str) -> String {
    let message = json!({ "data": [{ "k": value }], "old": null, "type": "INSERT", "isDdl": false, "database": "shop", "table": "t", "mysqlType": { "k": mysql_type } });
    said(KafkaFormat::Canal, param, &message)
}

/// With a schema, whose field is that of the column.
fn typed(param: &str, field: &Value, value: &Value) -> String {
    let mut field = field.clone();
    field["field"] = "k".into();
    let schema =
        json!({ "type": "struct", "fields": [{ "type": "struct", "field": "after", "fields": [field] }] });
    said(KafkaFormat::Debezium, param, &json!({ "schema": schema, "payload": envelope(value) }))
}

fn untyped(param: &str, value: &Value) -> String {
    said(KafkaFormat::Debezium, param, &envelope(value))
}

fn envelope(value: &Value) -> Value {
    json!({ "before": null, "after": { "k": value }, "op": "c", "source": { "db": "shop", "table": "t", "snapshot": "false" } })
}

fn maxwell(param: &str, value: &Value) -> String {
    let message =
        json!({ "database": "shop", "table": "t", "type": "insert", "ts": 1, "data": { "k": value } });
    said(KafkaFormat::Maxwell, param, &message)
}

const FLUSH: &str = "flush g (bad_value)";

#[test]
fn true_may_stand_for_any_number() {
    let boolean = json!({ "type": "boolean" });
    let all = |param: &str, value: &Value| {
        [flink(param, value), typed(param, &boolean, value), untyped(param, value), maxwell(param, value)]
    };
    for param in ["u64", "i64", "decimal", "str", "hex"] {
        assert_eq!(all(param, &json!(true)), [FLUSH; 4], "{param}");
    }
    assert_eq!(all("u64", &json!(false)), ["g:0"; 4]);
    assert_eq!(all("decimal", &json!(false)), ["g:0"; 4]);
    // No key has 2.
    assert_eq!(all("bool", &json!(true)), ["g:true"; 4]);
    assert_eq!(all("bool", &json!(false)), ["g:false"; 4]);
}

#[test]
fn a_change_that_hides_behind_true_counts() {
    let catalog = "[[group]]\nname = \"g\"\nkey = \"g:{id:u64}\"\nttl = \"10m\"\n\n[[rule]]\ntable = \"shop.t\"\nkeys = [\"g:{id}\"]\nwhen_changed = [\"k\"]\n";
    let update = |before: &Value, after: &Value| {
        let row = |value: &Value| json!({ "id": 7, "k": value });
        let message = json!({ "before": row(before), "after": row(after), "op": "u", "source": { "db": "shop", "table": "t" } });
        Stream::new(catalog, KafkaFormat::Debezium).said(&message)
    };
    assert_eq!(update(&json!(true), &json!(true)), "g:7");
    assert_eq!(update(&json!(false), &json!(false)), "");
    assert_eq!(update(&json!("caf\u{fffd}"), &json!("caf\u{fffd}")), "g:7");
    assert_eq!(update(&json!("cafe"), &json!("cafe")), "");
    assert_eq!(update(&Value::Null, &json!("")), "g:7");
}

#[test]
fn bytes_in_strings_are_all_that_they_may_be() {
    let string = json!({ "type": "string" });
    // `binary.handling.mode`: base64, hex, base64-url-safe; and a text that looks like it.
    assert_eq!(typed("str", &string, &json!("YWJj")), "g:YWJj g:abc");
    assert_eq!(typed("str", &string, &json!("616263")), "g:616263 g:abc");
    assert_eq!(typed("str", &string, &json!("Pj4-")), "g:Pj4- g:>>>");
    assert_eq!(typed("str", &string, &json!("ann@example.com")), "g:ann@example.com");
    assert_eq!(typed("hex", &string, &json!("deadbeef")), "g:75e69d6de79f g:deadbeef");
    assert_eq!(typed("hex", &json!({ "type": "bytes" }), &json!("deadbeef")), "g:75e69d6de79f");
    assert_eq!(untyped("str", &json!("YWJj")), "g:YWJj g:abc");
    assert_eq!(flink("str", &json!("YWJj")), "g:YWJj g:abc");
    assert_eq!(flink("hex", &json!("AAECAw==")), "g:00010203");
    let plain = "g:0188c9ce-1b6e-7c3a-9d2f-0123456789ab";
    for text in [
        "0188c9ce-1b6e-7c3a-9d2f-0123456789ab",
        "0188c9ce1b6e7c3a9d2f0123456789ab",
        "AYjJzhtufDqdLwEjRWeJqw==",
    ] {
        assert_eq!(typed("uuid", &string, &json!(text)), plain, "{text}");
    }
}

#[test]
fn what_maxwell_leaves_out_flushes_or_is_known() {
    // BINARY(16) that ends in zeros.
    assert_eq!(maxwell("uuid", &json!("AQI=")), "g:01020000-0000-0000-0000-000000000000");
    assert_eq!(maxwell("hex", &json!("AQI=")), FLUSH);
    assert_eq!(maxwell("str", &json!("YWJj")), FLUSH);
    assert_eq!(maxwell("str", &json!("ann@example.com")), "g:ann@example.com");
    // A day and an hour.
    assert_eq!(maxwell("time", &json!("01:00:00")), FLUSH);
    assert_eq!(maxwell("datetime", &json!("1970-01-01 00:00:00")), "g:19700101T000000");
}

#[test]
fn dates_with_zeros_are_null_or_the_first_of_1970() {
    let date = json!({ "type": "int32", "name": "io.debezium.time.Date" });
    let moment = json!({ "type": "int64", "name": "io.debezium.time.MicroTimestamp" });
    let iso = json!({ "type": "string", "name": "io.debezium.time.ZonedTimestamp" });
    assert_eq!(typed("date", &date, &Value::Null), FLUSH);
    assert_eq!(typed("date", &date, &json!(0)), FLUSH);
    assert_eq!(typed("date", &date, &json!(1)), "g:1970-01-02");
    assert_eq!(typed("datetime", &moment, &json!(0)), FLUSH);
    assert_eq!(typed("datetime", &iso, &json!("1970-01-01T00:00:00Z")), FLUSH);
    assert_eq!(typed("datetime", &iso, &json!("2026-11-20T00:00:00Z")), "g:20261120T000000");
    for said in [
        untyped("date", &Value::Null),
        maxwell("datetime", &Value::Null),
        flink("date", &Value::Null),
        untyped("date", &json!("1970-01-01")),
    ] {
        assert_eq!(said, FLUSH);
    }
    // Canal tells null from zeros; and where no zeros can be, null is in no key.
    let null = json!({ "data": [{ "k": null }], "old": null, "type": "INSERT", "database": "shop", "table": "t", "mysqlType": { "k": "date" } });
    assert_eq!(said(KafkaFormat::Canal, "date", &null), "");
    assert_eq!(canal("date", "date", "0000-00-00"), "g:0000-00-00");
    assert_eq!(canal("date", "date", "1970-01-01"), "g:1970-01-01");
    assert_eq!(typed("u64", &json!({ "type": "int32" }), &Value::Null), "");
    assert_eq!(maxwell("str", &Value::Null), "");
}

#[test]
fn a_sign_in_the_place_of_lost_characters_is_no_key_part() {
    let lost = json!("caf\u{fffd}");
    let unreadable = "flush g (unreadable)";
    assert_eq!(canal("str", "varchar(20)", "\u{fffd}"), unreadable);
    assert_eq!(canal("str|lower", "text", "caf\u{fffd}"), unreadable);
    assert_eq!(flink("str", &lost), unreadable);
    assert_eq!(typed("str", &json!({ "type": "string" }), &lost), unreadable);
    assert_eq!(untyped("str", &lost), unreadable);
    assert_eq!(maxwell("str", &lost), unreadable);
    let unwrapped = json!({ "k": lost, "__op": "c", "__db": "shop", "__table": "t" });
    assert_eq!(said(KafkaFormat::DebeziumUnwrapped, "str", &unwrapped), unreadable);
    let aliyun = json!({ "schema": { "source": { "dbName": "shop", "tableName": "t" } },
        "payload": { "op": "INSERT", "after": { "dataColumn": { "k": lost } } } });
    assert_eq!(said(KafkaFormat::Aliyun, "str", &aliyun), unreadable);
}

#[test]
fn a_row_of_too_many_readings_flushes() {
    let catalog = "[[group]]\nname = \"g\"\nkey = \"g:{a:str}:{b:str}:{c:str}:{d:str}:{e:str}\"\nttl = \"10m\"\n\n[[rule]]\ntable = \"shop.t\"\nkeys = [\"g:{a}:{b}:{c}:{d}:{e}\"]\n";
    let row = |value: &str| {
        let message = json!({ "data": [{ "a": value, "b": value, "c": "x", "d": value, "e": value }], "type": "INSERT", "database": "shop", "table": "t" });
        Stream::new(catalog, KafkaFormat::Canal).said(&message)
    };
    let several = row("YWJj");
    assert_eq!(several.split(' ').count(), 16, "{several}");
    assert!(several.contains("g:YWJj:abc:x:abc:YWJj"), "{several}");
    let message = json!({ "data": [{ "a": "YWJj", "b": "YWJj", "c": "YWJj", "d": "YWJj", "e": "YWJj" }], "type": "INSERT", "database": "shop", "table": "t" });
    assert_eq!(Stream::new(catalog, KafkaFormat::Canal).said(&message), FLUSH);
}
