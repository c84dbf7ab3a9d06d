//! What is measured side by side: the node's store, and caches that others use, behind one face.

use std::sync::Arc;

use bytes::Bytes;
use memory::store::{Eviction, bare::Bare};

/// An entry's weight for the peers that count bytes: its data and a guess of 64 more.
const GUESS: usize = 64;

/// A cache of keys and values.
pub(crate) trait Cache: Send + Sync {
    /// Returns a key's value.
    fn get(&self, key: &Arc<str>) -> Option<Bytes>;

    /// Writes a key's value to the end of a reply, which is what a server does with it; returns whether there is one.
    fn get_into(&self, key: &Arc<str>, reply: &mut Vec<u8>) -> bool {
        let value = self.get(key);
        if let Some(value) = &value {
            reply.extend_from_slice(value);
        }
        value.is_some()
    }

    /// Stores a value.
    fn insert(&self, key: &Arc<str>, value: Bytes);

    /// Brings to an end what the cache has put off.
    fn settle(&self) {}

    /// How many entries there are.
    fn len(&self) -> u64;
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The node's store.
    Ours(Eviction),
    /// `quick_cache`.
    QuickCache,
    /// `moka`.
    Moka,
    /// `foyer`'s memory.
    Foyer,
}

impl Who {
    /// All, the default policy of the node's store first.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Ours(Eviction::default())];
        all.extend(Eviction::ALL.into_iter().filter(|own| *own != Eviction::default()).map(Self::Ours));
        all.extend([Self::QuickCache, Self::Moka, Self::Foyer]);
        all
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Ours(eviction) => format!("freshline, {}", eviction.name()),
            Self::QuickCache => "quick_cache".into(),
            Self::Moka => "moka".into(),
            Self::Foyer => "foyer (s3fifo)".into(),
        }
    }

    /// An empty cache of about `bytes` bytes, or of `entries` entries for those that count these.
    pub(crate) fn make(self, bytes: u64, entries: usize) -> Box<dyn Cache> {
        match self {
            Self::Ours(eviction) => Box::new(Bare::new(bytes, 0.0, eviction)),
            Self::QuickCache => Box::new(quick_cache::sync::Cache::<Arc<str>, Bytes, Weight>::with_weighter(
                entries, bytes, Weight,
            )),
            Self::Moka => {
                let weight = |key: &Arc<str>, value: &Bytes| (key.len() + value.len() + GUESS) as u32;
                let ttl = std::time::Duration::from_mins(10);
                Box::new(Moka(
                    moka::sync::Cache::builder()
                        .max_capacity(bytes)
                        .weigher(weight)
                        .time_to_live(ttl)
                        .build(),
                ))
            }
            Self::Foyer => {
                let weight = |key: &Arc<str>, value: &Bytes| key.len() + value.len() + GUESS;
                let config = foyer_memory::S3FifoConfig::default();
                let cache = foyer_memory::CacheBuilder::new(bytes as usize)
                    .with_eviction_config(config)
                    .with_weighter(weight)
                    .build();
                Box::new(Foyer(cache))
            }
        }
    }
}

impl Cache for Bare {
    fn get(&self, key: &Arc<str>) -> Option<Bytes> {
        Self::get(self, key)
    }

    fn get_into(&self, key: &Arc<str>, reply: &mut Vec<u8>) -> bool {
        Self::get_into(self, key, reply)
    }

    fn insert(&self, key: &Arc<str>, value: Bytes) {
        Self::insert(self, key, value, None);
    }

    fn len(&self) -> u64 {
        self.sizes().entries
    }
}

#[derive(Debug, Clone)]
struct Weight;

impl quick_cache::Weighter<Arc<str>, Bytes> for Weight {
    fn weight(&self, key: &Arc<str>, value: &Bytes) -> u64 {
        (key.len() + value.len() + GUESS) as u64
    }
}

impl Cache for quick_cache::sync::Cache<Arc<str>, Bytes, Weight> {
    fn get(&self, key: &Arc<str>) -> Option<Bytes> {
        Self::get(self, key)
    }

    fn insert(&self, key: &Arc<str>, value: Bytes) {
        Self::insert(self, key.clone(), value);
    }

    fn len(&self) -> u64 {
        Self::len(self) as u64
    }
}

struct Moka(moka::sync::Cache<Arc<str>, Bytes>);

impl Cache for Moka {
    fn get(&self, key: &Arc<str>) -> Option<Bytes> {
        self.0.get(key)
    }

    fn insert(&self, key: &Arc<str>, value: Bytes) {
        self.0.insert(key.clone(), value);
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }

    fn len(&self) -> u64 {
        self.0.entry_count()
    }
}

struct Foyer(foyer_memory::Cache<Arc<str>, Bytes>);

impl Cache for Foyer {
    fn get(&self, key: &Arc<str>) -> Option<Bytes> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    fn insert(&self, key: &Arc<str>, value: Bytes) {
        self.0.insert(key.clone(), value);
    }

    fn len(&self) -> u64 {
        // It counts weight alone; all entries here weigh the same.
        (self.0.usage() / (16 + 100 + GUESS)) as u64
    }
}
