//! Which groups to flush where only a part of a table's name is known, or what is behind it.

use crate::catalog::Catalog;
use crate::group::{Group, GroupId};
use crate::query::alike;
use crate::rules::pattern::Pattern;
use crate::rules::{Rule, TagRule};
use crate::template::overlap::overlap;

impl Catalog {
    /// The groups to flush when a table of this name changes without rows, in a database that nobody can tell.
    pub fn readers_named(&self, table: &str) -> Vec<GroupId> {
        self.readers_where(|pattern| pattern.may_name(table))
    }

    /// The groups to flush when any table of a database may have changed.
    pub fn readers_in(&self, database: &str) -> Vec<GroupId> {
        self.readers_where(|pattern| pattern.may_be_in(database))
    }

    /// The groups that read a table or view of this name, in that database or (`None`) in any, but ignore its changes.
    pub fn ignoring(&self, database: Option<&str>, table: &str) -> Vec<GroupId> {
        let is = |of: &str| database.is_none_or(|database| alike(database, of));
        let ignored = self.ignored.iter().filter(|(name, _)| alike(&name.table, table) && is(&name.database));
        ignored.map(|(_, group)| *group).collect()
    }

    /// The groups that ignore any table or view.
    pub fn ignoring_anything(&self) -> Vec<GroupId> {
        self.ignored.iter().map(|(_, group)| *group).collect()
    }

    /// Whether a change of rows may concern a group. All but plain ones that no rule reaches: by their keys, a tag or as a whole.
    pub fn is_reached(&self, group: &Group) -> bool {
        let carried = |tag: &TagRule| group.tagging.templates().any(|own| overlap(own, &tag.template));
        let reaches =
            |rule: &Rule| rule.groups.contains(&group.id) || rule.tags.as_ref().is_some_and(carried);
        !group.is_plain() || self.rules.iter().any(|declared| reaches(&declared.rule))
    }

    /// The groups to flush when anything may have changed.
    pub fn reached(&self) -> Vec<GroupId> {
        self.groups.iter().filter(|group| self.is_reached(group)).map(|group| group.id).collect()
    }

    fn readers_where(&self, matches: impl Fn(&Pattern) -> bool) -> Vec<GroupId> {
        let rules = self.rules.iter().filter(|declared| matches(&declared.pattern));
        let mut groups: Vec<GroupId> = rules.flat_map(|declared| declared.rule.groups.clone()).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}
