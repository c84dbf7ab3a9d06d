//! SQLite as the database of the embedded stack.

use std::{path::Path, sync::Arc};

use catalog::{Catalog, Key};
use loader::{Error, RowSource, sqlite::Sqlite};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions,
};

const CATALOG: &str = r#"
[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id, name, balance, joined, avatar, extra FROM shop.users WHERE id = {id}"
ttl = "10m"

[[group]]
name = "by_email"
key = "email:{email:str|lower}"
query = "SELECT id FROM shop.users WHERE email = {email}"
ttl = "10m"

[[group]]
name = "orders"
key = "user:{user_id:u64}:orders"
query = "SELECT id, total FROM shop.orders WHERE user_id = {user_id} ORDER BY id DESC"
rows = "many"
ttl = "10m"

[[group]]
name = "last_orders"
key = "user:{user_id:u64}:last"
query = "SELECT id FROM shop.orders WHERE user_id = {user_id} ORDER BY id DESC LIMIT 1"
rows = "many"
ttl = "10m"

[[group]]
name = "order_of_user"
key = "user:{user_id:u64}:order:{id:u64}"
query = "SELECT total FROM shop.orders WHERE user_id = {user_id} AND id = {id}"
ttl = "10m"
"#;

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(100), email VARCHAR(200) COLLATE NOCASE, balance DECIMAL(10,2),
    joined DATETIME, avatar BLOB, extra JSON);
CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT NOT NULL, total DECIMAL(12,2) NOT NULL);
INSERT INTO users VALUES (1, 'Ann \"A\"', 'Ann@Example.com', 12.5, '2026-11-20 12:34:56', x'00ff', '{\"n\":1.10}'),
    (2, NULL, 'bob@example.com', NULL, NULL, NULL, NULL);
INSERT INTO orders VALUES (10, 1, 5), (11, 1, 7.25), (12, 2, 1);
";

async fn execute(file: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection: SqliteConnection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

struct Shop {
    _dir: tempfile::TempDir,
    file: std::path::PathBuf,
    catalog: Arc<Catalog>,
    source: Arc<Sqlite>,
}

impl Shop {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.db");
        execute(&file, SCHEMA).await;
        let catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
        let source = Sqlite::open(&file, &catalog).unwrap();
        source.ready().await.unwrap();
        Self { _dir: dir, file, catalog, source }
    }

    async fn load(&self, keys: &[&str]) -> Vec<Option<String>> {
        let keys: Vec<Key> = keys.iter().map(|key| self.catalog.resolve(key).unwrap()).collect();
        let values = self.source.load(&keys[0].group, &keys).await.unwrap();
        values
            .into_iter()
            .map(|value| value.value.map(|json| String::from_utf8(json.to_vec()).unwrap()))
            .collect()
    }
}

#[tokio::test]
async fn rows_have_the_forms_of_mysql() {
    let shop = Shop::open().await;
    let ann = r#"{"id":1,"name":"Ann \"A\"","balance":"12.50","joined":"2026-11-20T12:34:56","avatar":"AP8=","extra":{"n":1.10}}"#;
    let bob = r#"{"id":2,"name":null,"balance":null,"joined":null,"avatar":null,"extra":null}"#;
    assert_eq!(shop.load(&["user:1"]).await, [Some(ann.to_owned())]);
    assert_eq!(
        shop.load(&["user:2", "user:9", "user:1"]).await,
        [Some(bob.to_owned()), None, Some(ann.to_owned())]
    );
}

#[tokio::test]
async fn lists_keep_their_order_in_a_batch_and_alone() {
    let shop = Shop::open().await;
    let ann = r#"[{"id":11,"total":"7.25"},{"id":10,"total":"5.00"}]"#;
    let bob = r#"[{"id":12,"total":"1.00"}]"#;
    let all = shop.load(&["user:1:orders", "user:2:orders", "user:3:orders"]).await;
    assert_eq!(all, [Some(ann.to_owned()), Some(bob.to_owned()), Some("[]".to_owned())]);
    assert_eq!(
        shop.load(&["user:1:last", "user:3:last"]).await,
        [Some(r#"[{"id":11}]"#.to_owned()), Some("[]".to_owned())]
    );
    let pairs = shop.load(&["user:1:order:10", "user:2:order:10", "user:2:order:12"]).await;
    assert_eq!(pairs, [Some(r#"{"total":"5.00"}"#.to_owned()), None, Some(r#"{"total":"1.00"}"#.to_owned())]);
}

#[tokio::test]
async fn a_row_is_found_by_the_spelling_that_its_changes_remove() {
    let shop = Shop::open().await;
    assert_eq!(shop.load(&["email:ann@example.com"]).await, [Some(r#"{"id":1}"#.to_owned())]);
}

#[tokio::test]
async fn changes_of_other_processes_are_seen_at_once() {
    let shop = Shop::open().await;
    for total in 1..20 {
        execute(&shop.file, &format!("UPDATE orders SET total = {total} WHERE id = 12")).await;
        let expected = format!(r#"[{{"id":12,"total":"{total}.00"}}]"#);
        assert_eq!(shop.load(&["user:2:orders"]).await, [Some(expected)]);
    }
}

#[tokio::test]
async fn a_wrong_query_and_a_missing_file_are_said_clearly() {
    let shop = Shop::open().await;
    execute(&shop.file, "ALTER TABLE users RENAME COLUMN balance TO money; DROP TABLE orders").await;
    let report = shop.source.ready().await.unwrap_err().to_string();
    for group in ["user", "orders", "last_orders", "order_of_user"] {
        assert!(report.contains(&format!("group {group}: its query can't be prepared")), "{report}");
    }

    let catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
    let missing = Sqlite::open("/nowhere/shop.db", &catalog).unwrap();
    let key = catalog.resolve("user:1").unwrap();
    let error = missing.load(&key.group, std::slice::from_ref(&key)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("/nowhere/shop.db"), "{error}");
}
