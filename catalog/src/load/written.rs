//! Whether rules that are written by hand cover the changes of a table.
//!
//! Rules with keys or groups are taken at their word: who writes them says which changes concern the group. A rule with tags is
//! different: it finds entries by what they carry, and **a row that is not in a result gives it no tag**. *A page is empty and cached; the first
//! row of it is inserted and its tag removed; nothing carries it, and the page stays empty.* So tags cover a table only if every entry that a
//! change can make differ carries the tag whatever its result shows:
//!
//! - **Tags of the key**: all parameters are the key's, and the rule makes them of the columns that must equal these. A row without that
//!   value is of no concern to the entry.
//! - **Tags of a LEFT JOIN**: the columns by which ON finds the partner, made of what they are compared with, which the rows of the
//!   left side show with or without a partner.

use super::groups::{Draft, of_params};
use crate::param::ParamType;
use crate::query::{Query, TableRef};
use crate::rules::{Ops, Rule};
use crate::template::Template;

/// Whether a written rule of the group and the table covers all changes of a place.
pub(super) fn covers(rule: &Rule, draft: &Draft, query: &Query, place: &TableRef) -> bool {
    let (Some(tags), Some((key, _))) = (&rule.tags, &draft.template) else { return rule.tags.is_none() };
    let read = |used: &Vec<Box<str>>| {
        used.iter().all(|column| rule.when_changed.iter().any(|known| known.eq_ignore_ascii_case(column)))
    };
    let all_changes =
        rule.on == Ops::ALL && (rule.when_changed.is_empty() || place.used.as_ref().is_some_and(read));
    all_changes
        && draft.tags.iter().filter(|(tag, _)| tag.alike(&tags.template)).any(|(tag, _)| {
            of_key(tag, &tags.template, key, place) || of_partner(tag, &tags.template, query, place)
        })
}

/// Pairs of the columns that a rule makes a tag of and what the group calls these parts.
fn parts<'t>(tag: &'t Template, rule: &'t Template) -> impl Iterator<Item = (&'t str, &'t str)> {
    rule.params().iter().zip(tag.params()).map(|(column, part)| (&*column.name, &*part.name))
}

fn of_key(tag: &Template, rule: &Template, key: &Template, place: &TableRef) -> bool {
    let Some(params) = of_params(tag, key) else { return false };
    parts(tag, rule).zip(params).all(|((column, _), param)| {
        place.columns[param].as_ref().is_some_and(|equal| equal.eq_ignore_ascii_case(column))
    })
}

fn of_partner(tag: &Template, rule: &Template, query: &Query, place: &TableRef) -> bool {
    let Ok(partner) = &place.partner else { return false };
    // How text is compared is the collation's, which a tag of text does not know.
    let exact = tag.params().iter().all(|part| !matches!(part.kind, ParamType::Str(_) | ParamType::Compared));
    partner.joining.is_none()
        && exact
        && parts(tag, rule).all(|(column, part)| {
            let at = partner.columns.iter().position(|known| known.eq_ignore_ascii_case(column));
            at.is_some_and(|at| query.projected(part).is_some_and(|shown| shown == partner.exprs[at]))
        })
}

/// The kinds of change that none of these rules is for.
pub(super) fn left_out(rules: &[&Rule]) -> Vec<&'static str> {
    let none = |on: fn(&Ops) -> bool| !rules.iter().any(|rule| on(&rule.on));
    let mut left_out = Vec::new();
    if none(|on| on.insert) {
        left_out.push("INSERT");
    }
    if none(|on| on.update) {
        left_out.push("UPDATE");
    }
    if none(|on| on.delete) {
        left_out.push("DELETE");
    }
    left_out
}

/// What to write for a place that nothing covers: no column of it must equal any parameter, else a tag of the key would be derived.
pub(super) fn remedy(draft: &Draft, place: &TableRef, missing: &str) -> String {
    let (table, name) = (&place.table, draft.name.as_ref().map_or("..", |(name, _)| name));
    format!(
        "join it by a column that equals {{{missing}}}, or add a [[rule]] for {table} with keys or groups = [{name:?}], or accept stale values with \
         ignore = [\"{table}\"]"
    )
}
