//! The binlog of a real MySQL and a node in memory: `FRESHLINE_BINLOG_URL=mysql://root:password@127.0.0.1:3306/` names a server that may be
//! purged; without it there is nothing to do. `tests/tests/containers/binlog.rs` has the whole deployment.

mod common;

use std::sync::Arc;
use std::time::Duration;

use catalog::Catalog;
use common::{CATALOG, Running};
use daemon::config::{BinlogSource, DatabaseUrl};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use sync_service::config::Sync;
use sync_service::source::binlog::Binlog;

const LABELS: &str = r#"
[[group]]
name = "labels"
key = "label:{e:str}"
query = "SELECT id, n FROM shop.labels WHERE e = {e}"
rows = "many"
"#;

const TABLES: [&str; 8] = [
    "DROP DATABASE IF EXISTS percona",
    "DROP DATABASE IF EXISTS shop",
    "CREATE DATABASE shop",
    "CREATE TABLE shop.users (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(20))",
    "CREATE TABLE shop.orders (id INT PRIMARY KEY, user_id BIGINT UNSIGNED, total DECIMAL(10,2))",
    "CREATE TABLE shop.noise (id INT PRIMARY KEY)",
    r"CREATE TABLE shop.labels (id INT PRIMARY KEY, e ENUM('a\\b', 'x') CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, n INT)",
    "INSERT INTO shop.users VALUES (1, 'a'), (2, 'b'), (18446744073709551615, 'c')",
];

fn config() -> Sync {
    Sync { commit_interval: Duration::from_millis(50), drain: Duration::from_secs(5), ..Sync::default() }
}

