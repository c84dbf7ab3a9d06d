//! Misses: one read of the database, or of another node's memory, for all who wait for a key, stored through the gate.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use catalog::Key;
use loader::{Loaded, Loader, Untagged};
use memory::{
    flights::{self, Boarded},
    gate::{Filled, Gate, Refused},
    life::Life,
    place::{Place, hash},
    recorder::What,
    store::Inserted,
    watermarks::{Fresh, Watermarks},
};
use ring::rules::{self, Rule};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    copies::Copies,
    error::Error,
    metrics::NodeMetrics,
    warm::{Reach, Warm},
};

/// How a fill ended; shared by all its waiters.
pub(crate) type Outcome = Result<Read, Error>;

/// A fill under way, and what its waiters get.
type Flight = flights::Flight<Outcome, Reach>;
type Landing = flights::Landing<Outcome>;

/// A row as the database showed it.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    /// JSON, or `None` if there is no such row.
    pub(crate) value: Option<Bytes>,
    /// When the read began.
    pub(crate) started: Instant,
    /// Until when it is served from memory; `None` if it was not stored.
    pub(crate) expires: Option<Instant>,
    /// If it came from another node: how the lookup ended there.
    pub(crate) elsewhere: Option<wire::Outcome>,
}

/// How a miss ended.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It was none: another fill had just stored the value.
    Hit(Fresh),
    /// This request's own fill.
    Own(Read),
    /// Another request's fill.
    Shared(Read),
    /// The node does not hold the slot any more.
    NotHeld,
}

/// The filler of one node.
pub(crate) struct Fills {
    gate: Arc<Gate>,
    flights: flights::Flights<Outcome, Reach>,
    loader: Arc<Loader>,
    life: Arc<Life>,
    metrics: Arc<NodeMetrics>,
    watermarks: Arc<Watermarks>,
    tasks: TaskTracker,
    warm: Arc<Warm>,
    copies: Arc<Copies>,
    max_value: u64,
}

