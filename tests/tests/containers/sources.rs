//! Debezium on MySQL and on `MariaDB`, and Maxwell on `MariaDB`: the nodes fill from the very database that is followed.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sqlx::MySqlPool;
use tests::{
    cluster::{Cluster, DELIVERED},
    sources::{MARIADB, MAXWELL_DDL, MYSQL, Sources},
    wait,
};

use crate::{
    gaps::cached,
    key_types::CASES,
    shop::{self, sql, user},
};

/// What differs between the three ways.
struct Way {
    /// Of the key types, those whose rows flush their group instead of removing a key.
    flushing: &'static [&'static str],
    /// Whether TRUNCATE is told.
    truncate: bool,
    /// Whether statements in `MariaDB`'s own syntax are told; Maxwell ends at most of them.
    own_statements: bool,
}

const DEBEZIUM: Way = Way { flushing: &[], truncate: true, own_statements: false };
const MAXWELL: Way =
    Way { flushing: &["time_", "binary_", "varbinary_"], truncate: false, own_statements: false };

pub(crate) async fn mysql_through_debezium(stack: &Sources) {
    let name = "t_mysql_debezium";
    let (database, url) = stack.database(&stack.mysql, name, &tables()).await;
    follow(stack, name, (database, url), "debezium", debezium(MYSQL, name), &DEBEZIUM).await;
}

pub(crate) async fn mariadb_through_debezium(stack: &Sources) {
    let name = "t_mariadb_debezium";
    let (database, url) = stack.database(&stack.mariadb, name, &tables()).await;
    follow(
        stack,
        name,
        (database, url),
        "debezium",
        debezium(MARIADB, name),
        &Way { own_statements: true, ..DEBEZIUM },
    )
    .await;
}

pub(crate) async fn mariadb_through_maxwell(stack: &Sources) {
    let name = "t_mariadb_maxwell";
    let (database, url) = stack.database(&stack.maxwells_mariadb, name, &tables()).await;
    let topics = vec![MAXWELL_DDL.to_owned(), format!("maxwell.{name}")];
    follow(stack, name, (database, url), "maxwell", topics, &MAXWELL).await;
}

/// The topic of the statements and that of each table.
fn debezium(prefix: &str, name: &str) -> Vec<String> {
    let tables = ["users", "users_new", "users_old", "orders", "kinds"];
    let of = tables.iter().map(|table| format!("{prefix}.{name}.{table}"));
    std::iter::once(prefix.to_owned()).chain(of).collect()
}

/// The shop, and a table that has a column of each type that may be a key part.
fn tables() -> Vec<&'static str> {
    let mut columns = String::new();
    let mut values = String::new();
    for case in CASES {
        let _ = write!(columns, ", {} {} NOT NULL", case.name, case.column);
        let _ = write!(values, ", {}", case.value);
    }
    let kinds = [
        format!("CREATE TABLE kinds (id INT PRIMARY KEY, n INT{columns})"),
        format!("INSERT INTO kinds VALUES (1, 0{values})"),
    ];
    shop::TABLES.into_iter().chain(kinds.map(|statement| &*statement.leak())).collect()
}

fn catalog(name: &str) -> String {
    let mut catalog = shop::catalog(name);
    for case in CASES {
        let (column, parameter) = (case.name, case.parameter);
        let _ = write!(
            catalog,
            "[[group]]\nname = \"{column}\"\nkey = \"{column}:{{k:{parameter}}}\"\nquery = \"SELECT n FROM {name}.kinds WHERE {column} = {{k}}\"\nttl = \"10m\"\n\n"
        );
    }
    catalog
}

