//! A real MySQL: every type, every kind of key, the checks at start, and a database that goes away and comes back.

#[path = "mysql/proxy.rs"]
mod proxy;
#[path = "mysql/server.rs"]
mod server;

use std::time::{Duration, Instant};

use loader::{Error, Limits, Loader, Metrics, RowSource, mysql::Mysql};
use proxy::Proxy;
use server::Shop;

const TYPES: &str = "
SET sql_mode = '', time_zone = '+08:00';
CREATE TABLE types (
    id INT PRIMARY KEY,
    t1 TINYINT, t2 TINYINT UNSIGNED, t3 SMALLINT, t4 SMALLINT UNSIGNED, t5 MEDIUMINT, t6 MEDIUMINT UNSIGNED,
    t7 INT, t8 INT UNSIGNED, t9 BIGINT, t10 BIGINT UNSIGNED, t11 TINYINT(1), t12 INT(5) ZEROFILL,
    dec1 DECIMAL(65,30), dec2 DECIMAL(10,2), dec3 DECIMAL(10,0) UNSIGNED,
    f1 FLOAT, f2 DOUBLE, b1 BIT(1), b2 BIT(10), b3 BIT(64), y YEAR,
    d DATE, dt DATETIME, dt3 DATETIME(3), dt6 DATETIME(6), ts TIMESTAMP NULL, ts2 TIMESTAMP(2) NULL, tm TIME, tm6 TIME(6),
    c CHAR(5), vc VARCHAR(50), vl VARCHAR(20) CHARACTER SET latin1, vb VARCHAR(20) COLLATE utf8mb4_bin, tx LONGTEXT,
    e ENUM('new','paid','it''s'), s SET('a','b','c'), j JSON,
    bin BINARY(4), vbin VARBINARY(10), bl BLOB, g POINT, v VECTOR(2)
);
INSERT INTO types (id) VALUES (1);
INSERT INTO types VALUES (2,
    -128, 255, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295, -9223372036854775808, 18446744073709551615, 1, 42,
    '12345678901234567890123456789012345.123456789012345678901234567890', 100, 7,
    0.1, 0.30000000000000004, b'1', b'1000000001', 18446744073709551615, 2026,
    '2026-11-20', '2026-11-20 12:34:56', '2026-11-20 12:34:56.12', '2026-11-20 00:00:00', '2026-11-20 12:34:56', '2026-11-20 12:34:56.5',
    '-838:59:59', '25:00:00.5',
    'ab', 'Zoë \"\\\\\" 😀', 'é', 'x', 'long', 'it''s', 'a,c', JSON_OBJECT('n', CAST('1.10' AS DECIMAL(5,2)), 'big', 12345678901234567890),
    x'01', x'00ff', x'', ST_GeomFromText('POINT(1 2)'), TO_VECTOR('[1,2]'));
INSERT INTO types VALUES (3,
    127, 0, 0, 0, 0, 0, 0, 0, 9223372036854775807, 0, 0, 0,
    '-0.000000000000000000000000000001', -0.5, 0,
    -3.4028235e38, 1e300, b'0', 0, 0, 0,
    '0000-00-00', '0000-00-00', '2026-00-00', '0000-00-00', 0, 0, '00:00:00', '-00:00:00.000001',
    '', '', '', '', '', 'nonsense', '', 'null', '', '', NULL, NULL, NULL);
";

const TYPES_CATALOG: &str = r#"
[[group]]
name = "row"
key = "row:{id:u64}"
query = """SELECT t1,t2,t3,t4,t5,t6,t7,t8,t9,t10,t11,t12,dec1,dec2,dec3,f1,f2,b1,b2,b3,y,d,dt,dt3,dt6,ts,ts2,tm,tm6,
  c,vc,vl,vb,tx,e,s,j,bin,vbin,bl,g,VECTOR_TO_STRING(v) AS v FROM shop.types WHERE id = {id}"""
ttl = "10m"
"#;

