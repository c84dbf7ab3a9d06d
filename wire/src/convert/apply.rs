//! What the sync service has nodes apply, and the watermarks that it tells.

use proto::v1;
use ring::{Epoch, NodeId};

use crate::{Ack, Apply, Clock, Heartbeat, HeartbeatReply, PartitionName, Watermark, Watermarks};

impl From<Apply> for v1::ApplyRequest {
    fn from(apply: Apply) -> Self {
        Self {
            epoch: apply.epoch.0,
            remove: apply.remove,
            remove_tags: apply.remove_tags,
            flush: apply.flush,
            origin: apply.origin,
            watermarks: apply.watermarks.map(Into::into),
        }
    }
}

impl From<v1::ApplyRequest> for Apply {
    fn from(request: v1::ApplyRequest) -> Self {
        Self {
            epoch: Epoch(request.epoch),
            remove: request.remove,
            remove_tags: request.remove_tags,
            flush: request.flush,
            origin: request.origin,
            watermarks: request.watermarks.map(Into::into),
        }
    }
}

impl From<Watermarks> for v1::Watermarks {
    fn from(watermarks: Watermarks) -> Self {
        let partition =
            |name: PartitionName| v1::Partition { topic: name.topic.to_string(), number: name.number };
        let one = |watermark: Watermark| v1::Watermark {
            partition: Some(partition(watermark.partition)),
            next: watermark.next,
            at: watermark.at,
        };
        Self {
            clock: watermarks.clock,
            partitions: watermarks.partitions.into_iter().map(one).collect(),
            all: watermarks.all.into_iter().map(partition).collect(),
            listed: watermarks.listed,
        }
    }
}

impl From<v1::Watermarks> for Watermarks {
    fn from(watermarks: v1::Watermarks) -> Self {
        let partition = |name: v1::Partition| PartitionName { topic: name.topic.into(), number: name.number };
        let one = |watermark: v1::Watermark| {
            Some(Watermark {
                partition: partition(watermark.partition?),
                next: watermark.next,
                at: watermark.at,
            })
        };
        Self {
            clock: watermarks.clock,
            partitions: watermarks.partitions.into_iter().filter_map(one).collect(),
            all: watermarks.all.into_iter().map(partition).collect(),
            listed: watermarks.listed,
        }
    }
}

impl From<Ack> for v1::ApplyReply {
    fn from(ack: Ack) -> Self {
        Self {
            node: ack.node.to_string(),
            incarnation: ack.incarnation,
            epoch: ack.epoch.0,
            confirmed_epoch: ack.confirmed_epoch.0,
            removed: ack.removed,
            clock: ack.clock.map(Into::into),
        }
    }
}

impl From<v1::ApplyReply> for Ack {
    fn from(reply: v1::ApplyReply) -> Self {
        Self {
            node: NodeId::from(reply.node),
            incarnation: reply.incarnation,
            epoch: Epoch(reply.epoch),
            confirmed_epoch: Epoch(reply.confirmed_epoch),
            removed: reply.removed,
            clock: reply.clock.map(Into::into),
        }
    }
}

impl From<Clock> for v1::Clock {
    fn from(clock: Clock) -> Self {
        Self { id: clock.id, micros: clock.micros }
    }
}

impl From<v1::Clock> for Clock {
    fn from(clock: v1::Clock) -> Self {
        Self { id: clock.id, micros: clock.micros }
    }
}

impl From<Heartbeat> for v1::HeartbeatRequest {
    fn from(heartbeat: Heartbeat) -> Self {
        Self { epoch: heartbeat.epoch.0, watermarks: heartbeat.watermarks.map(Into::into) }
    }
}

impl From<v1::HeartbeatRequest> for Heartbeat {
    fn from(request: v1::HeartbeatRequest) -> Self {
        Self { epoch: Epoch(request.epoch), watermarks: request.watermarks.map(Into::into) }
    }
}

impl From<HeartbeatReply> for v1::HeartbeatReply {
    fn from(reply: HeartbeatReply) -> Self {
        Self {
            node: reply.node.to_string(),
            incarnation: reply.incarnation,
            epoch: reply.epoch.0,
            confirmed_epoch: reply.confirmed_epoch.0,
            clock: reply.clock.map(Into::into),
        }
    }
}

impl From<v1::HeartbeatReply> for HeartbeatReply {
    fn from(reply: v1::HeartbeatReply) -> Self {
        Self {
            node: NodeId::from(reply.node),
            incarnation: reply.incarnation,
            epoch: Epoch(reply.epoch),
            confirmed_epoch: Epoch(reply.confirmed_epoch),
            clock: reply.clock.map(Into::into),
        }
    }
}
