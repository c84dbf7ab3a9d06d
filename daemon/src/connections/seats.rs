//! Places for connections, and who has been silent for longest.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A connection that said something within this time is at work.
const IDLE: Duration = Duration::from_secs(1);

/// As many places as there may be connections.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    began: Instant,
    taken: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    /// Milliseconds from when the port began to the last byte that was read or written.
    last: AtomicU64,
    /// Cancelled when another connection has the place.
    pub(super) lost: CancellationToken,
}

/// How a place was found.
pub(super) enum Taken {
    Free(Arc<Seat>),
    /// Of the connection that was silent for longest.
    Of(Arc<Seat>),
    None,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), began: Instant::now(), taken: Mutex::default() }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.lock().seats.len()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Finds a place. Looks through all connections when they are too many, which a bounded number of them allows.
    pub(super) fn take(&self) -> Taken {
        let now = self.now();
        let mut table = self.taken.lock();
        let mut made_room = false;
        if table.seats.len() >= self.most {
            let longest =
                table.seats.values().min_by_key(|seat| seat.last.load(Relaxed)).map(|seat| seat.number);
            let Some(longest) = longest.and_then(|number| table.seats.remove(&number)) else {
                return Taken::None;
            };
            if now.saturating_sub(longest.last.load(Relaxed)) < IDLE.as_millis() as u64 {
                table.seats.insert(longest.number, longest);
                return Taken::None;
            }
            longest.lost.cancel();
            made_room = true;
        }
        table.next += 1;
        let number = table.next;
        let seat = Arc::new(Seat { number, last: AtomicU64::new(now), lost: CancellationToken::new() });
        table.seats.insert(number, seat.clone());
        if made_room { Taken::Of(seat) } else { Taken::Free(seat) }
    }

    /// The connection has said or taken something.
    pub(super) fn used(&self, seat: &Seat) {
        seat.last.store(self.now(), Relaxed);
    }

    /// The connection has ended.
    pub(super) fn leave(&self, seat: &Seat) {
        self.taken.lock().seats.remove(&seat.number);
    }
}
