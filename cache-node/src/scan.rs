//! What is in this node's memory, page by page; never forwarded, never filled.

use std::sync::Arc;

use memory::{
    place::Place,
    store::{Cursor, Entry, Stamp},
};
use tokio::time::Instant;
use wire::{Held, Page, Scan};

use crate::{
    error::Error,
    node::{Node, place},
};

/// Entries that a page looks at if the request does not say.
const COUNT: u32 = 1000;
/// Most entries that a page looks at.
const MOST: u32 = 100_000;
/// Bytes of keys and values after which a page ends, so that a reply stays far below the largest message.
const BYTES: usize = 4 << 20;

impl Node {
    /// Returns entries that this node would serve from memory now: those of the keys asked for, or a page of all.
    ///
    /// A node that can't prove its membership serves nothing from memory, and returns nothing. Reading an entry this way
    /// counts as no use of it and as no hit.
    ///
    /// # Errors
    ///
    /// A key or group that the catalog does not have, or too many keys.
    pub fn scan(&self, request: &Scan) -> Result<Page, Error> {
        self.check_count(request.keys.len())?;
        let groups = self.groups(&request.groups)?;
        let keys = request.keys.iter().map(|key| self.resolve(key)).collect::<Result<Vec<_>, _>>()?;
        let (incarnation, now) = (self.life.incarnation(), Instant::now());
        let mut page =
            Page { entries: Vec::new(), cursor: 0, node: self.id.to_string(), epoch: self.epoch().0 };
        let held = |key: &Arc<str>, entry: &Entry| Held {
            lost_at: None,
            key: key.to_string(),
            value: entry.value.clone().filter(|_| request.values),
            age: now.saturating_duration_since(entry.filled),
            ttl: entry.expires.saturating_duration_since(now),
            tags: None,
        };
        if request.keys.is_empty() {
            let count = if request.count == 0 { COUNT } else { request.count.min(MOST) } as usize;
            let mut bytes = 0;
            let of_groups = |stamp: &Stamp| groups.is_empty() || groups.contains(&stamp.group);
            let next =
                self.gate.page_of(Cursor::from(request.cursor), count, now, of_groups, |key, entry| {
                    let held = held(key, entry);
                    let size = held.key.len() + held.value.as_ref().map_or(0, bytes::Bytes::len);
                    // One entry always fits: a page that never goes on would be asked for for ever.
                    if bytes > 0 && bytes + size > BYTES {
                        return false;
                    }
                    bytes += size;
                    page.entries.push(held);
                    true
                });
            page.cursor = next.map_or(0, u64::from);
        } else {
            for key in &keys {
                let place: Place = place(key);
                if (groups.is_empty() || groups.contains(&place.group))
                    && let Some(entry) = self.gate.peek(place, &key.text, now)
                {
                    page.entries.push(held(&key.text, &entry));
                }
            }
        }
        if !self.life.vouches_for(incarnation) {
            page.entries.clear();
            page.cursor = 0;
        }
        Ok(page)
    }

    /// The numbers of groups, by name.
    fn groups(&self, names: &[String]) -> Result<Vec<u16>, Error> {
        self.check_groups(names)?;
        Ok(names.iter().filter_map(|name| self.catalog.group(name)).map(|group| group.id.0).collect())
    }
}
