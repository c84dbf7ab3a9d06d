//! What a node counts.

use std::time::Duration;

use proto::v1;

use crate::{GroupStats, NodeStats, time::to_millis};

/// Counters travel under the same names on both sides.
macro_rules! same_fields {
    ($from:expr, { $($field:ident),* $(,)? }, { $($name:ident : $value:expr),* $(,)? }) => {
        Self { $($field: $from.$field,)* $($name: $value,)* }
    };
}

impl From<v1::StatsReply> for NodeStats {
    fn from(reply: v1::StatsReply) -> Self {
        let groups = reply.groups.into_iter().map(|group| GroupStats {
            name: group.name,
            hits: group.hits,
            misses: group.misses,
            fills: group.fills,
        });
        same_fields!(reply, {
            node, incarnation, epoch, version, entries, negative_entries, bytes, capacity_bytes, hits, negative_hits, misses, shared,
            fills, fill_errors, fills_refused, removes, removes_hit, tag_removes, flushes, evictions, expirations, forwards, slots, fenced,
            compressed_entries, compressed_bytes, compressed_plain_bytes,
        }, { uptime: Duration::from_millis(reply.uptime_ms), groups: groups.collect() })
    }
}

impl From<NodeStats> for v1::StatsReply {
    fn from(stats: NodeStats) -> Self {
        let groups = stats.groups.into_iter().map(|group| v1::GroupStats {
            name: group.name,
            hits: group.hits,
            misses: group.misses,
            fills: group.fills,
        });
        same_fields!(stats, {
            node, incarnation, epoch, version, entries, negative_entries, bytes, capacity_bytes, hits, negative_hits, misses, shared,
            fills, fill_errors, fills_refused, removes, removes_hit, tag_removes, flushes, evictions, expirations, forwards, slots, fenced,
            compressed_entries, compressed_bytes, compressed_plain_bytes,
        }, { uptime_ms: to_millis(stats.uptime), groups: groups.collect() })
    }
}
