//! The store against a plain map, for each policy: any sequence of operations, with room for all and with room for few.

use std::collections::BTreeMap;

use bytes::Bytes;
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use super::*;
use crate::{
    place::hash,
    store::compress::{Codec, Compression},
};

#[derive(Debug, Clone)]
enum Step {
    /// A key, the length of its value if it has one, its generation, and its tags.
    Insert(u16, Option<usize>, u64, u8),
    Get(u16),
    Peek(u16),
    Remove(u16),
    /// From now on this generation alone is valid.
    Flush(u64),
    Sweep,
    Clear,
    Pages(usize),
}

fn step(keys: u16, largest: usize) -> impl Strategy<Value = Step> {
    let key = 0..keys;
    let len = prop_oneof![8 => 0..200_usize, 2 => 0..2000_usize, 1 => 0..largest];
    let value = prop_oneof![5 => len.prop_map(Some), 1 => Just(None)];
    prop_oneof![
        12 => (key.clone(), value, 1..3_u64, prop_oneof![8 => 0..3_u8, 1 => any::<u8>()]).prop_map(|(key, value, g, tags)| Step::Insert(key, value, g, tags)),
        8 => key.clone().prop_map(Step::Get),
        2 => key.clone().prop_map(Step::Peek),
        3 => key.prop_map(Step::Remove),
        1 => (1..3_u64).prop_map(Step::Flush),
        1 => Just(Step::Sweep),
        1 => (1..50_usize).prop_map(Step::Pages),
        1 => prop::bool::weighted(0.1).prop_map(|clear| if clear { Step::Clear } else { Step::Sweep }),
    ]
}

/// What the map knows of a key.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    value: Option<Bytes>,
    generation: u64,
    tags: Tags,
}

struct Model {
    store: Store,
    known: BTreeMap<String, Known>,
    valid: u64,
    now: Instant,
    serial: u64,
}

impl Model {
    fn new(memory: u64, eviction: Eviction) -> Self {
        let bounds = Bounds { memory, negative_share: 0.2, eviction };
        let store = Store::new(bounds, &mut Registry::default());
        Self { store, known: BTreeMap::new(), valid: 1, now: Instant::now(), serial: 0 }
    }

    fn check(&self) -> impl Fn(&Stamp) -> Result<(), Cause> + use<> {
        let valid = self.valid;
        move |stamp| if stamp.generation == valid { Ok(()) } else { Err(Cause::Flushed) }
    }

    fn valid(&self, key: &str) -> Option<&Known> {
        self.known.get(key).filter(|known| known.generation == self.valid)
    }

    /// Returns whether the step evicted nothing.
    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Insert(key, len, generation, tags) => {
                let key = name(key);
                self.serial += 1;
                let text = format!("{} of {key};", self.serial).into_bytes();
                let value = len.map(|len| text.iter().copied().cycle().take(len).collect::<Bytes>());
                let stamp = Stamp { group: key.len() as u16, slot: 7, generation, acquisition: self.serial };
                let tags: Tags = (tags > 0).then(|| (0..u64::from(tags)).collect());
                let (filled, expires) = (self.now, self.now + std::time::Duration::from_mins(1));
                let entry = Entry { value: value.clone(), stamp, filled, expires, tags: tags.clone() };
                let codec = Codec::ALL.get(self.serial as usize % 5).copied();
                let packed = value.as_ref().and_then(|value| Compression { codec, above: 64 }.pack(value));
                match self.store.insert(hash(&key), &key, &entry, packed.as_ref()) {
                    Inserted::Stored => self.known.insert(key, Known { value, generation, tags }),
                    Inserted::TooLarge => self.known.remove(&key),
                };
            }
            Step::Get(key) | Step::Peek(key) => {
                let key = name(key);
                let hash = hash(&key);
                let found = if matches!(step, Step::Get(_)) {
                    self.store.get(hash, &key, self.now, self.check())
                } else {
                    self.store.peek(hash, &key, self.now, self.check())
                };
                if let Some(entry) = found {
                    let generation = entry.stamp.generation;
                    let found = Known { value: entry.value, generation, tags: entry.tags };
                    assert_eq!(Some(&found), self.valid(&key), "{key} is what was stored last");
                } else if self.store.sizes().evictions == 0 {
                    assert_eq!(self.valid(&key), None, "{key} is there while nothing had to go");
                    if matches!(step, Step::Get(_)) {
                        self.known.remove(&key);
                    }
                }
            }
            Step::Remove(key) => {
                let key = name(key);
                let found = self.store.remove(hash(&key), &key);
                let known = self.known.remove(&key).is_some();
                assert!(found == known || self.store.sizes().evictions > 0 && known);
            }
            Step::Flush(generation) => self.valid = generation,
            Step::Sweep => {
                self.store.sweep(self.now, self.check()).await;
                let valid = self.valid;
                self.known.retain(|_, known| known.generation == valid);
            }
            Step::Clear => {
                self.store.clear();
                self.known.clear();
                assert_eq!(self.store.sizes().bytes, 0);
            }
            Step::Pages(count) => self.pages(count),
        }
    }

    fn pages(&self, count: usize) {
        let mut seen = BTreeMap::new();
        let mut from = Some(Cursor::START);
        while let Some(cursor) = from {
            from = self.store.page(cursor, count, |key, entry| {
                let known = Known {
                    value: entry.value.clone(),
                    generation: entry.stamp.generation,
                    tags: entry.tags.clone(),
                };
                assert_eq!(seen.insert(key.to_string(), known), None, "{key} is shown once");
                true
            });
        }
        let sizes = self.store.sizes();
        assert_eq!(seen.len() as u64, sizes.entries + sizes.negative_entries);
        for (key, found) in &seen {
            assert_eq!(self.known.get(key), Some(found));
        }
    }
}

fn name(key: u16) -> String {
    // Some keys are too long for a block.
    let long = if key.is_multiple_of(17) { 700 } else { usize::from(key % 11) };
    format!("key:{key}:{}", "x".repeat(long))
}

fn run(memory: u64, eviction: Eviction, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut model = Model::new(memory, eviction);
        for step in steps {
            model.take(step).await;
            assert!(model.store.sizes().bytes <= memory, "{:?}", model.store.sizes());
        }
        super::tests::verify(&model.store);
        model.pages(100);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn with_room_for_all_the_store_is_the_map(steps in prop::collection::vec(step(60, 4000), 1..300)) {
        for eviction in Eviction::ALL {
            run(8 << 20, eviction, &steps);
        }
    }

    #[test]
    fn with_room_for_few_it_forgets_and_never_errs(steps in prop::collection::vec(step(400, 9000), 1..400)) {
        for eviction in Eviction::ALL {
            run(48 << 10, eviction, &steps);
        }
    }
}

/// Long runs, which stand in for a fuzzer: `STEPS=1000000 cargo test --release -p freshline-cache-node long_runs -- --ignored`.
#[test]
#[ignore = "takes as long as it is given"]
fn long_runs_of_any_operations() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let count = std::env::var("STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(20_000_usize);
    let mut runner = TestRunner::new(ProptestConfig::default());
    for eviction in Eviction::ALL {
        for memory in [48 << 10, 300 << 10, 3 << 20] {
            let strategy = step(4000, 30_000);
            let steps: Vec<Step> =
                (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
            run(memory, eviction, &steps);
        }
    }
}
