//! The catalog as a whole: keys to groups, tables to rules.

mod readers;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::digest;
use crate::group::{Group, GroupId};
use crate::key::{DEFAULT_MAX_KEY, Key, KeyError};
use crate::query::TableName;
use crate::report::{Problem, Report, distance};
use crate::rules::pattern::Pattern;
use crate::rules::{Op, Ops, Rule, TableRules};
use crate::schema::Stream;
use crate::template::{Near, Template};

/// Tables whose rules are kept compiled; more are compiled each time.
const MAX_COMPILED: usize = 10_000;

/// All groups and rules of a file, checked.
#[derive(Debug)]
pub struct Catalog {
    pub(crate) file: String,
    pub(crate) groups: Vec<Arc<Group>>,
    pub(crate) rules: Vec<Declared>,
    /// Tables that a group reads without caring for their changes.
    pub(crate) ignored: Vec<(TableName, GroupId)>,
    pub(crate) warnings: Vec<Problem>,
    /// For each group the lines of its key and its query.
    pub(crate) lines: Vec<(usize, usize)>,
    max_key: usize,
    /// Through what changes come, where that is known.
    pub(crate) streams: Vec<Stream>,
    /// Groups by the literal that their keys begin with.
    prefixes: HashMap<Box<str>, Vec<usize>>,
    /// Lengths of these literals, longest first.
    lengths: Vec<usize>,
    compiled: RwLock<HashMap<Box<str>, Tables>>,
    /// All tags, and the groups whose entries carry them.
    tags: Vec<(Template, Vec<GroupId>)>,
}

/// The tables of a database, by the spelling that was asked for.
type Tables = HashMap<Box<str>, Option<Arc<TableRules>>>;

/// A rule, its tables, and where it comes from.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) pattern: Pattern,
    pub(crate) origin: Origin,
    pub(crate) rule: Arc<Rule>,
}

/// Which table's changes make a group's keys stale, and how; for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// `database.table`, or the pattern of a written rule.
    pub table: String,
    /// The group.
    pub group: Arc<str>,
    /// The group's number.
    pub group_id: GroupId,
    /// Where the rule comes from.
    pub origin: Origin,
    /// What a change does.
    pub effect: Use,
    /// The kinds of row change that count.
    pub on: Vec<Op>,
    /// The columns of which one must have changed for an UPDATE to count; empty: any.
    pub when_changed: Vec<String>,
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The query of the group.
    Query,
    /// The `[[rule]]` at this line.
    Rule(usize),
    /// The `ignore` of the group.
    Ignore,
}

/// What a table's change does to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Removes the keys that this template makes of the row.
    Keys(String),
    /// Removes the entries that carry the tag that this template makes of the row.
    Tags {
        /// The template.
        tag: String,
        /// `Some` where the group is flushed instead when a row comes, or one of these columns changes.
        flush: Option<Vec<String>>,
    },
    /// Flushes the group.
    Flush,
    /// Nothing: the group accepts to miss it.
    Ignored,
}

impl Catalog {
    /// Reads and checks `[[group]]`, `[[rule]]` and `[catalog]` of a file; other sections are left alone.
    ///
    /// `file` is only for messages. All problems are reported at once.
    pub fn parse(file: &str, text: &str) -> Result<Self, Report> {
        crate::load::load(file, text)
    }

    pub(crate) fn new(
        file: &str,
        mut groups: Vec<Arc<Group>>,
        lines: Vec<(usize, usize)>,
        rules: Vec<Declared>,
        ignored: Vec<(TableName, GroupId)>,
        warnings: Vec<Problem>,
    ) -> Self {
        let mut prefixes: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (index, group) in groups.iter().enumerate() {
            prefixes.entry(group.template.prefix().into()).or_default().push(index);
        }
        let mut lengths: Vec<usize> = prefixes.keys().map(|prefix| prefix.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        let (file, max_key, compiled) = (file.to_owned(), DEFAULT_MAX_KEY, RwLock::default());
        let mut tags: Vec<(Template, Vec<GroupId>)> = Vec::new();
        for (group, tag) in
            groups.iter().flat_map(|group| group.tagging.templates().map(|tag| (group.id, tag)))
        {
            match tags.iter_mut().find(|(known, _)| known.alike(tag)) {
                Some((_, groups)) if groups.last() == Some(&group) => {}
                Some((_, groups)) => groups.push(group),
                None => tags.push((tag.clone(), vec![group])),
            }
        }
        for group in &mut groups {
            let digest = digest::of(group, &rules, &ignored);
            Arc::get_mut(group).expect("nobody else has a group before the catalog is made").digest = digest;
        }
        let streams = Vec::new();
        Self {
            file,
            groups,
            rules,
            ignored,
            warnings,
            lines,
            max_key,
            streams,
            prefixes,
            lengths,
            compiled,
            tags,
        }
    }

    /// Sets the most bytes that a key may have; [`DEFAULT_MAX_KEY`] otherwise.
    #[must_use]
    pub fn with_max_key(mut self, bytes: usize) -> Self {
        self.max_key = bytes;
        self
    }

    /// Says through what changes come, so that [`schema::check`](crate::schema::check) tells what gets lost on the way.
    #[must_use]
    pub fn with_streams(mut self, streams: Vec<Stream>) -> Self {
        self.streams = streams;
        self
    }

    /// The groups, in the order of the file; a [`GroupId`] is an index.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.iter().find(|group| &*group.name == name)
    }

