//! How long keys could not be read.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use tests::history::Moment;

use crate::faults::{Kind, Past};

/// Shorter ones are a slow machine's own.
const NOTABLE: Duration = Duration::from_millis(100);
/// For how long after its end a fault is still to blame.
const AFTER: Duration = Duration::from_secs(10);

/// Told of every read by an application's client.
#[derive(Debug)]
pub(crate) struct Outages {
    /// Per row: since when reads of it fail.
    down: Vec<Mutex<Option<Moment>>>,
    spans: Mutex<Vec<(Moment, Moment)>>,
}

impl Outages {
    pub(crate) fn new(rows: u32) -> Self {
        Self { down: (0..rows).map(|_| Mutex::default()).collect(), spans: Mutex::default() }
    }

    pub(crate) fn failed(&self, row: u32, began: Moment) {
        let mut down = self.down[row as usize].lock().expect("nobody panics with it");
        *down = Some(down.map_or(began, |since| since.min(began)));
    }

    /// A read that waited counts as long as it waited; one that ends a row of failures, as long as these lasted too.
    pub(crate) fn answered(&self, row: u32, began: Moment, ended: Moment) {
        let since = self.down[row as usize].lock().expect("nobody panics with it").take();
        let from = since.map_or(began, |since| since.min(began));
        if ended.since(from) > NOTABLE {
            self.spans.lock().expect("nobody panics with it").push((from, ended));
        }
    }

    /// The longest for each kind of fault; `None` stands for times without one.
    pub(crate) fn longest(&self, faults: &[Past]) -> BTreeMap<Option<Kind>, Duration> {
        let mut longest = BTreeMap::new();
        for fault in faults {
            longest.insert(Some(fault.kind), Duration::ZERO);
        }
        for &(from, to) in self.spans.lock().expect("nobody panics with it").iter() {
            // The newest that had begun by then, or began while it lasted, and was not long over.
            let blamed = faults.iter().filter(|fault| {
                fault.began <= to && fault.ended.is_none_or(|ended| from.since(ended) < AFTER)
            });
            let kind = blamed.min_by_key(|fault| {
                (
                    fault.began > from,
                    if fault.began > from { fault.began.0 } else { u64::MAX - fault.began.0 },
                )
            });
            let length = longest.entry(kind.map(|fault| fault.kind)).or_default();
            *length = (*length).max(to.since(from));
        }
        longest
    }
}
