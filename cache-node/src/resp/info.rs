//! INFO: what a node is and does, in the fields that tools for Redis read.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use wire::NodeStats;

use super::{codec::Arguments, error::CLASSES, keys::is, session::Session, table::COMMANDS, topology};
use crate::node::Node;

/// The version of Redis whose commands and errors these are; clients turn features on by it.
pub(super) const REDIS: &str = "7.4.0";

/// Sections in Redis's order, and whether they are told to who asks for none.
const SECTIONS: [(&str, bool); 12] = [
    ("server", true),
    ("clients", true),
    ("memory", true),
    ("persistence", true),
    ("stats", true),
    ("replication", true),
    ("modules", true),
    ("commandstats", false),
    ("errorstats", true),
    ("cluster", true),
    ("keyspace", true),
    ("freshline", true),
];

type Lines = Vec<(String, String)>;

impl Session {
    pub(super) fn info(&mut self, arguments: Arguments<'_>) {
        let asked = |names: &[&str]| arguments.from(1).any(|given| names.iter().any(|name| is(given, name)));
        let everything = asked(&["all", "everything"]);
        let usual = arguments.len() == 1 || asked(&["default"]);
        let stats = self.node.stats();
        let mut text = String::new();
        for (name, is_usual) in SECTIONS {
            if !(everything || usual && is_usual || asked(&[name])) {
                continue;
            }
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let mut title = name.to_owned();
            title[..1].make_ascii_uppercase();
            let _ = write!(text, "# {title}\r\n");
            for (field, value) in section(name, &self.node, &stats) {
                let _ = write!(text, "{field}:{value}\r\n");
            }
        }
        self.reply.text(&text);
    }
}

/// The fields of a section.
fn section(name: &str, node: &Node, stats: &NodeStats) -> Lines {
    let lines: Vec<(&str, String)> = match name {
        "server" => server(node, stats),
        "clients" => clients(node),
        "memory" => memory(node, stats),
        // A cache: nothing is written to disk, and nothing loaded.
        "persistence" => [
            "loading",
            "async_loading",
            "rdb_changes_since_last_save",
            "rdb_bgsave_in_progress",
            "aof_enabled",
        ]
        .map(|field| (field, "0".to_owned()))
        .into(),
        "stats" => counters(node, stats),
        "replication" => {
            vec![
                ("role", "master".into()),
                ("connected_slaves", "0".into()),
                ("master_repl_offset", "0".into()),
            ]
        }
        "commandstats" => return commands(node),
        "errorstats" => return errors(node),
        "cluster" => vec![("cluster_enabled", "1".into())],
        "keyspace" if stats.entries == 0 => vec![],
        "keyspace" => vec![("db0", format!("keys={0},expires={0},avg_ttl=0", stats.entries))],
        "freshline" => own(node, stats),
        _ => vec![],
    };
    lines.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

fn server(node: &Node, stats: &NodeStats) -> Vec<(&'static str, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let uptime = stats.uptime.as_secs();
    vec![
        ("redis_version", REDIS.into()),
        ("redis_mode", "cluster".into()),
        ("os", std::env::consts::OS.into()),
        ("arch_bits", usize::BITS.to_string()),
        ("process_id", std::process::id().to_string()),
        ("run_id", topology::hex_id(&node.id)),
        ("tcp_port", topology::host_port(&node.resp.address.lock()).1.to_string()),
        ("server_time_usec", now.as_micros().to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86400).to_string()),
    ]
}

fn clients(node: &Node) -> Vec<(&'static str, String)> {
    let clients = &node.resp.clients;
    vec![
        ("connected_clients", clients.count().to_string()),
        ("cluster_connections", "0".into()),
        ("maxclients", node.config.resp_connections.to_string()),
        // Of commands that wait for somebody else's, as BLPOP does: there are none.
        ("blocked_clients", "0".into()),
        ("tracking_clients", clients.trackers().to_string()),
        ("pubsub_clients", clients.subscribers().to_string()),
    ]
}

