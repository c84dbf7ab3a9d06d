//! Two catalogs over the same messages: what only one of them would remove.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use serde::Serialize;

use super::tally::Side;

/// Names that are told of each difference.
const EXAMPLES: usize = 5;

/// The difference between two catalogs, by group.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// The other catalog's file.
    pub(super) against: String,
    pub(super) groups: BTreeMap<Arc<str>, Difference>,
}

/// What becomes of one group under each.
#[derive(Default, Serialize)]
pub(super) struct Difference {
    /// Its keys.
    #[serde(flatten)]
    pub(super) keys: Names,
    /// The tags that its entries may carry.
    pub(super) tags: Names,
    pub(super) flushes_here: u64,
    pub(super) flushes_there: u64,
}

/// Keys or tags that would be removed.
#[derive(Default, Serialize)]
pub(super) struct Names {
    pub(super) both: u64,
    pub(super) only_here: u64,
    pub(super) only_there: u64,
    /// Some of them, the first by name.
    pub(super) examples_here: Vec<Arc<str>>,
    pub(super) examples_there: Vec<Arc<str>>,
}

impl Names {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.both == 0 && self.is_same()
    }

    fn is_same(&self) -> bool {
        self.only_here == 0 && self.only_there == 0
    }

    /// Counts a name of this side, which the other one has or has not.
    fn note_here(&mut self, name: &Arc<str>, there: bool) {
        if there {
            self.both += 1;
        } else {
            self.only_here += 1;
            example(&mut self.examples_here, name);
        }
    }

    /// Counts a name that this side has not.
    fn note_there(&mut self, name: &Arc<str>) {
        self.only_there += 1;
        example(&mut self.examples_there, name);
    }
}

impl Difference {
    pub(super) fn is_none(&self) -> bool {
        self.keys.is_same() && self.tags.is_same() && self.flushes_here == self.flushes_there
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
            difference.keys.note_here(key, there.keys.contains_key(key));
        }
        for key in there.keys.keys().filter(|key| !here.keys.contains_key(*key)) {
            groups.entry(there.group_of(key)).or_default().keys.note_there(key);
        }
        // One catalog may have a group carry a tag that under the other only other groups carry.
        let (own, others) = (carried(here), carried(there));
        for carried in &own {
            let (group, tag) = carried;
            let difference = groups.entry(group.clone()).or_default();
            difference.tags.note_here(tag, others.contains(carried));
        }
        for (group, tag) in others.difference(&own) {
            groups.entry(group.clone()).or_default().tags.note_there(tag);
        }
        Self { against: file.display().to_string(), groups }
    }
}

/// The tags that a side would remove, each with the groups whose entries may carry it.
fn carried(side: &Side) -> BTreeSet<(Arc<str>, Arc<str>)> {
    side.tags.keys().flat_map(|tag| side.carriers(tag).map(|group| (group, tag.clone()))).collect()
}

/// Keeps the first few by name, so that they do not depend on how a table hashes.
fn example(kept: &mut Vec<Arc<str>>, name: &Arc<str>) {
    let at = kept.partition_point(|known| known < name);
    if at < EXAMPLES {
        kept.insert(at, name.clone());
        kept.truncate(EXAMPLES);
    }
}