    /// What the file has that is odd but not wrong.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Understands a key: the group whose template it matches, and its parameters.
    pub fn resolve(&self, key: &str) -> Result<Key, KeyError> {
        if key.len() > self.max_key {
            return Err(KeyError::TooLong { length: key.len(), limit: self.max_key });
        }
        for length in &self.lengths {
            let Some(groups) = key.get(..*length).and_then(|prefix| self.prefixes.get(prefix)) else {
                continue;
            };
            for index in groups {
                let group = &self.groups[*index];
                if let Some(params) = group.template.matches(key) {
                    return Ok(Key { text: key.into(), group: Arc::clone(group), params: params.into() });
                }
            }
        }
        Err(self.explain(key))
    }

    /// Why no template matches; the one that is most like the key has the word.
    fn explain(&self, key: &str) -> KeyError {
        if key.is_empty() {
            let example = self.groups.first().map_or("user:42", |group| group.template.text()).into();
            return KeyError::Empty { example };
        }
        let shown: Box<str> = key.chars().take(100).collect::<String>().into();
        let mut invalid: Option<(usize, &Arc<Group>, usize, crate::ParamError)> = None;
        for group in &self.groups {
            match group.template.near(key) {
                Some(Near::NotCanonical { canonical }) => {
                    return KeyError::NotCanonical { key: shown, canonical: canonical.into() };
                }
                Some(Near::Invalid { param, error }) => {
                    let size = error.to_string().len();
                    if invalid.as_ref().is_none_or(|(best, ..)| size < *best) {
                        invalid = Some((size, group, param, error));
                    }
                }
                None => {}
            }
        }
        if let Some((_, group, param, error)) = invalid {
            return KeyError::Invalid {
                key: shown,
                group: Arc::clone(&group.name),
                template: group.template.text().into(),
                param: group.template.params()[param].name.clone(),
                error,
            };
        }
        // Of groups that begin alike, the one whose key has as many parts.
        let parts = |text: &str| text.matches(':').count();
        let nearest = self.groups.iter().map(|group| &group.template).min_by_key(|template| {
            let prefix = template.prefix().trim_end_matches(':');
            let beginning = shown.split(':').take(parts(prefix) + 1).collect::<Vec<_>>().join(":");
            (distance(prefix, &beginning), parts(&template.literals()).abs_diff(parts(&shown)))
        });
        let nearest = nearest.map(Template::text);
        KeyError::NoGroup { key: shown, nearest: nearest.unwrap_or("none, the catalog has no group").into() }
    }

    /// The groups whose entries may carry a tag; none: no entry does.
    pub fn carriers(&self, tag: &str) -> Vec<GroupId> {
        let matching = self.tags.iter().filter(|(template, _)| template.matches(tag).is_some());
        let mut groups: Vec<GroupId> = matching.flat_map(|(_, groups)| groups.iter().copied()).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// What tags there are, as templates; for messages.
    pub fn tags(&self) -> impl Iterator<Item = &Template> {
        self.tags.iter().map(|(template, _)| template)
    }

    /// The rules of a table, patterns resolved; `None` when no rule and no query names it.
    pub fn table(&self, database: &str, table: &str) -> Option<Arc<TableRules>> {
        let compiled = self.compiled.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.get(database).and_then(|tables| tables.get(table)) {
            return known.clone();
        }
        let room = compiled.values().map(HashMap::len).sum::<usize>() < MAX_COMPILED;
        drop(compiled);
        let name = TableName::new(database, table);
        let matching = self.rules.iter().filter(|declared| declared.pattern.matches(&name));
        let rules: Vec<Arc<Rule>> = matching.map(|declared| Arc::clone(&declared.rule)).collect();
        let rules = (!rules.is_empty()).then(|| Arc::new(TableRules::new(rules)));
        if room {
            let mut compiled = self.compiled.write().unwrap_or_else(PoisonError::into_inner);
            compiled.entry(database.into()).or_default().insert(table.into(), rules.clone());
        }
        rules
    }

    /// Which table's changes make which group's keys stale, and which are ignored.
    pub fn tables(&self) -> Vec<TableUse> {
        let row = |table: String, group: GroupId, origin, effect, on: Ops, when_changed| TableUse {
            table,
            group: Arc::clone(&self.groups[usize::from(group.0)].name),
            group_id: group,
            origin,
            effect,
            on: on.kinds(),
            when_changed,
        };
        let declared = self.rules.iter().flat_map(|declared| {
            declared.rule.groups.iter().map(|group| {
                let effect = match (&declared.rule.keys, &declared.rule.tags) {
                    (Some(keys), _) => Use::Keys(keys.text().to_owned()),
                    (None, Some(tags)) => Use::Tags {
                        tag: tags.template.text().to_owned(),
                        flush: tags
                            .joining
                            .as_ref()
                            .map(|columns| columns.iter().map(ToString::to_string).collect()),
                    },
                    (None, None) => Use::Flush,
                };
                let when_changed = declared.rule.when_changed.iter().map(ToString::to_string).collect();
                row(
                    declared.pattern.to_string(),
                    *group,
                    declared.origin,
                    effect,
                    declared.rule.on,
                    when_changed,
                )
            })
        });
        let ignored = self.ignored.iter().map(|(table, group)| {
            row(table.to_string(), *group, Origin::Ignore, Use::Ignored, Ops::ALL, Vec::new())
        });
        let mut uses: Vec<TableUse> = declared.chain(ignored).collect();
        uses.sort_by(|a, b| (&a.table, a.group_id).cmp(&(&b.table, b.group_id)));
        uses
    }
}

#[cfg(test)]
mod tests;
