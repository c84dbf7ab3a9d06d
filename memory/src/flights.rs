//! Fills under way, by key, so that who asks meanwhile can share them (singleflight).
//!
//! Of a fill this module knows only whether it may be shared: how it ends (`O`), and whom it asks before the database (`R`, where less is
//! less), is the filler's affair.
//!
//! A request that arrives after a removal, a flush, or a change of the slot never shares a fill that began before (R3),
//! nor, once the quarantine is over, one that began within it: that fill may have read the old row. Nor does one that demands a
//! freshness share a fill that began before that, and none shares a fill that asks nodes which the request itself must not wait
//! for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::{
    gate::{Gate, Token},
    place::{Place, hash},
    store::Keep,
    watermarks::{Fresh, Look, Watermarks, within},
};

const SHARDS: usize = 64;

/// What the waiters of a fill get: `None` until it has ended.
pub type Landing<O> = watch::Receiver<Option<O>>;

/// All fills under way.
#[derive(Debug)]
pub struct Flights<O, R> {
    shards: Box<[Mutex<Shard<O, R>>]>,
}

type Shard<O, R> = HashMap<Arc<str>, Arc<Flight<O, R>>>;

/// One fill under way.
#[derive(Debug)]
pub struct Flight<O, R> {
    /// Its token.
    pub token: Token,
    /// Whom it asks before the database.
    pub reach: R,
    /// Set if the fill began in a quarantine: when that ends.
    unsettled: Option<Instant>,
    landing: Landing<O>,
}

/// How a request goes on after a miss.
#[derive(Debug)]
pub enum Boarded<O, R> {
    /// The entry came into memory meanwhile.
    Hit(Fresh),
    /// Another request's fill is shared.
    Joined(Landing<O>),
    /// The caller must run this fill, and tell its outcome.
    Began(Arc<Flight<O, R>>, watch::Sender<Option<O>>),
    /// The node does not hold the key's slot.
    NotHeld,
}

impl<O, R> Default for Flights<O, R> {
    /// No fill is under way.
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl<O, R: PartialOrd + Copy> Flights<O, R> {
    /// Joins the key's fill, or begins one. What is not within `bound` is neither shared nor taken from memory.
    pub fn board(
        &self,
        gate: &Gate,
        watermarks: &Watermarks,
        place: Place,
        key: &Arc<str>,
        bound: Option<Duration>,
        reach: R,
    ) -> Boarded<O, R> {
        let mut flights = self.shard(place.hash).lock();
        let now = Instant::now();
        if let Some(flight) = flights.get(key)
            && flight.reach <= reach
            && gate.current(&flight.token, place)
            && flight.unsettled.is_none_or(|until| now < until)
            && within(flight.token.started, bound)
        {
            return Boarded::Joined(flight.landing.clone());
        }
        // A fill may have ended between the caller's look into memory and this lock.
        if let Look::Fresh(fresh) = watermarks.look(gate, place, key, bound, Instant::now(), &mut Keep) {
            return Boarded::Hit(fresh);
        }
        // The token is taken under the lock that a removal takes to end sharing: a removal that the token does not
        // know of comes to this lock later, and finds the flight.
        let Some((token, unsettled)) = gate.token(place) else { return Boarded::NotHeld };
        let (sender, landing) = watch::channel(None);
        let flight = Arc::new(Flight { token, reach, unsettled, landing });
        flights.insert(key.clone(), flight.clone());
        Boarded::Began(flight, sender)
    }

    /// Ends the sharing of a key's fill (R3); those who share it already still get its outcome.
    pub fn detach(&self, key: &str) {
        self.shard(hash(key)).lock().remove(key);
    }

    /// Takes out a fill that has ended, unless another one of the same key has taken its place.
    pub fn land(&self, place: Place, key: &str, flight: &Arc<Flight<O, R>>) {
        let mut flights = self.shard(place.hash).lock();
        if flights.get(key).is_some_and(|found| Arc::ptr_eq(found, flight)) {
            flights.remove(key);
        }
    }

    /// Whether a fill of the key is under way that a request could find.
    pub fn contains(&self, key: &str) -> bool {
        self.shard(hash(key)).lock().contains_key(key)
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard<O, R>> {
        &self.shards[(hash >> 48) as usize % SHARDS]
    }
}
