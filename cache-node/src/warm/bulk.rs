//! Taking whole slots, page by page, at a bounded rate.

use std::{sync::Arc, time::Duration};

use futures_util::future;
use memory::gate::{Room, Snapshot};
use ring::Member;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use wire::{Held, Of, Pull, Pulled, Wanted};

use super::{
    Warm,
    incoming::{Incoming, Source},
};
use crate::node::{Node, place};

/// Bytes of a page, if the rate is not so low that it would take longer than a fraction of a second.
const PAGE: u64 = 1 << 20;
const SMALLEST_PAGE: u64 = 16 << 10;
/// How long a source may take to answer with a page.
const PAGE_WAIT: Duration = Duration::from_secs(5);
/// How often a page is asked for again, and the first pause before it.
const RETRIES: u32 = 3;
const RETRY: Duration = Duration::from_millis(100);
/// How many such pauses the longest one has.
const MOST_PAUSES: u32 = 5;
/// Entries that are stored between two looks at who else wants to run.
const STEP: usize = 256;

/// How taking from one source ended.
enum Ended {
    /// There is no more.
    All,
    /// Memory is full: what comes in bulk pushes nothing out. Readers may still ask for single keys.
    Full,
    /// The source refused, or was not reached.
    Refused,
    /// The ring has changed, or the time is over.
    Moved,
}

