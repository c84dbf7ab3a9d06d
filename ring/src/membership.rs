//! The two contracts: knowing the members, and being one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Epoch, Error, MemberState, Moment, Ring};

/// Knows which members there are.
///
/// Views only move forward: the epoch of [`ring`](Self::ring) never falls, and every view is exactly the membership at its epoch.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// The ring as known now. It may lag behind; what must not lag uses [`read`](Self::read).
    fn ring(&self) -> Arc<Ring>;

    /// Tells each change of [`ring`](Self::ring). A slow watcher sees the newest ring and may miss those between.
    fn watch(&self) -> watch::Receiver<Arc<Ring>>;

    /// The ring after every change that was complete when this was called (linearizable).
    ///
    /// Without it a sync service could plan by an old view: *a row changes; B joins, fills the old row; the plan names A alone; A
    /// acknowledges; B serves the old row for ever.* Calls that wait for each other share one read: it serves everybody who asked before
    /// it began. Safe to drop.
    async fn read(&self) -> Result<Arc<Ring>, Error>;

    /// A ring at `epoch` or later: what a node does before it applies anything under an epoch that it has not reached.
    ///
    /// Costs nothing when the view is there already. Safe to drop.
    async fn catch_up(&self, epoch: Epoch) -> Result<Arc<Ring>, Error>;

    /// Why the membership can't be followed any more, and since when, where nothing but a new start mends it. `None` for one that can be, or
    /// that waits for etcd to be back.
    fn broken(&self) -> Option<(Error, Instant)> {
        None
    }
}

/// Waits until a membership has been [`broken`](Membership::broken) for `patience`; tells on the way, about once a second, whether it is.
pub async fn until_broken(
    membership: &dyn Membership,
    patience: Duration,
    mut tell: impl FnMut(Option<&Error>),
) -> Error {
    loop {
        match membership.broken() {
            Some((error, since)) => {
                tell(Some(&error));
                if since.elapsed() >= patience {
                    return error;
                }
            }
            None => tell(None),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A node's own place in the membership.
///
/// A registration whose lease has ended registers again by itself, as a new incarnation in state [`MemberState::Joining`]; the node empties
/// its store, confirms the epoch and sets itself active again.
#[async_trait]
pub trait Registration: Send + Sync + 'static {
    /// Whether the lease is provably alive at `now`: counted from when the last good keep-alive was *sent*, less a margin.
    ///
    /// `now` is of tokio's clock, which stands still while the host is suspended; an implementation asks clocks that don't as well. Costs some
    /// tens of nanoseconds: it is asked at every read from memory.
    ///
    /// The sending counts, not the answer: *a keep-alive reaches etcd at 0 s and extends the lease to 10 s; the answer is held up until 9 s;
    /// who counts from the answer believes in 19 s, while from 10 s on others may be told that this node is gone.*
    fn live(&self, now: Instant) -> bool;

    /// Which life of the node this is: 0 before the first registration, and greater each time. A change means: empty the store.
    fn incarnation(&self) -> u64;

    /// Whether this very incarnation is provably alive at `now`.
    ///
    /// Whoever serves from memory asks this with the incarnation that the store was last emptied for. [`live`](Self::live) alone is not
    /// enough: *the lease ends, a removal passes this node by, the node registers again and is live, and serves the old value before the
    /// task that empties the store has run.* The new incarnation is published before it is live, so the order of the two loads decides.
    fn live_as(&self, incarnation: u64, now: Instant) -> bool {
        self.live(now) && self.incarnation() == incarnation
    }

    /// This moment, by all the clocks that the lease is counted by.
    fn moment(&self) -> Moment {
        Moment::monotonic(Instant::now())
    }

    /// Whether the lease is provably alive and will be for `span` from `now` on, without another keep-alive. What a node grants to others
    /// by virtue of its membership ends no later than that.
    fn lasts(&self, now: Moment, span: Duration) -> bool {
        self.live(now.monotonic) && self.live(now.monotonic + span)
    }

    /// Whether this place among the members can pass to another process without a lease that ends in between: then a process knows nothing
    /// of what the one before it has granted.
    fn is_inherited(&self) -> bool {
        false
    }

    /// Tells each new incarnation.
    fn incarnations(&self) -> watch::Receiver<u64>;

    /// Changes the node's state for everybody; returns the epoch from which on it is so.
    ///
    /// If the answer got lost the change may have happened all the same; asking again is harmless. Safe to drop.
    async fn set_state(&self, state: MemberState) -> Result<Epoch, Error>;

    /// Ends the registration for good: the node is not live from here on, and is gone from the membership when this returns `Ok`. If it
    /// fails, the lease's end takes the node away. Safe to drop: the node is not live any more from the first poll on.
    async fn leave(&self) -> Result<(), Error>;
}
