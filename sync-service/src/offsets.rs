//! Which offsets may be committed: per partition, the end of the contiguous acknowledged prefix.
//!
//! Batches may be acknowledged in any order, because removals commute; what is committed still never passes a batch
//! that is not acknowledged. A partition that was revoked is forgotten: acknowledgements that come later for its old
//! assignment change nothing, also if the same partition has been assigned again meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use ring::rules::{self, Rule};
use tokio::sync::Notify;

/// One partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number in its topic.
    pub number: i32,
}

impl Partition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, number: i32) -> Self {
        Self { topic: topic.into(), number }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.number)
    }
}

/// The first offset of a partition that is not applied yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NextOffset {
    /// The partition.
    pub partition: Partition,
    /// The offset of the message to read next.
    pub next: i64,
}

/// A batch's claim on the partitions that its messages came from; shown again when all of it is acknowledged.
///
/// A ticket that is dropped holds back its partitions' commits until they are revoked: nothing is ever committed past it.
#[derive(Debug, Default)]
#[must_use = "a batch that is never acknowledged holds back every later commit"]
pub struct Ticket {
    claims: Vec<Claim>,
}

impl Ticket {
    /// Makes this one claim also what the other claims.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.claims.append(&mut other.claims);
    }
}

#[derive(Debug)]
struct Claim {
    partition: Partition,
    assignment: u64,
    number: u64,
}

/// The state of all partitions that this instance owns.
///
/// The lock guards plain bookkeeping and is never held across a wait but that of its own condition variable.
#[derive(Default)]
pub struct Offsets {
    state: Mutex<State>,
    /// Changes whenever partitions are assigned or revoked.
    generation: AtomicU64,
    changed: Condvar,
    idle: Notify,
}

#[derive(Default)]
struct State {
    assignments: u64,
    /// In order, so that commits name partitions in the same order each time.
    owned: BTreeMap<Partition, Owned>,
    unacknowledged: usize,
}

struct Owned {
    assignment: u64,
    /// Number of the batch at the front of `waiting`.
    first: u64,
    waiting: VecDeque<Waiting>,
    /// Where reading began, as far as it is known.
    start: Option<i64>,
    acknowledged: Option<i64>,
    committed: Option<i64>,
}

struct Waiting {
    next: i64,
    acknowledged: bool,
    /// Whether it is a flush for changes that were missed.
    flush: bool,
}

/// The end of what was read of a partition, and under which of its assignments.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) end: NextOffset,
    /// When the last message was logged.
    pub(crate) timestamp_ms: Option<i64>,
    /// `None`: the partition was not owned when it was read.
    pub(crate) assignment: Option<u64>,
}