impl Node {
    /// Takes what is to be had, whenever the ring has changed. A task of its own; ends with the node.
    pub(crate) async fn warm_up(self: Arc<Self>) {
        loop {
            let incoming = self.warm.incoming();
            let taken = async {
                if let Some(incoming) = incoming {
                    self.take_all(&incoming).await;
                    self.warm.taken(&incoming);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! { // what is dropped half done is planned again by the new ring, or given up
                biased;
                () = self.stop.cancelled() => return,
                () = self.warm.changed.notified() => {}
                () = taken => {}
            }
        }
    }

    async fn take_all(&self, incoming: &Incoming) {
        let told = future::join_all(incoming.others.iter().map(|other| self.say_done(incoming, other)));
        future::join(told, self.take_from_all(incoming)).await;
    }

    async fn take_from_all(&self, incoming: &Incoming) {
        let begun = Instant::now();
        if incoming.sources.is_empty() {
            return;
        }
        // What this node drops takes a moment; until then it takes nothing but plain values, and nothing else if it gives.
        if !incoming.declined
            && timeout_at(incoming.until, self.slots.confirms(incoming.epoch)).await.is_err()
        {
            return;
        }
        let counts = future::join_all(incoming.sources.iter().map(|source| self.take_from(incoming, source)));
        let taken: u64 = counts.await.into_iter().sum();
        let slots: usize = incoming.sources.iter().map(|source| source.slots.len()).sum();
        tracing::info!(
            node = %self.id, epoch = incoming.epoch.0, sources = incoming.sources.len(), slots, taken,
            took = ?begun.elapsed(), "took over values of gained slots"
        );
    }

    /// Takes all of one source, and tells it when nothing more will be asked for. Returns how many values were stored.
    async fn take_from(&self, incoming: &Incoming, source: &Source) -> u64 {
        let mut taken = 0;
        let of = if incoming.declined || !source.has_rows() { Of::PlainGroups } else { Of::AllGroups };
        let ended = if of == Of::PlainGroups && !self.warm.plain {
            Ended::All
        } else if self.warm.rate == 0 {
            Ended::Full
        } else {
            self.take_pages(incoming, source, of, &mut taken).await
        };
        match ended {
            Ended::Moved => return taken,
            // Single keys may be asked for until the time is over; without that there is nothing to wait for.
            Ended::Full if !self.warm.wait.is_zero() => return taken,
            Ended::All | Ended::Full | Ended::Refused => {}
        }
        source.close();
        self.say_done(incoming, &source.member).await;
        taken
    }

    /// Tells a node that nothing more is asked of it. One that isn't told, since the ring changes meanwhile, is told by the next ring: it
    /// is no source of that one.
    async fn say_done(&self, incoming: &Incoming, member: &Member) {
        for failures in 1..=RETRIES {
            let done = self.warm.request(incoming, Wanted::Done);
            let Err(error) = self.peers.pull(member, done, PAGE_WAIT).await else { return };
            tracing::debug!(node = %self.id, member = %member.id, %error, failures, "not told that this node is done");
            sleep(RETRY * failures).await;
        }
    }

    async fn take_pages(&self, incoming: &Incoming, source: &Source, of: Of, taken: &mut u64) -> Ended {
        let (mut cursor, mut failures) = (0, 0);
        loop {
            if self.slots.epoch() != incoming.epoch || Instant::now() >= incoming.until {
                return Ended::Moved;
            }
            // Before the asking: a removal that comes in between is then newer than every key's token.
            let snapshot = self.gate.snapshot();
            let asked = Instant::now();
            let slots = source.slots.clone();
            let pull = self.warm.request(incoming, Wanted::Slots { slots, cursor, of });
            let pulled = match self.peers.pull(&source.member, pull, PAGE_WAIT).await {
                Ok(pulled) if pulled.epoch >= incoming.epoch => pulled,
                Ok(_) => return Ended::Refused,
                Err(error) => {
                    failures += 1;
                    if failures == RETRIES + 1 {
                        self.given_up(incoming, source, &error);
                    }
                    if failures > RETRIES && !self.warm.plain {
                        return Ended::Refused;
                    }
                    // Plain values nobody else has: they are asked for until the time is over.
                    sleep(RETRY * failures.min(MOST_PAUSES)).await;
                    continue;
                }
            };
            failures = 0;
            self.metrics.pulls.bulk_pages.inc();
            let bytes: u64 = pulled.entries.iter().map(size_of).sum();
            let offered = pulled.entries.len();
            let (cursor_after, source_id) = (pulled.cursor, &source.member.id);
            let (stored, full) = self.take_page(&snapshot, incoming, source_id, pulled, asked).await;
            *taken += stored;
            if full * 2 > offered {
                return Ended::Full;
            }
            cursor = cursor_after;
            if cursor == 0 {
                return Ended::All;
            }
            self.warm.pace(bytes).await;
        }
    }

    /// A source does not answer: rows are read from the database from here on.
    fn given_up(&self, incoming: &Incoming, source: &Source, error: &client::Error) {
        self.metrics.pulls.bulk_failed.inc();
        source.close_for_rows();
        if incoming.first {
            tracing::info!(
                node = %self.id, source = %source.member.id, %error,
                "another holder, which may have plain values from before, can't be asked for them yet"
            );
        } else if self.warm.plain {
            tracing::warn!(
                node = %self.id, source = %source.member.id, %error,
                "gained slots are not taken over; rows fill from the database, and plain values are asked for until node.handover is over"
            );
        } else {
            tracing::warn!(
                node = %self.id, source = %source.member.id, %error,
                "gained slots are not taken over; they fill from the database"
            );
        }
    }

    /// Stores one page; returns how many of its values were stored, and for how many there was no room.
    async fn take_page(
        &self,
        snapshot: &Snapshot,
        incoming: &Incoming,
        from: &ring::NodeId,
        page: Pulled,
        asked: Instant,
    ) -> (u64, usize) {
        let (mut stored, mut full) = (0, 0);
        for (at, held) in page.entries.into_iter().enumerate() {
            if at % STEP == STEP - 1 {
                tokio::task::yield_now().await;
            }
            let Ok(key) = self.catalog.resolve(&held.key) else { continue };
            let place = place(&key);
            let Some(token) = self.gate.token_of(snapshot, place) else { continue };
            let size = held.value.as_ref().map(bytes::Bytes::len);
            if !self.gate.store().has_room(place.hash, &key.text, size) {
                full += 1;
                continue;
            }
            let offered = Warm::offered(&key, held, asked, Warm::is_alike(&key, &page.groups));
            let pulled = self.warm.store(&token, place, offered, incoming.epoch, Room::Spare, from);
            if pulled.is_ok() {
                stored += 1;
                if self.gate.is_plain(place.group) && self.slots.owned(place.slot).is_some() {
                    // A replica that took over from this node meanwhile may have come before it.
                    self.copies.stored(&key.text);
                }
            }
        }
        (stored, full)
    }
}

impl Warm {
    /// Nothing more is taken in bulk by this plan.
    fn taken(&self, incoming: &Arc<Incoming>) {
        // Under the lock under which a new one is made.
        let now = self.incoming.read();
        if now.as_ref().is_some_and(|now| Arc::ptr_eq(now, incoming)) {
            self.busy.send_replace(false);
        }
    }

    fn request(&self, incoming: &Incoming, wanted: Wanted) -> Pull {
        let max_bytes = (self.rate / 8).clamp(SMALLEST_PAGE, PAGE);
        let epoch = incoming.epoch;
        Pull { node: self.node.clone(), epoch, wanted, max_bytes, protocol: ring::terms::PROTOCOL }
    }

    /// Waits until the rate allows for what came after these bytes; shared by all sources.
    async fn pace(&self, bytes: u64) {
        let until = {
            let mut pace = self.pace.lock();
            let took = Duration::from_secs_f64(bytes as f64 / self.rate.max(1) as f64);
            *pace = (*pace).max(Instant::now()) + took;
            *pace
        };
        sleep_until(until).await;
    }
}

fn size_of(held: &Held) -> u64 {
    (held.key.len() + held.value.as_ref().map_or(0, bytes::Bytes::len)) as u64
}
