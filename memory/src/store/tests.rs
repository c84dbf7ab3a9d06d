use std::time::Duration;

use bytes::Bytes;
use prometheus_client::registry::Registry;

use super::*;
use crate::store::compress::{Codec, Compression};

const STAMP: Stamp = Stamp { group: 0, slot: 0, generation: 1, acquisition: 1 };

fn store(memory: u64) -> Store {
    with(memory, Eviction::default())
}

fn with(memory: u64, eviction: Eviction) -> Store {
    Store::new(Bounds { memory, negative_share: 0.1, eviction }, &mut Registry::default())
}

fn hash(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes())
}

fn entry(value: Option<usize>) -> Entry {
    let now = Instant::now();
    Entry {
        value: value.map(|len| Bytes::from(vec![b'x'; len])),
        stamp: STAMP,
        filled: now,
        expires: now + Duration::from_mins(1),
        tags: None,
    }
}

fn put(store: &Store, key: &str, value: Option<usize>) {
    assert_eq!(store.insert(hash(key), key, &entry(value), None), Inserted::Stored);
}

fn has(store: &Store, key: &str) -> bool {
    store.get(hash(key), key, Instant::now(), |_| Ok(())).is_some()
}

pub(super) fn verify(store: &Store) {
    for part in [&store.values, &store.negatives] {
        let used: u64 = part.shards.iter().map(|shard| shard.read().verify()).sum();
        assert_eq!(part.budget.used(), used, "the budget is what the shards have taken");
    }
}

#[tokio::test]
async fn memory_stays_within_its_bound_and_the_count_is_exact() {
    for eviction in Eviction::ALL {
        for memory in [64 << 10, 1 << 20, 4 << 20] {
            let store = with(memory, eviction);
            for n in 0..20_000 {
                put(&store, &format!("user:{n}"), Some(100 + n % 50));
                if n % 3 == 0 {
                    has(&store, &format!("user:{}", n / 2));
                }
                assert!(store.sizes().bytes <= memory || n % 100 > 0, "{eviction:?}: {:?}", store.sizes());
            }
            verify(&store);
            let sizes = store.sizes();
            let needed = (20_000 * 180).min(memory * 9 / 10);
            assert!(sizes.bytes > needed * 7 / 10, "memory is used by {eviction:?}: {sizes:?}");
            assert_eq!(sizes.entries + sizes.evictions, 20_000);
            for n in 0..20_000 {
                store.remove(hash(&format!("user:{n}")), &format!("user:{n}"));
            }
            assert_eq!(store.sizes().entries, 0);
            store.sweep(Instant::now(), |_| Ok(())).await;
            assert_eq!(store.sizes().bytes, 0, "every byte is given back");
        }
    }
}

#[test]
fn an_entry_of_16_and_100_bytes_costs_48_more_at_most() {
    let store = store(256 << 20);
    for n in 0..150_000 {
        put(&store, &format!("user:{n:011}"), Some(100));
    }
    let sizes = store.sizes();
    assert_eq!(sizes.evictions, 0);
    // Regions that are not yet full count too: half a one for each shard, about.
    let each = sizes.bytes as f64 / sizes.entries as f64 - 116.0;
    assert!(each <= 48.0 + 64.0 * 65536.0 / 150_000.0, "{each}");
    verify(&store);
}

#[test]
fn values_of_all_sizes_share_memory_and_large_ones_are_handed_out_without_a_copy() {
    let store = store(4 << 20);
    let sizes = [0, 1, 50, 100, 1000, 1024, 5000, 70_000, 300_000];
    for n in 0..3000_usize {
        let size = sizes[n * 7 % sizes.len()];
        put(&store, &format!("user:{n}"), Some(size));
        let found = store.get(hash(&format!("user:{n}")), &format!("user:{n}"), Instant::now(), |_| Ok(()));
        assert_eq!(found.unwrap().value.unwrap().len(), size);
    }
    verify(&store);
    assert!(store.sizes().bytes <= 4 << 20);
    put(&store, "large", Some(10_000));
    let get = || store.get(hash("large"), "large", Instant::now(), |_| Ok(())).unwrap().value.unwrap();
    assert_eq!(get().as_ptr(), get().as_ptr());
}