const FULL: &str = r#"{"t1":-128,"t2":255,"t3":-32768,"t4":65535,"t5":-8388608,"t6":16777215,"t7":-2147483648,"t8":4294967295,"t9":-9223372036854775808,"t10":18446744073709551615,"t11":1,"t12":42,"dec1":"12345678901234567890123456789012345.123456789012345678901234567890","dec2":"100.00","dec3":"7","f1":0.1,"f2":0.30000000000000004,"b1":1,"b2":513,"b3":18446744073709551615,"y":2026,"d":"2026-11-20","dt":"2026-11-20T12:34:56","dt3":"2026-11-20T12:34:56.120","dt6":"2026-11-20T00:00:00.000000","ts":"2026-11-20T04:34:56Z","ts2":"2026-11-20T04:34:56.50Z","tm":"-838:59:59","tm6":"25:00:00.500000","c":"ab","vc":"Zoë \"\\\" 😀","vl":"é","vb":"x","tx":"long","e":"it's","s":"a,c","j":{"n": 1.10, "big": 12345678901234567890},"bin":"AQAAAA==","vbin":"AP8=","bl":"","g":"AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA==","v":"[1.00000e+00,2.00000e+00]"}"#;
const EDGE: &str = r#"{"t1":127,"t2":0,"t3":0,"t4":0,"t5":0,"t6":0,"t7":0,"t8":0,"t9":9223372036854775807,"t10":0,"t11":0,"t12":0,"dec1":"-0.000000000000000000000000000001","dec2":"-0.50","dec3":"0","f1":-3.4028235e+38,"f2":1e+300,"b1":0,"b2":0,"b3":0,"y":0,"d":"0000-00-00","dt":"0000-00-00T00:00:00","dt3":"2026-00-00T00:00:00.000","dt6":"0000-00-00T00:00:00.000000","ts":"0000-00-00T00:00:00Z","ts2":"0000-00-00T00:00:00.00Z","tm":"00:00:00","tm6":"-00:00:00.000001","c":"","vc":"","vl":"","vb":"","tx":"","e":"","s":"","j":null,"bin":"AAAAAA==","vbin":"","bl":null,"g":null,"v":null}"#;

#[tokio::test]
async fn every_type_has_its_documented_json() {
    let Some(shop) = Shop::create(TYPES, TYPES_CATALOG).await else { return };
    let source = shop.source().await;
    let null: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&shop.load(&source, &["row:1"]).await.unwrap()[0].clone().unwrap()).unwrap();
    assert!(null.len() == 42 && null.values().all(serde_json::Value::is_null), "{null:?}");
    assert_eq!(shop.load(&source, &["row:2"]).await.unwrap()[0].as_deref(), Some(FULL));
    assert_eq!(shop.load(&source, &["row:3"]).await.unwrap()[0].as_deref(), Some(EDGE));
    let all = shop.load(&source, &["row:3", "row:9", "row:2"]).await.unwrap();
    assert_eq!(all, [Some(EDGE.to_owned()), None, Some(FULL.to_owned())]);
    for row in [FULL, EDGE] {
        serde_json::from_str::<serde_json::Value>(row).unwrap();
    }
    shop.drop().await;
}

/// The catalog of a table with columns of bytes, one group for each way to write them.
fn bytes_catalog() -> String {
    ["base64", "hex", "uuid"]
        .map(|binary| {
            format!(
                "[[group]]\nname = \"{binary}\"\nkey = \"{binary}:{{id:uuid}}\"\nbinary = \"{binary}\"\n\
                 query = \"SELECT id, digest, short, UUID_TO_BIN('00112233-4455-6677-8899-aabbccddeeff') AS made, g FROM shop.things WHERE id = {{id}}\"\n"
            )
        })
        .concat()
}

