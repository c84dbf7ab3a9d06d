//! The `[node]` section.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use catalog::{Catalog, Compress, Group};
use daemon::config::{ByteSize, Layers, Problems, Secret, is_host_port};
use memory::store::{
    Eviction,
    compress::{Codec, Compression},
};
use serde::{Deserialize, Serialize};

/// Keys that can be hot at most.
const MOST_HOT: usize = 512;
/// The longest lease of a mirror.
pub(crate) const LONGEST_MIRROR: Duration = Duration::from_secs(10);

/// What a message has room for beside what is not counted.
const LARGEST_REPLY: u64 = 60 << 20;

/// How a node is run. Every field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's name among the members. Default: the host name.
    pub id: String,
    /// Where gRPC is served. Default: `0.0.0.0:7400`.
    pub grpc: SocketAddr,
    /// Where HTTP is served. Default: `0.0.0.0:7401`.
    pub http: SocketAddr,
    /// Where others reach this node's gRPC. Default: made of the host name and the bound port.
    pub advertise_grpc: String,
    /// Where others reach this node's HTTP. Default: made of the host name and the bound port.
    pub advertise_http: String,
    /// Where Redis clients are served (RESP2 and RESP3): `0.0.0.0:6379`. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resp: Option<SocketAddr>,
    /// Where Redis clients reach this node, as `host:port`. Default: made of the host name and the bound port.
    pub advertise_resp: String,
    /// gRPC connections at a time, of clients, nodes and the sync service; beyond, the one that was silent for longest makes room. Default: 10000.
    pub grpc_connections: usize,
    /// HTTP connections at a time; beyond, the one that was silent for longest makes room. Default: 1024.
    pub http_connections: usize,
    /// Names under which browsers may reach the HTTP port, beside addresses, `localhost`, the host name and that of `advertise_http`. Default: none.
    pub http_hosts: Vec<String>,
    /// How long a connection of HTTP may be silent between requests, or take for the head of one. Longer than load balancers keep theirs, which
    /// else send requests into closed ones. Default: 75 s.
    #[serde(with = "daemon::config::duration")]
    pub http_idle: Duration,
    /// How long a caller may take to begin, to send a request as a whole, and to take any part of a reply. Default: 30 s.
    #[serde(with = "daemon::config::duration")]
    pub caller_timeout: Duration,
    /// What Redis clients must show with AUTH. Default: nothing.
    pub resp_password: Secret,
    /// Whether keys of other nodes are fetched for Redis clients, instead of naming their owner by MOVED. Default: false.
    pub resp_forward: bool,
    /// Redis clients that may be connected at a time. Default: 10000.
    pub resp_connections: usize,
    /// Bytes of replies that may wait for one Redis client, and of one reply. Who takes none while so many wait is closed. Default: 128 MiB.
    pub resp_output_limit: ByteSize,
    /// Bytes of requests and replies that all Redis clients together may have a node hold; beyond, who holds most is closed. Default: 512 MiB.
    pub resp_memory: ByteSize,
    /// Keys that are remembered for CLIENT TRACKING, each once for each client that holds it; beyond, others are invalidated early. Default: 1000000.
    pub tracking_keys: usize,
    /// Invalidations that may wait for one slow Redis client, before its connection is closed. Default: 16384.
    pub tracking_queue: usize,
    /// The node's share of slots against that of others. Default: 1.
    pub weight: u32,
    /// Memory for entries: keys, values and overhead. Default: 256 MiB.
    pub memory: ByteSize,
    /// The share of `memory` that negative entries may take, 0 to 0.9. Default: 0.1.
    pub negative_share: f64,
    /// Who has to go when memory is full. Default: `sieve`.
    pub eviction: Eviction,
    /// How values are compressed in memory, of groups that don't say: `lz4`, `zstd`, `snappy`, `gzip` or `none`. Default: `none`.
    #[serde(with = "compress")]
    pub compress: Compress,
    /// Values of fewer bytes are not compressed, of groups that don't say. Default: 1 KiB.
    pub compress_above: ByteSize,
    /// How long after a removal a fill is served but not stored. Default: 100 ms.
    #[serde(with = "daemon::config::duration")]
    pub quarantine: Duration,
    /// The longest key. Default: 1 KiB.
    pub max_key: ByteSize,
    /// The largest value that is stored; larger ones are served from the database. Default: 1 MiB.
    pub max_value: ByteSize,
    /// Bytes of values in one reply to a request of many keys; keys beyond it are left out, and can be asked for again. Default: 32 MiB, at
    /// most 60 MiB.
    pub max_reply: ByteSize,
    /// Bytes of values in all replies that are under way, of many keys or of large values; requests beyond it are refused. Default: 256 MiB.
    pub reply_memory: ByteSize,
    /// Bytes of requests that are received or worked on, over gRPC and HTTP; those beyond it are refused. Default: 256 MiB.
    pub request_memory: ByteSize,
    /// How long after a look-aside miss the value may be set with its token. Default: 60 s.
    #[serde(with = "daemon::config::duration")]
    pub token_ttl: Duration,
    /// What to do while the node can't prove its membership. Default: `read_through`.
    pub fenced: Fenced,
    /// Most keys of one request. Default: 10000.
    pub max_keys: usize,
    /// Removals that each of the gate's 64 locks remembers. Default: 4096.
    pub removal_log: usize,
    /// Removals of tags that the node remembers. Default: 65536.
    pub tag_log: usize,
    /// Keys that wait to be announced to replicas, and announced ones that wait to be copied; 0 copies what is read alone.
    pub copy_queue: usize,
    /// Events of single keys that the flight recorder remembers for `explain`, 48 bytes each; 0 turns it off. Default: 65536.
    pub recorder_events: usize,
    /// How often expired, flushed and lost entries are swept out. Default: 10 s.
    #[serde(with = "daemon::config::duration")]
    pub sweep: Duration,
    /// How long a removal that came under a newer epoch waits for the membership. Default: 1 s.
    #[serde(with = "daemon::config::duration")]
    pub catch_up: Duration,
    /// How long other nodes may take to acknowledge a removal or flush asked of this node. Default: 2 s.
    #[serde(with = "daemon::config::duration")]
    pub spread: Duration,
    /// How long values of lost slots are kept at most, for the nodes that hold them now. Default: 10 s; zero keeps none.
    #[serde(with = "daemon::config::duration")]
    pub handover: Duration,
    /// Bytes per second at which values of gained slots are taken over in bulk. Default: 32 MiB; 0 takes none.
    pub warm_rate: ByteSize,
    /// How long a miss of a gained slot waits for the node that has just lost it, before the database is asked.
    /// Default: 50 ms; zero asks the database at once.
    #[serde(with = "daemon::config::duration")]
    pub pull_wait: Duration,
    /// How long another node may serve a hot key of this one's from a mirror, and this one asks to: so long a mirror that can't be reached
    /// delays the delivery of a removal. The same for all nodes. Default: 1 s; zero keeps and grants none.
    #[serde(with = "daemon::config::duration")]
    pub mirror_lease: Duration,
    /// Reads per second from which on a key is hot. Default: 100.
    pub hot_rate: f64,
    /// Keys that are hot at most. Default: 128; 0 counts no reads.
    pub hot_keys: usize,
    /// One read of so many is counted. Default: 16.
    pub hot_sample: u32,
    /// The last share of its TTL in which a hot key is filled again before it expires, 0 to below 1. Default: 0, which is off.
    pub refresh_ahead: f64,
    /// Fills at once that no reader waits for: reloads and refreshes. Default: 16.
    pub background_fills: usize,
    /// How long the node goes on serving after it has left the ring, so that routing notices. Default: 2 s.
    #[serde(with = "daemon::config::duration")]
    pub leave: Duration,
    /// How long requests under way may take when the node stops. Default: 10 s.
    #[serde(with = "daemon::config::duration")]
    pub grace: Duration,
}

