//! What travels along one path, shared by all nodes on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use catalog::Catalog;
use parking_lot::Mutex;

/// Keys and tags to remove and groups to flush.
///
/// When keys and tags pile up for a slow node they are replaced by their groups, in place: for every node that still has to get
/// them. So memory stays bounded by groups and batches, however long a node takes.
#[derive(Debug)]
pub(super) struct Payload {
    content: Mutex<Content>,
}

/// What a payload is at one moment.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) keys: Arc<[Arc<str>]>,
    pub(super) tags: Arc<[Arc<str>]>,
    pub(super) groups: BTreeSet<Arc<str>>,
}

impl Content {
    /// How many keys and tags there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.tags.len()
    }
}

impl Payload {
    pub(super) fn new(
        keys: Vec<Arc<str>>,
        tags: Vec<Arc<str>>,
        groups: impl IntoIterator<Item = Arc<str>>,
    ) -> Arc<Self> {
        let groups = groups.into_iter().collect();
        Arc::new(Self { content: Mutex::new(Content { keys: keys.into(), tags: tags.into(), groups }) })
    }

    /// The keys, tags and groups as they are now.
    pub(super) fn content(&self) -> Content {
        self.content.lock().clone()
    }

    /// How many keys and tags there are now.
    pub(super) fn keys(&self) -> usize {
        self.content.lock().len()
    }

    /// Replaces the keys and tags by their groups; returns the groups that are new.
    pub(super) fn collapse(&self, catalog: &Catalog) -> usize {
        let mut content = self.content.lock();
        let keys = std::mem::replace(&mut content.keys, Arc::new([]));
        let tags = std::mem::replace(&mut content.tags, Arc::new([]));
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
        for tag in tags.iter() {
            let carriers = catalog.carriers(tag);
            content.groups.extend(carriers.iter().map(|id| catalog.groups()[usize::from(id.0)].name.clone()));
        }
        content.groups.len() - before
    }
}
