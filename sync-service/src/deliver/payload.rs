//! What travels along one path, shared by all nodes on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use catalog::Catalog;
use parking_lot::Mutex;

/// Keys to remove and groups to flush.
///
/// When keys pile up for a slow node they are replaced by their groups, in place: for every node that still has to get
/// them. So memory stays bounded by groups and batches, however long a node takes.
#[derive(Debug)]
pub(super) struct Payload {
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    keys: Arc<[Arc<str>]>,
    groups: BTreeSet<Arc<str>>,
}

impl Payload {
    pub(super) fn new(keys: Vec<Arc<str>>, groups: impl IntoIterator<Item = Arc<str>>) -> Arc<Self> {
        Arc::new(Self {
            content: Mutex::new(Content { keys: keys.into(), groups: groups.into_iter().collect() }),
        })
    }

    /// The keys and groups as they are now.
    pub(super) fn content(&self) -> (Arc<[Arc<str>]>, BTreeSet<Arc<str>>) {
        let content = self.content.lock();
        (content.keys.clone(), content.groups.clone())
    }

    /// How many keys there are now.
    pub(super) fn keys(&self) -> usize {
        self.content.lock().keys.len()
    }

    /// Replaces the keys by their groups; returns the groups that are new.
    pub(super) fn collapse(&self, catalog: &Catalog) -> usize {
        let mut content = self.content.lock();
        let keys = std::mem::replace(&mut content.keys, Arc::new([]));
        let before = content.groups.len();
        for key in keys.iter() {
            match catalog.resolve(key) {
                Ok(key) => {
                    if !content.groups.contains(&key.group.name) {
                        content.groups.insert(key.group.name.clone());
                    }
                }
                // A key of no group can't be cached; should the catalog disagree with itself, all groups go.
                Err(_) => content.groups.extend(catalog.groups().iter().map(|group| group.name.clone())),
            }
        }
        content.groups.len() - before
    }
}
