//! Two real servers behind one address: what is read after the one has handed over to the other, and what a server's settings hide.

#[path = "mysql/proxy.rs"]
mod proxy;
#[path = "mysql/server.rs"]
#[allow(dead_code, reason = "shared by test targets that use parts of it")]
mod server;

use std::{sync::Arc, time::Duration};

use catalog::{Catalog, Key};
use daemon::config::{Database, DatabaseUrl};
use loader::{Loaded, RowSource, Untagged, mysql::Mysql};
use proxy::Proxy;
use server::Server;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};
use tokio::time::{sleep, timeout};

const CATALOG: &str = r#"
[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT name FROM shop.users WHERE id = {id}"
"#;

/// Longer than what is read on a connection counts without asking its server.
const STALE: Duration = Duration::from_millis(250);

struct Pair {
    a: MySqlConnection,
    b: MySqlConnection,
    /// The address of b.
    to_b: String,
    proxy: Proxy,
    source: Arc<Mysql>,
    key: Key,
    _servers: [Server; 2],
}

fn address(server: &Server) -> String {
    server.url.split_once('@').unwrap().1.to_owned()
}

async fn execute(connection: &mut MySqlConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

async fn pair(max_lifetime: Duration) -> Option<Pair> {
    let servers = [server::own().await?, server::own().await?];
    let mut connections = Vec::new();
    for server in &servers {
        let mut connection = MySqlConnection::connect(&server.url).await.unwrap();
        execute(
            &mut connection,
            "CREATE DATABASE shop; CREATE TABLE shop.users (id INT PRIMARY KEY, name VARCHAR(20)); INSERT INTO shop.users VALUES (1, 'old')",
        )
        .await;
        connections.push(connection);
    }
    let (b, a) = (connections.pop()?, connections.pop()?);
    let mut proxy = Proxy::new(&address(&servers[0]));
    proxy.up();
    let url = format!("mysql://root:rootpw@{}/shop", proxy.address);
    let config = Database { url: DatabaseUrl::new(url), max_lifetime, ..Database::default() };
    let catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
    let source = Mysql::connect(&config, &catalog).unwrap();
    source.ready().await.unwrap_or_else(|report| panic!("{report}"));
    let key = catalog.resolve("user:1").unwrap();
    let pair = Pair { a, b, to_b: address(&servers[1]), proxy, source, key, _servers: servers };
    assert_eq!(pair.read().await, (r#"{"name":"old"}"#.to_owned(), Ok(())));
    Some(pair)
}

impl Pair {
    /// What is read, and whether it may be kept.
    async fn read(&self) -> (String, Result<(), Untagged>) {
        let mut loaded = self.source.load(&self.key.group, std::slice::from_ref(&self.key)).await.unwrap();
        let Loaded { value, tags } = loaded.remove(0);
        (String::from_utf8(value.unwrap().to_vec()).unwrap(), tags.map(drop))
    }

    fn switches(&self) -> u64 {
        self.source.server().borrow().switches
    }

    /// The address leads to b, which gets a change; a does not.
    async fn hand_over(&mut self) {
        self.proxy.lead_to(&self.to_b.clone());
        execute(&mut self.b, "UPDATE shop.users SET name = 'new' WHERE id = 1").await;
    }
}

/// *Pooled connections went on reading the old primary for as long as they lived, and what they read was kept.*
#[tokio::test]
async fn what_a_demoted_primary_shows_on_an_open_connection_does_not_count() {
    let Some(mut pair) = pair(Duration::from_hours(1)).await else { return };
    execute(&mut pair.a, "SET GLOBAL read_only = ON").await;
    pair.hand_over().await;
    sleep(STALE).await;
    assert_eq!(pair.read().await, (r#"{"name":"new"}"#.to_owned(), Ok(())));
    assert!(pair.switches() >= 1);
    assert!(pair.source.warnings().all().is_empty());
}

#[tokio::test]
async fn a_switch_is_noticed_also_when_nobody_reads_any_more() {
    let Some(mut pair) = pair(Duration::from_hours(1)).await else { return };
    sleep(STALE).await;
    // Asked now; what is read in the next moment is not asked about.
    assert_eq!(pair.read().await.1, Ok(()));
    execute(&mut pair.a, "SET GLOBAL read_only = ON").await;
    pair.hand_over().await;
    assert_eq!(pair.read().await.1, Ok(())); // of a, perhaps
    let mut server = pair.source.server();
    let noticed = async {
        tokio::select! {
            () = pair.source.attend() => {}
            changed = server.wait_for(|server| server.switches > 0) => drop(changed.unwrap()),
        }
    };
    timeout(Duration::from_secs(20), noticed).await.expect("it is noticed");
    assert_eq!(pair.read().await.0, r#"{"name":"new"}"#);
}

#[tokio::test]
async fn an_old_primary_that_nobody_told_is_left_when_the_connections_life_is_over() {
    let Some(mut pair) = pair(Duration::from_secs(1)).await else { return };
    pair.hand_over().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pair.read().await, (r#"{"name":"new"}"#.to_owned(), Ok(())));
    assert_eq!(pair.switches(), 1);
}

#[tokio::test]
async fn what_a_demoted_primary_shows_is_served_and_not_kept_while_the_address_leads_there() {
    let Some(mut pair) = pair(Duration::from_hours(1)).await else { return };
    execute(&mut pair.a, "SET GLOBAL read_only = ON").await;
    sleep(STALE).await;
    assert_eq!(pair.read().await, (r#"{"name":"old"}"#.to_owned(), Err(Untagged::NotPrimary)));
    assert!(pair.source.warnings().all()["server"].contains("takes no writes any more"));
    assert_eq!(pair.switches(), 1);
    execute(&mut pair.a, "SET GLOBAL read_only = OFF").await;
    sleep(STALE).await;
    assert_eq!(pair.read().await.1, Err(Untagged::NotPrimary), "it may have been read before the promotion");
    assert_eq!(pair.read().await, (r#"{"name":"old"}"#.to_owned(), Ok(())));
    assert!(pair.source.warnings().all().is_empty());
}

#[tokio::test]
async fn semi_synchronous_replication_that_waits_before_the_commit_is_seen_and_said() {
    let Some(mut pair) = pair(Duration::from_hours(1)).await else { return };
    assert!(pair.source.server().borrow().unseen_for.is_zero());
    execute(&mut pair.a, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'").await;
    execute(&mut pair.a, "SET GLOBAL rpl_semi_sync_source_enabled = ON").await;
    execute(&mut pair.a, "SET GLOBAL rpl_semi_sync_source_timeout = 3000").await;
    let said = |report: &catalog::Report| report.warnings().map(ToString::to_string).collect::<String>();
    let report = pair.source.check().await.unwrap();
    assert!(said(&report).contains("waits AFTER_SYNC"), "{report}");
    assert_eq!(pair.source.server().borrow().unseen_for, Duration::from_secs(3));
    assert!(pair.source.warnings().all()["semi_sync"].contains("AFTER_COMMIT"));
    execute(&mut pair.a, "SET GLOBAL rpl_semi_sync_source_wait_point = AFTER_COMMIT").await;
    let report = pair.source.check().await.unwrap();
    assert!(!said(&report).contains("AFTER_SYNC"), "{report}");
    assert!(pair.source.server().borrow().unseen_for.is_zero() && pair.source.warnings().all().is_empty());
}