impl Offsets {
    /// Makes an empty one: nothing is owned.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes over partitions. One that is owned already keeps its state.
    pub fn assign(&self, partitions: &[Partition]) {
        let state = &mut *self.state.lock();
        for partition in partitions {
            if state.owned.contains_key(partition) {
                continue;
            }
            state.assignments += 1;
            let owned = Owned {
                assignment: state.assignments,
                first: 0,
                waiting: VecDeque::new(),
                start: None,
                acknowledged: None,
                committed: None,
            };
            state.owned.insert(partition.clone(), owned);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Notes where reading of an owned partition goes on; what is before it counts as applied in [`acknowledged`](Self::acknowledged).
    /// Not to be told of a place behind a gap: nothing counts as applied there before the gap's flush is acknowledged.
    pub fn begins_at(&self, partition: &Partition, next: i64) {
        if let Some(owned) = self.state.lock().owned.get_mut(partition) {
            owned.start = Some(next);
        }
    }

    /// Gives partitions up and returns what may be committed for them at this moment.
    pub fn revoke(&self, partitions: &[Partition]) -> Vec<NextOffset> {
        let state = &mut *self.state.lock();
        let mut last = Vec::new();
        for partition in partitions {
            let Some(owned) = state.owned.remove(partition) else { continue };
            state.unacknowledged -= owned.unacknowledged();
            if let Some(next) = owned.uncommitted() {
                last.push(NextOffset { partition: partition.clone(), next });
            }
        }
        self.generation.fetch_add(1, Ordering::Release);
        self.note(state);
        last
    }

    /// Waits on the calling thread until all batches of these partitions are acknowledged, or `limit` is over.
    ///
    /// Returns whether they are. For the source's own thread, when partitions are revoked.
    pub fn wait_acknowledged(&self, partitions: &[Partition], limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        loop {
            let busy = partitions
                .iter()
                .any(|one| state.owned.get(one).is_some_and(|owned| owned.unacknowledged() > 0));
            if !busy {
                return true;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
    }

    /// Registers a batch: per partition, the next offset once all of its messages are applied.
    ///
    /// Batches of one partition must begin in the order of their offsets. Partitions that are not owned (any more) are
    /// left out: their messages may be applied, but never committed.
    pub fn begin(&self, ends: &[NextOffset]) -> Ticket {
        let claims = ends.iter().map(|end| (end, None));
        self.claim(claims, false)
    }

    /// Registers a flush for changes that were missed: per partition, where reading goes on after them. See [`owes`](Self::owes).
    pub fn begin_flush(&self, starts: &[NextOffset]) -> Ticket {
        self.claim(starts.iter().map(|start| (start, None)), true)
    }

    /// Registers a batch as [`begin`](Self::begin) does, but for partitions that have been revoked since they were read, also if
    /// they have come back. *(read up to 50, nothing of it acknowledged; revoked; assigned again, to be read from 30 on; the old
    /// batch begins, is acknowledged, and 50 is committed: a restart now would never apply 30 to 50)*
    pub(crate) fn begin_read(&self, read: &[Read]) -> Ticket {
        self.claim(read.iter().map(|read| (&read.end, Some(read.assignment))), false)
    }

    fn claim<'a>(
        &self,
        ends: impl Iterator<Item = (&'a NextOffset, Option<Option<u64>>)>,
        flush: bool,
    ) -> Ticket {
        let state = &mut *self.state.lock();
        let mut claims = Vec::new();
        for (end, under) in ends {
            let Some(owned) = state.owned.get_mut(&end.partition) else { continue };
            if under.is_some_and(|under| under != Some(owned.assignment)) {
                continue;
            }
            let number = owned.first + owned.waiting.len() as u64;
            owned.waiting.push_back(Waiting { next: end.next, acknowledged: false, flush });
            state.unacknowledged += 1;
            claims.push(Claim { partition: end.partition.clone(), assignment: owned.assignment, number });
        }
        Ticket { claims }
    }

    /// Makes a batch one that flushes for changes that were missed, see [`owes`](Self::owes): what is committed before it is committed
    /// once more, so that it can be marked.
    pub(crate) fn owe(&self, ticket: &Ticket) {
        let state = &mut *self.state.lock();
        for claim in &ticket.claims {
            let Some(owned) = state.owned.get_mut(&claim.partition) else { continue };
            if owned.assignment == claim.assignment {
                let place = usize::try_from(claim.number - owned.first).expect("a queue's length fits");
                owned.waiting[place].flush = true;
                owned.committed = None;
            }
        }
    }

    /// A number that changes whenever partitions are assigned or revoked.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a flush for changes that were missed in a partition is not acknowledged yet. Whoever takes the partition over
    /// before it is must flush again.
    pub fn owes(&self, partition: &Partition) -> bool {
        self.state.lock().owned.get(partition).is_some_and(Owned::owes)
    }

    /// Counts a batch as applied by everyone who had to.
    pub fn acknowledge(&self, ticket: Ticket) {
        let state = &mut *self.state.lock();
        for claim in ticket.claims {
            let Some(owned) = state.owned.get_mut(&claim.partition) else { continue };
            if owned.assignment != claim.assignment {
                continue;
            }
            let place = usize::try_from(claim.number - owned.first).expect("a queue's length fits");
            owned.waiting[place].acknowledged = true;
            state.unacknowledged -= 1;
            while owned.waiting.front().is_some_and(|front| front.acknowledged) {
                let front = owned.waiting.pop_front().expect("the front was just seen");
                owned.first += 1;
                owned.acknowledged = Some(front.next);
            }
        }
        self.note(state);
    }

    /// Returns what may be committed and is not yet known to be.
    pub fn committable(&self) -> Vec<NextOffset> {
        let state = self.state.lock();
        let due = state.owned.iter().filter_map(|(partition, owned)| {
            Some(NextOffset { partition: partition.clone(), next: owned.uncommitted()? })
        });
        due.collect()
    }

    /// Notes what has been committed.
    pub fn committed(&self, offsets: &[NextOffset]) {
        let state = &mut *self.state.lock();
        for offset in offsets {
            if let Some(owned) = state.owned.get_mut(&offset.partition) {
                // Not the greatest: offsets begin again where a topic was made anew.
                owned.committed = Some(offset.next);
            }
        }
    }

    /// Returns the owned partitions, each with the end of its acknowledged prefix, or where reading began. `None` if neither is
    /// known, or a flush for changes that were missed is not acknowledged: then nothing is known to be applied.
    pub fn acknowledged(&self) -> Vec<(Partition, Option<i64>)> {
        let state = self.state.lock();
        let applied = |owned: &Owned| if owned.owes() { None } else { owned.applied() };
        state.owned.iter().map(|(partition, owned)| (partition.clone(), applied(owned))).collect()
    }

    /// The offset that may stay committed of a partition: the end of its acknowledged prefix, or where reading began.
    pub(crate) fn applied(&self, partition: &Partition) -> Option<i64> {
        self.state.lock().owned.get(partition).and_then(Owned::applied)
    }

    /// The number of the assignment under which a partition is owned; another one each time that it comes back.
    pub fn assignment(&self, partition: &Partition) -> Option<u64> {
        self.state.lock().owned.get(partition).map(|owned| owned.assignment)
    }

    /// Says whether a partition is owned.
    pub fn owns(&self, partition: &Partition) -> bool {
        self.state.lock().owned.contains_key(partition)
    }

    /// Returns how many claims of batches on owned partitions are not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.state.lock().unacknowledged
    }

    /// Waits until every batch is acknowledged. Cancel safe.
    pub async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.unacknowledged() == 0 {
                return;
            }
            idle.await;
        }
    }

    fn note(&self, state: &State) {
        self.changed.notify_all();
        if state.unacknowledged == 0 {
            self.idle.notify_waiters();
        }
    }
}

impl Owned {
    fn applied(&self) -> Option<i64> {
        self.acknowledged.or(self.start)
    }

    fn owes(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.flush && !waiting.acknowledged)
    }

    fn unacknowledged(&self) -> usize {
        self.waiting.iter().filter(|waiting| !waiting.acknowledged).count()
    }

    fn uncommitted(&self) -> Option<i64> {
        let applied = if rules::holds(Rule::CommitLast) {
            self.acknowledged
        } else {
            self.waiting.back().map(|last| last.next).or(self.acknowledged)
        };
        applied.filter(|next| self.committed != Some(*next))
    }
}

#[cfg(test)]
mod tests;