#[tokio::test]
async fn bytes_are_written_as_the_group_says_and_shapes_as_ever() {
    let schema = "CREATE TABLE things (id BINARY(16) PRIMARY KEY, digest BLOB, short VARBINARY(16), g POINT); \
        INSERT INTO things VALUES (x'0188c9ce1b6e7c3a9d2f012345678900', x'00112233445566778899aabbccddeeff', x'00ff10', ST_GeomFromText('POINT(1 2)'))";
    let Some(shop) = Shop::create(schema, &bytes_catalog()).await else { return };
    let source = shop.source().await;
    let point = "AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA==";
    for (group, id, digest, short, made) in [
        (
            "base64",
            "AYjJzhtufDqdLwEjRWeJAA==",
            "ABEiM0RVZneImaq7zN3u/w==",
            "AP8Q",
            "ABEiM0RVZneImaq7zN3u/w==",
        ),
        (
            "hex",
            "0188c9ce1b6e7c3a9d2f012345678900",
            "00112233445566778899aabbccddeeff",
            "00ff10",
            "00112233445566778899aabbccddeeff",
        ),
        (
            "uuid",
            "0188c9ce-1b6e-7c3a-9d2f-012345678900",
            "ABEiM0RVZneImaq7zN3u/w==",
            "AP8Q",
            "00112233-4455-6677-8899-aabbccddeeff",
        ),
    ] {
        let expected = format!(
            "{{\"id\":\"{id}\",\"digest\":\"{digest}\",\"short\":\"{short}\",\"made\":\"{made}\",\"g\":\"{point}\"}}"
        );
        let key = format!("{group}:0188c9ce-1b6e-7c3a-9d2f-012345678900");
        assert_eq!(shop.load(&source, &[&key]).await.unwrap(), [Some(expected)], "{group}");
    }
    shop.drop().await;
}

