//! A cache node inside an application: `cargo run --example embedded`.
//!
//! The database is a SQLite file here, so that nothing has to be installed; of MySQL only the `url` differs.

use std::{error::Error, path::Path};

use freshline::{Client, Config, Outcome, node};

const SETTINGS: &str = r#"
[node]
grpc = "127.0.0.1:0"    # where the sync service, other nodes and clients reach this one
http = "127.0.0.1:0"    # metrics, readiness, the HTTP API

[database]
url = "sqlite:FILE"     # mysql://app:secret@db:3306/shop

[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id, city FROM shop.users WHERE id = {id}"
"#;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    // A node that went on without a part of itself might serve what nobody removes any more.
    node::end_on_panic();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shop.db");
    sql(
        &file,
        "CREATE TABLE users (id INTEGER PRIMARY KEY, city TEXT); INSERT INTO users VALUES (42, 'Oslo')",
    )
    .await?;

    let settings = SETTINGS.replace("FILE", &file.display().to_string());
    let mut node = node::Settings::parse("embedded.toml", &settings)?.start()?;
    node.ready().await?;
    for expected in [Outcome::Miss, Outcome::Hit] {
        let answer = node.get("user:42").await?;
        println!(
            "{}: {}",
            answer.outcome,
            String::from_utf8_lossy(answer.value.as_deref().unwrap_or_default())
        );
        assert_eq!(answer.outcome, expected);
    }

    // In production the sync service tells the node of this change; here somebody else does, over the network, as it would.
    sql(&file, "UPDATE users SET city = 'Rome' WHERE id = 42").await?;
    let url = format!("http://{}", node.grpc_addr());
    let client = Client::from_seeds(vec![url], Config::default()).await?;
    println!("removed {} entry", client.remove(&["user:42"]).await?);
    let answer = node.get("user:42").await?;
    println!("{}: {}", answer.outcome, String::from_utf8_lossy(answer.value.as_deref().unwrap_or_default()));
    assert!(answer.value.is_some_and(|json| json.windows(4).any(|part| part == b"Rome")));

    node.stop().await?;
    Ok(())
}

/// Runs statements on a SQLite file.
async fn sql(file: &Path, script: &'static str) -> Result<(), sqlx::Error> {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection = options.connect().await?;
    sqlx::raw_sql(script).execute(&mut connection).await?;
    connection.close().await
}
