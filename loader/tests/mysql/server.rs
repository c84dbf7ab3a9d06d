//! The MySQL server of these tests: the one of `FRESHLINE_TEST_MYSQL`, else a container that ends with the test process.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use catalog::{Catalog, Key};
use daemon::config::{Database, DatabaseUrl};
use loader::{Error, RowSource, mysql::Mysql};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection, mysql::MySqlConnectOptions,
};

const IMAGE: &str = "freshline/mysql:9.7";
#[allow(dead_code, reason = "shared by test targets that use parts of it")]
const MARIADB: &str = "freshline/mariadb:10.11";

#[allow(dead_code, reason = "shared by test targets that use parts of it")]
pub(crate) struct Server {
    /// Without a database.
    pub(crate) url: String,
    /// Holds the container's standard input open; the container ends when it closes.
    _container: Option<Child>,
    /// What the container writes.
    log: Option<PathBuf>,
}

/// The server's URL without a database, or `None`, said aloud, where there is neither a server nor a container engine.
pub(crate) async fn url() -> Option<&'static str> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        if let Ok(url) = std::env::var("FRESHLINE_TEST_MYSQL") {
            return Some(Server { url: url.trim_end_matches('/').to_owned(), _container: None, log: None });
        }
        let server = start(IMAGE, "mysql-start mysqld");
        if server.is_none() {
            // Not captured by the test harness, so that nobody takes a skipped test for a passed one.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: no container engine with {IMAGE} (deploy/images builds it), and FRESHLINE_TEST_MYSQL is not set"
            );
        }
        server
    });
    let server = server.as_ref()?;
    server.answers().await;
    Some(&server.url)
}

/// A server of a test's own, whose settings it may change; `None`, said aloud, where there is no container engine.
#[allow(dead_code, reason = "shared by test targets that use parts of it")]
pub(crate) async fn own() -> Option<Server> {
    let Some(server) = start(IMAGE, "mysql-start mysqld") else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: no container engine with {IMAGE} (deploy/images builds it)"
        );
        return None;
    };
    server.answers().await;
    Some(server)
}

/// A `MariaDB` of a test's own; `None`, said aloud, where there is no container engine.
#[allow(dead_code, reason = "shared by test targets that use parts of it")]
pub(crate) async fn mariadb() -> Option<Server> {
    let Some(server) = start(MARIADB, "mariadbd") else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: no container engine with {MARIADB} (deploy/images builds it)"
        );
        return None;
    };
    server.answers().await;
    Some(server)
}

impl Server {
    async fn answers(&self) {
        let options: MySqlConnectOptions = self.url.parse().unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        while let Err(error) = options.connect().await {
            assert!(
                tokio::time::Instant::now() < deadline,
                "no MySQL at {}:{}: {error}; its last words:\n{}",
                options.get_host(),
                options.get_port(),
                self.last_words()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn last_words(&self) -> String {
        let said = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// Containers that this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// `command` runs the server in the foreground.
fn start(image: &str, command: &str) -> Option<Server> {
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    docker(&["image", "inspect", image])?;
    let name = format!("freshline-loader-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
    let script = format!("{command} & server=$!; cat >/dev/null; kill $server; wait $server");
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.log"));
    let output = File::create(&log).ok()?;
    let container = Command::new("docker")
        .args([
            "run",
            "--rm",
            "-i",
            "--name",
            &name,
            "-p",
            "127.0.0.1::3306",
            "--entrypoint",
            "sh",
            image,
            "-c",
            &script,
        ])
        .stdin(Stdio::piped())
        .stdout(output.try_clone().ok()?)
        .stderr(output)
        .spawn()
        .ok()?;
    let address = (0..300).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        docker(&["port", &name, "3306"]).filter(|address| !address.is_empty())
    });
    let address = address?.lines().next()?.to_owned();
    Some(Server {
        url: format!("mysql://root:rootpw@{address}"),
        _container: Some(container),
        log: Some(log),
    })
}

/// A database of its own with a catalog over it, where `shop.` stands for the database's name.
pub(crate) struct Shop {
    pub(crate) url: String,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) connection: MySqlConnection,
    pub(crate) name: String,
}

impl Shop {
    pub(crate) async fn create(schema: &str, catalog: &str) -> Option<Self> {
        Some(Self::on(url().await?, schema, catalog).await)
    }

    /// The same on a server of this URL.
    pub(crate) async fn on(server: &str, schema: &str, catalog: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("loader_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = MySqlConnection::connect(server).await.unwrap();
        let create = format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}; USE {name}; {schema}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        let catalog = Catalog::parse("test.toml", &catalog.replace("shop.", &format!("{name}.")))
            .unwrap_or_else(|report| panic!("{report}"));
        Self { url: format!("{server}/{name}"), catalog: Arc::new(catalog), connection, name }
    }

    pub(crate) fn config(&self) -> Database {
        Database { url: DatabaseUrl::new(self.url.clone()), ..Database::default() }
    }

    /// A source that has seen the database and checked its queries.
    pub(crate) async fn source(&self) -> Arc<Mysql> {
        let source = Mysql::connect(&self.config(), &self.catalog).unwrap();
        source.ready().await.unwrap_or_else(|report| panic!("{report}"));
        source
    }

    pub(crate) fn key(&self, key: &str) -> Key {
        self.catalog.resolve(key).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn load(&self, source: &Mysql, keys: &[&str]) -> Result<Vec<Option<String>>, Error> {
        let keys: Vec<Key> = keys.iter().map(|key| self.key(key)).collect();
        let values = source.load(&keys[0].group, &keys).await?;
        Ok(values
            .into_iter()
            .map(|value| value.value.map(|json| String::from_utf8(json.to_vec()).unwrap()))
            .collect())
    }

    pub(crate) async fn execute(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection).await.unwrap();
    }

    pub(crate) async fn drop(mut self) {
        let sql = format!("DROP DATABASE {}", self.name);
        self.execute(&sql).await;
    }
}
