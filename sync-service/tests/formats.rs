//! One row, written as each program writes it: all of them remove the same keys, those that a node fills under.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use catalog::{Catalog, Effect, Op, RowImage};
use daemon::config::{KafkaFormat, KafkaFormats, KafkaSource};
use proptest::prelude::*;
use serde_json::{Value, json};
use sync_service::decode::{Decoder, Meaning, Scratch, Topics, Zone};
use sync_service::offsets::Partition;
use sync_service::source::{Headers, Message};

/// A value of one column type, in every form that it travels in.
#[derive(Clone, Debug)]
struct Form {
    param: &'static str,
    mysql_type: &'static str,
    /// The key's part.
    part: String,
    canal: String,
    /// Connect's type of the column, and the value under it.
    schema: Value,
    typed: Value,
    /// As Debezium writes it without a schema; `None` where nobody could tell what it is.
    untyped: Option<Value>,
    maxwell: Value,
}

/// Removed keys, and whether a group was flushed.
fn outcome(format: KafkaFormat, param: &str, value: &Value) -> (BTreeSet<String>, bool) {
    let text = format!(
        "[[group]]\nname = \"g\"\nkey = \"g:{{k:{param}}}\"\nttl = \"10m\"\n\n[[rule]]\ntable = \"shop.t\"\nkeys = [\"g:{{k}}\"]\n"
    );
    let catalog = match Catalog::parse("freshline.toml", &text) {
        Ok(catalog) => Arc::new(catalog),
        Err(report) => panic!("{:?}", report.problems),
    };
    let source = KafkaSource { format: KafkaFormats::One(format), ..KafkaSource::default() };
    let topics = Topics::new(&source).expect("no patterns");
    let mut decoder = Decoder::new(catalog, Zone::default()).with_topics(topics);
    let payload = value.to_string();
    let partition = Partition::new("shop", 0);
    let message = Message {
        partition: &partition,
        offset: 0,
        timestamp_ms: None,
        key: None,
        payload: Some(payload.as_bytes()),
        headers: Headers::default(),
    };
    let mut scratch = Scratch::default();
    let event = decoder.decode(&message, &mut scratch).expect("a message of its format");
    let Meaning::Rows { rules, op: Op::Update } = event.meaning else { panic!("{event:?}") };
    let (mut keys, mut flushed) = (BTreeSet::new(), false);
    let after = scratch.image(0, decoder.columns());
    let before = scratch.before(0, decoder.columns());
    let before = before.as_ref().map(|image| image as &dyn RowImage);
    rules.map(Op::Update, before, Some(&after), &mut |effect| match effect {
        Effect::Remove(key) => {
            keys.insert(key);
        }
        Effect::RemoveTag(tag) => panic!("no group has tags: {tag}"),
        Effect::Flush { .. } => flushed = true,
    });
    (keys, flushed)
}

fn canal(before: &Form, after: &Form) -> Value {
    json!({
        "database": "shop", "table": "t", "type": "UPDATE", "isDdl": false, "mysqlType": { "k": before.mysql_type },
        "data": [{ "k": after.canal }], "old": [{ "k": before.canal }],
    })
}

fn debezium(before: &Value, after: &Value, schema: Option<&Value>) -> Value {
    let payload = json!({
        "op": "u", "before": { "k": before }, "after": { "k": after }, "source": { "db": "shop", "table": "t" },
    });
    let Some(schema) = schema else { return payload };
    let mut field = schema.clone();
    field["field"] = "k".into();
    let row = |name: &str| json!({ "type": "struct", "optional": true, "field": name, "fields": [field] });
    json!({ "schema": { "type": "struct", "fields": [row("before"), row("after")] }, "payload": payload })
}

fn maxwell(before: &Form, after: &Form) -> Value {
    json!({
        "database": "shop", "table": "t", "type": "update", "ts": 1, "data": { "k": after.maxwell }, "old": { "k": before.maxwell },
    })
}

fn number(text: &str) -> Value {
    serde_json::from_str(text).expect("a number")
}

fn unsigned() -> impl Strategy<Value = Form> {
    any::<u64>().prop_map(|n| Form {
        param: "u64",
        mysql_type: "bigint unsigned",
        part: n.to_string(),
        canal: n.to_string(),
        schema: json!({ "type": "int64" }),
        // bigint.unsigned.handling.mode=long
        typed: json!(n.cast_signed()),
        untyped: Some(json!(n.cast_signed())),
        maxwell: json!(n),
    })
}

fn signed() -> impl Strategy<Value = Form> {
    any::<i32>().prop_map(|n| Form {
        param: "i64",
        mysql_type: "int",
        part: n.to_string(),
        canal: n.to_string(),
        schema: json!({ "type": "int32" }),
        typed: json!(n),
        untyped: Some(json!(n)),
        maxwell: json!(n),
    })
}

