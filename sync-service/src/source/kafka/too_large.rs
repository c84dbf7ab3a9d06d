//! Batches that are larger than what is read at once.
//!
//! librdkafka unpacks no batch beyond `receive.message.max.bytes` and takes no such answer. It says so, without the partition, and asks for the
//! same batch again, for ever. What such a batch would have made stale can't be known, so all groups are flushed; and since one flush serves all,
//! all partitions that are behind go on at their ends, as after a backlog that is too long.

use daemon::config::ByteSize;
use parking_lot::Mutex;

use super::{Consumer, Shared, gaps};
use crate::config::OnUndecodable;
use crate::decode::Reason;
use crate::offsets::NextOffset;
use crate::source::Error;

/// Whether there is such a batch in some partition.
pub(crate) struct TooLarge {
    most: ByteSize,
    reaction: OnUndecodable,
    /// What librdkafka said.
    seen: Mutex<Option<String>>,
}

/// Whether librdkafka says that a broker's whole answer is beyond the bound: it has no code of its own for that.
pub(super) fn is_answer(reason: &str) -> bool {
    reason.contains("receive.message.max.bytes")
}

impl TooLarge {
    pub(super) fn new(most: ByteSize, reaction: OnUndecodable) -> Self {
        Self { most, reaction, seen: Mutex::default() }
    }

    /// A batch was refused.
    pub(super) fn seen(&self, reason: &str) {
        self.seen.lock().get_or_insert_with(|| reason.to_owned());
    }

    pub(super) fn is_seen(&self) -> bool {
        self.seen.lock().is_some()
    }
}

/// Where partitions go on, if a batch was refused; the gaps are noted.
///
/// # Errors
///
/// [`Error::Halted`] where that is to stop the service.
pub(super) fn pass(consumer: &Consumer, shared: &Shared) -> Result<Vec<NextOffset>, Error> {
    let TooLarge { most, reaction, seen } = &shared.too_large;
    let Some(reason) = seen.lock().take() else { return Ok(Vec::new()) };
    let what =
        format!("a batch can't be unpacked, or takes more than source.kafka.max_batch ({most}): {reason}");
    if *reaction == OnUndecodable::Halt {
        return Err(Error::Halted(format!(
            "halt: {what}; raise source.kafka.max_batch, or set sync.on_undecodable = \"dead_letter\" to flush and go on"
        )));
    }
    let owned: Vec<_> = {
        let positions = shared.positions.lock();
        positions.iter().map(|(partition, at)| (partition.clone(), *at)).collect()
    };
    let behind = owned.into_iter().filter(|(partition, _)| shared.owns(partition));
    let behind = behind.map(|(partition, at)| (partition, at, what.clone()));
    let (starts, unknown) = gaps::to_ends(consumer, shared, Reason::TooLarge, behind);
    if unknown > 0 {
        // It may be in one of these.
        shared.too_large.seen(&reason);
    }
    Ok(starts)
}