fn memory(node: &Node, stats: &NodeStats) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("used_memory", stats.bytes.to_string()),
        ("used_memory_human", human(stats.bytes)),
        ("used_memory_dataset", stats.bytes.to_string()),
        ("maxmemory", stats.capacity_bytes.to_string()),
        ("maxmemory_human", human(stats.capacity_bytes)),
        ("maxmemory_policy", policy(node)),
        ("mem_clients_normal", node.resp.clients.held().to_string()),
    ];
    if let Some(resident) = resident() {
        lines.extend([("used_memory_rss", resident.to_string()), ("used_memory_rss_human", human(resident))]);
    }
    lines
}

fn counters(node: &Node, stats: &NodeStats) -> Vec<(&'static str, String)> {
    let (resp, metrics) = (&node.resp, &node.resp.metrics);
    let sum = |number: u64| number.to_string();
    vec![
        ("total_connections_received", sum(metrics.accepted.get() + metrics.refused.get())),
        ("total_commands_processed", sum(metrics.all_commands())),
        ("instantaneous_ops_per_sec", sum(resp.pace.commands())),
        ("total_net_input_bytes", sum(metrics.received.get())),
        ("total_net_output_bytes", sum(metrics.sent.get())),
        ("instantaneous_input_kbps", resp.pace.kilobytes_in()),
        ("instantaneous_output_kbps", resp.pace.kilobytes_out()),
        ("rejected_connections", sum(metrics.refused.get())),
        ("expired_keys", sum(stats.expirations)),
        ("evicted_keys", sum(stats.evictions)),
        ("evicted_clients", sum(metrics.memory_evictions.get())),
        ("keyspace_hits", sum(stats.hits + stats.negative_hits)),
        ("keyspace_misses", sum(stats.misses + stats.shared)),
        ("pubsub_channels", u8::from(resp.clients.subscribers() > 0).to_string()),
        ("pubsub_patterns", "0".into()),
        ("tracking_total_keys", sum(resp.tracking.keys())),
        ("tracking_total_items", sum(resp.tracking.registrations())),
        ("total_error_replies", sum(metrics.errors.get())),
        ("client_output_buffer_limit_disconnections", sum(metrics.output_overflows.get())),
    ]
}

/// By command that was given. How long each took is not measured.
fn commands(node: &Node) -> Lines {
    let counted = COMMANDS.iter().enumerate().filter_map(|(at, command)| {
        let (calls, failed) = node.resp.metrics.of_command(at);
        (calls > 0).then(|| {
            let value =
                format!("calls={calls},usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls={failed}");
            (format!("cmdstat_{}", command.name), value)
        })
    });
    counted.collect()
}

fn errors(node: &Node) -> Lines {
    let counts = CLASSES.iter().zip(node.resp.metrics.errors_by_class());
    counts
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| (format!("errorstat_{class}"), format!("count={count}")))
        .collect()
}

/// What Redis has no field for.
fn own(node: &Node, stats: &NodeStats) -> Vec<(&'static str, String)> {
    let ring = node.ring();
    vec![
        ("freshline_version", stats.version.clone()),
        ("freshline_node", stats.node.clone()),
        ("epoch", ring.epoch().0.to_string()),
        ("members", ring.members().len().to_string()),
        ("slots", stats.slots.to_string()),
        ("fenced", u8::from(stats.fenced).to_string()),
        ("negative_entries", stats.negative_entries.to_string()),
        ("fills", stats.fills.to_string()),
        ("removes", stats.removes.to_string()),
        ("tag_removes", stats.tag_removes.to_string()),
        ("flushes", stats.flushes.to_string()),
    ]
}

/// The policy in Redis's way: it is of all keys.
pub(super) fn policy(node: &Node) -> String {
    format!("allkeys-{}", node.config.eviction.name())
}

/// Bytes as Redis writes them for people.
fn human(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    #[expect(clippy::cast_precision_loss, reason = "for people, two digits behind the point")]
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 1024.0 && unit + 1 < units.len() {
        (amount, unit) = (amount / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{amount:.2}{}", units[unit]) }
}

/// Bytes of this process in the machine's memory, where the system says so.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_redis_does() {
        let written = [0, 1023, 1024, 1_633_064, 25_276_502_016].map(human);
        assert_eq!(written, ["0B", "1023B", "1.00K", "1.56M", "23.54G"]);
    }
}
