//! Sources beside Canal: MySQL and `MariaDB`, Debezium for both and Maxwell for `MariaDB`, all writing to one Kafka.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::MySqlPool;
use testcontainers::ImageExt;

use crate::{
    images,
    server::Server,
    stack::{self, READY, make_database, make_topic, mysql_url, wait_for_mysql},
    wait,
};

/// Debezium's prefix of MySQL's topics, and the topic of its statements.
pub const MYSQL: &str = "mysql";
/// The same for `MariaDB`.
pub const MARIADB: &str = "mariadb";
/// The topic of Maxwell's statements.
pub const MAXWELL_DDL: &str = "maxwell.ddl";

/// One of each. All follow the databases whose names start with `t_`.
#[derive(Debug)]
pub struct Sources {
    /// MySQL, user `root`, password `rootpw`.
    pub mysql: Server,
    /// `MariaDB`, the same user, which Debezium follows.
    pub mariadb: Server,
    /// Another `MariaDB`, which Maxwell follows: it ends at statements that Debezium's test runs.
    pub maxwells_mariadb: Server,
    /// Kafka, one broker.
    pub kafka: Server,
    /// etcd.
    pub etcd: Server,
    /// Kafka Connect with a Debezium connector for each of the databases: a topic `<prefix>.<database>.<table>` for each table.
    pub debezium: Server,
    /// Maxwell, which follows a `MariaDB` of its own: a topic `maxwell.<database>` for each database.
    pub maxwell: Server,
}

impl Sources {
    /// Starts all and waits until a marker row has travelled each of the three ways into Kafka.
    pub async fn start(name: &str) -> Sources {
        let network = format!("freshline-{}-{name}", std::process::id());
        let host = |server: &str| format!("{network}-{server}");
        let bootstrap = format!("{}:9092", host("kafka"));
        let mariadb =
            |name| Server::start(images::image(images::MARIADB), &network, name, 3306, |request, _| request);
        let (mysql, mariadb, maxwells_mariadb, etcd, kafka) = tokio::join!(
            Server::start(images::image(images::MYSQL), &network, "mysql", 3306, |request, _| request),
            mariadb("mariadb"),
            mariadb("mariadb-maxwell"),
            Server::start(images::image(images::ETCD), &network, "etcd", 2379, |request, _| request),
            Server::start(images::image(images::KAFKA), &network, "kafka", 9094, |request, port| {
                request.with_env_var(
                    "KAFKA_ADVERTISED_LISTENERS",
                    format!("PLAINTEXT://{bootstrap},EXTERNAL://127.0.0.1:{port}"),
                )
            }),
        );
        let brokers = format!("127.0.0.1:{}", kafka.port);
        for server in [&mysql, &mariadb, &maxwells_mariadb] {
            wait_for_mysql(server.port).await;
        }
        // Before the connectors: Debezium can't begin on a MySQL that has never executed a transaction.
        let marks = ["CREATE TABLE marks (id BIGINT AUTO_INCREMENT PRIMARY KEY)"];
        let (in_mysql, in_mariadb, in_maxwells) = tokio::join!(
            make_database(mysql.port, "t_marker", &marks),
            make_database(mariadb.port, "t_marker", &marks),
            make_database(maxwells_mariadb.port, "t_marker", &marks),
        );
        let ways = [
            (format!("{MYSQL}.t_marker.marks"), &in_mysql, "Debezium for MySQL"),
            (format!("{MARIADB}.t_marker.marks"), &in_mariadb, "Debezium for MariaDB"),
            ("maxwell.t_marker".to_owned(), &in_maxwells, "Maxwell"),
        ];
        for topic in [MYSQL, MARIADB, MAXWELL_DDL].into_iter().chain(ways.iter().map(|way| &*way.0)) {
            make_topic(&brokers, topic).await;
        }
        let (debezium, maxwell) = tokio::join!(
            Server::start(images::image(images::DEBEZIUM), &network, "debezium", 8083, |request, _| {
                request.with_env_var("CONNECT_BOOTSTRAP_SERVERS", &bootstrap)
            }),
            // Nothing of Maxwell's asks for its port: its metrics would answer there.
            Server::start(images::image(images::MAXWELL), &network, "maxwell", 8080, |request, _| {
                request.with_cmd(maxwell(&host("mariadb-maxwell"), &bootstrap))
            }),
        );
        connector(debezium.port, MYSQL, "mysql.MySqlConnector", &host("mysql"), &bootstrap).await;
        connector(debezium.port, MARIADB, "mariadb.MariaDbConnector", &host("mariadb"), &bootstrap).await;
        for (topic, database, through) in &ways {
            stack::marked(database, &stack::reader(&brokers, topic), through).await;
        }
        Sources { mysql, mariadb, maxwells_mariadb, kafka, etcd, debezium, maxwell }
    }