/// DECIMAL(18,3).
fn decimal() -> impl Strategy<Value = Form> {
    any::<i64>().prop_map(|unscaled| {
        let sign = if unscaled < 0 { "-" } else { "" };
        let digits = format!("{:04}", unscaled.unsigned_abs());
        let (whole, fraction) = digits.split_at(digits.len() - 3);
        let text = format!("{sign}{whole}.{fraction}");
        let shorter = text.trim_end_matches('0').trim_end_matches('.');
        let part = if shorter == "-0" { "0" } else { shorter };
        // An all-zero fraction is one zero in Canal's messages.
        let canal = if fraction == "000" { format!("{sign}{whole}.0") } else { text.clone() };
        Form {
            param: "decimal",
            mysql_type: "decimal(19,3)",
            part: part.to_owned(),
            canal,
            schema: json!({
                "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": { "scale": "3" },
            }),
            typed: json!(STANDARD.encode(unscaled.to_be_bytes())),
            // decimal.handling.mode=string
            untyped: Some(json!(text)),
            maxwell: if digits.len() <= 15 { number(&text) } else { json!(text) },
        }
    })
}

fn text() -> impl Strategy<Value = Form> {
    "[a-zA-Z0-9é日._-]{1,12}".prop_map(|text| Form {
        param: "str",
        mysql_type: "varchar(12)",
        part: text.clone(),
        canal: text.clone(),
        schema: json!({ "type": "string" }),
        typed: json!(text),
        untyped: Some(json!(text)),
        maxwell: json!(text),
    })
}

/// From 1970-01-02 on: what the day before may stand for is in `values.rs`.
fn date() -> impl Strategy<Value = Form> {
    (1i64..40_000).prop_map(|days| {
        let text = civil(days);
        Form {
            param: "date",
            mysql_type: "date",
            part: text.clone(),
            canal: text.clone(),
            schema: json!({ "type": "int32", "name": "io.debezium.time.Date" }),
            typed: json!(days),
            untyped: None,
            maxwell: json!(text),
        }
    })
}

fn datetime() -> impl Strategy<Value = Form> {
    (1i64..40_000, 0i64..86_400, 0i64..1_000_000).prop_map(|(days, second, micros)| {
        let date = civil(days);
        let clock = (second / 3600, second / 60 % 60, second % 60);
        let fraction = format!(".{micros:06}");
        let short = fraction.trim_end_matches('0').trim_end_matches('.');
        let text = format!("{date} {:02}:{:02}:{:02}{fraction}", clock.0, clock.1, clock.2);
        Form {
            param: "datetime",
            mysql_type: "datetime(6)",
            part: format!("{}T{:02}{:02}{:02}{short}", date.replace('-', ""), clock.0, clock.1, clock.2),
            canal: text.clone(),
            schema: json!({ "type": "int64", "name": "io.debezium.time.MicroTimestamp" }),
            typed: json!((days * 86_400 + second) * 1_000_000 + micros),
            untyped: None,
            maxwell: json!(text),
        }
    })
}

fn time() -> impl Strategy<Value = Form> {
    (-3_020_399i64..3_020_399).prop_map(|seconds| {
        let sign = if seconds < 0 { "-" } else { "" };
        let all = seconds.abs();
        let (hours, minutes, rest) = (all / 3600, all / 60 % 60, all % 60);
        let text = format!("{sign}{hours:02}:{minutes:02}:{rest:02}");
        Form {
            param: "time",
            mysql_type: "time",
            part: format!("{sign}{hours:02}{minutes:02}{rest:02}"),
            canal: text.clone(),
            schema: json!({ "type": "int64", "name": "io.debezium.time.MicroTime" }),
            typed: json!(seconds * 1_000_000),
            untyped: None,
            maxwell: json!(text),
        }
    })
}

fn bytes() -> impl Strategy<Value = Form> {
    proptest::collection::vec(any::<u8>(), 1..12).prop_map(|bytes| {
        let part = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let packed = STANDARD.encode(&bytes);
        // Base64 that could be hex is taken for neither.
        let both = packed.bytes().all(|byte| byte.is_ascii_hexdigit());
        Form {
            param: "hex",
            mysql_type: "varbinary(12)",
            part,
            canal: bytes.iter().map(|byte| char::from(*byte)).collect(),
            schema: json!({ "type": "bytes" }),
            typed: json!(packed),
            untyped: (!both).then(|| json!(packed)),
            maxwell: json!(packed),
        }
    })
}

fn uuid() -> impl Strategy<Value = Form> {
    any::<[u8; 16]>().prop_map(|bytes| {
        let hex = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let kept = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Form {
            param: "uuid",
            mysql_type: "binary(16)",
            part: format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]),
            // Without the zeros at its end.
            canal: bytes[..kept].iter().map(|byte| char::from(*byte)).collect(),
            schema: json!({ "type": "bytes" }),
            typed: json!(STANDARD.encode(bytes)),
            untyped: Some(json!(STANDARD.encode(bytes))),
            maxwell: json!(STANDARD.encode(bytes)),
        }
    })
}

