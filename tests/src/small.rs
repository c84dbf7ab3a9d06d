//! The servers of the small deployment: MySQL and etcd, without Kafka and Canal.

use sqlx::MySqlPool;

use crate::{
    images,
    server::Server,
    stack::{make_database, mysql_url, wait_for_mysql},
};

/// One of each.
#[derive(Debug)]
pub struct Small {
    /// MySQL, user `root`, password `rootpw`.
    pub mysql: Server,
    /// etcd.
    pub etcd: Server,
}

impl Small {
    /// Starts both and waits until MySQL answers.
    pub async fn start(name: &str) -> Small {
        // A host name has 63 characters at most.
        let short: String = name.chars().take(24).collect();
        let network = format!("freshline-{}-{short}", std::process::id());
        let (mysql, etcd) = tokio::join!(
            Server::start(images::image(images::MYSQL), &network, "mysql", 3306, |request, _| request),
            Server::start(images::image(images::ETCD), &network, "etcd", 2379, |request, _| request),
        );
        wait_for_mysql(mysql.port).await;
        Small { mysql, etcd }
    }

    /// The URL of a database.
    pub fn mysql_url(&self, database: &str) -> String {
        mysql_url(self.mysql.port, database)
    }

    /// The address of etcd.
    pub fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd.port)
    }

    /// Makes a database and runs `statements` in it.
    pub async fn database(&self, name: &str, statements: &[&str]) -> MySqlPool {
        make_database(self.mysql.port, name, statements).await
    }
}