/// What a node does while it can't prove its membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fenced {
    /// Answers from the database and stores nothing.
    ReadThrough,
    /// Answers with an error that tells the caller to ask another node.
    Unavailable,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: String::new(),
            grpc: SocketAddr::from(([0, 0, 0, 0], 7400)),
            http: SocketAddr::from(([0, 0, 0, 0], 7401)),
            advertise_grpc: String::new(),
            advertise_http: String::new(),
            resp: None,
            advertise_resp: String::new(),
            grpc_connections: 10_000,
            http_connections: 1024,
            http_hosts: Vec::new(),
            http_idle: Duration::from_secs(75),
            caller_timeout: Duration::from_secs(30),
            resp_password: Secret::default(),
            resp_forward: false,
            resp_connections: 10_000,
            resp_output_limit: ByteSize(128 << 20),
            resp_memory: ByteSize(512 << 20),
            tracking_keys: 1_000_000,
            tracking_queue: 16_384,
            weight: 1,
            memory: ByteSize(256 << 20),
            negative_share: 0.1,
            eviction: Eviction::default(),
            compress: Compress::No,
            compress_above: ByteSize(1 << 10),
            quarantine: Duration::from_millis(100),
            max_key: ByteSize(1 << 10),
            max_value: ByteSize(1 << 20),
            max_reply: ByteSize(32 << 20),
            reply_memory: ByteSize(256 << 20),
            request_memory: ByteSize(256 << 20),
            token_ttl: Duration::from_mins(1),
            fenced: Fenced::ReadThrough,
            max_keys: 10_000,
            removal_log: memory::gate::LOG,
            tag_log: memory::gate::TAG_LOG,
            copy_queue: 10_000,
            recorder_events: memory::recorder::EVENTS,
            sweep: Duration::from_secs(10),
            catch_up: Duration::from_secs(1),
            spread: Duration::from_secs(2),
            handover: Duration::from_secs(10),
            warm_rate: ByteSize(32 << 20),
            pull_wait: Duration::from_millis(50),
            mirror_lease: Duration::from_secs(1),
            hot_rate: 100.0,
            hot_keys: 128,
            hot_sample: 16,
            refresh_ahead: 0.0,
            background_fills: 16,
            leave: Duration::from_secs(2),
            grace: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Lowers the limits of connections to what the process may have open, and says so.
    pub(crate) fn fit(&mut self, files: u64) {
        let resp = if self.resp.is_some() { self.resp_connections } else { 0 };
        let wanted = [self.grpc_connections, self.http_connections, resp];
        let fitted = daemon::files::fit(files, wanted);
        if fitted == wanted {
            return;
        }
        let [grpc, http, resp] = fitted;
        (self.grpc_connections, self.http_connections, self.resp_connections) = (grpc, http, resp);
        tracing::warn!(
            files,
            ?wanted,
            grpc,
            http,
            resp,
            "the process may have too few files open for all connections: the limits are lowered; raise the hard limit (ulimit -Hn, \
             LimitNOFILE=)"
        );
    }

    /// How the values of each group are compressed.
    pub(crate) fn compression(&self, catalog: &Catalog) -> Vec<Compression> {
        let of = |group: &Arc<Group>| Compression {
            codec: group.compress.unwrap_or(self.compress).codec().map(codec),
            above: group.compress_above.unwrap_or(self.compress_above.0),
        };
        catalog.groups().iter().map(of).collect()
    }

    /// Adds what makes these values unfit to run on.
    pub fn check(&self, layers: &Layers, problems: &mut Problems) {
        let mut bad = |field: &str, what: String| {
            problems.push(format!("{}: {what}", layers.place(&format!("node.{field}"))));
        };
        if self.weight == 0 {
            bad("weight", "is 0, which would give the node no slots; write 1 or more".into());
        }
        if !(0.0..=0.9).contains(&self.negative_share) {
            bad("negative_share", format!("is {}; write a share from 0 to 0.9", self.negative_share));
        }
        if self.memory.0 < 1 << 20 {
            bad("memory", format!("is {} bytes; write \"1MiB\" or more", self.memory.0));
        } else if self.max_value.0 > self.memory.0 / 2 {
            let size = self.max_value.0;
            bad(
                "max_value",
                format!("is {size} bytes, more than half of node.memory; write less, or more there"),
            );
        }
        if !(1..=LARGEST_REPLY).contains(&self.max_reply.0) {
            bad(
                "max_reply",
                format!(
                    "is {} bytes; write a size up to \"60MiB\": a message has 64 MiB at most",
                    self.max_reply.0
                ),
            );
        }
        if self.reply_memory.0 < self.max_reply.0.max(self.max_value.0) {
            bad(
                "reply_memory",
                format!("is {} bytes, less than one reply may take; write more", self.reply_memory.0),
            );
        }
        if !(1..=64 << 10).contains(&self.max_key.0) {
            bad("max_key", format!("is {} bytes; write a size from 1 B to \"64KiB\"", self.max_key.0));
        }
        if self.max_keys == 0 {
            bad("max_keys", "is 0, which would refuse every request; write 1 or more".into());
        }
        if self.request_memory.0 < wire::MAX_MESSAGE as u64 {
            bad(
                "request_memory",
                format!(
                    "is {} bytes; write \"64MiB\", which one message may have, or more",
                    self.request_memory.0
                ),
            );
        }
        for (field, value) in [
            ("grpc_connections", self.grpc_connections),
            ("http_connections", self.http_connections),
            ("resp_connections", self.resp_connections),
            ("tracking_keys", self.tracking_keys),
            ("tracking_queue", self.tracking_queue),
        ] {
            if value == 0 {
                bad(field, "is 0, which would serve nobody; write 1 or more".into());
            }
        }
        if !(64 << 10..=4 << 30).contains(&self.resp_output_limit.0) {
            let size = self.resp_output_limit.0;
            bad("resp_output_limit", format!("is {size} bytes; write a size from \"64KiB\" to \"4GiB\""));
        } else if self.resp_memory.0 < self.resp_output_limit.0 {
            let (size, one) = (self.resp_memory.0, self.resp_output_limit.0);
            bad(
                "resp_memory",
                format!(
                    "is {size} bytes, less than the {one} of one client; write more here, or less in node.resp_output_limit"
                ),
            );
        }
        if !self.advertise_resp.is_empty() && !is_host_port(&self.advertise_resp) {
            bad("advertise_resp", format!("is {:?}; write it like \"host:6379\"", self.advertise_resp));
        }
        if self.removal_log == 0 {
            bad("removal_log", "is 0, which would store nothing; write 1024 or more".into());
        }
        if !self.hot_rate.is_finite() || self.hot_rate < 0.0 {
            bad("hot_rate", format!("is {}; write reads per second, like 100", self.hot_rate));
        }
        if self.hot_keys > MOST_HOT {
            bad(
                "hot_keys",
                format!("is {}; write {MOST_HOT} or less: they are few by nature", self.hot_keys),
            );
        }
        if self.hot_sample == 0 {
            bad("hot_sample", "is 0; write 1 to count every read, or hot_keys = 0 to count none".into());
        }
        if !(0.0..1.0).contains(&self.refresh_ahead) {
            bad("refresh_ahead", format!("is {}; write a share from 0 to below 1", self.refresh_ahead));
        }
        if self.background_fills == 0 {
            bad("background_fills", "is 0, which would fill nothing; write 1 or more".into());
        }
        if self.mirror_lease > LONGEST_MIRROR {
            let text = format!(
                "is {:?}: a mirror that can't be reached would delay removals as long; write {LONGEST_MIRROR:?} or less",
                self.mirror_lease
            );
            bad("mirror_lease", text);
        }
        for (field, value) in [
            ("sweep", self.sweep),
            ("caller_timeout", self.caller_timeout),
            ("http_idle", self.http_idle),
            ("catch_up", self.catch_up),
            ("spread", self.spread),
            ("token_ttl", self.token_ttl),
        ] {
            if value.is_zero() {
                bad(field, "is zero; write a duration like \"1s\"".into());
            }
        }
        for (field, value) in
            [("advertise_grpc", &self.advertise_grpc), ("advertise_http", &self.advertise_http)]
        {
            if !value.is_empty() && !value.starts_with("http://") && !value.starts_with("https://") {
                bad(field, format!("is {value:?}; write a URL like \"http://host:7400\""));
            }
        }
    }
}