async fn follow(
    stack: &Sources,
    name: &str,
    (database, url): (MySqlPool, String),
    format: &str,
    topics: Vec<String>,
    way: &Way,
) {
    stack.topics(&topics).await;
    let mut cluster = Cluster::start_on_topics(stack, name, &url, format, &topics, 2, &catalog(name)).await;
    key_types(&database, &cluster, way).await;
    rows(&database, &cluster).await;
    if way.own_statements {
        own_statements(&database, &cluster).await;
    }
    statements(&database, &cluster, way).await;

    // All of it was understood, and a restart goes on where the offsets say.
    assert!(
        cluster.sync().metric("freshline_sync_undecodable_total").await < 1.0,
        "{}",
        cluster.sync().log()
    );
    wait::until("the offsets to be committed", DELIVERED, async || {
        let commits = cluster.sync().metric("freshline_sync_commits_total").await;
        let open = cluster.sync().metric("freshline_sync_unacknowledged").await;
        if commits >= 1.0 && open < 1.0 { Ok(()) } else { Err((commits, open)) }
    })
    .await;
    assert!(cluster.sync.take().unwrap().stop().await);
    sql(&database, "UPDATE users SET name = 'meanwhile' WHERE id = 1").await;
    cluster.start_sync().await;
    cluster.until_everywhere("user:1", &user(1, "meanwhile", "ada@example.org")).await;
    assert!(cluster.sync().metric("freshline_sync_gaps_total").await < 1.0);
}

/// One row whose every column is the key of a group: all keys are removed when it changes and when it goes.
async fn key_types(database: &MySqlPool, cluster: &Cluster, way: &Way) {
    let keys: Vec<String> = CASES.iter().map(|case| format!("{}:{}", case.name, case.part)).collect();
    for key in &keys {
        cluster.until_everywhere(key, &json!({ "n": 0 })).await;
    }
    // A group's name is the last word of the line that tells of its flush.
    let flushes = || -> Vec<usize> {
        let log = cluster.nodes[0].process.log();
        CASES.iter().map(|case| log.matches(&format!("group={}\n", case.name)).count()).collect()
    };
    let before = flushes();
    sql(database, "UPDATE kinds SET n = 1 WHERE id = 1").await;
    for key in &keys {
        cluster.until_everywhere(key, &json!({ "n": 1 })).await;
    }
    // The others' keys were removed one by one.
    let counted = CASES.iter().zip(before.iter().zip(flushes()));
    let flushing: Vec<&str> =
        counted.filter(|(_, (before, after))| after > before).map(|(case, _)| case.name).collect();
    assert!(before.iter().all(|first| *first > 0), "the first start flushes all, and the log says so");
    assert_eq!(flushing, way.flushing);
    sql(database, "DELETE FROM kinds WHERE id = 1").await;
    for key in &keys {
        cluster.until_everywhere(key, &Value::Null).await;
    }
}

