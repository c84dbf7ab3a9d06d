use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use catalog::Key;

/// A key's value as the database showed it, and the tags that it is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// JSON, or `None` when there is no such row.
    pub value: Option<Bytes>,
    /// The tags of its rows, each once; or why the value must not be stored, whatever its tags are.
    pub tags: Result<Arc<[Arc<str>]>, Untagged>,
}

impl Loaded {
    /// Adds the tags that are made of the key, whatever the result shows.
    #[must_use]
    pub(crate) fn tagged_by(self, key: &Key) -> Self {
        let tagging = &key.group.tagging;
        let Ok(rows) = &self.tags else { return self };
        if tagging.of_key.is_empty() {
            return self;
        }
        let own = tagging.of_key.iter().map(|tag| tag.render(key));
        let all: BTreeSet<Arc<str>> = rows.iter().cloned().chain(own).collect();
        let limit = tagging.max_tags;
        let tags =
            if all.len() > limit { Err(Untagged::TooMany { limit }) } else { Ok(all.into_iter().collect()) };
        Self { tags, ..self }
    }
}

/// Why a value is served and must not be stored: mostly that its tags can't be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untagged {
    /// There are more than the group's `max_tags`.
    #[error("the value has more than {limit} tags; raise the group's max_tags, or select fewer rows")]
    TooMany {
        /// The group's limit.
        limit: usize,
    },
    /// A column's value can be no part of a tag.
    #[error(transparent)]
    Unreadable(#[from] catalog::BadTag),
    /// It was read from a server that took writes and takes none any more: another one may by now.
    #[error("the database's server is not the primary any more")]
    NotPrimary,
}

impl Untagged {
    /// A short name from a closed set, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "too_many_tags",
            Self::Unreadable(_) => "unreadable_tag",
            Self::NotPrimary => "not_primary",
        }
    }
}

/// A value without tags, of a group that has none.
impl From<Option<Bytes>> for Loaded {
    fn from(value: Option<Bytes>) -> Self {
        Self { value, tags: Ok(Arc::default()) }
    }
}
