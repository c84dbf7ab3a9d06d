//! What all simulations came to, told in one line at the end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{batch::Without, world::Ended};

static FIGURES: Mutex<Figures> = Mutex::new(Figures {
    seeds: 0,
    reads: 0,
    from_memory: 0,
    errors: 0,
    last_looks: 0,
    changes: 0,
    stale: 0,
    failed: 0,
    simulated: 0,
    faults: BTreeMap::new(),
    caught: Vec::new(),
});

struct Figures {
    seeds: u64,
    reads: u64,
    from_memory: u64,
    errors: u64,
    last_looks: u64,
    changes: u64,
    stale: u64,
    failed: u64,
    simulated: u64,
    faults: BTreeMap<String, u64>,
    caught: Vec<(Without, u64)>,
}

/// Adds what seeds came to.
pub(crate) fn add(results: &[(u64, Result<Ended, String>)]) {
    let mut all = FIGURES.lock().unwrap_or_else(PoisonError::into_inner);
    for (_, result) in results {
        all.seeds += 1;
        let Ok(ended) = result else {
            all.failed += 1;
            continue;
        };
        all.reads += ended.seen.reads;
        all.from_memory += ended.seen.from_memory;
        all.errors += ended.seen.errors;
        all.last_looks += ended.seen.last_looks;
        all.changes += ended.changes;
        all.stale += ended.seen.broken_count;
        all.simulated += ended.took;
        for (kind, count) in &ended.faults {
            *all.faults.entry(kind.clone()).or_default() += count;
        }
    }
}

/// Notes which seed showed first what a rule is for.
pub(crate) fn caught(without: Without, seed: u64, how: &str) {
    println!("without {}: seed {seed}: {how}", without.name());
    FIGURES.lock().unwrap_or_else(PoisonError::into_inner).caught.push((without, seed));
}

/// Tells everything in one line.
pub(crate) fn tell(took: Duration) {
    let all = FIGURES.lock().unwrap_or_else(PoisonError::into_inner);
    let faults: Vec<_> = all.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let caught: Vec<_> =
        all.caught.iter().map(|(without, seed)| format!("{} by seed {seed}", without.name())).collect();
    println!(
        "simulation: {} seeds, {} s simulated, {} reads checked ({} from memory), {} at the end, {} unanswered, {} changes, \
         faults: {}; stale reads: {}, seeds that ended badly: {}; rules taken out and caught: {}; took {:.0} s",
        all.seeds,
        all.simulated / 1000,
        all.reads,
        all.from_memory,
        all.last_looks,
        all.errors,
        all.changes,
        faults.join(", "),
        all.stale,
        all.failed,
        if caught.is_empty() { "none".to_owned() } else { caught.join(", ") },
        took.as_secs_f64()
    );
}
