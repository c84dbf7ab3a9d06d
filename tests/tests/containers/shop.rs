//! The sample shop that most tests use: its tables and its catalog.

use serde_json::{Value, json};
use sqlx::MySqlPool;
use tests::{cluster::Cluster, stack::Stack};

/// Makes the shop's tables with a few rows in a database of their own.
pub(crate) async fn database(stack: &Stack, name: &str) -> MySqlPool {
    stack.database(name, &TABLES).await
}

/// The shop's tables and their rows.
pub(crate) const TABLES: [&str; 4] = [
    "CREATE TABLE users (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50) NOT NULL, email VARCHAR(100) COLLATE utf8mb4_bin NOT NULL)",
    "CREATE TABLE orders (id BIGINT UNSIGNED PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, total DECIMAL(10,2) NOT NULL, note VARCHAR(50), KEY (user_id))",
    "INSERT INTO users VALUES (1, 'Ada', 'ada@example.com'), (2, 'Ben', 'ben@example.com'), (3, 'Cy', 'cy@example.com')",
    "INSERT INTO orders VALUES (10, 1, 9.90, NULL), (11, 1, 100.00, 'gift'), (12, 2, 5.00, NULL)",
];

/// The shop's groups, for the database `name`.
pub(crate) fn catalog(name: &str) -> String {
    format!(
        r#"
[[group]]
name = "user"
key = "user:{{id:u64}}"
query = "SELECT id, name, email FROM {name}.users WHERE id = {{id}}"
ttl = "10m"
negative_ttl = "5m"

[[group]]
name = "user_by_email"
key = "user_by_email:{{email:str}}"
query = "SELECT id, name, email FROM {name}.users WHERE email = {{email}}"
ttl = "10m"
negative_ttl = "5m"

[[group]]
name = "user_orders"
key = "user:{{user_id:u64}}:orders"
query = "SELECT id, total FROM {name}.orders WHERE user_id = {{user_id}} ORDER BY id DESC LIMIT 20"
rows = "many"
ttl = "10m"
negative_ttl = "5m"
"#
    )
}

/// A shop with three nodes and a sync service.
pub(crate) async fn open(stack: &Stack, name: &str) -> (MySqlPool, Cluster) {
    let database = database(stack, name).await;
    let cluster = Cluster::start(stack, name, 3, &catalog(name)).await;
    (database, cluster)
}

/// The JSON of a user.
pub(crate) fn user(id: u64, name: &str, email: &str) -> Value {
    json!({ "id": id, "name": name, "email": email })
}

/// Runs one statement.
pub(crate) async fn sql(database: &MySqlPool, statement: &str) {
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(database)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}
