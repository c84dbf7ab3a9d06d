//! Two catalogs over the same messages: what only one of them would remove.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde::Serialize;

use super::tally::Side;

/// Keys named of each difference.
const EXAMPLES: usize = 5;

/// The difference between two catalogs, by group.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// The other catalog's file.
    pub(super) against: String,
    pub(super) groups: BTreeMap<Arc<str>, Difference>,
}

/// What becomes of one group's keys under each.
#[derive(Default, Serialize)]
pub(super) struct Difference {
    pub(super) both: u64,
    pub(super) only_here: u64,
    pub(super) only_there: u64,
    pub(super) flushes_here: u64,
    pub(super) flushes_there: u64,
    /// Some of the keys, the first by name.
    pub(super) examples_here: Vec<Arc<str>>,
    pub(super) examples_there: Vec<Arc<str>>,
}

impl Difference {
    pub(super) fn is_none(&self) -> bool {
        self.only_here == 0 && self.only_there == 0 && self.flushes_here == self.flushes_there
    }
}

impl Comparison {
    pub(super) fn of(here: &Side, there: &Side, file: &Path) -> Self {
        let mut groups: BTreeMap<Arc<str>, Difference> = BTreeMap::new();
        let names = here.catalog.groups().iter().chain(there.catalog.groups()).map(|group| &group.name);
        for name in names {
            let difference = groups.entry(name.clone()).or_default();
            difference.flushes_here = here.flushes_of(name);
            difference.flushes_there = there.flushes_of(name);
        }
        for key in here.keys.keys() {
            let difference = groups.entry(here.group_of(key)).or_default();
            if there.keys.contains_key(key) {
                difference.both += 1;
            } else {
                difference.only_here += 1;
                example(&mut difference.examples_here, key);
            }
        }
        for key in there.keys.keys().filter(|key| !here.keys.contains_key(*key)) {
            let difference = groups.entry(there.group_of(key)).or_default();
            difference.only_there += 1;
            example(&mut difference.examples_there, key);
        }
        Self { against: file.display().to_string(), groups }
    }
}

/// Keeps the first few by name, so that they do not depend on how a table hashes.
fn example(kept: &mut Vec<Arc<str>>, key: &Arc<str>) {
    let at = kept.partition_point(|known| known < key);
    if at < EXAMPLES {
        kept.insert(at, key.clone());
        kept.truncate(EXAMPLES);
    }
}
