//! `[cluster]`: who is a member and who keeps the list.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use super::positive;
use crate::config::{Layers, Problems, duration, mask_url};

/// `[cluster]`: membership by etcd, by a fixed list, or neither: one node alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// The cluster's name; its members are kept under `/freshline/NAME/members/` in etcd. Default `"default"`.
    pub name: String,
    /// etcd's client URLs. Default none.
    #[serde(serialize_with = "masked")]
    pub etcd: Vec<String>,
    /// A fixed member list instead of etcd. Default none.
    pub members: Vec<FixedMember>,
    /// Copies of each slot in total; 1 is the owner alone. Default 1.
    pub replicas: usize,
    /// How long a node that fell silent stays a member (etcd only). Default `"10s"`.
    #[serde(with = "duration")]
    pub lease: Duration,
}

/// One member of a fixed list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedMember {
    /// The node's id, as in its `node.id`.
    pub id: String,
    /// Where its gRPC port is reached: `http://host:7400`.
    pub grpc: String,
    /// Where its HTTP port is reached: `http://host:7401`. Default empty.
    #[serde(default)]
    pub http: String,
    /// Where Redis clients reach it: `host:6379`. Default empty: it serves none.
    #[serde(default)]
    pub resp: String,
    /// Its share of the slots against the others'. Default 1.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

fn masked<S: Serializer>(urls: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(urls.iter().map(|url| mask_url(url)))
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            etcd: Vec::new(),
            members: Vec::new(),
            replicas: 1,
            lease: Duration::from_secs(10),
        }
    }
}

impl Cluster {
    /// Pushes what is wrong beyond single fields.
    pub fn check(&self, layers: &Layers, problems: &mut Problems) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || !self.name.chars().all(plain) {
            let place = layers.place("cluster.name");
            problems.push(format!(
                "{place}: `{}` is not a name, use letters, digits, `-`, `_` and `.`",
                self.name
            ));
        }
        if !self.etcd.is_empty() && !self.members.is_empty() {
            let place = layers.place("cluster.members");
            problems.push(format!("{place}: cluster.etcd is set too, keep one: etcd or a fixed list"));
        }
        for url in &self.etcd {
            http_url(url, "http://etcd:2379", &layers.place("cluster.etcd"), problems);
        }
        positive(layers, problems, "cluster.replicas", self.replicas > 0);
        if self.lease < Duration::from_secs(2) {
            problems.push(format!(
                "{}: must be 2s or more, etcd's leases are no finer",
                layers.place("cluster.lease")
            ));
        }
        let place = layers.place("cluster.members");
        let mut ids = BTreeSet::new();
        for member in &self.members {
            if member.id.is_empty() {
                problems.push(format!("{place}: a member has an empty id"));
            } else if !ids.insert(&member.id) {
                problems.push(format!("{place}: two members have the id `{}`", member.id));
            }
            if member.weight == 0 {
                problems.push(format!("{place}: member `{}`: weight must be more than zero", member.id));
            }
            let place = format!("{place}: member `{}`", member.id);
            http_url(&member.grpc, "http://host:7400", &place, problems);
            if !member.http.is_empty() {
                http_url(&member.http, "http://host:7401", &place, problems);
            }
            if !member.resp.is_empty() && !is_host_port(&member.resp) {
                problems.push(format!(
                    "{place}: resp `{}` is not an address, write it like host:6379",
                    member.resp
                ));
            }
        }
    }
}

/// Whether a text is `host:port`, as Redis clients are told addresses.
pub fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn http_url(url: &str, example: &str, place: &str, problems: &mut Problems) {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':'])) {
        problems.push(format!("{place}: `{}` is not a URL, write it like {example}", mask_url(url)));
    }
}