#[test]
fn a_part_of_the_keys_that_is_in_use_may_borrow_memory_of_the_others() {
    for eviction in Eviction::ALL {
        let store = with(8 << 20, eviction);
        let shard = |key: &str| (hash(key) >> 40) & 3;
        let of = |wanted: u64| (0_u64..).map(|n| format!("user:{n}")).filter(move |key| shard(key) == wanted);
        let (cold, hot): (Vec<_>, Vec<_>) = (0..4).partition(|wanted| *wanted > 0);
        for wanted in cold {
            for key in of(wanted).take(14_000) {
                put(&store, &key, Some(100));
            }
        }
        // More than a quarter of all: all of it in use, in a loop.
        let keys: Vec<String> = of(hot[0]).take(18_000).collect();
        for _ in 0..12 {
            for key in &keys {
                if !has(&store, key) {
                    put(&store, key, Some(100));
                }
            }
        }
        let hits = keys.iter().filter(|key| has(&store, key)).count();
        assert!(hits > 15_000, "{eviction:?}: {hits} of {} are in memory", keys.len());
        verify(&store);
    }
}

#[test]
fn a_compressed_value_is_as_it_was_and_a_damaged_one_is_a_miss() {
    let store = store(1 << 20);
    let row: Bytes = r#"{"id":1,"name":"a name"}"#.repeat(20).into();
    for codec in Codec::ALL {
        let packed = Compression { codec: Some(codec), above: 0 }.pack(&row).unwrap();
        let entry = Entry { value: Some(row.clone()), ..entry(None) };
        let key = &*format!("{codec:?}");
        assert_eq!(store.insert(hash(key), key, &entry, Some(&packed)), Inserted::Stored);
        let found = store.get(hash(key), key, Instant::now(), |_| Ok(())).unwrap();
        assert_eq!(found.value.unwrap(), row);
    }
    let mut seen = 0;
    store.page(Cursor::START, 1000, |_, entry| {
        seen += usize::from(entry.value.as_ref() == Some(&row));
        true
    });
    assert_eq!(seen, 4);
    let sizes = store.sizes().compressed;
    assert_eq!((sizes.entries, sizes.plain_bytes), (4, 4 * row.len() as u64));
    assert!(sizes.bytes * 3 < sizes.plain_bytes, "{sizes:?}");
    for codec in Codec::ALL {
        let key = &*format!("{codec:?}");
        store.values.shard(hash(key)).write().damage(hash(key), key);
        assert!(store.get(hash(key), key, Instant::now(), |_| Ok(())).is_none(), "{key}");
    }
    assert_eq!(store.metrics.damaged.get(), 4);
    assert_eq!(store.sizes().compressed, Compressed::default());
    assert_eq!(store.sizes().entries, 0);
}

#[test]
fn a_scan_of_missing_keys_pushes_out_no_value() {
    let store = store(1 << 20);
    for n in 0..1000 {
        put(&store, &format!("user:{n}"), Some(100));
    }
    for n in 0..100_000 {
        put(&store, &format!("missing:{n}"), None);
    }
    assert!((0..1000).all(|n| has(&store, &format!("user:{n}"))));
    assert!(store.sizes().bytes <= 1 << 20);
}

#[test]
fn keys_in_use_outlive_a_scan_of_keys_used_once() {
    for eviction in Eviction::ALL.into_iter().filter(|eviction| *eviction != Eviction::Fifo) {
        keys_in_use_outlive_a_scan(eviction);
    }
}

fn keys_in_use_outlive_a_scan(eviction: Eviction) {
    let store = with(1 << 20, eviction);
    let hot: Vec<String> = (0..200).map(|n| format!("hot:{n}")).collect();
    for key in &hot {
        put(&store, key, Some(100));
    }
    for n in 0..50_000 {
        put(&store, &format!("once:{n}"), Some(100));
        if n % 1000 == 0 {
            assert!(hot.iter().all(|key| has(&store, key)), "{eviction:?} after {n}");
        }
    }
}