#[tokio::test]
async fn json_of_mariadb_is_json_where_the_server_checks_it() {
    let Some(server) = server::mariadb().await else { return };
    let schema = "CREATE TABLE docs (id INT PRIMARY KEY, j JSON, checked LONGTEXT CHECK (json_valid(checked)), \
            plain LONGTEXT, other VARCHAR(20) CHECK (json_valid(other) OR other = 'x'), k VARCHAR(20) COLLATE utf8mb4_bin CHECK (json_valid(k))); \
        INSERT INTO docs VALUES (1, '{\"n\": 1.10, \"big\": 12345678901234567890}', '[1]', '{\"n\":1}', '{}', '7'), (2, NULL, 'null', '', 'x', '\"a\"'); \
        SET check_constraint_checks = 0; INSERT INTO docs VALUES (3, '{no json', '1', '1', '1', '8'); SET check_constraint_checks = 1";
    let catalog = "[[group]]\nname = \"doc\"\nkey = \"doc:{id:u64}\"\ntags = [\"k:{k:str}\"]\n\
        query = \"SELECT d.j, d.checked AS c, d.plain, d.other, d.k, JSON_EXTRACT(d.j, '$.n') AS n FROM shop.docs d WHERE d.id = {id}\"\n\
        [[group]]\nname = \"by_k\"\nkey = \"by_k:{k:str}\"\nquery = \"SELECT id, j FROM shop.docs WHERE k = {k}\"\n";
    let shop = Shop::on(&server.url, schema, catalog).await;
    let source = shop.source().await;
    for (key, expected) in [
        (
            "doc:1",
            r#"{"j":{"n": 1.10, "big": 12345678901234567890},"c":[1],"plain":"{\"n\":1}","other":"{}","k":7,"n":"1.10"}"#,
        ),
        ("doc:2", r#"{"j":null,"c":null,"plain":"","other":"x","k":"a","n":null}"#),
        ("doc:3", r#"{"j":"{no json","c":1,"plain":"1","other":"1","k":8,"n":null}"#),
        // Keys stay what the row's changes make of them: text.
        ("by_k:7", r#"{"id":1,"j":{"n": 1.10, "big": 12345678901234567890}}"#),
        ("by_k:\"a\"", r#"{"id":2,"j":null}"#),
    ] {
        assert_eq!(shop.load(&source, &[key]).await.unwrap(), [Some(expected.to_owned())], "{key}");
    }
    // And tags.
    let key = shop.key("doc:1");
    let loaded = source.load(&key.group, std::slice::from_ref(&key)).await.unwrap().remove(0);
    assert_eq!(loaded.tags.unwrap().iter().map(|tag| &**tag).collect::<Vec<_>>(), ["k:7"]);
    shop.drop().await;
}

#[tokio::test]
async fn expressions_have_the_type_that_mysql_gives_them() {
    let catalog = r#"
[[group]]
name = "sums"
key = "sums:{owner:u64}"
query = """SELECT COUNT(*) AS n, SUM(amount) AS total, MAX(at) AS last, AVG(amount) AS mean, CONCAT(owner, 'x') AS label,
  MAX(at) - INTERVAL 1 DAY AS before_that FROM shop.parts WHERE owner = {owner} GROUP BY owner"""
ttl = "10m"
"#;
    let schema = "CREATE TABLE parts (id INT PRIMARY KEY, owner BIGINT UNSIGNED, amount INT, at DATETIME(2), KEY (owner));
        INSERT INTO parts VALUES (1, 7, 2000000000, '2026-11-20 10:00:00'), (2, 7, 2000000000, '2026-11-20 10:00:00.25');";
    let Some(shop) = Shop::create(schema, catalog).await else { return };
    let source = shop.source().await;
    let sums = shop.load(&source, &["sums:7", "sums:8"]).await.unwrap();
    let expected = r#"{"n":2,"total":"4000000000","last":"2026-11-20T10:00:00.25","mean":"2000000000.0000","label":"7x","before_that":"2026-11-19T10:00:00.25"}"#;
    assert_eq!(sums, [Some(expected.to_owned()), None]);
    shop.drop().await;
}

#[tokio::test]
async fn every_type_of_key_part_finds_its_row_alone_and_in_a_batch() {
    let kinds = [
        ("u", "BIGINT UNSIGNED", "u64", "18446744073709551615", "18446744073709551615", "0", "0"),
        ("i", "BIGINT", "i64", "-9223372036854775808", "-9223372036854775808", "7", "7"),
        ("flag", "TINYINT(1)", "bool", "1", "true", "0", "false"),
        ("bits", "BIT(64)", "u64", "18446744073709551615", "18446744073709551615", "5", "5"),
        ("y", "YEAR", "u64", "2026", "2026", "1999", "1999"),
        (
            "price",
            "DECIMAL(65,2)",
            "decimal",
            "123456789012345678901234567890.12",
            "123456789012345678901234567890.12",
            "100.00",
            "100",
        ),
        ("d", "DATE", "date", "'2026-11-20'", "2026-11-20", "'1999-01-01'", "1999-01-01"),
        (
            "dt",
            "DATETIME(3)",
            "datetime",
            "'2026-11-20 12:34:56.500'",
            "20261120T123456.5",
            "'1999-01-01'",
            "19990101T000000",
        ),
        (
            "ts",
            "TIMESTAMP(6)",
            "datetime",
            "'2026-11-20 12:34:56.000001'",
            "20261120T123456.000001",
            "'1999-01-01'",
            "19990101T000000",
        ),
        ("tm", "TIME(2)", "time", "'-25:00:00.5'", "-250000.5", "'12:34:56'", "123456"),
        ("vc", "VARCHAR(50)", "str", "'Zoë 😀'", "Zoë%20😀", "'b'", "b"),
        ("vl", "VARCHAR(50) CHARACTER SET latin1", "str", "'é'", "é", "'b'", "b"),
        ("e", "ENUM('new','paid')", "str", "'paid'", "paid", "'new'", "new"),
        ("st", "SET('a','b','c')", "str", "'a,c'", "a,c", "'b'", "b"),
        (
            "ub",
            "BINARY(16)",
            "uuid",
            "x'0188c9ce1b6e7c3a9d2f012345678900'",
            "0188c9ce-1b6e-7c3a-9d2f-012345678900",
            "x'ffffffffffffffffffffffffffffffff'",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ),
        (
            "uc",
            "CHAR(36)",
            "uuid",
            "'0188C9CE-1B6E-7C3A-9D2F-012345678900'",
            "0188c9ce-1b6e-7c3a-9d2f-012345678900",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ),
        (
            "us",
            "CHAR(32)",
            "uuid",
            "'0188c9ce1b6e7c3a9d2f012345678900'",
            "0188c9ce-1b6e-7c3a-9d2f-012345678900",
            "'ffffffffffffffffffffffffffffffff'",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ),
        ("h", "VARBINARY(20)", "hex", "x'00ff00'", "00ff00", "x'01'", "01"),
        ("hb", "BINARY(4)", "hex", "x'00ff0000'", "00ff0000", "x'01020304'", "01020304"),
    ];
    let columns: Vec<String> =
        kinds.iter().map(|kind| format!("{} {}, KEY ({})", kind.0, kind.1, kind.0)).collect();
    let values = |at: usize| {
        kinds.iter().map(|kind| if at == 1 { kind.3 } else { kind.5 }).collect::<Vec<_>>().join(", ")
    };
    let schema = format!(
        "SET time_zone = '+00:00'; CREATE TABLE parts (id INT PRIMARY KEY, {}); INSERT INTO parts VALUES (1, {}), (2, {});",
        columns.join(", "),
        values(1),
        values(2)
    );
    let groups: Vec<String> = kinds
        .iter()
        .map(|(column, _, param, ..)| {
            format!(
                "[[group]]\nname = \"by_{column}\"\nkey = \"{column}:{{p:{param}}}\"\nttl = \"10m\"\n\
                 query = \"SELECT id FROM shop.parts WHERE {column} = {{p}}\"\n"
            )
        })
        .collect();
    let Some(shop) = Shop::create(&schema, &groups.concat()).await else { return };
    let source = Mysql::connect(&shop.config(), &shop.catalog).unwrap();
    for (column, _, _, _, first, _, second) in kinds {
        let (first, second) = (format!("{column}:{first}"), format!("{column}:{second}"));
        let row = |id: u32| Some(format!("{{\"id\":{id}}}"));
        assert_eq!(shop.load(&source, &[&first]).await.unwrap(), [row(1)], "{first}");
        assert_eq!(shop.load(&source, &[&second]).await.unwrap(), [row(2)], "{second}");
        assert_eq!(shop.load(&source, &[&second, &first]).await.unwrap(), [row(2), row(1)], "{column}");
    }
    shop.drop().await;
}

const PEOPLE: &str = "
CREATE TABLE people (id BIGINT UNSIGNED PRIMARY KEY, team INT NOT NULL, name VARCHAR(50) NOT NULL, UNIQUE KEY (name), KEY (team));
INSERT INTO people VALUES (1, 10, 'Ann'), (2, 10, 'bob'), (3, 20, 'Cid');
";

const PEOPLE_CATALOG: &str = r#"
[[group]]
name = "person"
key = "person:{id:u64}"
query = "SELECT id, name FROM shop.people WHERE id = {id}"
ttl = "10m"

[[group]]
name = "by_name"
key = "name:{name:str|lower}"
query = "SELECT id FROM shop.people WHERE name = {name}"
ttl = "10m"

[[group]]
name = "team"
key = "team:{team:i64}"
query = "SELECT id, name FROM shop.people WHERE team = {team} ORDER BY id DESC"
rows = "many"
ttl = "10m"

[[group]]
name = "member"
key = "team:{team:i64}:member:{id:u64}"
query = "SELECT name FROM shop.people WHERE team = {team} AND id = {id}"
ttl = "10m"

[[group]]
name = "slow"
key = "slow:{id:u64}"
query = "SELECT id, SLEEP(30) AS slept FROM shop.people WHERE id = {id}"
ttl = "10m"
"#;

/// Refused by the check at start: the column's collation doesn't tell Ann from ann.
const EXACT: &str = r#"
[[group]]
name = "by_exact_name"
key = "exact:{name:str}"
query = "SELECT id FROM shop.people WHERE name = {name}"
ttl = "10m"
"#;

#[expect(clippy::unnecessary_wraps, reason = "reads like the answer that it stands for")]
fn some(json: &str) -> Option<String> {
    Some(json.to_owned())
}

#[tokio::test]
async fn a_batch_answers_each_key_as_if_it_were_alone() {
    let Some(shop) = Shop::create(PEOPLE, PEOPLE_CATALOG).await else { return };
    let source = Mysql::connect(&shop.config(), &shop.catalog).unwrap();
    for group in ["person", "team", "member", "by_name"] {
        assert!(source.batches(shop.catalog.group(group).unwrap()), "{group}");
    }
    let teams = shop.load(&source, &["team:20", "team:30", "team:10"]).await.unwrap();
    let ten = r#"[{"id":2,"name":"bob"},{"id":1,"name":"Ann"}]"#;
    assert_eq!(teams, [some(r#"[{"id":3,"name":"Cid"}]"#), some("[]"), some(ten)]);
    let members =
        shop.load(&source, &["team:10:member:1", "team:20:member:1", "team:20:member:3"]).await.unwrap();
    assert_eq!(members, [some(r#"{"name":"Ann"}"#), None, some(r#"{"name":"Cid"}"#)]);
    let many: Vec<String> = (0..300).map(|id| format!("person:{id}")).collect();
    let many = shop.load(&source, &many.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(many.iter().flatten().count(), 3);
    assert_eq!(many[3], some(r#"{"id":3,"name":"Cid"}"#));
    shop.drop().await;
}

#[tokio::test]
async fn a_row_is_served_only_under_the_key_that_its_changes_remove() {
    let Some(shop) = Shop::create(PEOPLE, &format!("{PEOPLE_CATALOG}{EXACT}")).await else { return };
    let source = Mysql::connect(&shop.config(), &shop.catalog).unwrap();
    let by_name = shop.load(&source, &["name:ann", "name:bob", "name:dan"]).await.unwrap();
    assert_eq!(by_name, [some(r#"{"id":1}"#), some(r#"{"id":2}"#), None]);
    // The column's collation finds Ann under ann, but a change of that row removes exact:Ann.
    assert_eq!(shop.load(&source, &["exact:Ann", "exact:ann"]).await.unwrap(), [some(r#"{"id":1}"#), None]);
    assert_eq!(shop.load(&source, &["exact:ann"]).await.unwrap(), [None]);
    assert_eq!(shop.load(&source, &["exact:Ann"]).await.unwrap(), [some(r#"{"id":1}"#)]);
    shop.drop().await;
}

#[tokio::test]
async fn a_table_that_changes_its_shape_is_read_in_its_new_shape() {
    let Some(mut shop) = Shop::create(
        PEOPLE,
        &PEOPLE_CATALOG
            .replace("SELECT id, name FROM shop.people WHERE id", "SELECT * FROM shop.people WHERE id"),
    )
    .await
    else {
        return;
    };
    let source = Mysql::connect(&shop.config(), &shop.catalog).unwrap();
    assert_eq!(
        shop.load(&source, &["person:1"]).await.unwrap(),
        [some(r#"{"id":1,"team":10,"name":"Ann"}"#)]
    );
    shop.execute("ALTER TABLE people DROP KEY team, MODIFY team DECIMAL(4,1), ADD since DATETIME(3) DEFAULT '2026-11-20'").await;
    let expected = r#"{"id":1,"team":"10.0","name":"Ann","since":"2026-11-20T00:00:00.000"}"#;
    assert_eq!(shop.load(&source, &["person:1"]).await.unwrap(), [some(expected)]);
    shop.drop().await;
}

#[tokio::test]
async fn every_wrong_query_is_reported_at_once_with_its_group() {
    let catalog = r#"
[[group]]
name = "no_table"
key = "a:{id:u64}"
query = "SELECT id FROM shop.nowhere WHERE id = {id}"
ttl = "10m"

[[group]]
name = "no_column"
key = "b:{id:u64}"
query = "SELECT id, mail FROM shop.people WHERE id = {id}"
ttl = "10m"

[[group]]
name = "twice"
key = "c:{id:u64}"
query = "SELECT id, name, team AS id FROM shop.people WHERE id = {id}"
ttl = "10m"

[[group]]
name = "wrong_type"
key = "d:{name:u64}"
query = "SELECT id FROM shop.people WHERE name = {name}"
ttl = "10m"

[[group]]
name = "vector"
key = "e:{id:u64}"
query = "SELECT v FROM shop.vectors WHERE id = {id}"
ttl = "10m"

[[group]]
name = "good"
key = "f:{id:u64}"
query = "SELECT id, name FROM shop.people WHERE id = {id}"
ttl = "10m"
"#;
    let schema = format!("{PEOPLE} CREATE TABLE vectors (id BIGINT UNSIGNED PRIMARY KEY, v VECTOR(2));");
    let Some(shop) = Shop::create(&schema, catalog).await else { return };
    let source = Mysql::connect(&shop.config(), &shop.catalog).unwrap();
    let report = source.ready().await.unwrap_err().to_string();
    for (group, says) in [
        ("no_table", "nowhere"),
        ("no_column", "mail"),
        ("twice", "more than one column \"id\""),
        ("wrong_type", "varchar(50)"),
        ("vector", "VECTOR_TO_STRING"),
    ] {
        assert!(report.lines().any(|line| line.contains(group) && line.contains(says)), "{group}: {report}");
    }
    assert!(!report.contains("group good"), "{report}");
    assert!(!report.contains("rootpw"), "{report}");
    // A wrong group doesn't keep the others from their rows, and fails itself with the reason.
    assert_eq!(shop.load(&source, &["f:1"]).await.unwrap(), [some(r#"{"id":1,"name":"Ann"}"#)]);
    let error = shop.load(&source, &["b:1"]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Query { group, reason } if &**group == "no_column" && reason.contains("mail")),
        "{error}"
    );
    let error = shop.load(&source, &["e:1"]).await.unwrap_err();
    assert!(matches!(error, Error::Query { .. }), "{error}");
    shop.drop().await;
}

#[tokio::test]
async fn the_schema_tells_types_collations_foreign_keys_and_the_row_image() {
    let schema = format!(
        "{PEOPLE} CREATE TABLE pets (id INT PRIMARY KEY, owner BIGINT UNSIGNED, \
         CONSTRAINT pets_owner FOREIGN KEY (owner) REFERENCES people (id) ON DELETE CASCADE ON UPDATE SET NULL);"
    );
    let Some(shop) = Shop::create(&schema, PEOPLE_CATALOG).await else { return };
    let source = Mysql::connect(&shop.config(), &shop.catalog).unwrap();
    let schema = source.schema().await.unwrap();
    let people = schema.tables.iter().find(|table| table.name == "people").unwrap();
    assert_eq!(people.database, shop.name);
    let types: Vec<_> =
        people.columns.iter().map(|column| (column.name.as_str(), column.mysql_type.as_str())).collect();
    assert_eq!(types, [("id", "bigint unsigned"), ("team", "int"), ("name", "varchar(50)")]);
    assert_eq!(people.columns[2].collation.as_deref(), Some("utf8mb4_0900_ai_ci"));
    let [key] = schema.foreign_keys.as_slice() else { panic!("{:?}", schema.foreign_keys) };
    assert_eq!(
        (key.table.as_str(), key.parent_table.as_str(), key.columns.as_slice()),
        ("pets", "people", &["owner".to_owned()][..])
    );
    assert_eq!(key.on_delete, catalog::schema::Action::Cascade);
    assert_eq!(key.on_update, catalog::schema::Action::SetNull);
    assert!(schema.row_image.is_some());
    shop.drop().await;
}

#[tokio::test]
async fn a_slow_query_is_given_up_and_its_connection_is_not_used_again() {
    let Some(shop) = Shop::create(PEOPLE, PEOPLE_CATALOG).await else { return };
    let mut config = shop.config();
    config.deadline = Duration::from_millis(300);
    config.pool = 1;
    let source = Mysql::connect(&config, &shop.catalog).unwrap();
    shop.load(&source, &["person:1"]).await.unwrap();
    let started = Instant::now();
    // The server ends the query itself; SLEEP then answers 1 instead of an error.
    let _ = shop.load(&source, &["slow:1"]).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // A caller that goes away in the middle leaves a pool of one connection usable.
    let abandoned = tokio::time::timeout(Duration::from_millis(50), shop.load(&source, &["slow:1"])).await;
    assert!(abandoned.is_err());
    assert_eq!(shop.load(&source, &["person:1"]).await.unwrap(), [some(r#"{"id":1,"name":"Ann"}"#)]);
    shop.drop().await;
}

#[tokio::test]
async fn a_killed_connection_is_not_noticed_by_readers() {
    let Some(mut shop) = Shop::create(PEOPLE, PEOPLE_CATALOG).await else { return };
    let source = Mysql::connect(&shop.config(), &shop.catalog).unwrap();
    shop.load(&source, &["person:1"]).await.unwrap();
    let sql = format!(
        "SELECT id FROM information_schema.PROCESSLIST WHERE db = '{}' AND id <> CONNECTION_ID()",
        shop.name
    );
    let ids: Vec<u64> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut shop.connection).await.unwrap();
    assert_eq!(ids.len(), 1);
    for id in ids {
        shop.execute(&format!("KILL {id}")).await;
    }
    assert_eq!(shop.load(&source, &["person:1"]).await.unwrap(), [some(r#"{"id":1,"name":"Ann"}"#)]);
    shop.drop().await;
}

#[tokio::test]
async fn a_database_that_is_down_is_waited_for_at_start_and_fails_fills_at_once_later() {
    let Some(shop) = Shop::create(PEOPLE, PEOPLE_CATALOG).await else { return };
    let (login, rest) = shop.url.split_once('@').unwrap();
    let (address, database) = rest.split_once('/').unwrap();
    let mut proxy = Proxy::new(address);
    let mut config = shop.config();
    config.url = daemon::config::DatabaseUrl::new(format!("{login}@{}/{database}", proxy.address));
    let source = Mysql::connect(&config, &shop.catalog).unwrap();

    let early = shop.load(&source, &["person:1"]).await.unwrap_err();
    assert!(matches!(early, Error::Unavailable(_)), "{early}");
    assert!(
        early.to_string().contains(&proxy.address.to_string()) && !early.to_string().contains("rootpw"),
        "{early}"
    );
    let waiting = tokio::time::timeout(Duration::from_millis(300), source.ready()).await;
    assert!(waiting.is_err(), "ready without a database");
    proxy.up();
    tokio::time::timeout(Duration::from_secs(20), source.ready())
        .await
        .expect("the database answers")
        .unwrap();
    assert_eq!(shop.load(&source, &["person:1"]).await.unwrap(), [some(r#"{"id":1,"name":"Ann"}"#)]);

    proxy.down().await;
    for _ in 0..20 {
        let started = Instant::now();
        let error = shop.load(&source, &["person:1"]).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    }
    proxy.up();
    let back = async {
        while let Err(error) = shop.load(&source, &["person:1"]).await {
            assert!(matches!(error, Error::Unavailable(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back).await.expect("fills work again by themselves");
    shop.drop().await;
}

#[tokio::test]
async fn a_login_without_tls_exchanges_its_password_by_rsa() {
    let Some(mut shop) = Shop::create(PEOPLE, PEOPLE_CATALOG).await else { return };
    let user = shop.name.clone();
    shop.execute(&format!(
        "CREATE USER '{user}'@'%' IDENTIFIED BY 'p@ss/w#rd'; GRANT SELECT ON {user}.* TO '{user}'@'%'"
    ))
    .await;
    let (_, rest) = shop.url.split_once('@').unwrap();
    let mut config = shop.config();
    config.url =
        daemon::config::DatabaseUrl::new(format!("mysql://{user}:p%40ss%2Fw%23rd@{rest}?ssl-mode=DISABLED"));
    let source = Mysql::connect(&config, &shop.catalog).unwrap();
    assert_eq!(shop.load(&source, &["person:1"]).await.unwrap(), [some(r#"{"id":1,"name":"Ann"}"#)]);
    shop.execute(&format!("DROP USER '{user}'@'%'")).await;
    shop.drop().await;
}

/// As after a flush under load: far more keys than the budget, all at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_never_costs_the_server_more_than_its_budget() {
    const BUDGET: i64 = 4;
    let schema = "CREATE TABLE parts (id BIGINT UNSIGNED PRIMARY KEY);
        INSERT INTO parts SELECT row_number() OVER () FROM information_schema.columns LIMIT 400;";
    let catalog = r#"
[[group]]
name = "part"
key = "part:{id:u64}"
query = "SELECT id, SLEEP(0.01) AS slept FROM shop.parts WHERE id = {id}"
ttl = "10m"
"#;
    let Some(mut shop) = Shop::create(schema, catalog).await else { return };
    let limits = Limits {
        max_fills: BUDGET as usize,
        batch: 16,
        deadline: Duration::from_secs(30),
        ..Limits::default()
    };
    let loader = Loader::new(shop.source().await, limits, Metrics::default());
    let loads: Vec<_> = (1..=400)
        .map(|id| {
            let (loader, key) = (loader.clone(), shop.key(&format!("part:{id}")));
            tokio::spawn(async move { loader.load(key).await })
        })
        .collect();
    let running = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND command <> 'Sleep' AND id <> CONNECTION_ID()",
        shop.name
    );
    let mut most = 0;
    while loads.iter().any(|load| !load.is_finished()) {
        // The list has all statements of all, and MySQL refuses it while one of them has a character that its table can't hold.
        let now =
            sqlx::query_scalar(sqlx::AssertSqlSafe(running.clone())).fetch_one(&mut shop.connection).await;
        most = most.max(now.unwrap_or(0));
    }
    for load in loads {
        assert!(load.await.unwrap().unwrap().is_some());
    }
    println!("400 keys at once: the server ran {most} statements at most, of {BUDGET}");
    assert!((1..=BUDGET).contains(&most), "{most} at once");
    shop.drop().await;
}