    /// Kafka's bootstrap address.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.kafka.port)
    }

    /// The address of etcd.
    pub fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd.port)
    }

    /// Makes topics.
    pub async fn topics(&self, names: &[String]) {
        for name in names {
            make_topic(&self.brokers(), name).await;
        }
    }

    /// Makes a database on one of the servers and runs `statements` in it; with its URL.
    pub async fn database(&self, server: &Server, name: &str, statements: &[&str]) -> (MySqlPool, String) {
        (make_database(server.port, name, statements).await, mysql_url(server.port, name))
    }
}

/// Asks Connect for a connector whose settings are those that `docs/sources.md` advises, and Debezium's defaults.
async fn connector(port: u16, prefix: &str, class: &str, host: &str, bootstrap: &str) {
    let request = json!({ "name": prefix, "config": {
        "connector.class": format!("io.debezium.connector.{class}"),
        "database.hostname": host,
        "database.port": "3306",
        "database.user": "root",
        "database.password": "rootpw",
        "database.server.id": if prefix == MYSQL { "5001" } else { "5002" },
        "topic.prefix": prefix,
        "database.include.list": "t_.*",
        "snapshot.mode": "no_data",
        "skipped.operations": "none",
        "poll.interval.ms": "10",
        "schema.history.internal.kafka.bootstrap.servers": bootstrap,
        "schema.history.internal.kafka.topic": format!("{prefix}.history"),
    }});
    let at = format!("http://127.0.0.1:{port}/connectors");
    wait::until(&format!("Connect to make the connector {prefix}"), READY, async || {
        let (at, body) = (at.clone(), request.to_string());
        call(move || ureq::post(&at).header("Content-Type", "application/json").send(&body)).await.map(drop)
    })
    .await;
    wait::until(&format!("the connector {prefix} to run"), READY, async || {
        let at = format!("{at}/{prefix}/status");
        let told = call(move || ureq::get(&at).call()).await?;
        let status: Value = serde_json::from_str(&told).map_err(|error| error.to_string())?;
        match status["tasks"][0]["state"].as_str() {
            Some("RUNNING") => Ok(()),
            Some("FAILED") => panic!("the connector {prefix} failed: {told}"),
            _ => Err(told),
        }
    })
    .await;
}

async fn call(
    ask: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
) -> Result<String, String> {
    let asked = tokio::task::spawn_blocking(move || ask()?.body_mut().read_to_string());
    match tokio::time::timeout(Duration::from_secs(10), asked).await {
        Ok(answered) => answered.expect("the call does not panic").map_err(|error| error.to_string()),
        Err(_) => Err("no answer in 10 s".to_owned()),
    }
}

fn maxwell(host: &str, bootstrap: &str) -> Vec<String> {
    vec![
        format!("--host={host}"),
        "--user=root".to_owned(),
        "--password=rootpw".to_owned(),
        "--producer=kafka".to_owned(),
        format!("--kafka.bootstrap.servers={bootstrap}"),
        "--kafka_topic=maxwell.%{database}".to_owned(),
        "--producer_partition_by=primary_key".to_owned(),
        "--output_ddl=true".to_owned(),
        format!("--ddl_kafka_topic={MAXWELL_DDL}"),
        "--filter=exclude: *.*, include: /t_.*/.*".to_owned(),
    ]
}