fn civil(days: i64) -> String {
    let (mut year, mut left) = (1970, days);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= months[month] {
        left -= months[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, left + 1)
}

/// Whether these are the keys that must go, and beside them at most what a text may be the base64 or hex of.
fn are_right(found: &(BTreeSet<String>, bool), expected: &BTreeSet<String>, forms: [&Form; 2]) -> bool {
    let unpacked = |text: &str| {
        let hex: Option<Vec<u8>> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect();
        let all = [STANDARD.decode(text).ok(), URL_SAFE.decode(text).ok(), hex];
        all.into_iter().flatten().filter_map(|bytes| String::from_utf8(bytes).ok()).collect::<Vec<_>>()
    };
    let texts = forms.into_iter().filter(|form| form.param == "str");
    let beside: usize = texts.map(|form| unpacked(&form.part).len()).sum();
    let (keys, flushed) = found;
    !flushed && keys.is_superset(expected) && keys.len() <= expected.len() + beside
}

fn agree(before: &Form, after: &Form) -> Result<(), TestCaseError> {
    let expected: BTreeSet<String> = [before, after].iter().map(|form| format!("g:{}", form.part)).collect();
    let exact = (expected.clone(), false);
    let forms = [before, after];
    prop_assert_eq!(outcome(KafkaFormat::Canal, before.param, &canal(before, after)), exact, "canal");
    let typed = debezium(&before.typed, &after.typed, Some(&before.schema));
    let found = outcome(KafkaFormat::Debezium, before.param, &typed);
    prop_assert!(are_right(&found, &expected, forms), "debezium with a schema: {:?}", found);
    let (keys, flushed) = outcome(KafkaFormat::Maxwell, before.param, &maxwell(before, after));
    prop_assert!(flushed || keys == expected, "maxwell: {:?}", keys);
    prop_assert!(keys.is_subset(&expected), "maxwell: a wrong key in {:?}", keys);
    if let (Some(old), Some(new)) = (&before.untyped, &after.untyped) {
        let found = outcome(KafkaFormat::Debezium, before.param, &debezium(old, new, None));
        prop_assert!(
            found.1 || are_right(&found, &expected, forms),
            "debezium without a schema: {:?}",
            found
        );
    } else {
        // What nobody can tell flushes, or all that it may be goes.
        let message = debezium(&before.typed, &after.typed, None);
        let (keys, flushed) = outcome(KafkaFormat::Debezium, before.param, &message);
        prop_assert!(flushed || keys.is_superset(&expected), "debezium without a schema: {:?}", keys);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn unsigned_numbers_agree(before in unsigned(), after in unsigned()) {
        agree(&before, &after)?;
    }

    #[test]
    fn signed_numbers_agree(before in signed(), after in signed()) {
        agree(&before, &after)?;
    }

    #[test]
    fn decimals_agree(before in decimal(), after in decimal()) {
        agree(&before, &after)?;
    }

    #[test]
    fn texts_agree(before in text(), after in text()) {
        agree(&before, &after)?;
    }

    #[test]
    fn dates_agree(before in date(), after in date()) {
        agree(&before, &after)?;
    }

    #[test]
    fn moments_agree(before in datetime(), after in datetime()) {
        agree(&before, &after)?;
    }

    #[test]
    fn times_agree(before in time(), after in time()) {
        agree(&before, &after)?;
    }

    #[test]
    fn bytes_agree(before in bytes(), after in bytes()) {
        agree(&before, &after)?;
    }

    #[test]
    fn uuids_agree(before in uuid(), after in uuid()) {
        agree(&before, &after)?;
    }

    /// Whatever bytes come, every format has an answer.
    #[test]
    fn no_message_panics(text in "\\PC{0,60}", cut in 0usize..400) {
        let good = debezium(&json!("AA=="), &json!(1), Some(&json!({ "type": "bytes" }))).to_string();
        let shorter: String = good.chars().take(cut).collect();
        for format in [KafkaFormat::Canal, KafkaFormat::Debezium, KafkaFormat::DebeziumUnwrapped, KafkaFormat::Maxwell] {
            let source = KafkaSource { format: KafkaFormats::One(format), ..KafkaSource::default() };
            let catalog = Arc::new(Catalog::parse("f", "[[group]]\nname = \"g\"\nkey = \"g:{k:hex}\"\nttl = \"1m\"\n[[rule]]\ntable = \"shop.t\"\nkeys = [\"g:{k}\"]\n").expect("a catalog"));
            let mut decoder = Decoder::new(catalog, Zone::default()).with_topics(Topics::new(&source).expect("no patterns"));
            let partition = Partition::new("shop", 0);
            for payload in [text.as_bytes(), shorter.as_bytes()] {
                let message = Message { partition: &partition, offset: 0, timestamp_ms: None, key: Some(text.as_bytes()), payload: Some(payload), headers: Headers::default() };
                let _ = decoder.decode(&message, &mut Scratch::default());
            }
        }
    }
}
