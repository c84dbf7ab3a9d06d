use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::offsets::Offsets;
use crate::source::BatchBuilder;

const CATALOG: &str = r#"
[[group]]
name = "row"
key = "row:{id:u64}"
query = "SELECT id, vc FROM app.t_all WHERE id = {id}"

[[group]]
name = "by_name"
key = "name:{vc:str}"
query = "SELECT id FROM app.t_all WHERE vc = {vc}"
rows = "many"

[[group]]
name = "child"
key = "child:{id:i64}"
query = "SELECT id FROM app.c WHERE id = {id}"

[[group]]
name = "parent"
key = "parent:{id:i64}"
query = "SELECT id FROM app.p WHERE id = {id}"

[[group]]
name = "product"
key = "product:{id:u64}"
query = "SELECT id, name FROM inventory.products WHERE id = {id}"
"#;

fn mapper() -> Mapper {
    mapper_in("UTC")
}

fn mapper_in(zone: &str) -> Mapper {
    let catalog = Catalog::parse("freshline.toml", CATALOG).expect("a catalog");
    let metrics = PipelineMetrics::register(&mut prometheus_client::registry::Registry::default());
    Mapper::new(Arc::new(catalog), zone.parse().expect("a zone"), metrics, OnCanalRestart::Trust)
}

struct Outcome {
    keys: Vec<String>,
    groups: Vec<String>,
    letters: Vec<Letter>,
}

fn map<'a>(mapper: &mut Mapper, messages: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let offsets = Offsets::new();
    let mut builder = BatchBuilder::default();
    for (offset, message) in (0..).zip(messages) {
        builder.push(&offsets, "shop", 0, offset, Some(1_795_210_057_115), Some(b"key"), Some(message));
    }
    let found = mapper.map(&builder.finish(&offsets));
    let mut keys: Vec<_> = found.removals.keys.iter().map(ToString::to_string).collect();
    keys.sort();
    Outcome {
        keys,
        groups: found.removals.groups.iter().map(ToString::to_string).collect(),
        letters: found.letters,
    }
}

fn check(message: &str, keys: &[&str], groups: &[&str]) {
    let outcome = map(&mut mapper(), [message.as_bytes()]);
    assert_eq!(outcome.letters, [], "{message}");
    assert_eq!(outcome.keys, keys, "{message}");
    assert_eq!(outcome.groups, groups, "{message}");
}