/// Rows that change, come, go, and whose keys change.
async fn rows(database: &MySqlPool, cluster: &Cluster) {
    let (old, new) = ("user_by_email:ada@example.com", "user_by_email:ada@example.org");
    let list = "user:1:orders";
    for key in ["user:1", "user:3", "user:300", "user:77", old, new, list] {
        for node in &cluster.nodes {
            node.get(key).await.unwrap();
        }
    }
    cached(cluster, "user:1").await;
    sql(database, "UPDATE users SET name = 'Ada L.' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "Ada L.", "ada@example.com")).await;
    // A row that was known not to be there.
    sql(database, "INSERT INTO users VALUES (77, 'Gus', 'gus@example.com')").await;
    cluster.until_everywhere("user:77", &user(77, "Gus", "gus@example.com")).await;
    // A key column, and the primary key itself.
    sql(database, "UPDATE users SET email = 'ada@example.org' WHERE id = 1").await;
    cluster.until_everywhere(old, &Value::Null).await;
    cluster.until_everywhere(new, &user(1, "Ada L.", "ada@example.org")).await;
    sql(database, "UPDATE users SET id = 300 WHERE id = 3").await;
    cluster.until_everywhere("user:3", &Value::Null).await;
    cluster.until_everywhere("user:300", &user(300, "Cy", "cy@example.com")).await;
    sql(database, "DELETE FROM orders WHERE id = 11").await;
    cluster.until_everywhere(list, &json!([{ "id": 10, "total": "9.90" }])).await;
    sql(database, "DELETE FROM users WHERE id = 77").await;
    cluster.until_everywhere("user:77", &Value::Null).await;
}

/// Tables whose definitions change, that change places, and that are emptied.
async fn statements(database: &MySqlPool, cluster: &Cluster, way: &Way) {
    let email = "ada@example.org";
    cached(cluster, "user:1").await;
    sql(
        database,
        "ALTER TABLE users DROP COLUMN name, ADD COLUMN name VARCHAR(50) NOT NULL DEFAULT 'altered'",
    )
    .await;
    cluster.until_everywhere("user:1", &user(1, "altered", email)).await;
    cached(cluster, "user:1").await;
    sql(database, "UPDATE users SET name = 'later' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "later", email)).await;

    sql(database, "CREATE TABLE users_new LIKE users").await;
    sql(database, "INSERT INTO users_new SELECT id, email, 'swapped' FROM users").await;
    cached(cluster, "user:1").await;
    sql(database, "RENAME TABLE users TO users_old, users_new TO users").await;
    cluster.until_everywhere("user:1", &user(1, "swapped", email)).await;
    cached(cluster, "user:1").await;
    sql(database, "UPDATE users SET name = 'after' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "after", email)).await;

    let list = "user:1:orders";
    cached(cluster, list).await;
    // Maxwell tells nothing of TRUNCATE.
    let emptied = if way.truncate { "TRUNCATE TABLE orders" } else { "DELETE FROM orders" };
    sql(database, emptied).await;
    cluster.until_everywhere(list, &json!([])).await;
    sql(database, "INSERT INTO orders VALUES (20, 1, 3.00, NULL)").await;
    cluster.until_everywhere(list, &json!([{ "id": 20, "total": "3.00" }])).await;
    cached(cluster, list).await;
    sql(database, "DROP TABLE orders").await;
    wait::until("the dropped table's entries to go", DELIVERED, async || {
        for node in &cluster.nodes {
            if let Ok(value) = node.value(list).await {
                return Err(format!("{} still answers {value}", node.id));
            }
        }
        Ok(())
    })
    .await;
}

/// What only `MariaDB` understands, and tools for it write.
async fn own_statements(database: &MySqlPool, cluster: &Cluster) {
    let users = "id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50) NOT NULL, email VARCHAR(100) COLLATE utf8mb4_bin NOT NULL";
    let changes = [
        ("set statement", vec!["SET STATEMENT max_statement_time = 5 FOR UPDATE users SET name = 'set statement' WHERE id = 1".to_owned()]),
        ("if exists", vec!["ALTER TABLE IF EXISTS users DROP COLUMN IF EXISTS nothing, DROP COLUMN name, ADD COLUMN IF NOT EXISTS note INT, ADD COLUMN name VARCHAR(50) NOT NULL DEFAULT 'if exists'".to_owned()]),
        ("wait", vec!["ALTER TABLE users WAIT 5 DROP COLUMN name, ADD COLUMN name VARCHAR(50) NOT NULL DEFAULT 'wait'".to_owned()]),
        ("renamed", vec![
            format!("CREATE OR REPLACE TABLE users_new ({users})"),
            "INSERT INTO users_new SELECT id, 'renamed', email FROM users".to_owned(),
            "RENAME TABLES users WAIT 5 TO users_old, users_new NOWAIT TO users".to_owned(),
            "DROP TABLE IF EXISTS users_old WAIT 5".to_owned(),
        ]),
        ("set rename", vec![
            format!("CREATE TABLE users_new ({users})"),
            "REPLACE INTO users_new SELECT id, 'set rename', email FROM users".to_owned(),
            "SET STATEMENT lock_wait_timeout = 5 FOR RENAME TABLE users TO users_old, users_new TO users".to_owned(),
            "DROP TABLE users_old".to_owned(),
        ]),
        ("replaced", vec![
            format!("CREATE OR REPLACE TABLE users ({users})"),
            "INSERT INTO users VALUES (1, 'replaced', 'ada@example.org') RETURNING id".to_owned(),
        ]),
        ("selected", vec![format!("CREATE OR REPLACE TABLE users ({users}) AS SELECT 1 AS id, 'selected' AS name, 'ada@example.org' AS email")]),
    ];
    for (name, run) in changes {
        cached(cluster, "user:1").await;
        for statement in run {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone()))
                .execute(database)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        cluster.until_everywhere("user:1", &user(1, name, "ada@example.org")).await;
    }
}
