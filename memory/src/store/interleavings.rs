//! Threads at one part of the store, under a scheduler that tries interleavings. Run with the feature `shuttle`.

use std::sync::Arc;

use shuttle::thread;
use tokio::time::Instant;

use super::*;

const ROUNDS: usize = 300;

fn part(capacity: u64, shards: u64, eviction: Eviction) -> Part {
    Part::with_shards(capacity, shards, Make { eviction, region: 0, base: Base(Instant::now()) })
}

fn entry(value: &str) -> Entry {
    let now = Instant::now();
    Entry {
        value: Some(value.to_owned().into()),
        stamp: Stamp { group: 0, slot: 0, generation: 1, acquisition: 1 },
        filled: now,
        expires: now + std::time::Duration::from_mins(1),
        tags: None,
    }
}

fn put(part: &Part, key: &str, value: &str) -> bool {
    let entry = entry(value);
    part.insert(crate::place::hash(key), &Incoming { key, entry: &entry, packed: None }, |_| ())
}

fn get(part: &Part, key: &str) -> Option<String> {
    let lock = part.shard(crate::place::hash(key));
    let (found, behind) = {
        let shard = lock.read();
        (shard.get(crate::place::hash(key), key, |_, _| Ok(()), &mut Keep), shard.is_behind())
    };
    if behind && let Some(mut shard) = lock.try_write() {
        shard.catch_up();
    }
    let entry = found?.ok()?.plain(&mut Keep).ok()?;
    Some(String::from_utf8(entry.value?.to_vec()).expect("what was stored is text"))
}

/// The budget is what the shards have taken, whoever ran when; and no shard is out of joint.
fn verify(part: &Part) {
    let used: u64 = part.shards.iter().map(|shard| shard.read().verify()).sum();
    assert_eq!(part.budget.used(), used);
    assert!(used <= part.budget.capacity(), "{used}");
}

#[test]
fn threads_that_share_a_budget_never_exceed_it_and_lose_no_byte() {
    for eviction in [Eviction::Sieve, Eviction::Lru, Eviction::Lfu] {
        let run = move || {
            // Room for a few entries in all beyond what shards take for their first ones, so that they take memory from each other.
            let roomy = part(64 << 10, 2, eviction);
            (0..9).for_each(|n| drop(put(&roomy, &format!("key:{n}"), "x")));
            let part = Arc::new(part(roomy.budget.used() + (4 << 10), 2, eviction));
            let threads: Vec<_> = (0..3)
                .map(|thread| {
                    let part = part.clone();
                    thread::spawn(move || {
                        for n in 0..12 {
                            let key = format!("key:{}", (n * 7 + thread) % 9);
                            match n % 4 {
                                0 => drop(part.remove(crate::place::hash(&key), &key)),
                                1 => drop(put(&part, &key, &format!("{key}={}", "x".repeat(3000)))),
                                _ => drop(put(&part, &key, &format!("{key}={}", "x".repeat(150)))),
                            }
                            if let Some(value) = get(&part, &key) {
                                assert!(value.starts_with(&format!("{key}=")), "{key} is {value}");
                            }
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().expect("no thread panics");
            }
            verify(&part);
        };
        shuttle::check_random(run, ROUNDS);
        shuttle::check_pct(run, ROUNDS, 3);
    }
}

#[test]
fn hits_that_are_noted_are_told_of_the_entry_that_they_were_of() {
    let run = || {
        let part = Arc::new(part(64 << 10, 1, Eviction::Lru));
        put(&part, "a", "1");
        put(&part, "b", "2");
        let reader = {
            let part = part.clone();
            thread::spawn(move || (0..70).for_each(|_| drop(get(&part, "a"))))
        };
        let writer = {
            let part = part.clone();
            thread::spawn(move || {
                for n in 0..4 {
                    // The node of `a` is freed and taken again; a hit of before must not move another list's node.
                    part.remove(crate::place::hash("a"), "a");
                    put(&part, &format!("c{n}"), "3");
                    put(&part, "a", "4");
                }
            })
        };
        reader.join().expect("the reader ends");
        writer.join().expect("the writer ends");
        verify(&part);
        assert_eq!(get(&part, "a").as_deref(), Some("4"));
    };
    shuttle::check_random(run, ROUNDS);
}
