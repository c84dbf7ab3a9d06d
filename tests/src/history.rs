//! What many readers saw, checked against what the writers did: one register per row, and one clock for all.
//!
//! Everything that invokes and everything that returns is noted by one process, in nanoseconds of one monotonic clock ([`Clock`]), so the
//! instants of different clients can be compared. Row `r` has the writes `0, 1, 2, ..`, made one after the other by a single writer; write
//! `n` leaves the row with version `n`, or deletes it. A write takes effect at one instant between its beginning and its end, which nobody
//! knows more exactly. So write `n` was *certainly over* at instant `t` if write `n + 1` ended before `t`, and *certainly not yet there* if
//! `n` itself began after `t`.
//!
//! A read that began at `t0` and ended at `t1` returned a value and a claim `f`: that value holds every change that was committed earlier
//! than `t1 - f`. (A reply's claim counts from when the reply was made; the reader adds all the time since it asked, so that the claim is
//! never younger than it was meant, whatever the network did.) Three things can be wrong with it:
//!
//! - **unexplained**: no write that began by `t1` left what it returned, or the value is damaged;
//! - **outside its claim**: what it returned was certainly over before `t1 - f`: some later write ended before that;
//! - **stale after delivery**: a later write of the row had been delivered before `t0`. A write counts as delivered from the moment at which
//!   the consumer group's committed offset was seen to lie behind its message: the sync service commits last, so by then all nodes have
//!   acknowledged.
//!
//! A returned absence may stand for any deletion; the newest that had begun by `t1` is taken, which is the kindest reading for both rules.

mod check;

use std::time::{Duration, Instant};

pub use check::{Finding, Verdict, check};

/// An instant of a [`Clock`], in nanoseconds since its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Earlier by `time`; the clock's beginning at the earliest.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }

    /// How much later this is than `earlier`; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The clock that all moments of a history are read from.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    #[expect(
        clippy::new_without_default,
        reason = "a clock begins when it is made, which is no default value"
    )]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// The moment that it is.
    pub fn now(&self) -> Moment {
        Moment(nanos(self.0.elapsed()))
    }
}

/// A write of a row; its place in the row's list is its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// Whether it left the row there, with the write's number as its version; else it deleted the row.
    pub present: bool,
    /// Before the statement was sent.
    pub began: Moment,
    /// After its commit was answered.
    pub ended: Moment,
    /// When its delivery was seen.
    pub delivered: Option<Moment>,
}

/// What a read returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The row as the write of this number had left it, whole.
    Version(u32),
    /// No row.
    Absent,
    /// Something that no write wrote.
    Damaged,
}

/// An answered read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// The row.
    pub row: u32,
    /// What came back.
    pub seen: Seen,
    /// Before the request was sent.
    pub began: Moment,
    /// After the reply was there.
    pub ended: Moment,
    /// How old the value can be at worst, counted from `ended`.
    pub claim: Duration,
    /// Which node's memory or fill answered; an index into whatever list the reader keeps.
    pub node: u8,
    /// Whether it came from memory.
    pub memory: bool,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
