//! `[source.binlog]`: MySQL's binlog, read without Kafka and Canal.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::positive;
use crate::config::{DatabaseUrl, Layers, Problems, duration};

/// `[source.binlog]`: the server whose binlog is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BinlogSource {
    /// `mysql://user:password@host:3306/`, with an account that may replicate. Default: `database.url`.
    pub url: DatabaseUrl,
    /// This reader's number among the server's replicas; 0 draws one at each start. Default 0.
    pub server_id: u32,
    /// How often the server says that it is alive when nothing changes. Default `"1s"`.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// The file that keeps the position. Default none: it is kept in etcd, under the cluster's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_file: Option<PathBuf>,
    /// The file that events go to that can't be decoded. Default none: the log has their beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_file: Option<PathBuf>,
    /// How long an instance that has died keeps the others from reading (with etcd). Default `"10s"`.
    #[serde(with = "duration")]
    pub lease: Duration,
}

impl Default for BinlogSource {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::default(),
            server_id: 0,
            heartbeat: Duration::from_secs(1),
            position_file: None,
            dead_letter_file: None,
            lease: Duration::from_secs(10),
        }
    }
}

impl BinlogSource {
    /// Pushes what is wrong beyond single fields. `etcd` says whether the cluster has one.
    pub fn check(&self, etcd: bool, layers: &Layers, problems: &mut Problems) {
        let url = self.url.expose();
        if !url.is_empty() && !url.starts_with("mysql://") {
            problems.push(format!(
                "{}: `{}` is no MySQL server, write it like \"mysql://user:password@host:3306/\"",
                layers.place("source.binlog.url"),
                self.url
            ));
        }
        for problem in self.url.mysql_problems() {
            problems.push(format!("{}: {problem}", layers.place("source.binlog.url")));
        }
        positive(layers, problems, "source.binlog.heartbeat", !self.heartbeat.is_zero());
        positive(layers, problems, "source.binlog.lease", self.lease >= Duration::from_secs(1));
        if !etcd && self.position_file.is_none() {
            problems.push(format!(
                "{}: neither a file nor etcd keeps the position; write position_file = \"/var/lib/freshline/binlog.json\", or set cluster.etcd",
                layers.place("source.binlog.position_file")
            ));
        }
    }
}
