//! The servers that Freshline works with: MySQL, Canal, Kafka and etcd on a container network of their own.

use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::{
    ClientConfig, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use sqlx::{MySqlPool, mysql::MySqlPoolOptions};
use testcontainers::ImageExt;

use crate::{images, server::Server, wait};

/// Partitions of each topic: enough that a key-changing UPDATE moves between them.
pub const PARTITIONS: i32 = 3;
/// How long a server may take to answer after its container has started.
pub(crate) const READY: Duration = Duration::from_mins(1);

/// One of each server.
///
/// Canal follows every database whose name starts with `t_` and writes to the Kafka topic of the database's name, its rows spread over
/// three partitions by their primary key.
#[derive(Debug)]
pub struct Stack {
    /// MySQL, user `root`, password `rootpw`.
    pub mysql: Server,
    /// Kafka, one broker.
    pub kafka: Server,
    /// Canal.
    pub canal: Server,
    /// etcd, its first member.
    pub etcd: Server,
    /// The other members of etcd's cluster; none unless asked for.
    pub more_etcd: Vec<Server>,
    host: String,
}

/// What a stack may have beyond the usual.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Members of etcd's cluster.
    pub etcd: usize,
    /// The machine's name or address that clients reach the servers by.
    pub host: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self { etcd: 1, host: "127.0.0.1".to_owned() }
    }
}

impl Stack {
    /// Starts all four and waits until a marker row has travelled from MySQL through Canal into Kafka.
    pub async fn start(name: &str) -> Stack {
        Stack::start_with(name, &Setup::default()).await
    }

    /// The same with another setup.
    pub async fn start_with(name: &str, setup: &Setup) -> Stack {
        let host = setup.host.clone();
        let network = format!("freshline-{}-{name}", std::process::id());
        let kafka_host = format!("{network}-kafka:9092");
        let (mysql, mut etcd, kafka) = tokio::join!(
            Server::start(images::image(images::MYSQL), &network, "mysql", 3306, |request, _| request),
            etcd(&network, setup.etcd),
            Server::start(images::image(images::KAFKA), &network, "kafka", 9094, |request, port| {
                request.with_env_var(
                    "KAFKA_ADVERTISED_LISTENERS",
                    format!("PLAINTEXT://{kafka_host},EXTERNAL://{host}:{port}"),
                )
            }),
        );
        wait_for_mysql(mysql.port).await;
        let canal = Server::start(images::image(images::CANAL), &network, "canal", 11111, |request, _| {
            request
                .with_env_var("MYSQL_ADDRESS", format!("{network}-mysql:3306"))
                .with_env_var("KAFKA_BOOTSTRAP", &kafka_host)
                .with_env_var("CANAL_FILTER", "t_.*\\..*")
                .with_env_var("CANAL_DYNAMIC_TOPIC", "t_.*")
                .with_env_var("CANAL_PARTITIONS", PARTITIONS.to_string())
                .with_env_var("CANAL_PARTITION_HASH", ".*\\..*:$pk$")
                .with_env_var("canal.instance.filter.query.dml", "false")
                .with_env_var("canal.instance.filter.query.dcl", "false")
        })
        .await;
        let (etcd, more_etcd) = (etcd.remove(0), etcd);
        let stack = Stack { mysql, kafka, canal, etcd, more_etcd, host: setup.host.clone() };
        stack.wait_for_canal().await;
        stack
    }

    /// The URL of a database.
    pub fn mysql_url(&self, database: &str) -> String {
        format!("mysql://root:rootpw@{}:{}/{database}", self.host, self.mysql.port)
    }

    /// Kafka's bootstrap address.
    pub fn brokers(&self) -> String {
        format!("{}:{}", self.host, self.kafka.port)
    }

    /// The address of etcd's first member.
    pub fn etcd_url(&self) -> String {
        format!("http://{}:{}", self.host, self.etcd.port)
    }

