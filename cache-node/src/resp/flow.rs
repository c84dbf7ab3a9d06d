//! How many bytes of replies may wait for one client while its next requests are looked at.
//!
//! Many clients write all of a pipeline before they read any reply. A node that stopped reading while its replies are unread would wait for such a
//! client, and the client for it. So a node reads on, as Redis does. But a client that does take its replies, only slower than they are made, is
//! waited for: what it has asked may be of any size. The two differ in whether bytes go out: as long as they do, so many wait as
//! [`BASE`]; each time that none goes out for [`PATIENCE`] twice as many, up to the limit. Who takes none for [`LAST`] then is closed.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that wait without a question.
const BASE: usize = 1 << 20;
/// How long no byte goes out until more may wait.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long no byte goes out until a client for which as much waits as may is given up.
const LAST: Duration = Duration::from_secs(1);

/// What one connection may have waiting.
#[derive(Debug)]
pub(super) struct Flow {
    allowed: usize,
    limit: usize,
    /// When bytes went out last, or more were allowed.
    since: Instant,
}

/// What follows from a wait in which nothing went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stalled {
    /// More may wait.
    ReadOn,
    /// The client takes nothing, and as much waits as may.
    GiveUp,
}

impl Flow {
    /// For at most so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { allowed: BASE.min(limit), limit, since: Instant::now() }
    }

    /// Notes the limit of now: it is another one before a password is shown.
    pub(super) fn limit(&mut self, limit: usize) {
        if limit != self.limit {
            *self = Self::new(limit);
        }
    }

    /// Whether requests have to wait while so many bytes of replies do.
    pub(super) fn is_full(&self, waiting: usize) -> bool {
        waiting > self.allowed
    }

    /// Notes that bytes went out, and how many still wait.
    pub(super) fn went_out(&mut self, waiting: usize) {
        self.since = Instant::now();
        if waiting == 0 {
            self.allowed = BASE.min(self.limit);
        }
    }

    /// Begins to wait for bytes to go out.
    pub(super) fn wait(&mut self) {
        self.since = Instant::now();
    }

    /// When to ask whether the client is [`stalled`](Self::stalled).
    pub(super) fn until(&self) -> Instant {
        self.since + if self.allowed < self.limit { PATIENCE } else { LAST }
    }

    /// Nothing went out until then.
    pub(super) fn stalled(&mut self) -> Stalled {
        if self.allowed >= self.limit {
            return Stalled::GiveUp;
        }
        self.allowed = (self.allowed * 2).min(self.limit);
        self.since = Instant::now();
        Stalled::ReadOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn more_may_wait_only_while_nothing_goes_out_and_no_more_than_the_limit() {
        let mut flow = Flow::new(3 * BASE);
        assert!(!flow.is_full(BASE) && flow.is_full(BASE + 1));
        tokio::time::advance(PATIENCE / 2).await;
        flow.went_out(BASE); // it takes some: it is waited for
        assert_eq!(flow.until(), Instant::now() + PATIENCE);
        assert_eq!(flow.stalled(), Stalled::ReadOn);
        assert!(!flow.is_full(2 * BASE) && flow.is_full(2 * BASE + 1));
        assert_eq!(flow.stalled(), Stalled::ReadOn);
        assert!(!flow.is_full(3 * BASE) && flow.is_full(3 * BASE + 1));
        assert_eq!(flow.until(), Instant::now() + LAST);
        assert_eq!(flow.stalled(), Stalled::GiveUp);
        flow.went_out(0); // all is read: as at the beginning
        assert!(flow.is_full(BASE + 1));
        flow.limit(1000);
        assert!(flow.is_full(1001));
        assert_eq!(flow.stalled(), Stalled::GiveUp);
    }
}
