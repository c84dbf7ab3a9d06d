//! Tags: names that entries carry, made of the rows that they were loaded from, by which changes of other rows find them.
//!
//! A row that is not there makes no tag: what is found by the tags of rows alone is not found while it shows none. A tag of the key's own
//! parameters is carried by each of its entries.
//!
//! A tag is rendered by the same templates as a key: by the loader from the columns of a result, by the sync service from the
//! columns of a changed row.

use std::sync::Arc;

use crate::key::Key;
use crate::normal::{Column, Normal};
use crate::param::ParamType;
use crate::template::Template;

/// Most tags of an entry, unless a group says otherwise.
pub const DEFAULT_MAX_TAGS: usize = 128;

/// What the entries of a group are tagged by.
#[derive(Clone, Debug)]
pub struct Tagging {
    /// Each makes one tag of each row of the result.
    pub tags: Vec<Tag>,
    /// Each makes one tag of the key, which an entry carries whatever its result shows: nothing at all, too.
    pub of_key: Vec<KeyTag>,
    /// Most tags of an entry; one that would have more is served and not stored.
    pub max_tags: usize,
}

/// One kind of tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What it looks like.
    pub template: Template,
    /// Where the value of each parameter stands in a row of the result.
    pub sources: Vec<TagSource>,
    /// Whether the same tag is made of the key too, so that a result without these columns makes none, and that is no error.
    pub also_of_key: bool,
}

/// A tag that is made of a key's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTag {
    /// What it looks like.
    pub template: Template,
    /// For each of its parameters the number of the key's.
    pub params: Vec<usize>,
}

impl KeyTag {
    /// The tag of a key.
    pub fn render(&self, key: &Key) -> Arc<str> {
        let values: Vec<_> = self.params.iter().map(|param| key.params[*param].clone()).collect();
        self.template.render(&values).into()
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagSource {
    /// The column of that name, compared without regard to case.
    Named(Box<str>),
    /// One of the [hidden](crate::Query::hidden) columns, by its number.
    Hidden(usize),
}

/// The value that a result has for a part of a tag can't be one: no change could find the entry by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{{{param}}} of tag {tag}: {reason}")]
pub struct BadTag {
    /// The tag's template.
    pub tag: Box<str>,
    /// The part.
    pub param: Box<str>,
    /// What is wrong with it.
    pub reason: Box<str>,
}

impl Tagging {
    /// Whether entries carry no tags.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.of_key.is_empty()
    }

    /// What all tags look like, each form once.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let own = self.of_key.iter().map(|tag| &tag.template);
        own.chain(self.tags.iter().filter(|tag| !tag.also_of_key).map(|tag| &tag.template))
    }
}

impl Default for Tagging {
    fn default() -> Self {
        Self { tags: Vec::new(), of_key: Vec::new(), max_tags: DEFAULT_MAX_TAGS }
    }
}

/// What a value of a result is to a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A part of it.
    Value(crate::Value),
    /// SQL NULL: the row has no such tag.
    Null,
}

impl Tag {
    /// The tag of a row; `None` if a part is NULL. `part` reads the source of that number, by [`part_of`].
    ///
    /// # Errors
    ///
    /// [`BadTag`] for what is neither NULL nor a part: the entry must not be stored.
    pub fn render(
        &self,
        mut part: impl FnMut(&TagSource, &ParamType) -> Result<Part, String>,
    ) -> Result<Option<Arc<str>>, BadTag> {
        let mut values = Vec::with_capacity(self.sources.len());
        let mut null = false;
        for (source, param) in self.sources.iter().zip(self.template.params()) {
            match part(source, &param.kind) {
                Ok(Part::Value(value)) => values.push(value),
                Ok(Part::Null) => null = true,
                Err(reason) => {
                    return Err(BadTag {
                        tag: self.template.text().into(),
                        param: param.name.clone(),
                        reason: reason.into(),
                    });
                }
            }
        }
        Ok((!null).then(|| self.template.render(&values).into()))
    }
}

/// What a column of a result is to a tag. Unlike for a key, a value that is no part is an error: a change of the row that it
/// names would not find the entry.
pub fn part_of(kind: &ParamType, column: Column<'_>) -> Result<Part, String> {
    if column == Column::Null {
        return Ok(Part::Null);
    }
    match kind.normalize(column) {
        Ok(Normal::Value(value)) => Ok(Part::Value(value)),
        Ok(Normal::NoKey) => Err(format!("its value is not {}", kind.describe())),
        Err(error) => Err(error.to_string()),
    }
}
