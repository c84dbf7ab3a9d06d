//! The numbers of Canal's batches, by which a restart of Canal is told.

use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

use crate::decode::Event;
use crate::offsets::Partition;
use crate::source::Message;

/// How often restarts in one partition are told in the log.
const REMIND: Duration = Duration::from_secs(10);

/// The last batch seen in each partition.
#[derive(Default)]
pub(super) struct Streaks(HashMap<Partition, Streak>);

struct Streak {
    last: Mark,
    told: Option<Instant>,
}

/// One message's place in Canal's own order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    offset: i64,
    pub(super) batch: i64,
    pub(super) executed_ms: Option<i64>,
}

/// A batch number that is less than the one before.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Restart {
    pub(super) before: Mark,
    pub(super) now: Mark,
    /// Whether to log it.
    pub(super) tell: bool,
}

impl Streaks {
    /// Notes a message; says whether Canal was restarted before it. Producers that don't count have 0 in every message, or nothing.
    pub(super) fn restart(&mut self, message: &Message<'_>, event: &Event) -> Option<Restart> {
        let batch = event.batch.filter(|batch| *batch > 0)?;
        let now = Mark { offset: message.offset, batch, executed_ms: event.executed_ms };
        let Some(streak) = self.0.get_mut(message.partition) else {
            self.0.insert(message.partition.clone(), Streak { last: now, told: None });
            return None;
        };
        let before = std::mem::replace(&mut streak.last, now);
        // At an offset that came before it is this service that has gone back, not Canal.
        if batch >= before.batch || message.offset <= before.offset {
            return None;
        }
        let tell = streak.told.is_none_or(|told| told.elapsed() >= REMIND);
        if tell {
            streak.told = Some(Instant::now());
        }
        Some(Restart { before, now, tell })
    }
}
