//! Reading a catalog's file: all of it, so that all of its problems are reported at once.

mod coverage;
mod fields;
mod groups;
mod plain;
mod rules;
mod written;

use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::catalog::Catalog;
use crate::report::{Collector, Report};
use fields::Fields;

pub(crate) fn load(file: &str, text: &str) -> Result<Catalog, Report> {
    let mut problems = Collector::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            problems.error(&error.span().unwrap_or(0..0), error.message().to_owned(), "correct the TOML");
        }
        return Err(problems.finish());
    }
    let document = document.into_inner();

    let database = database(&document, &mut problems);
    let database = database.as_deref();

    let drafts: Vec<_> = sections(&document, "group", &mut problems)
        .into_iter()
        .enumerate()
        .map(|(index, (table, span))| groups::Draft::read(index, table, span, database, &mut problems))
        .collect();
    groups::check(&drafts, &mut problems);
    let rules: Vec<_> = sections(&document, "rule", &mut problems)
        .into_iter()
        .filter_map(|(table, span)| rules::read(table, span, &drafts, database, &mut problems))
        .collect();
    let covered = coverage::cover(&drafts, rules, &mut problems);
    if drafts.is_empty() {
        problems.warn(&(0..0), "the catalog has no group, so no key is known", "declare one with [[group]]");
    }

    let lines = drafts.iter().map(|draft| draft.lines(&problems)).collect();
    let report = problems.finish();
    if !report.is_ok() {
        return Err(report);
    }
    let (mut derived, mut of_key) = (covered.derived, covered.of_key);
    let groups: Option<Vec<_>> = drafts
        .into_iter()
        .map(|draft| {
            let tags = derived.remove(&draft.id).unwrap_or_default();
            let own = of_key.remove(&draft.id).unwrap_or_default();
            draft.build(tags, own).map(Arc::new)
        })
        .collect();
    let groups = groups.expect("a group that could not be read is a problem");
    Ok(Catalog::new(file, groups, lines, covered.rules, covered.ignored, report.problems))
}

/// The database of tables that are named without one.
fn database(document: &DeTable<'_>, problems: &mut Collector<'_>) -> Option<String> {
    let section = document.get("catalog")?;
    let Some(table) = section.get_ref().as_table() else {
        problems.error(&section.span(), "catalog is not a section", "write [catalog]");
        return None;
    };
    let mut fields = Fields::new("[catalog]", table, section.span());
    let database = fields.text("database", problems).map(|(database, _)| database);
    fields.finish(problems);
    database
}

/// The tables of `[[name]]`, in the order of the file, and where they are.
fn sections<'a, 'i>(
    document: &'a DeTable<'i>,
    name: &str,
    problems: &mut Collector<'_>,
) -> Vec<(&'a DeTable<'i>, std::ops::Range<usize>)> {
    let Some(value) = document.get(name) else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        problems.error(
            &value.span(),
            format!("{name} is not a list of sections"),
            format!("write [[{name}]]"),
        );
        return Vec::new();
    };
    let mut tables = Vec::new();
    for item in items {
        match item.get_ref() {
            DeValue::Table(table) => tables.push((table, item.span())),
            _ => problems.error(
                &item.span(),
                format!("{name} is not a list of sections"),
                format!("write [[{name}]]"),
            ),
        }
    }
    tables
}

#[cfg(test)]
mod tests;
