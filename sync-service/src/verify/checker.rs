//! One entry against its row.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, KeyError};
use client::{Client, Compared, History};
use loader::Loader;
use ring::NodeId;
use tokio::time::Instant;
use wire::Scan;

use super::{Stale, Target, raw};

/// How often an entry that changes while it is compared is compared again.
const TRIES: usize = 3;
/// How often a look that failed is repeated, and after which pause.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Compares entries of nodes with the rows that they are made from.
#[derive(Clone)]
pub struct Checker {
    client: Client,
    loader: Arc<Loader>,
    catalog: Arc<Catalog>,
}

/// Why an entry could not be compared.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No node could be asked, or one that should have an entry could not.
    #[error(transparent)]
    Node(#[from] client::Error),
    /// The row could not be read.
    #[error("read the database: {0}")]
    Database(#[from] loader::Error),
    /// The catalog at hand does not know the key: it is not the nodes' own.
    #[error("this catalog is not the nodes' own: {0}")]
    Key(Arc<KeyError>),
}

/// How an entry compares with its row.
#[derive(Clone, Debug)]
pub enum Compare {
    /// They say the same.
    Same,
    /// The entry was removed, or filled anew, before it could be compared.
    Gone,
    /// Its group has no query to compare with.
    NoQuery,
    /// They differ, and did not change while they were read.
    Different(Difference),
}

/// An entry and a row that say different things.
#[derive(Clone, Debug)]
pub struct Difference {
    cached: Seen,
    row: Option<Bytes>,
}

/// How an entry fared over all ages.
#[derive(Debug)]
pub enum Followed {
    /// Removed, or filled anew, before it could be compared once.
    Gone,
    /// Its group has no query to compare with.
    NoQuery,
    /// It differed at the first so many looks, 0 for none, and then was right or gone.
    Consistent {
        /// Looks at which it differed.
        after: usize,
    },
    /// It differed at every look.
    Stale(Difference),
    /// It could not be compared any more.
    Failed {
        /// Looks at which it differed before.
        after: usize,
        /// Why.
        error: Error,
    },
}

/// An entry as a node showed it: the value, and between which moments its read from the database began.
#[derive(Clone, Debug)]
struct Seen {
    value: Option<Bytes>,
    from: Instant,
    to: Instant,
}

impl Seen {
    fn new(value: Option<Bytes>, age: Duration, sent: Instant) -> Self {
        let back = |at: Instant, by: Duration| at.checked_sub(by).unwrap_or(at);
        // The node told whole milliseconds, at some time between the sending and now.
        Self { value, from: back(sent, age + Duration::from_millis(1)), to: back(Instant::now(), age) }
    }

    /// Whether this can be the same entry, not another one that says the same.
    fn is(&self, other: &Self) -> bool {
        self.value == other.value && self.from <= other.to && other.from <= self.to
    }
}

impl Checker {
    /// Compares entries of the client's nodes with rows of the loader's database. The catalog must be the nodes' own.
    pub fn new(client: Client, loader: Arc<Loader>, catalog: Arc<Catalog>) -> Self {
        Self { client, loader, catalog }
    }

    /// How nodes are asked.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Compares a node's entry with its row: reads the entry, the row, and the entry again.
    ///
    /// *The entry is read, a change commits, the row is read: they differ, and nothing is wrong.* Only an entry that is
    /// still there afterwards counts as different; whether it will stay is for a later look to tell.
    pub async fn compare(&self, node: &NodeId, key: &str) -> Result<Compare, Error> {
        let parsed = self.catalog.resolve(key).map_err(|error| Error::Key(Arc::new(error)))?;
        if !parsed.group.is_filled() {
            return Ok(Compare::NoQuery);
        }
        for _ in 0..TRIES {
            let Some(before) = self.look(node, key).await? else { return Ok(Compare::Gone) };
            let row = self.loader.load(parsed.clone()).await?;
            if before.value == row {
                return Ok(Compare::Same);
            }
            let Some(after) = self.look(node, key).await? else { return Ok(Compare::Gone) };
            if after.is(&before) {
                return Ok(Compare::Different(Difference { cached: after, row }));
            }
        }
        // Each time another entry: whatever was different did not stay.
        Ok(Compare::Gone)
    }

    /// Compares an entry now and, as long as it differs, at each of `ages` from now. An entry that was removed or filled
    /// anew in between has been put right, whatever its successor says.
    pub async fn follow(&self, target: &Target, ages: &[Duration]) -> Followed {
        let begun = Instant::now();
        let mut last: Option<Difference> = None;
        for (after, age) in std::iter::once(Duration::ZERO).chain(ages.iter().copied()).enumerate() {
            tokio::time::sleep_until(begun + age).await;
            match self.look_hard(target, after > 0).await {
                Ok(Compare::Different(found)) => {
                    if last.as_ref().is_some_and(|last| !found.cached.is(&last.cached)) {
                        return Followed::Consistent { after };
                    }
                    last = Some(found);
                }
                Ok(Compare::NoQuery) => return Followed::NoQuery,
                Ok(Compare::Gone) if after == 0 => return Followed::Gone,
                Ok(Compare::Gone | Compare::Same) => return Followed::Consistent { after },
                Err(error) => return Followed::Failed { after, error },
            }
        }
        last.map_or(Followed::Gone, Followed::Stale)
    }

    /// How each node's entry of a key compares with the row; an entry that goes while it is read is left out.
    pub async fn compare_all(&self, history: &History) -> Result<Vec<(Compared, Option<Difference>)>, Error> {
        let mut compared = Vec::new();
        for holder in history.holders() {
            let (same, difference) =
                match self.compare(&NodeId::from(holder.node.as_str()), &history.key).await? {
                    Compare::Same => (true, None),
                    Compare::Different(difference) => (false, Some(difference)),
                    Compare::Gone | Compare::NoQuery => continue,
                };
            compared.push((Compared { node: holder.node.clone(), same }, difference));
        }
        Ok(compared)
    }

    /// Reads a key's row, as a fill would.
    pub async fn row(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let key = self.catalog.resolve(key).map_err(|error| Error::Key(Arc::new(error)))?;
        Ok(self.loader.load(key).await?)
    }

    /// Tells all about a stale entry and, if that is wanted, removes its key from all nodes.
    pub(super) async fn stale(&self, target: &Target, difference: &Difference, repair: bool) -> Stale {
        let compared = vec![Compared { node: target.node.to_string(), same: false }];
        let history = self.client.history(&target.key).await.ok();
        let repaired = if repair { Some(self.client.remove(&[&target.key]).await.is_ok()) } else { None };
        Stale {
            node: target.node.to_string(),
            key: target.key.clone(),
            cached: raw(difference.cached.value.as_ref()),
            database: raw(difference.row.as_ref()),
            history: history.map(|history| history.with_compared(compared)),
            repaired,
        }
    }

    /// Compares, and at a later look does not give up at the first failure.
    async fn look_hard(&self, target: &Target, later: bool) -> Result<Compare, Error> {
        let mut left = if later { LOOKS } else { 1 };
        loop {
            left -= 1;
            match self.compare(&target.node, &target.key).await {
                Err(_) if left > 0 => tokio::time::sleep(PAUSE).await,
                done => return done,
            }
        }
    }

    /// The entry of a key in one node's memory. A node that has left has none.
    async fn look(&self, node: &NodeId, key: &str) -> Result<Option<Seen>, Error> {
        if self.client.ring().member(node).is_none() {
            return Ok(None);
        }
        let sent = Instant::now();
        let scan = Scan { keys: vec![key.to_owned()], values: true, ..Scan::default() };
        let page = self.client.scan(node, scan).await?;
        Ok(page.entries.into_iter().next().map(|held| Seen::new(held.value, held.age, sent)))
    }
}

impl Difference {
    /// What the node would serve.
    pub fn cached(&self) -> Option<&Bytes> {
        self.cached.value.as_ref()
    }

    /// What the database says.
    pub fn row(&self) -> Option<&Bytes> {
        self.row.as_ref()
    }
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checker").field("client", &self.client).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_was_filled_anew_with_the_same_value_is_another_one() {
        let value = || Some(Bytes::from_static(b"1"));
        let first = Seen::new(value(), Duration::from_secs(5), Instant::now());
        tokio::time::advance(Duration::from_secs(10)).await;
        let ms = Duration::from_millis;
        assert!(first.is(&Seen::new(value(), ms(15_000), Instant::now())));
        assert!(first.is(&Seen::new(value(), ms(14_999), Instant::now())), "told in whole milliseconds");
        assert!(!first.is(&Seen::new(value(), ms(3_000), Instant::now())));
        assert!(!first.is(&Seen::new(None, ms(15_000), Instant::now())));
    }
}