impl Fills {
    #[expect(clippy::too_many_arguments, reason = "the parts of one node, each of which it needs")]
    pub(crate) fn new(
        gate: Arc<Gate>,
        loader: Arc<Loader>,
        life: Arc<Life>,
        metrics: Arc<NodeMetrics>,
        watermarks: Arc<Watermarks>,
        tasks: TaskTracker,
        warm: Arc<Warm>,
        copies: Arc<Copies>,
        max_value: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            gate,
            flights: flights::Flights::default(),
            loader,
            life,
            metrics,
            watermarks,
            tasks,
            warm,
            copies,
            max_value,
        })
    }

    /// Returns a missing key's value, asking other nodes within `reach`, and else reading the database, once for all who ask at
    /// the same time. With a bound, a read that began longer ago is not shared, and an entry that can't be proven to be as fresh
    /// counts for nothing.
    ///
    /// The fill runs in a task of its own: dropping the future is safe and ends only this caller's waiting.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &Key,
        place: Place,
        bound: Option<Duration>,
        reach: Reach,
    ) -> Result<Miss, Error> {
        match self.flights.board(&self.gate, &self.watermarks, place, &key.text, bound, reach) {
            Boarded::Hit(fresh) => Ok(Miss::Hit(fresh)),
            Boarded::NotHeld => Ok(Miss::NotHeld),
            Boarded::Joined(landing) => wait(landing).await.map(Miss::Shared),
            Boarded::Began(flight, sender) => {
                let landing = sender.subscribe();
                self.tasks.spawn(self.clone().run(key.clone(), place, flight, sender));
                wait(landing).await.map(Miss::Own)
            }
        }
    }

    /// Reads a row for one request alone and stores nothing.
    pub(crate) async fn read_through(&self, key: &Key) -> Result<Read, Error> {
        let started = Instant::now();
        let value = self.load(key).await?.value;
        Ok(Read { value, started, expires: None, elsewhere: None })
    }

    /// Ends the sharing of a key's fill.
    pub(crate) fn detach(&self, key: &str) {
        if rules::holds(Rule::Sharing) {
            self.flights.detach(key);
        }
    }

    /// Whether a fill of the key is under way.
    pub(crate) fn in_flight(&self, key: &str) -> bool {
        self.flights.contains(key)
    }

    async fn run(
        self: Arc<Self>,
        key: Key,
        place: Place,
        flight: Arc<Flight>,
        sender: watch::Sender<Option<Outcome>>,
    ) {
        // Also when the load panics: a flight that nobody flies would be shared for ever.
        let landed = Landed { fills: &self, key: &key, place, flight: &flight };
        let outcome = self.fill(&key, place, &flight).await;
        drop(landed);
        sender.send_replace(Some(outcome));
    }

    async fn fill(&self, key: &Key, place: Place, flight: &Flight) -> Outcome {
        if let Some(read) = self.warm.ask(key, place, &flight.token, flight.reach).await? {
            return Ok(read);
        }
        let loaded = self.load(key).await?;
        let expires = self.store(key, place, flight, loaded.clone());
        Ok(Read { value: loaded.value, started: flight.token.started, expires, elsewhere: None })
    }

    async fn load(&self, key: &Key) -> Result<Loaded, Error> {
        let group = self.metrics.group(key.group.id);
        let begun = Instant::now();
        let loaded = self.loader.load_tagged(key.clone()).await;
        group.fill_seconds.observe(begun.elapsed().as_secs_f64());
        match loaded {
            Ok(loaded) => {
                group.fills.inc();
                Ok(loaded)
            }
            Err(error) => {
                group.fill_errors.inc();
                Err(Error::Fill(error))
            }
        }
    }

    /// Stores a filled value if it may be; returns until when it is served. The recorder is told either way.
    fn store(&self, key: &Key, place: Place, flight: &Flight, loaded: Loaded) -> Option<Instant> {
        let Loaded { value, tags } = loaded;
        let ttl = jittered(
            if value.is_some() { key.group.ttl } else { key.group.negative_ttl },
            key.group.ttl_jitter,
        );
        if ttl.is_zero() {
            return None;
        }
        if value.as_ref().is_some_and(|value| value.len() as u64 > self.max_value) {
            self.too_large(place);
            return None;
        }
        let tags = match tags {
            Ok(tags) => tags.iter().map(|tag| hash(tag)).collect(),
            Err(untagged) => {
                self.untagged(key, place, &untagged);
                return None;
            }
        };
        let filled = Filled { key: key.text.clone(), value, ttl, tags };
        // Before it is stored: what removes it comes after it in its story.
        let read = Instant::now();
        match self.gate.store_filled(&flight.token, place, filled, || self.life.live()) {
            Ok(Inserted::Stored) => {
                let took = read.saturating_duration_since(flight.token.started);
                self.gate.recorder().record_at(place.hash, read, What::Filled { took });
                self.copies.stored(&key.text);
                Some(flight.token.started + ttl)
            }
            Ok(Inserted::TooLarge) => {
                self.too_large(place);
                None
            }
            Err(refused) => {
                self.metrics.refused(refused);
                self.gate.recorder().record(place.hash, What::Refused { why: refused.label() });
                if refused == Refused::LogOverrun {
                    tracing::debug!(group = %key.group.name, "fill refused: more removals than the log holds");
                }
                None
            }
        }
    }
}

impl Fills {
    /// A value whose tags can't be told is served, and not stored: no change could find it.
    fn untagged(&self, key: &Key, place: Place, why: &Untagged) {
        let refused = match why {
            Untagged::TooMany { .. } => Refused::TooManyTags,
            Untagged::Unreadable(_) => Refused::UnreadableTag,
            Untagged::NotPrimary => Refused::NotPrimary,
        };
        self.metrics.refused(refused);
        self.gate.recorder().record(place.hash, What::Refused { why: refused.label() });
        tracing::debug!(group = %key.group.name, %why, "value served and not stored");
    }

    fn too_large(&self, place: Place) {
        self.metrics.too_large.inc();
        self.gate.recorder().record(place.hash, What::Refused { why: "too_large" });
    }
}

/// Takes the flight out when dropped.
struct Landed<'a> {
    fills: &'a Fills,
    key: &'a Key,
    place: Place,
    flight: &'a Arc<Flight>,
}

impl Drop for Landed<'_> {
    fn drop(&mut self) {
        self.fills.flights.land(self.place, &self.key.text, self.flight);
    }
}

async fn wait(mut landing: Landing) -> Outcome {
    match landing.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(Error::Abandoned)),
        Err(_) => Err(Error::Abandoned),
    }
}

/// Up to `jitter` shorter, so that keys filled together don't expire together.
fn jittered(ttl: Duration, jitter: f64) -> Duration {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    ttl.mul_f64(1.0 - jitter * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_only_shortens() {
        for _ in 0..1000 {
            let ttl = jittered(Duration::from_secs(100), 0.1);
            assert!(ttl > Duration::from_secs(89) && ttl <= Duration::from_secs(100), "{ttl:?}");
        }
        assert_eq!(jittered(Duration::from_secs(100), 0.0), Duration::from_secs(100));
    }
}