    /// All members of etcd's cluster.
    pub fn etcd_members(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.etcd).chain(&self.more_etcd)
    }

    /// Waits until MySQL answers.
    pub async fn mysql_ready(&self) {
        wait_for_mysql(self.mysql.port).await;
    }

    /// Makes a database and its topic, and runs `statements` in it.
    pub async fn database(&self, name: &str, statements: &[&str]) -> MySqlPool {
        assert!(name.starts_with("t_"), "Canal's filter follows t_*");
        self.topic(name).await;
        make_database(self.mysql.port, name, statements).await
    }

    /// Makes a topic.
    pub async fn topic(&self, name: &str) {
        make_topic(&self.brokers(), name).await;
    }

    /// A consumer that reads a topic from its beginning.
    pub fn consumer(&self, topic: &str) -> BaseConsumer {
        reader(&self.brokers(), topic)
    }

    /// Canal starts at the end of the binlog, some time after its process has: write rows until one comes out at the other side.
    async fn wait_for_canal(&self) {
        let marker =
            self.database("t_marker", &["CREATE TABLE marks (id BIGINT AUTO_INCREMENT PRIMARY KEY)"]).await;
        let consumer = self.consumer("t_marker");
        marked(&marker, &consumer, "Canal").await;
    }
}

/// Writes rows into `marks` until one comes out of `consumer`.
pub(crate) async fn marked(database: &MySqlPool, consumer: &BaseConsumer, through: &str) {
    wait::until(&format!("a marker row to come through {through}"), READY, async || {
        sqlx::query("INSERT INTO marks () VALUES ()")
            .execute(database)
            .await
            .map_err(|error| error.to_string())?;
        match tokio::task::block_in_place(|| consumer.poll(Duration::from_millis(200))) {
            Some(Ok(message)) if message.payload().is_some_and(|payload| payload.starts_with(b"{")) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            _ => Err("no message".to_owned()),
        }
    })
    .await;
}

/// Makes a topic of [`PARTITIONS`] partitions.
pub(crate) async fn make_topic(brokers: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("an admin client");
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    let (result, _) = wait::until("Kafka to make a topic", READY, async || {
        admin
            .create_topics([&topic], &AdminOptions::new().operation_timeout(Some(Duration::from_secs(10))))
            .await
    })
    .await;
    for topic in result {
        if let Err((topic, error)) = topic {
            assert_eq!(error, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists, "make topic {topic}");
        }
    }
}

/// A consumer that reads a topic from its beginning.
pub(crate) fn reader(brokers: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("reader-of-{topic}"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    consumer
}

/// Makes a database on the MySQL of this port, and runs `statements` in it.
pub(crate) async fn make_database(port: u16, name: &str, statements: &[&str]) -> MySqlPool {
    let root = connect(port, "").await.expect("MySQL answers");
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&root)
        .await
        .expect("a new database");
    let pool = connect(port, name).await.expect("MySQL answers");
    for statement in statements {
        let done = sqlx::query(sqlx::AssertSqlSafe(*statement)).execute(&pool).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    pool
}

/// Starts etcd's members, each of which knows all the others by their names on the network.
async fn etcd(network: &str, members: usize) -> Vec<Server> {
    let name = |number: usize| if number == 0 { "etcd".to_owned() } else { format!("etcd-{number}") };
    let peer = |number: usize| format!("http://{network}-{}:2380", name(number));
    let cluster: Vec<String> =
        (0..members).map(|number| format!("{}={}", name(number), peer(number))).collect();
    let mut starting = Vec::new();
    for number in 0..members {
        let (name, peer, cluster) = (name(number), peer(number), cluster.join(","));
        starting.push(async move {
            Server::start(images::image(images::ETCD), network, &name, 2379, |request, _| {
                if members == 1 {
                    return request;
                }
                request
                    .with_env_var("ETCD_NAME", &name)
                    .with_env_var("ETCD_LISTEN_PEER_URLS", "http://0.0.0.0:2380")
                    .with_env_var("ETCD_INITIAL_ADVERTISE_PEER_URLS", peer)
                    .with_env_var("ETCD_INITIAL_CLUSTER", cluster)
            })
            .await
        });
    }
    join_all(starting).await
}

pub(crate) fn mysql_url(port: u16, database: &str) -> String {
    format!("mysql://root:rootpw@127.0.0.1:{port}/{database}")
}

pub(crate) async fn connect(port: u16, database: &str) -> Result<MySqlPool, sqlx::Error> {
    MySqlPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(5))
        .connect(&mysql_url(port, database))
        .await
}

pub(crate) async fn wait_for_mysql(port: u16) {
    wait::until("MySQL to accept a login", READY, async || connect(port, "").await.map(drop)).await;
}
