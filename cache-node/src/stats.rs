//! A node's counters and sizes at one moment.

use wire::{GroupStats, NodeStats};

use crate::{metrics::GroupMetrics, node::Node};

impl Node {
    /// This node's counters since its start, and its sizes now.
    pub fn stats(&self) -> NodeStats {
        let sizes = self.gate.store().sizes();
        let metrics = &self.metrics;
        let groups = metrics.groups();
        let sum = |of: fn(&GroupMetrics) -> u64| groups.iter().map(of).sum::<u64>();
        let group_stats = self.catalog.groups().iter().zip(groups).map(|(group, counted)| GroupStats {
            name: group.name.to_string(),
            hits: counted.hits.get() + counted.negative_hits.get(),
            misses: counted.misses.get(),
            fills: counted.fills.get(),
        });
        NodeStats {
            node: self.id.to_string(),
            incarnation: self.life.registration().incarnation(),
            epoch: self.slots.epoch().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed(),
            entries: sizes.entries,
            negative_entries: sizes.negative_entries,
            bytes: sizes.bytes,
            capacity_bytes: sizes.capacity,
            compressed_entries: sizes.compressed.entries,
            compressed_bytes: sizes.compressed.bytes,
            compressed_plain_bytes: sizes.compressed.plain_bytes,
            hits: sum(|group| group.hits.get()),
            negative_hits: sum(|group| group.negative_hits.get()),
            misses: sum(|group| group.misses.get()),
            shared: sum(|group| group.shared.get()),
            fills: sum(|group| group.fills.get()),
            fill_errors: sum(|group| group.fill_errors.get()),
            fills_refused: metrics.all_refused(),
            removes: metrics.removes.get(),
            removes_hit: metrics.removes_hit.get(),
            tag_removes: metrics.tag_removes.get(),
            flushes: metrics.flushes.get(),
            evictions: sizes.evictions,
            expirations: sizes.expirations,
            forwards: metrics.forwards.get(),
            slots: u32::try_from(self.slots.count()).unwrap_or(u32::MAX),
            fenced: !self.life.live(),
            groups: group_stats.collect(),
        }
    }
}