async fn run(conn: &mut Conn, statement: &str) {
    conn.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// All of it in one test, since a server has one binlog.
#[tokio::test(flavor = "multi_thread")]
async fn a_binlog_is_followed_over_everything_that_happens_to_it() {
    let Ok(url) = std::env::var("FRESHLINE_BINLOG_URL") else {
        println!("skipped: FRESHLINE_BINLOG_URL names no server");
        return;
    };
    let mut conn = Conn::from_url(&url).await.expect("the server answers");
    for statement in TABLES {
        run(&mut conn, statement).await;
    }
    let folder = std::env::temp_dir().join(format!("freshline-binlog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("position.json");
    let _ = std::fs::remove_file(&file);
    let source = BinlogSource {
        url: DatabaseUrl::new(url),
        position_file: Some(file.clone()),
        ..BinlogSource::default()
    };
    let text = format!("{CATALOG}{LABELS}");
    let start = || {
        let catalog = Arc::new(Catalog::parse("freshline.toml", &text).expect("a catalog"));
        let make = |registry: &mut _| {
            Binlog::new(&source, None, catalog, &config(), &[], registry).expect("a reader")
        };
        Running::over(&text, config(), make, |service| service)
    };

    let running = start();
    let node = running.node.clone();
    node.wait(|state| state.flushed.contains("user")).await;
    assert_eq!(running.metric("sync_gaps_total{reason=\"first_start\"}"), Some(1.0));
    run(&mut conn, "UPDATE shop.users SET name = 'x' WHERE id = 18446744073709551615").await;
    node.wait(|state| state.removed.contains("user:18446744073709551615")).await;
    run(&mut conn, "UPDATE shop.users SET id = 7 WHERE id = 2").await;
    node.wait(|state| state.removed.contains("user:2") && state.removed.contains("user:7")).await;

    // Compressed, then cut off, then with a part of the row.
    run(&mut conn, "SET SESSION binlog_transaction_compression = ON").await;
    run(&mut conn, "INSERT INTO shop.orders VALUES (1, 11, 9.90)").await;
    node.wait(|state| state.removed.contains("orders:11")).await;
    run(&mut conn, "SET SESSION binlog_transaction_compression = OFF").await;
    let threads: Vec<u64> = conn
        .query("SELECT id FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")
        .await
        .expect("a list of threads");
    run(&mut conn, &format!("KILL {}", threads[0])).await;
    run(&mut conn, "INSERT INTO shop.orders VALUES (2, 12, 9.90)").await;
    node.wait(|state| state.removed.contains("orders:12")).await;
    node.state.lock().flushed.clear();
    run(&mut conn, "SET SESSION binlog_row_image = MINIMAL").await;
    run(&mut conn, "UPDATE shop.orders SET total = 1 WHERE id = 2").await;
    node.wait(|state| state.flushed.contains("orders")).await;
    run(&mut conn, "SET SESSION binlog_row_image = FULL").await;

    // Columns that move.
    node.state.lock().flushed.clear();
    run(&mut conn, "ALTER TABLE shop.orders ADD COLUMN note INT FIRST").await;
    run(&mut conn, "INSERT INTO shop.orders VALUES (99, 3, 13, 1)").await;
    node.wait(|state| state.flushed.contains("orders") && state.removed.contains("orders:13")).await;
    assert!(!node.state.lock().removed.contains("orders:3"));

    // Statements about other tables flush nothing: the last one is read when the row behind it is.
    node.state.lock().flushed.clear();
    for statement in [
        "CREATE DATABASE percona",
        "CREATE TABLE percona.log_202611 (id INT PRIMARY KEY) PARTITION BY HASH(id) PARTITIONS 4",
        "CREATE TABLE percona.ri (id INT PRIMARY KEY, n INT(5) ZEROFILL, t TEXT, KEY k USING BTREE (n), FULLTEXT INDEX (t) WITH PARSER ngram)",
        "CREATE VIEW percona.v AS SELECT 1",
        "ALTER TABLE percona.ri RENAME INDEX k TO k2",
        "ALTER TABLE percona.ri RENAME percona.ri2",
        "ALTER TABLE percona.ri2 COMMENT 'exchange rates'",
        "CREATE TABLE percona.checksums (chunk INT PRIMARY KEY, cnt INT)",
        "CREATE USER IF NOT EXISTS somebody",
        "GRANT SELECT ON shop.* TO somebody",
        "SET SESSION binlog_format = 'STATEMENT'",
        "REPLACE INTO percona.checksums SELECT 1, COUNT(*) FROM shop.users",
        "SET SESSION binlog_format = 'ROW'",
        "INSERT INTO shop.users VALUES (60, 'behind')",
    ] {
        run(&mut conn, statement).await;
    }
    node.wait(|state| state.removed.contains("user:60")).await;
    assert!(node.state.lock().flushed.is_empty(), "{:?}", node.state.lock().flushed);
    // Those of this table, as text and by names without a database.
    run(&mut conn, "SET SESSION binlog_format = 'STATEMENT'").await;
    run(&mut conn, "USE percona").await;
    run(&mut conn, "UPDATE shop.users u JOIN checksums c ON c.chunk = u.id SET u.name = 'm'").await;
    node.wait(|state| state.flushed.contains("user") && !state.flushed.contains("orders")).await;
    run(&mut conn, "SET SESSION binlog_format = 'ROW'").await;
    node.state.lock().flushed.clear();
    run(&mut conn, "USE shop").await;
    run(&mut conn, "CREATE TABLE new_orders LIKE orders").await;
    run(&mut conn, "RENAME TABLE orders TO percona.old_orders, new_orders TO orders").await;
    node.wait(|state| state.flushed.contains("orders") && !state.flushed.contains("user")).await;

    // A label is escaped in the type of its column.
    run(&mut conn, r"INSERT INTO shop.labels VALUES (1, 'a\\b', 0)").await;
    run(&mut conn, "UPDATE shop.labels SET n = 1").await;
    node.wait(|state| state.removed.contains(r"label:a\b")).await;

    // Prepared transactions.
    node.state.lock().flushed.clear();
    for statement in
        ["XA START 'x'", "UPDATE shop.users SET name = 'xa' WHERE id = 1", "XA END 'x'", "XA PREPARE 'x'"]
    {
        run(&mut conn, statement).await;
    }
    node.wait(|state| state.removed.contains("user:1")).await;
    run(&mut conn, "XA COMMIT 'x'").await;
    node.wait(|state| state.flushed.contains("user") && state.flushed.contains("orders")).await;

    // A tag, and a transaction that is of no interest.
    run(&mut conn, "SET gtid_next = 'AUTOMATIC:freshline'").await;
    run(&mut conn, "INSERT INTO shop.noise VALUES (1)").await;
    run(&mut conn, "SET gtid_next = 'AUTOMATIC'").await;
    let executed: String =
        conn.query_first("SELECT @@GLOBAL.gtid_executed").await.expect("an answer").expect("a set");
    let executed = executed.replace('\n', "");
    for _ in 0..600 {
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        if executed.split([',', ':']).all(|part| kept.contains(part.trim())) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let kept = std::fs::read_to_string(&file).expect("a position");
    assert!(kept.contains(":freshline:1"), "{kept}");

    // Idle, and known to be fresh.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let fresh = node.freshness().expect("watermarks");
    assert!(fresh < Duration::from_secs(3), "{fresh:?}");
    running.stop().await.expect("a clean end");

    // It goes on where it stopped, without a gap.
    run(&mut conn, "INSERT INTO shop.users VALUES (50, 'while stopped')").await;
    let running = start();
    running.node.wait(|state| state.removed.contains("user:50")).await;
    assert_eq!(running.metric("sync_gaps_total{reason=\"first_start\"}"), Some(0.0));
    assert!(running.node.state.lock().flushed.is_empty());
    running.stop().await.expect("a clean end");

    // What it was to read is purged.
    run(&mut conn, "INSERT INTO shop.users VALUES (51, 'lost')").await;
    run(&mut conn, "FLUSH BINARY LOGS").await;
    let logs: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await.expect("a list of logs");
    let last: String = logs.last().and_then(|row| row.get(0)).expect("a log");
    run(&mut conn, &format!("PURGE BINARY LOGS TO '{last}'")).await;
    let running = start();
    running.node.wait(|state| state.flushed.contains("user") && state.flushed.contains("orders")).await;
    assert_eq!(running.metric("sync_gaps_total{reason=\"purged\"}"), Some(1.0));
    run(&mut conn, "INSERT INTO shop.users VALUES (52, 'after')").await;
    running.node.wait(|state| state.removed.contains("user:52")).await;
    running.stop().await.expect("a clean end");

    // Another server than before.
    let kept = std::fs::read_to_string(&file).expect("a position");
    std::fs::write(
        &file,
        kept.replace("\"gtid_set\":\"", "\"gtid_set\":\"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,"),
    )
    .expect("a file");
    let running = start();
    running.node.wait(|state| state.flushed.contains("user")).await;
    assert_eq!(running.metric("sync_gaps_total{reason=\"other_server\"}"), Some(1.0));
    running.stop().await.expect("a clean end");
    let _ = std::fs::remove_dir_all(folder);
}
