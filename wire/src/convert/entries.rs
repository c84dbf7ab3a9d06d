//! What is in a node's memory, as it is listed and as it moves between nodes.

use std::time::Duration;

use proto::v1;
use ring::{Epoch, NodeId};

use crate::{Announcement, Held, Of, Page, Pull, Pulled, Scan, Wanted, time::to_millis};

impl From<Scan> for v1::ScanRequest {
    fn from(scan: Scan) -> Self {
        Self {
            groups: scan.groups,
            cursor: scan.cursor,
            count: scan.count,
            values: scan.values,
            keys: scan.keys,
        }
    }
}

impl From<v1::ScanRequest> for Scan {
    fn from(request: v1::ScanRequest) -> Self {
        Self {
            groups: request.groups,
            cursor: request.cursor,
            count: request.count,
            values: request.values,
            keys: request.keys,
        }
    }
}

impl From<Page> for v1::ScanReply {
    fn from(page: Page) -> Self {
        let entries = page.entries.into_iter().map(Into::into).collect();
        Self { entries, cursor: page.cursor, node: page.node, epoch: page.epoch }
    }
}

impl From<v1::ScanReply> for Page {
    fn from(reply: v1::ScanReply) -> Self {
        let entries = reply.entries.into_iter().map(Into::into).collect();
        Self { entries, cursor: reply.cursor, node: reply.node, epoch: reply.epoch }
    }
}

impl From<Pull> for v1::PullRequest {
    fn from(pull: Pull) -> Self {
        let (node, epoch) = (pull.node.to_string(), pull.epoch.0);
        let asked =
            Self { node, epoch, max_bytes: pull.max_bytes, protocol: pull.protocol, ..Self::default() };
        match pull.wanted {
            Wanted::Keys(keys) => Self { keys, ..asked },
            Wanted::Slots { slots, cursor, of } => {
                let slots = slots.into_iter().map(u32::from).collect();
                Self { slots, cursor, plain_only: of == Of::PlainGroups, ..asked }
            }
            Wanted::Done => Self { done: true, ..asked },
        }
    }
}

/// Numbers that no slot has are left out: nothing is in them.
impl From<v1::PullRequest> for Pull {
    fn from(request: v1::PullRequest) -> Self {
        let slots = request.slots.into_iter().filter_map(|slot| u16::try_from(slot).ok()).collect();
        let wanted = if request.done {
            Wanted::Done
        } else if request.keys.is_empty() {
            let of = if request.plain_only { Of::PlainGroups } else { Of::AllGroups };
            Wanted::Slots { slots, cursor: request.cursor, of }
        } else {
            Wanted::Keys(request.keys)
        };
        Self {
            node: NodeId::from(request.node),
            epoch: Epoch(request.epoch),
            wanted,
            max_bytes: request.max_bytes,
            protocol: request.protocol,
        }
    }
}

impl From<Announcement> for v1::AnnounceRequest {
    fn from(Announcement { node, keys, protocol }: Announcement) -> Self {
        Self { node: node.to_string(), keys, protocol }
    }
}

impl From<v1::AnnounceRequest> for Announcement {
    fn from(v1::AnnounceRequest { node, keys, protocol }: v1::AnnounceRequest) -> Self {
        Self { node: NodeId::from(node), keys, protocol }
    }
}

impl From<Pulled> for v1::PullReply {
    fn from(pulled: Pulled) -> Self {
        Self {
            node: pulled.node.to_string(),
            incarnation: pulled.incarnation,
            epoch: pulled.epoch.0,
            entries: pulled.entries.into_iter().map(Into::into).collect(),
            cursor: pulled.cursor,
            groups: pulled.groups,
        }
    }
}

impl From<v1::PullReply> for Pulled {
    fn from(reply: v1::PullReply) -> Self {
        Self {
            node: NodeId::from(reply.node),
            incarnation: reply.incarnation,
            epoch: Epoch(reply.epoch),
            entries: reply.entries.into_iter().map(Into::into).collect(),
            cursor: reply.cursor,
            groups: reply.groups,
        }
    }
}

impl From<Held> for v1::Entry {
    fn from(held: Held) -> Self {
        Self {
            key: held.key,
            value: held.value,
            age_ms: to_millis(held.age),
            ttl_ms: to_millis(held.ttl),
            tags: held.tags.map(|hashes| v1::EntryTags { hashes }),
            lost_at: held.lost_at.map(|epoch| epoch.0),
        }
    }
}

impl From<v1::Entry> for Held {
    fn from(entry: v1::Entry) -> Self {
        Self {
            key: entry.key,
            value: entry.value,
            age: Duration::from_millis(entry.age_ms),
            ttl: Duration::from_millis(entry.ttl_ms),
            tags: entry.tags.map(|tags| tags.hashes),
            lost_at: entry.lost_at.map(Epoch),
        }
    }
}
