//! Heartbeats of the sync service: watermarks in, what this node has confirmed out (R9, R4).

use std::sync::{
    Arc,
    atomic::Ordering::{AcqRel, Release},
};

use ring::Epoch;
use wire::{Heartbeat, HeartbeatReply};

use crate::node::Node;

impl Node {
    /// Notes how far the change stream is applied here, and tells what this node has confirmed. Answers at once: a ring that the
    /// sender knows and this node does not is caught up with in the background.
    pub fn heartbeat(self: &Arc<Self>, heartbeat: &Heartbeat) -> HeartbeatReply {
        let own = self.current_ring().epoch();
        if !own.is_of_same_history(heartbeat.epoch) {
            self.agreement.other_membership(heartbeat.epoch, own);
        } else if own < heartbeat.epoch {
            self.catch_up_later(heartbeat.epoch);
        }
        // Who plans by other members may have passed this node by.
        if own.is_of_same_history(heartbeat.epoch)
            && let Some(watermarks) = &heartbeat.watermarks
        {
            self.watermarks.note(watermarks);
        }
        HeartbeatReply {
            node: self.id.clone(),
            incarnation: self.life.registration().incarnation(),
            epoch: self.slots.epoch(),
            confirmed_epoch: self.slots.confirmed(),
            clock: Some(self.watermarks.clock()),
        }
    }

    /// One at a time: the next heartbeat asks again.
    fn catch_up_later(self: &Arc<Self>, epoch: Epoch) {
        if self.catching_up.swap(true, AcqRel) {
            return;
        }
        let node = self.clone();
        self.tasks.spawn(async move {
            // Dropping the wait loses nothing.
            tokio::select! {
                biased;
                () = node.stop.cancelled() => {}
                caught_up = node.catch_up(epoch) => if let Err(error) = caught_up {
                    tracing::debug!(node = %node.id, %error, "told of an epoch that is not here yet");
                }
            }
            node.catching_up.store(false, Release);
        });
    }
}