#[test]
fn a_value_takes_the_place_of_a_negative_entry_and_back() {
    let store = store(1 << 20);
    put(&store, "user:1", None);
    put(&store, "user:1", Some(10));
    assert_eq!((store.sizes().entries, store.sizes().negative_entries), (1, 0));
    put(&store, "user:1", None);
    assert_eq!((store.sizes().entries, store.sizes().negative_entries), (0, 1));
    assert!(store.remove(hash("user:1"), "user:1"));
    assert!(!store.remove(hash("user:1"), "user:1"));
}

#[tokio::test]
async fn expired_and_flushed_entries_are_never_returned_and_are_swept() {
    let store = store(1 << 20);
    put(&store, "user:1", Some(10));
    put(&store, "user:2", Some(10));
    let later = Instant::now() + Duration::from_secs(61);
    assert!(store.get(hash("user:1"), "user:1", later, |_| Ok(())).is_none());
    assert!(store.peek(hash("user:2"), "user:2", Instant::now(), |_| Err(Cause::Flushed)).is_none());
    assert_eq!(store.sizes().entries, 1, "the first was dropped by the read, a peek drops nothing");
    store
        .sweep(Instant::now(), |stamp| if stamp.generation == 1 { Err(Cause::Flushed) } else { Ok(()) })
        .await;
    assert_eq!((store.sizes().entries, store.sizes().bytes, store.sizes().expirations), (0, 0, 1));
}

#[test]
fn pages_show_every_entry_once_whatever_their_size_and_a_refused_entry_begins_the_next() {
    let store = store(1 << 20);
    for n in 0..2000 {
        put(&store, &format!("user:{n}"), (n % 10 > 0).then_some(10));
    }
    for (count, most) in [(1, 1), (7, 100), (256, 5), (1000, 1000), (100_000, 100_000)] {
        let mut seen = Vec::new();
        let mut from = Some(Cursor::START);
        while let Some(cursor) = from {
            let mut page = Vec::new();
            from = store.page(cursor, count, |key, _| {
                let room = page.len() < most;
                if room {
                    page.push(key.to_string());
                }
                room
            });
            seen.extend(page);
        }
        assert_eq!(seen.len(), 2000, "each once, {count} at a time");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 2000, "{count} at a time");
    }
}

#[test]
fn any_number_is_a_place_to_begin_and_all_places_are_about_as_likely() {
    let store = store(1 << 20);
    for n in 0..1000 {
        put(&store, &format!("user:{n}"), (n % 10 > 0).then_some(10));
    }
    let (mut firsts, mut absent) = (std::collections::BTreeSet::new(), 0);
    for n in 1..=4000_u64 {
        let start = Cursor::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        store.page(start, 1, |key, entry| {
            firsts.insert(key.to_string());
            absent += u64::from(entry.value.is_none());
            false
        });
    }
    assert!(firsts.len() > 900, "{} of 1000 were begun with", firsts.len());
    assert!((200..800).contains(&absent), "{absent} of 4000, negative entries are a tenth");
    let empty = self::store(1 << 20);
    assert_eq!(empty.page(Cursor::from(12345), 10, |_, _| true), None);
}

#[test]
fn an_entry_larger_than_all_memory_is_refused_and_harms_nothing() {
    let store = store(64 * 1024);
    put(&store, "user:1", Some(10));
    let outcome = store.insert(hash("user:2"), "user:2", &entry(Some(100_000)), None);
    assert_eq!(outcome, Inserted::TooLarge);
    assert!(has(&store, "user:1"));
    let outcome = store.insert(hash("user:1"), "user:1", &entry(Some(100_000)), None);
    assert_eq!(outcome, Inserted::TooLarge);
    assert!(!has(&store, "user:1"), "the value that it would have replaced must not stay");
}
