//! Every MySQL type that may be a key part: the key that a node fills and the key that a change of the same row removes are one.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sqlx::MySqlPool;
use tests::{cluster::Cluster, small::Small, stack::Stack};

use crate::shop::sql;

/// A column type, the type of the key's parameter, a value in SQL, and the part of the key that stands for it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) column: &'static str,
    pub(crate) parameter: &'static str,
    pub(crate) value: &'static str,
    pub(crate) part: &'static str,
}

const fn case(
    name: &'static str,
    column: &'static str,
    parameter: &'static str,
    value: &'static str,
    part: &'static str,
) -> Case {
    Case { name, column, parameter, value, part }
}

pub(crate) const CASES: &[Case] = &[
    case("tiny", "TINYINT", "i64", "-128", "-128"),
    case("utiny", "TINYINT UNSIGNED", "u64", "255", "255"),
    case("small", "SMALLINT", "i64", "-32768", "-32768"),
    case("medium", "MEDIUMINT UNSIGNED", "u64", "16777215", "16777215"),
    case("int_", "INT", "i64", "-2147483648", "-2147483648"),
    case("big", "BIGINT", "i64", "-9223372036854775808", "-9223372036854775808"),
    case("ubig", "BIGINT UNSIGNED", "u64", "18446744073709551615", "18446744073709551615"),
    case("flag", "BOOLEAN", "bool", "TRUE", "true"),
    case("bits", "BIT(12)", "u64", "b'101010101010'", "2730"),
    case("year_", "YEAR", "u64", "2026", "2026"),
    case("dec_", "DECIMAL(12,4)", "decimal", "100.00", "100"),
    case("dec_neg", "DECIMAL(12,4)", "decimal", "-0.5", "-0.5"),
    case("char_", "CHAR(10) COLLATE utf8mb4_bin", "str", "'Ada'", "Ada"),
    case("varchar_", "VARCHAR(40) COLLATE utf8mb4_bin", "str", "'a:b c%d/é😀'", "a%3Ab%20c%25d/é😀"),
    case("lowered", "VARCHAR(40)", "str|lower", "'Ada@Example.com'", "ada@example.com"),
    case("enum_", "ENUM('new','paid','sent') COLLATE utf8mb4_bin", "str", "'paid'", "paid"),
    case("set_", "SET('a','b','c') COLLATE utf8mb4_bin", "str", "'a,c'", "a,c"),
    case("date_", "DATE", "date", "'2026-11-20'", "2026-11-20"),
    case("datetime_", "DATETIME(6)", "datetime", "'2026-11-20 12:34:56.120000'", "20261120T123456.12"),
    case("timestamp_", "TIMESTAMP", "datetime", "'2026-11-20 12:34:56'", "20261120T123456"),
    case("time_", "TIME", "time", "'-101:02:03'", "-1010203"),
    case(
        "uuid_bin",
        "BINARY(16)",
        "uuid",
        "0x0123456789abcdef0123456789abcd00",
        "01234567-89ab-cdef-0123-456789abcd00",
    ),
    case(
        "uuid_text",
        "CHAR(36) COLLATE utf8mb4_bin",
        "uuid",
        "'01234567-89ab-cdef-0123-456789abcdef'",
        "01234567-89ab-cdef-0123-456789abcdef",
    ),
    case("binary_", "BINARY(8)", "hex", "0x0102", "0102000000000000"),
    case("varbinary_", "VARBINARY(8)", "hex", "0xff00", "ff00"),
];

pub(crate) async fn every_type_that_may_be_a_key_part(stack: &Stack) {
    let name = "t_types";
    let (statements, catalog) = made(name);
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    let database = stack.database(name, &statements).await;
    let cluster = Cluster::start(stack, name, 2, &catalog).await;
    check(&database, &cluster).await;
}

pub(crate) async fn every_type_that_may_be_a_key_part_in_the_binlog(stack: &Small) {
    let name = "t_types";
    let (statements, catalog) = made(name);
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    let database = stack.database(name, &statements).await;
    let cluster = Cluster::start_on_binlog(stack, name, 2, &catalog).await;
    check(&database, &cluster).await;
}

/// A table and a group for each case.
fn made(name: &str) -> (Vec<String>, String) {
    let mut statements = Vec::new();
    let mut catalog = String::new();
    for Case { name: table, column, parameter, value, .. } in CASES {
        statements.push(format!("CREATE TABLE {table} (id INT PRIMARY KEY, k {column} NOT NULL, n INT)"));
        statements.push(format!("INSERT INTO {table} VALUES (1, {value}, 0)"));
        let _ = write!(
            catalog,
            "[[group]]\nname = \"{table}\"\nkey = \"{table}:{{k:{parameter}}}\"\nquery = \"SELECT n FROM {name}.{table} WHERE k = {{k}}\"\nttl = \"10m\"\n\n"
        );
    }
    (statements, catalog)
}

/// Fills and changes of each case meet in the same key.
async fn check(database: &MySqlPool, cluster: &Cluster) {
    let mut wrong = Vec::new();
    for Case { name: table, part, .. } in CASES {
        let key = format!("{table}:{part}");
        match cluster.nodes[0].value(&key).await {
            Ok(value) if value == json!({ "n": 0 }) => {}
            other => wrong.push(format!("{key}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "filled wrongly:\n{}", wrong.join("\n"));

    let flushes = cluster.sync().metric("freshline_sync_flushes_total").await;
    for Case { name: table, .. } in CASES {
        sql(database, &format!("UPDATE {table} SET n = 1 WHERE id = 1")).await;
    }
    for Case { name: table, part, .. } in CASES {
        let key = format!("{table}:{part}");
        cluster.until_everywhere(&key, &json!({ "n": 1 })).await;
    }
    // The rows' keys were removed one by one: no change had to flush a whole group.
    let since = cluster.sync().metric("freshline_sync_flushes_total").await - flushes;
    assert!(since < 1.0, "{since} flushes");

    for Case { name: table, .. } in CASES {
        sql(database, &format!("DELETE FROM {table} WHERE id = 1")).await;
    }
    for Case { name: table, part, .. } in CASES {
        let key = format!("{table}:{part}");
        cluster.until_everywhere(&key, &Value::Null).await;
    }
}
