//! Foreign keys that change rows without a trace in the binlog.

use super::Check;
use crate::catalog::Declared;
use crate::group::GroupId;
use crate::query::TableName;
use crate::schema::{Action, ForeignKey};
use crate::template::Template;

impl Check<'_> {
    /// Before MySQL 9.6 the rows that a foreign key deletes or changes are not logged; a rule on the parent must do.
    pub(super) fn cascades(&mut self) {
        if self.schema.logs_cascades {
            return;
        }
        for key in &self.schema.foreign_keys {
            let acts = |action: Action| !matches!(action, Action::Restrict);
            if !acts(key.on_delete) && !acts(key.on_update) {
                continue;
            }
            let child = TableName::new(&key.database, &key.table);
            let parent = TableName::new(&key.parent_database, &key.parent_table);
            let catalog = self.catalog;
            let of_table = |table: &TableName, group: GroupId| -> Vec<&Declared> {
                let matches = |declared: &&Declared| {
                    declared.pattern.matches(table) && declared.rule.groups.contains(&group)
                };
                catalog.rules.iter().filter(matches).collect()
            };
            for group in &catalog.groups {
                let child_rules = of_table(&child, group.id);
                let (Some(rule), true) = (child_rules.first(), of_table(&parent, group.id).is_empty()) else {
                    continue;
                };
                let line = self.line_of(rule);
                let name = &group.name;
                let message = format!(
                    "group {name}: foreign key {} lets a change of {parent} change rows of {child}, which this server does \
                     not write to its binlog",
                    key.name
                );
                let effect = rule
                    .rule
                    .keys
                    .as_ref()
                    .and_then(|keys| parent_keys(keys, key))
                    .map_or_else(|| format!("groups = [{name:?}]"), |keys| format!("keys = [{keys:?}]"));
                let remedy = format!(
                    "add [[rule]] table = \"{parent}\" {effect}, or delete child rows in SQL, or use MySQL 9.6 or later"
                );
                self.error(line, message, remedy);
            }
        }
    }
}

/// The keys of child rows made of the parent's columns, where the foreign key has all of them.
fn parent_keys(keys: &Template, foreign: &ForeignKey) -> Option<String> {
    let columns: Option<Vec<Box<str>>> = keys
        .params()
        .iter()
        .map(|param| {
            let at = foreign.columns.iter().position(|column| column.eq_ignore_ascii_case(&param.name))?;
            Some(foreign.parent_columns.get(at)?.as_str().into())
        })
        .collect();
    Some(keys.of_columns(&columns?).text().to_owned())
}
