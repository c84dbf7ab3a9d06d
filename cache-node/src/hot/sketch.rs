//! Which keys come most often, in a fixed number of counters: Space-Saving, with counts that fade.
//!
//! Each shard has room for [`COUNTERS`] keys. A key that has no counter takes over the one with the lowest count and adds to it, and notes
//! that count as its error: so a counter never says too little, and says too much by its error at most. All counts lose a share at every
//! tick, so that what was hot an hour ago makes room.

use std::sync::Arc;

use parking_lot::Mutex;

const SHARDS: usize = 16;
/// Keys that each shard counts.
const COUNTERS: usize = 32;

/// How a read went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// It was answered here.
    Answered,
    /// It was passed on to the owner.
    Forwarded,
}

/// One key's counter, in counted reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Counter {
    pub(crate) hash: u64,
    pub(crate) key: Arc<str>,
    pub(crate) group: u16,
    pub(crate) answered: f32,
    pub(crate) forwarded: f32,
    /// By how much both together may be too high.
    pub(crate) error: f32,
}

impl Counter {
    pub(crate) fn count(&self) -> f32 {
        self.answered + self.forwarded
    }

    /// What is certain.
    pub(crate) fn at_least(&self) -> f32 {
        self.count() - self.error
    }
}

/// The counters of one node.
#[derive(Debug)]
pub(crate) struct Sketch {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    counters: Vec<Counter>,
    /// Reads of all keys that were answered here.
    answered: f64,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Counts a read; returns how many of the key's reads are certain by now. `None`, and nothing counted, if another thread counts in
    /// the same shard: a read is not made to wait for it.
    pub(crate) fn count(&self, hash: u64, key: &Arc<str>, group: u16, read: Read) -> Option<f32> {
        let mut shard = self.shards[(hash >> 24) as usize % SHARDS].try_lock()?;
        let counter = shard.counter(hash, key, group);
        match read {
            Read::Answered => counter.answered += 1.0,
            Read::Forwarded => counter.forwarded += 1.0,
        }
        let certain = counter.at_least();
        if read == Read::Answered {
            shard.answered += 1.0;
        }
        Some(certain)
    }

    /// Lets all counts keep the share `kept` of themselves.
    pub(crate) fn fade(&self, kept: f32) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.answered *= f64::from(kept);
            for counter in &mut shard.counters {
                counter.answered *= kept;
                counter.forwarded *= kept;
                counter.error *= kept;
            }
            // Less than one read in the whole of the memory.
            shard.counters.retain(|counter| counter.count() >= 0.05);
        }
    }

    /// All counters, the highest first, and the answered reads of all keys.
    pub(crate) fn counters(&self) -> (Vec<Counter>, f64) {
        let (mut all, mut answered) = (Vec::new(), 0.0);
        for shard in &self.shards {
            let shard = shard.lock();
            answered += shard.answered;
            all.extend(shard.counters.iter().cloned());
        }
        all.sort_by(|a, b| b.count().total_cmp(&a.count()).then_with(|| a.key.cmp(&b.key)));
        (all, answered)
    }
}

impl Shard {
    fn counter(&mut self, hash: u64, key: &Arc<str>, group: u16) -> &mut Counter {
        let found = self.counters.iter().position(|counter| counter.hash == hash);
        let at = found.unwrap_or_else(|| {
            let new = Counter { hash, key: key.clone(), group, answered: 0.0, forwarded: 0.0, error: 0.0 };
            if self.counters.len() < COUNTERS {
                self.counters.push(new);
                return self.counters.len() - 1;
            }
            let mut lowest = 0;
            for (at, counter) in self.counters.iter().enumerate() {
                if counter.count() < self.counters[lowest].count() {
                    lowest = at;
                }
            }
            // What the one before had may have been this key's, how it was answered is unknown: it stays as it was split.
            let before = &self.counters[lowest];
            self.counters[lowest] = Counter {
                answered: before.answered,
                forwarded: before.forwarded,
                error: before.count(),
                ..new
            };
            lowest
        });
        &mut self.counters[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(sketch: &Sketch, key: &str, read: Read) -> Option<f32> {
        sketch.count(memory::place::hash(key), &Arc::from(key), 0, read)
    }

    #[test]
    fn the_keys_that_come_most_are_found_among_many_and_no_count_is_too_low() {
        let sketch = Sketch::new();
        // A tenth of all reads go to ten keys, the rest to as many keys as there are reads.
        for n in 0..200_000_u32 {
            if n % 10 == 0 {
                count(&sketch, &format!("hot:{}", n / 10 % 10), Read::Answered);
            } else {
                count(&sketch, &format!("cold:{n}"), Read::Answered);
            }
        }
        let (counters, answered) = sketch.counters();
        assert!((answered - 200_000.0).abs() < 1.0);
        for n in 0..10 {
            let key = format!("hot:{n}");
            let at = counters.iter().position(|counter| *counter.key == *key).expect("it is counted");
            let counter = &counters[at];
            assert!(counter.count() >= 2000.0, "{counter:?}");
        }
        let certain: Vec<_> = counters.iter().filter(|counter| counter.at_least() > 500.0).collect();
        assert_eq!(certain.len(), 10, "no other key is certain to have come as often: {certain:?}");
    }

    #[test]
    fn counts_fade_and_what_is_not_read_any_more_makes_room() {
        let sketch = Sketch::new();
        for _ in 0..100 {
            count(&sketch, "user:1", Read::Answered);
            count(&sketch, "user:1", Read::Forwarded);
        }
        sketch.fade(0.5);
        let (counters, answered) = sketch.counters();
        assert_eq!((counters[0].answered, counters[0].forwarded, answered), (50.0, 50.0, 50.0));
        for _ in 0..12 {
            sketch.fade(0.5);
        }
        assert!(sketch.counters().0.is_empty());
    }
}