fn check_letter(message: &str, reason: &str, table: Option<&str>, groups: &[&str]) {
    let outcome = map(&mut mapper(), [message.as_bytes()]);
    let [letter] = outcome.letters.as_slice() else { panic!("want one letter: {message}") };
    assert!(letter.reason.contains(reason), "{message}: {}", letter.reason);
    assert_eq!(letter.table.as_deref(), table, "{message}");
    assert_eq!(letter.payload.as_deref(), Some(message.as_bytes()));
    assert_eq!(letter.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(outcome.groups, groups, "{message}");
}

const ALL: [&str; 5] = ["row", "by_name", "child", "parent", "product"];

fn samples(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
    std::fs::read_to_string(path).expect("a sample file").lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn real_messages_of_every_kind_yield_what_they_make_stale() {
    let lines = samples("mysql-9.7.4-all-types.jsonl");
    let cases: [(usize, &[&str], &[&str]); 19] = [
        (0, &[], &[]),                                  // CREATE DATABASE
        (1, &[], &["row", "by_name"]),                  // CREATE TABLE
        (2, &["name:日本", "row:1", "row:2"], &[]),     // INSERT of two rows, the second without a name
        (3, &["name:x", "name:日本", "row:1"], &[]),    // UPDATE of a key column: both keys
        (4, &[], &[]),                                  // UPDATE of two rows, in columns that no query reads
        (5, &["row:2"], &[]),                           // DELETE
        (8, &[], &["child"]),                           // TRUNCATE
        (9, &[], &["child", "parent"]),                 // DROP of two tables in one message
        (10, &[], &["row", "by_name"]),                 // UPDATE under binlog_row_image=MINIMAL
        (11, &["name:zz", "name:zzz", "row:1"], &[]),   // NOBLOB
        (12, &["name:xa", "name:zzz", "row:1"], &[]),   // rows of a prepared transaction
        (13, &[], &ALL),                                // its commit
        (14, &[], &[]),                                 // a comment on the next message
        (18, &[], &[]),                                 // a table without rules
        (20, &["name:rep", "row:1"], &[]),              // REPLACE
        (22, &["name:odku", "name:rep", "row:1"], &[]), // ON DUPLICATE KEY UPDATE
        (23, &[], &[]),                                 // DROP DATABASE of another
        (24, &[], &[]),
        (25, &[], &[]),
    ];
    for (line, keys, groups) in cases {
        let outcome = map(&mut mapper(), [lines[line].as_bytes()]);
        assert_eq!(outcome.letters, [], "line {line}");
        for key in keys {
            assert!(
                outcome.keys.iter().any(|found| found == key),
                "line {line}: no {key} in {:?}",
                outcome.keys
            );
        }
        for group in groups {
            assert!(
                outcome.groups.iter().any(|found| found == group),
                "line {line}: no {group} in {:?}",
                outcome.groups
            );
        }
        if line == 20 {
            // The old name is not in `old`, because REPLACE left it as it was: one key too many would be found here.
            continue;
        }
        assert!(outcome.keys.len() <= keys.len(), "line {line}: {:?}", outcome.keys);
        assert_eq!(outcome.groups.len(), groups.len(), "line {line}: {:?}", outcome.groups);
    }
}

#[test]
fn every_sample_is_decoded_alone_and_all_in_one_batch() {
    for name in [
        "mysql-9.7.4-all-types.jsonl",
        "mysql-9.7.4-gtid-tzShanghai.jsonl",
        "mysql-9.7.4-gtid-with-3way-partition-split.jsonl",
        "mysql-9.7.4-partial-json-invisible-metadata-full.jsonl",
        "mariadb-10.11.jsonl",
        "flink-canal.jsonl",
        "paimon-canal.jsonl",
    ] {
        let lines = samples(name);
        for line in &lines {
            for letter in map(&mut mapper(), [line.as_bytes()]).letters {
                // Written by Flink SQL without database and table: nothing can tell whose rows these are.
                assert!(
                    letter.reason.contains("names no database and table"),
                    "{name}: {}: {line}",
                    letter.reason
                );
            }
        }
        map(&mut mapper(), lines.iter().map(String::as_bytes));
    }
}

#[test]
fn a_key_is_removed_once_per_batch() {
    let message = r#"{"data":[{"id":"1","vc":null},{"id":"1","vc":null}],"database":"app","table":"t_all","type":"INSERT"}"#;
    assert_eq!(map(&mut mapper(), [message.as_bytes(), message.as_bytes()]).keys, ["row:1"]);
}

#[test]
fn fields_may_come_in_any_order_with_native_values() {
    check(
        r#"{"type":"UPDATE","table":"t_all","database":"app","old":[{"id":18446744073709551614}],"data":[{"id":18446744073709551615,"VC":"a"}]}"#,
        &["name:a", "row:18446744073709551614", "row:18446744073709551615"],
        &[],
    );
    // A number too large for 64 bits is read again as text; no key can be it, so none is stale.
    check(
        r#"{"data":[{"id":18446744073709551616,"vc":null}],"database":"app","table":"t_all","type":"INSERT"}"#,
        &[],
        &[],
    );
    check(
        r#"{"data":[{"vc":true,"id":7.0}],"database":"app","table":"t_all","type":"DELETE"}"#,
        &["row:7"],
        &["by_name"],
    );
    check(
        r#"{"data":[{"id":"7","vc":{"nested":[1]}}],"database":"app","table":"t_all","type":"INSERT"}"#,
        &["row:7"],
        &["by_name"],
    );
}

#[test]
fn a_missing_key_column_flushes_and_never_makes_a_key() {
    check(r#"{"data":[{"vc":"a"}],"database":"app","table":"t_all","type":"DELETE"}"#, &["name:a"], &["row"]);
    check(r#"{"data":[{}],"database":"app","table":"t_all","type":"INSERT"}"#, &[], &["row", "by_name"]);
    check(r#"{"data":[null],"database":"app","table":"t_all","type":"INSERT"}"#, &[], &["row", "by_name"]);
    // Without `old` the row before is unknown.
    let before =
        r#"{"data":[{"id":"1","vc":"a"}],"old":null,"database":"app","table":"t_all","type":"UPDATE"}"#;
    check(before, &[], &["row", "by_name"]);
}

#[test]
fn changes_without_rows_flush_the_groups_that_read_the_table() {
    check(
        r#"{"data":null,"database":"app","table":"t_all","type":"UPDATE","isDdl":false,"sql":"UPDATE t_all SET vc=1"}"#,
        &[],
        &["row", "by_name"],
    );
    check(
        r#"{"data":null,"database":"app","table":"c","type":"ALTER","isDdl":true,"sql":"ALTER TABLE c ADD x INT"}"#,
        &[],
        &["child"],
    );
    check(
        r#"{"data":null,"database":"app","table":"d","type":"RENAME","isDdl":true,"sql":"RENAME TABLE c TO d"}"#,
        &[],
        &["child"],
    );
    check(
        r#"{"data":null,"database":"","table":"","type":"QUERY","isDdl":true,"sql":"DROP DATABASE app"}"#,
        &[],
        &ALL[..4],
    );
    check(
        r#"{"data":null,"database":"","table":"","type":"QUERY","isDdl":true,"sql":"WHO KNOWS"}"#,
        &[],
        &ALL,
    );
    check(
        r#"{"data":null,"database":"","table":"","type":"QUERY","isDdl":false,"sql":"DROP TABLE c"}"#,
        &[],
        &[],
    );
    check(
        r#"{"data":null,"database":"","table":"","type":"XAROLLBACK","isDdl":false,"sql":"XA ROLLBACK X'78'"}"#,
        &[],
        &[],
    );
    check(
        r#"{"data":null,"database":"","table":"","type":"XACOMMIT","isDdl":false,"sql":"XA COMMIT X'78'"}"#,
        &[],
        &ALL,
    );
    check(
        r#"{"data":null,"database":"","table":"","type":"TIDB_WATERMARK","isDdl":false,"_tidb":{"watermarkTs":1}}"#,
        &[],
        &[],
    );
}

#[test]
fn messages_of_other_programs_are_told_by_their_form() {
    check_letter(
        r#"{"before":null,"after":{"id":1},"source":{"db":"app","table":"c"},"op":"c","ts_ms":1}"#,
        "looks like a message of Debezium, and source.kafka.format is canal",
        None,
        &ALL,
    );
    check_letter(
        r#"{"schema":{"type":"struct"},"payload":{"op":"u","after":{"id":1}}}"#,
        "looks like a message of Debezium",
        None,
        &ALL,
    );
    check_letter(
        r#"{"database":"app","table":"c","type":"insert","ts":1,"xid":2,"commit":true,"data":{"id":1}}"#,
        "looks like a message of Maxwell",
        Some("app.c"),
        &["child"],
    );
    check_letter("\u{8}\u{1}\u{12}\u{5}", "protobuf", None, &ALL);
}

#[test]
fn a_list_without_rows_tells_as_little_as_none() {
    for data in ["[]", "null"] {
        let of = |sql: &str| {
            format!(
                r#"{{"data":{data},"database":"app","table":"c","type":"UPDATE","isDdl":false,"sql":"{sql}"}}"#
            )
        };
        check(&of(""), &[], &["child"]);
        check(&of("UPDATE c, p SET c.a = 1, p.a = 2"), &[], &["child", "parent"]);
    }
}

#[test]
fn a_message_without_a_value_is_undecodable() {
    let offsets = Offsets::new();
    let mut builder = BatchBuilder::default();
    builder.push(&offsets, "shop", 0, 1, None, Some(b"key"), None);
    let found = mapper().map(&builder.finish(&offsets));
    assert!(found.letters[0].reason.contains("tombstone"), "{}", found.letters[0].reason);
    assert_eq!((found.letters[0].key.as_deref(), &found.letters[0].payload), (Some(&b"key"[..]), &None));
    assert_eq!(found.removals.groups.len(), ALL.len());
}

#[test]
fn a_restart_of_canal_is_told_per_partition_and_flushes_where_it_is_declared() {
    let message = |id: i64| {
        format!(
            r#"{{"id":{id},"data":[{{"id":"1"}}],"database":"app","table":"c","type":"INSERT","isDdl":false}}"#
        )
    };
    for (reaction, flushed) in [(OnCanalRestart::Trust, 0), (OnCanalRestart::Flush, ALL.len())] {
        let mut mapper = mapper();
        mapper.on_canal_restart = reaction;
        let gaps = mapper.metrics.gaps.clone();
        let offsets = Offsets::new();
        let mut builder = BatchBuilder::default();
        let mut map = |from: i64, places: &[(i32, i64)]| {
            for (offset, (partition, id)) in (from..).zip(places) {
                builder.push(&offsets, "shop", *partition, offset, None, None, Some(message(*id).as_bytes()));
            }
            let batch = mapper.map(&builder.finish(&offsets));
            assert_eq!(batch.owed, !batch.removals.groups.is_empty());
            batch.removals.groups.len()
        };
        assert_eq!(map(0, &[(0, 7), (0, 7), (0, 9), (1, 8), (1, 0), (1, 8)]), 0);
        assert_eq!(map(10, &[(0, 9), (1, 9)]), 0);
        let told = || gaps.get_or_create(&ReasonLabel { reason: "canal_restart" }).get();
        assert_eq!(map(0, &[(0, 7)]), 0, "read again after a rebalance");
        assert_eq!(told(), 0);
        assert_eq!(map(20, &[(1, 10), (0, 1)]), flushed);
        assert_eq!(told(), 1);
    }
}

/// *An XA commit in the application's database took every session of its users away.*
#[test]
fn what_may_have_changed_anything_leaves_plain_groups_alone_unless_a_rule_reaches_them() {
    let plain =
        |name: &str| format!("[[group]]\nname = \"{name}\"\nkind = \"plain\"\nkey = \"{name}:{{id:u64}}\"\n");
    let rule = "[[rule]]\ntable = \"app.bans\"\nkeys = [\"seat:{id}\"]\n";
    let text = format!("{CATALOG}{}{}{rule}", plain("session"), plain("seat"));
    let catalog = Catalog::parse("freshline.toml", &text).expect("a catalog");
    let metrics = PipelineMetrics::register(&mut prometheus_client::registry::Registry::default());
    let mut mapper =
        Mapper::new(Arc::new(catalog), "UTC".parse().expect("a zone"), metrics, OnCanalRestart::Trust);
    let all = ["row", "by_name", "child", "parent", "product", "seat"];
    let commit =
        r#"{"data":null,"database":"","table":"","type":"XACOMMIT","isDdl":false,"sql":"XA COMMIT X'78'"}"#;
    assert_eq!(map(&mut mapper, [commit.as_bytes()]).groups, all);
    assert_eq!(map(&mut mapper, [b"no message".as_slice()]).groups, all);
    let gap = mapper.everything(Reason::XaCommit, "a gap".to_owned());
    assert_eq!(gap.groups.iter().map(|name| &**name).collect::<Vec<_>>(), all);
}

#[test]
fn an_undecodable_message_flushes_its_table_or_everything() {
    check_letter("", "empty", None, &ALL);
    check_letter("nonsense", "flatMessage=true", None, &ALL);
    check_letter(r#"{"data":[{"id":"1""#, "not valid json", None, &ALL);
    check_letter(
        r#"{"data":[{"id":"1"}],"database":"app","table":"c","type":"INSERT""#,
        "not valid json",
        Some("app.c"),
        &["child"],
    );
    // What comes after a whole message may be of any table.
    check_letter(
        r#"{"data":[{"id":"1"}],"database":"app","table":"c","type":"INSERT"}{"data":[{"id":"1"}],"database":"app","table":"p","type":"INSERT"}"#,
        "not valid json",
        None,
        &ALL,
    );
    check_letter(
        r#"{"data":{"id":1},"database":"app","table":"c","type":"INSERT"}"#,
        "`data` is not an array",
        Some("app.c"),
        &["child"],
    );
    check_letter(
        r#"{"data":[1],"database":"app","table":"c","type":"INSERT"}"#,
        "`data` is not an array",
        Some("app.c"),
        &["child"],
    );
    check_letter(
        r#"{"data":[{"id":"1"}],"database":"app","table":"c","type":"UPSERT"}"#,
        "unknown `type` \"UPSERT\"",
        Some("app.c"),
        &["child"],
    );
    check_letter(
        r#"{"data":[{"id":"1"}],"database":"app","table":"c"}"#,
        "no `type`",
        Some("app.c"),
        &["child"],
    );
    check_letter(
        r#"{"data":[{"id":"1"},{"id":"2"}],"old":[{"id":"3"}],"database":"app","table":"c","type":"UPDATE"}"#,
        "`data` has 2 rows and `old` has 1",
        Some("app.c"),
        &["child"],
    );
    check_letter(r#"{"data":[{"id":"1"}],"type":"INSERT"}"#, "names no database and table", None, &ALL);
    check_letter(r#"{"data":[],"database":7,"table":"c","type":"INSERT"}"#, "", None, &ALL);
    // A table that nothing reads has nothing to flush.
    check_letter(
        r#"{"data":1,"database":"app","table":"other","type":"INSERT"}"#,
        "`data`",
        Some("app.other"),
        &[],
    );
}

#[test]
fn timestamps_are_moved_from_the_streams_zone() {
    let text = "[[group]]\nname = \"at\"\nkey = \"at:{ts:datetime}\"\nquery = \"SELECT a FROM app.cp WHERE ts = {ts}\"\n";
    let Ok(catalog) = Catalog::parse("freshline.toml", text) else {
        panic!("a catalog: {:?}", Catalog::parse("f", text))
    };
    let metrics = PipelineMetrics::register(&mut prometheus_client::registry::Registry::default());
    let mut mapper =
        Mapper::new(Arc::new(catalog), "+08:00".parse().expect("a zone"), metrics, OnCanalRestart::Trust);
    let message = r#"{"data":[{"ts":"2026-11-20 08:00:00"}],"database":"app","table":"cp","type":"INSERT","mysqlType":{"ts":"timestamp"}}"#;
    let plain = message.replace("\"timestamp\"", "\"datetime\"");
    let moved = map(&mut mapper, [message.as_bytes()]).keys;
    let kept = map(&mut mapper, [plain.as_bytes()]).keys;
    assert_eq!(moved.len(), 1);
    assert!(moved[0].contains("20261120T000000"), "{moved:?}");
    assert!(kept[0].contains("T080000"), "{kept:?}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        map(&mut mapper(), [bytes.as_slice()]);
    }

    // Cut, flip and splice real messages: each is mapped, or kept as a letter whose flushes cover what it may concern.
    #[test]
    fn mutated_messages_never_panic(line in 0..26_usize, cut in 0..2000_usize, flips in proptest::collection::vec((0..2000_usize, any::<u8>()), 0..4)) {
        let mut bytes = samples("mysql-9.7.4-all-types.jsonl")[line].clone().into_bytes();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut % 200));
        let outcome = map(&mut mapper(), [bytes.as_slice()]);
        for letter in outcome.letters {
            prop_assert!(!letter.reason.is_empty());
            prop_assert!(letter.table.is_some() || outcome.groups.len() == ALL.len());
        }
    }

    #[test]
    fn a_key_changing_update_yields_both_keys(before in any::<u64>(), after in any::<u64>()) {
        let message = format!(
            r#"{{"data":[{{"id":"{after}","vc":null}}],"database":"app","isDdl":false,"old":[{{"id":"{before}"}}],"table":"t_all","type":"UPDATE"}}"#
        );
        let outcome = map(&mut mapper(), [message.as_bytes()]);
        let wanted: std::collections::BTreeSet<_> = [format!("row:{before}"), format!("row:{after}")].into();
        prop_assert_eq!(outcome.keys.into_iter().collect::<std::collections::BTreeSet<_>>(), wanted);
    }
}

#[test]
fn a_row_of_a_joined_table_removes_its_tag_and_one_that_comes_to_a_plain_join_flushes() {
    const JOINS: &str = r#"
[[group]]
name = "left"
key = "left:{u:u64}"
query = "SELECT o.id, p.name FROM shop.orders o LEFT JOIN shop.products p ON p.id = o.product_id WHERE o.user_id = {u}"

[[group]]
name = "plain"
key = "plain:{u:u64}"
query = "SELECT o.id, p.name FROM shop.orders o JOIN shop.products p ON p.id = o.product_id WHERE o.user_id = {u}"

[[group]]
name = "written"
key = "written:{u:u64}"
query = "SELECT id, sku FROM shop.stock WHERE id = {u}"
tags = ["sku:{sku:str|lower}"]

[[rule]]
table = "shop.skus"
tags = ["sku:{code}"]
when_changed = ["title"]
"#;
    let catalog = Arc::new(Catalog::parse("freshline.toml", JOINS).expect("a catalog"));
    let metrics = PipelineMetrics::register(&mut prometheus_client::registry::Registry::default());
    let mut mapper = Mapper::new(catalog, "UTC".parse().expect("a zone"), metrics, OnCanalRestart::Trust);
    let mut map = |table: &str, kind: &str, types: &str, data: &str, old: &str| {
        let message = format!(
            r#"{{"id":1,"database":"shop","table":"{table}","pkNames":["id"],"isDdl":false,"type":"{kind}","es":1795210057115,"ts":1795210057116,"sql":"","mysqlType":{types},"sqlType":{{}},"data":[{data}],"old":{old}}}"#
        );
        let offsets = Offsets::new();
        let mut builder = BatchBuilder::default();
        builder.push(&offsets, "shop", 0, 0, Some(1_795_210_057_115), None, Some(message.as_bytes()));
        let found = mapper.map(&builder.finish(&offsets));
        assert_eq!(found.letters, [], "{message}");
        let names = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (names(&found.removals.keys), names(&found.removals.tags), names(&found.removals.groups))
    };
    let expect = |keys: &str, tags: &str, groups: &str| (keys.to_owned(), tags.to_owned(), groups.to_owned());
    let product = r#"{"id":"bigint unsigned","name":"varchar(50)"}"#;
    let seven = r#"{"id":"7","name":"Pen"}"#;
    assert_eq!(
        map("products", "UPDATE", product, seven, r#"[{"name":"Pencil"}]"#),
        expect("", "shop.products.id=7", ""),
        "one tag for both groups"
    );
    assert_eq!(map("products", "INSERT", product, seven, "null"), expect("", "shop.products.id=7", "plain"));
    assert_eq!(map("products", "DELETE", product, seven, "null"), expect("", "shop.products.id=7", ""));
    assert_eq!(
        map("products", "UPDATE", product, seven, r#"[{"id":"6"}]"#),
        expect("", "shop.products.id=6 shop.products.id=7", "plain")
    );
    let order = r#"{"id":"bigint","user_id":"bigint","product_id":"bigint"}"#;
    assert_eq!(
        map("orders", "INSERT", order, r#"{"id":"1","user_id":"3","product_id":"7"}"#, "null"),
        expect("left:3 plain:3", "", ""),
    );
    // What a tag can't be made of flushes: the loader stores nothing with such a tag either.
    let text = r#"{"id":"varchar(50)","name":"varchar(50)"}"#;
    assert_eq!(
        map("products", "UPDATE", text, r#"{"id":"Bär","name":"Pen"}"#, r#"[{"name":"Pencil"}]"#),
        expect("", "", "left plain")
    );
    let sku = r#"{"code":"varchar(20)","title":"varchar(20)","stock":"int"}"#;
    let row = r#"{"code":"A-1","title":"Pen","stock":"1"}"#;
    assert_eq!(map("skus", "UPDATE", sku, row, r#"[{"title":"Pencil"}]"#), expect("", "sku:a-1", ""));
    assert_eq!(map("skus", "UPDATE", sku, row, r#"[{"stock":"2"}]"#), expect("", "", ""));
    assert_eq!(
        map("skus", "UPDATE", sku, row, r#"[{"code":"B-2"}]"#),
        expect("", "sku:b-2 sku:a-1", ""),
        "before and after"
    );
}
