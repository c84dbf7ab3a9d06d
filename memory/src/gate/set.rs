//! The gate for values that applications read by themselves.

use super::{Filled, Gate, Refused, Token, may_store};
use crate::{place::Place, store::Inserted};

/// Why a value that an application had read was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSet {
    /// A fill would have been refused as well.
    Refused(Refused),
    /// A value is in memory that was read later.
    Superseded,
}

impl Gate {
    /// Like [`store_filled`](Self::store_filled), but leaves a value alone that was read later than this one: two reads that no removal
    /// parts are both right, and what the node read itself it knows the age of.
    pub fn store_set(
        &self,
        token: &Token,
        place: Place,
        filled: Filled,
        live: impl FnOnce() -> bool,
    ) -> Result<Inserted, NotSet> {
        let packed = self.pack(place.group, filled.value.as_ref());
        let log = self.shard(place.hash).lock();
        let view = self.view(&log, place, &filled.tags, token.seq, token.started, live());
        may_store(token, &view, self.quarantine()).map_err(NotSet::Refused)?;
        let now = tokio::time::Instant::now();
        if self.peek(place, &filled.key, now).is_some_and(|entry| entry.filled > token.started) {
            return Err(NotSet::Superseded);
        }
        let inserted = self.put(token, place, token.started, filled, packed.as_ref());
        drop(log); // held until here: a removal must not come between the check and the insert
        Ok(inserted)
    }
}