/// A codec by its name, or `none`.
mod compress {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::Compress;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
    pub(super) fn serialize<S: Serializer>(compress: &Compress, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(compress.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Compress, D::Error> {
        let name = String::deserialize(deserializer)?;
        Compress::parse(&name).ok_or_else(|| {
            D::Error::custom(format!("`{name}` is no codec, write one of {}", Compress::NAMES.join(", ")))
        })
    }
}

/// What the catalog calls by the same name.
fn codec(named: catalog::Codec) -> Codec {
    match named {
        catalog::Codec::Lz4 => Codec::Lz4,
        catalog::Codec::Zstd => Codec::Zstd,
        catalog::Codec::Snappy => Codec::Snappy,
        catalog::Codec::Gzip => Codec::Gzip,
    }
}

#[cfg(test)]
mod tests {
    use catalog::Codec;

    use super::*;

    #[test]
    fn the_defaults_are_fit_and_every_mistake_is_told() {
        let layers = Layers::from_text("freshline.toml", "", std::iter::empty()).unwrap();
        let mut problems = Problems::default();
        Config::default().check(&layers, &mut problems);
        assert!(problems.is_empty(), "{problems}");
        let bad = Config {
            weight: 0,
            negative_share: 2.0,
            max_value: ByteSize(1 << 40),
            advertise_grpc: "node:7400".into(),
            advertise_resp: "redis://node".into(),
            tracking_keys: 0,
            resp_memory: ByteSize(1 << 20),
            ..Config::default()
        };
        bad.check(&layers, &mut problems);
        assert_eq!(problems.len(), 8, "{problems}");
        let bad = Config { resp_output_limit: ByteSize(1), ..Config::default() };
        bad.check(&layers, &mut problems);
        assert_eq!(problems.len(), 9, "{problems}");
    }

    #[test]
    fn a_group_says_how_it_is_compressed_or_the_node_does() {
        let config: Config =
            serde_json::from_str(r#"{"compress":"lz4","compress_above":"2KiB","eviction":"s3fifo"}"#)
                .unwrap();
        assert_eq!((config.compress.codec(), config.eviction), (Some(Codec::Lz4), Eviction::S3fifo));
        let printed: Config = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(printed, config);
        let wrong = serde_json::from_str::<Config>(r#"{"compress":"lz5"}"#).unwrap_err().to_string();
        assert!(wrong.contains("`lz5` is no codec, write one of lz4, zstd"), "{wrong}");
        let group = |name: &str, more: &str| {
            format!("[[group]]\nname = {name:?}\nkey = \"{name}:{{id:u64}}\"\nrules = \"none\"\n{more}\n")
        };
        let text = [
            group("a", ""),
            group("b", "compress = \"none\""),
            group("c", "compress = \"zstd\"\ncompress_above = 100"),
        ];
        let catalog = Catalog::parse("f.toml", &text.concat()).unwrap();
        let compression: Vec<_> =
            config.compression(&catalog).iter().map(|group| (group.codec, group.above)).collect();
        assert_eq!(
            compression,
            [(Some(super::Codec::Lz4), 2048), (None, 2048), (Some(super::Codec::Zstd), 100)]
        );
    }
}
