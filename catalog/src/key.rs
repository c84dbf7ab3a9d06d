//! Keys: what an application asks for, understood.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::group::Group;
use crate::param::ParamError;
use crate::value::Value;

/// Longest key that a catalog resolves unless told otherwise, in bytes.
pub const DEFAULT_MAX_KEY: usize = 1024;

/// A key of a group, parsed. Cheap to clone. Made by [`Catalog::resolve`](crate::Catalog::resolve) alone.
///
/// Two keys are equal when their texts are: one text belongs to one group.
#[derive(Clone)]
pub struct Key {
    /// The key itself, canonical.
    pub text: Arc<str>,
    /// The group whose template it matches.
    pub group: Arc<Group>,
    /// The template's parameters, in its order.
    pub params: Arc<[Value]>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?} of {})", self.text, self.group.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no key. All are the asker's mistake; none is worth a retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing at all.
    #[error("the key is empty; write one like {example}")]
    Empty {
        /// A template of the catalog.
        example: Box<str>,
    },
    /// Longer than any key may be.
    #[error("key is {length} bytes, limit is {limit}")]
    TooLong {
        /// Bytes of the key.
        length: usize,
        /// Most bytes that a key may have.
        limit: usize,
    },
    /// No template looks like it.
    #[error("no group has keys like {key:?}; the nearest template is {nearest}")]
    NoGroup {
        /// The key.
        key: Box<str>,
        /// The template that is most like it.
        nearest: Box<str>,
    },
    /// Looks like a key of a group, but a part of it is of another type.
    #[error("key {key:?} is not one of group {group} ({template}): {param}: {error}")]
    Invalid {
        /// The key.
        key: Box<str>,
        /// The group that it looks like.
        group: Arc<str>,
        /// The group's template.
        template: Box<str>,
        /// The parameter that the part stands for.
        param: Box<str>,
        /// What is wrong with the part.
        error: ParamError,
    },
    /// Means a key of a group, but is not the one way to write it.
    #[error("key {key:?} is not canonical, write {canonical}")]
    NotCanonical {
        /// The key.
        key: Box<str>,
        /// The same key, as it must be written.
        canonical: Box<str>,
    },
}
