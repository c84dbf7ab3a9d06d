//! Hot keys and mirrors.

use proto::v1;

use crate::{HotKey, HotKeys, Mirrored, time::to_millis};

impl From<v1::HotReply> for HotKeys {
    fn from(reply: v1::HotReply) -> Self {
        let key = |key: v1::HotKey| HotKey {
            key: key.key,
            group: key.group,
            reads: key.reads,
            forwarded: key.forwarded,
            error: key.error,
            hot: key.hot,
            mirrored: key.mirrored,
            mirrors: key.mirrors,
        };
        let keys = reply.keys.into_iter().map(key).collect();
        Self { node: reply.node, epoch: reply.epoch, reads: reply.reads, keys }
    }
}

impl From<HotKeys> for v1::HotReply {
    fn from(hot: HotKeys) -> Self {
        let key = |key: HotKey| v1::HotKey {
            key: key.key,
            group: key.group,
            reads: key.reads,
            forwarded: key.forwarded,
            error: key.error,
            hot: key.hot,
            mirrored: key.mirrored,
            mirrors: key.mirrors,
        };
        let keys = hot.keys.into_iter().map(key).collect();
        Self { node: hot.node, epoch: hot.epoch, reads: hot.reads, keys }
    }
}

impl From<Mirrored> for v1::MirrorReply {
    fn from(mirrored: Mirrored) -> Self {
        Self {
            reply: Some(mirrored.answer.into()),
            lease_ms: mirrored.lease.map_or(0, to_millis),
            incarnation: mirrored.incarnation,
            group_digest: mirrored.group_digest,
        }
    }
}
