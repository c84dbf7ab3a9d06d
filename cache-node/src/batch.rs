//! Reads of many keys in one request, within the bytes of its reply.

use std::collections::{BTreeMap, HashMap};

use catalog::Key;
use futures_util::future;
use memory::store::Keep;
use ring::{NodeId, Ring, slot_of};
use tokio::time::Instant;
use wire::{Answer, ReadOptions};

use crate::{
    error::Error,
    node::{Hop, Node, place, strictest},
    replies::{Filling, LARGE, Reserved},
};

/// Keys with their places in the request.
type Indexed = Vec<(usize, Key)>;

/// What was not in memory here.
#[derive(Debug, Default)]
struct Waiting {
    /// To be filled by this node.
    here: Indexed,
    /// To be asked for at their owners.
    away: BTreeMap<NodeId, Indexed>,
}

impl Node {
    /// Returns the values of many keys, in their order. Keys fail one by one; the whole fails only if there are too many. The values that
    /// exceed `node.max_reply` are left out: [`Error::LeftOut`].
    pub async fn get_many(&self, keys: &[String], hop: Hop) -> Result<Vec<Result<Answer, Error>>, Error> {
        self.get_many_with(keys, hop, ReadOptions::default()).await
    }

    /// Like [`get_many`](Self::get_many), read as `options` say.
    pub async fn get_many_with(
        &self,
        keys: &[String],
        hop: Hop,
        options: ReadOptions,
    ) -> Result<Vec<Result<Answer, Error>>, Error> {
        self.get_within(keys, hop, options, 0).await.map(|(results, _)| results)
    }

    /// Like [`get_many_with`](Self::get_many_with), of `most` bytes of values if the caller takes less than the node gives (0: as the node
    /// has it). The bytes of the results are counted until what comes with them is dropped.
    pub(crate) async fn get_within(
        &self,
        keys: &[String],
        hop: Hop,
        options: ReadOptions,
        most: u64,
    ) -> Result<(Vec<Result<Answer, Error>>, Reserved), Error> {
        self.check_count(keys.len())?;
        let mut filling = Filling::new(&self.replies, keys.len(), self.replies.most(most));
        let ring = self.current_ring();
        let (mut waiting, again) = self.look_up(&ring, keys, hop, options, &mut filling);
        while !(waiting.here.is_empty() && waiting.away.is_empty()) {
            if !filling.has_room(0, Filling::cost(None)) {
                let rest = waiting.here.into_iter().chain(waiting.away.into_values().flatten());
                rest.for_each(|(index, _)| filling.leave_out(index));
                break;
            }
            waiting = self.wave(&ring, waiting, hop, options, &mut filling).await;
        }
        for (index, of) in again {
            filling.repeat(index, of);
        }
        Ok(filling.end())
    }

    /// Counts the bytes of a single answer until it is sent, if they are many.
    pub(crate) fn reserved(&self, answer: &Answer) -> Result<Option<Reserved>, Error> {
        let bytes = answer.value.as_ref().map_or(0, bytes::Bytes::len);
        if bytes < LARGE { Ok(None) } else { self.replies.reserve(bytes as u64).map(Some) }
    }

    /// Looks every key up in memory, once; tells which are to be waited for, and which places repeat a key of another one.
    fn look_up(
        &self,
        ring: &Ring,
        keys: &[String],
        hop: Hop,
        options: ReadOptions,
        filling: &mut Filling,
    ) -> (Waiting, Vec<(usize, usize)>) {
        let mut waiting = Waiting::default();
        let mut again = Vec::new();
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(keys.len());
        let mut hits = Vec::with_capacity(keys.len());
        let mut coming = 0;
        let glance = self.glance();
        for (index, text) in keys.iter().enumerate() {
            if let Some(first) = seen.get(text.as_str()) {
                again.push((index, *first));
                continue;
            }
            seen.insert(text, index);
            let key = match self.resolve(text) {
                Ok(key) => key,
                Err(error) => {
                    filling.put(index, Err(error));
                    continue;
                }
            };
            if !filling.has_room(coming, Filling::cost(None)) {
                filling.leave_out(index);
                continue;
            }
            let place = place(&key);
            // Hits are answered at once; only what must wait costs a future.
            if let Some(fresh) = self.look(glance, &key, place, strictest(&key, options), &mut Keep) {
                coming += Filling::cost(fresh.entry.value.as_ref());
                hits.push((index, key, fresh));
            } else if hop == Hop::First
                && !self.holds(place)
                && let Some(owner) = ring.owner(slot_of(&key.text)).filter(|owner| owner.id != self.id)
            {
                if let Some(answer) = self.mirror_hit(ring, &key, place, strictest(&key, options)) {
                    filling.put(index, Ok(answer));
                    continue;
                }
                self.passed_on(ring, &key, place);
                waiting.away.entry(owner.id.clone()).or_default().push((index, key));
            } else {
                waiting.here.push((index, key));
            }
        }
        if self.vouches(glance) {
            let now = Instant::now();
            for (index, _, fresh) in hits {
                filling.put(index, Ok(self.answer_from_memory(fresh, now)));
            }
        } else {
            waiting.here.extend(hits.into_iter().map(|(index, key, _)| (index, key)));
        }
        (waiting, again)
    }

    /// Fills and asks for as many of the keys that wait as there may be room for; returns the others.
    async fn wave(
        &self,
        ring: &Ring,
        mut waiting: Waiting,
        hop: Hop,
        options: ReadOptions,
        filling: &mut Filling,
    ) -> Waiting {
        let rest = waiting.here.split_off(filling.wave(waiting.here.len()));
        let here = future::join_all(
            waiting.here.iter().map(async |(index, key)| (*index, self.get_key(key, hop, options).await)),
        );
        let owners = waiting.away.len() as u64;
        let share = (filling.left() / owners.max(1)).max(1);
        let there = future::join_all(waiting.away.into_iter().map(async |(owner, keys)| {
            let answered = self.forward_many(ring, &owner, keys, options, share).await;
            (owner, answered)
        }));
        let (here, there) = future::join(here, there).await;
        let mut next = Waiting { here: rest, away: BTreeMap::new() };
        for (index, result) in here {
            filling.put(index, result);
        }
        for (owner, results) in there {
            let full = |result: &Result<Answer, Error>| match result {
                Err(Error::Peer { error, .. }) => matches!(**error, client::Error::LeftOut { .. }),
                _ => false,
            };
            // An owner answers one key at least; one that does not would be asked for ever.
            let some = results.iter().any(|(_, _, result)| !full(result));
            for (index, key, result) in results {
                match result {
                    result if !full(&result) => filling.put(index, result),
                    _ if some => next.away.entry(owner.clone()).or_default().push((index, key)),
                    _ => filling.leave_out(index),
                }
            }
        }
        next
    }
}
