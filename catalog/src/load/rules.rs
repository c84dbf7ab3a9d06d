//! `[[rule]]`.

use std::ops::Range;
use std::sync::Arc;

use toml::de::DeTable;

use super::fields::Fields;
use super::groups::Draft;
use crate::catalog::{Declared, Origin};
use crate::group::GroupId;
use crate::report::{Collector, did_you_mean};
use crate::rules::pattern::Pattern;
use crate::rules::{Ops, Rule, TagRule};
use crate::template::overlap::overlap;
use crate::template::{RawTemplate, Template};

/// What a written rule became: one rule for each of its keys, and one for its groups.
pub(super) fn read(
    table: &DeTable<'_>,
    span: Range<usize>,
    drafts: &[Draft],
    database: Option<&str>,
    problems: &mut Collector<'_>,
) -> Option<Vec<Declared>> {
    let title = match table.get("table").and_then(|table| table.get_ref().as_str()) {
        Some(table) => format!("rule on {table}"),
        None => "[[rule]]".to_owned(),
    };
    let mut fields = Fields::new(&title, table, span);
    let pattern = fields.required("table", "shop.orders", problems).and_then(|(text, at)| {
        Pattern::parse(&text, database).map_err(|(message, remedy)| problems.error(&at, message, remedy)).ok()
    });
    let on = ops(&title, &mut fields, problems);
    let when_changed = fields.list("when_changed", problems);
    if let (Some((_, at)), false) = (when_changed.first(), on.update) {
        problems.error(
            at,
            format!("{title}: when_changed is about updates, which on leaves out"),
            "add \"update\" to on, or remove when_changed",
        );
    }
    let when_changed: Vec<Box<str>> = when_changed.into_iter().map(|(column, _)| column.into()).collect();

    let mut parts: Vec<(Option<Template>, Option<TagRule>, Vec<GroupId>)> = Vec::new();
    let keys = fields.list("keys", problems);
    let tags = fields.list("tags", problems);
    let names = fields.list("groups", problems);
    if keys.is_empty() && tags.is_empty() && names.is_empty() {
        let remedy = "add keys = [\"user:{user_id}\"] or tags with columns as parameters, or groups = [\"user\"] to flush";
        problems.error(fields.span(), format!("{title} does nothing"), remedy);
    }
    for (text, at) in keys {
        match key(&text, drafts) {
            Ok(Some((template, groups))) => parts.push((Some(template), None, groups)),
            Ok(None) => {}
            Err((message, remedy)) => {
                problems.error(&at, format!("{title}: key {text:?}: {message}"), remedy);
            }
        }
    }
    for (text, at) in tags {
        match tag(&text, drafts) {
            Ok((template, groups)) => {
                let tags = TagRule { template, joining: None, against: Vec::new() };
                parts.push((None, Some(tags), groups));
            }
            Err((message, remedy)) => {
                problems.error(&at, format!("{title}: tag {text:?}: {message}"), remedy);
            }
        }
    }
    let mut groups = Vec::new();
    for (name, at) in names {
        let known = || drafts.iter().filter_map(|draft| Some((draft.id, draft.name.as_ref()?.0.as_str())));
        if let Some((id, _)) = known().find(|(_, known)| *known == name) {
            groups.push(id);
            continue;
        }
        let remedy = match did_you_mean(&name, known().map(|(_, name)| name)) {
            Some(near) => format!("did you mean {near}?"),
            None => "declare it with [[group]], or remove it".to_owned(),
        };
        problems.error(&at, format!("{title}: there is no group {name}"), remedy);
    }
    if !groups.is_empty() {
        parts.push((None, None, groups));
    }
    let origin = Origin::Rule(problems.line(fields.span().start));
    fields.finish(problems);
    let pattern = pattern?;
    let declare = |(keys, tags, groups)| Declared {
        pattern: pattern.clone(),
        origin,
        rule: Arc::new(Rule { on, when_changed: when_changed.clone(), keys, tags, groups }),
    };
    Some(parts.into_iter().map(declare).collect())
}

fn ops(title: &str, fields: &mut Fields<'_, '_>, problems: &mut Collector<'_>) -> Ops {
    let names = fields.list("on", problems);
    if names.is_empty() {
        return Ops::ALL;
    }
    let mut on = Ops { insert: false, update: false, delete: false };
    for (name, at) in names {
        match name.to_ascii_lowercase().as_str() {
            "insert" => on.insert = true,
            "update" => on.update = true,
            "delete" => on.delete = true,
            _ => {
                let remedy = "write \"insert\", \"update\" or \"delete\"; TRUNCATE and DDL always flush";
                problems.error(&at, format!("{title}: on has no {name:?}"), remedy);
            }
        }
    }
    on
}

/// A rule's key, and the groups that it is of.
type KeyOf = (Template, Vec<GroupId>);

/// The template of a rule's key, and the groups that such keys belong to. `Ok(None)` where a group that can't be read
/// may be the one.
fn key(text: &str, drafts: &[Draft]) -> Result<Option<KeyOf>, (String, String)> {
    let raw = RawTemplate::parse(text).map_err(|error| (error, String::new()))?;
    let groups = || drafts.iter().filter_map(|draft| Some((draft, &draft.template.as_ref()?.0)));
    let alike: Vec<_> = groups().filter(|(_, template)| raw.same_shape(template)).collect();
    let agrees = |template: &Template| {
        raw.params()
            .zip(template.params())
            .all(|((_, kind), param)| kind.is_none_or(|kind| *kind == param.kind))
    };
    let agreeing: Vec<_> = alike.iter().filter(|(_, template)| agrees(template)).collect();
    match agreeing[..] {
        [(draft, template)] => {
            let mut kinds = template.params().iter().map(|param| param.kind.clone());
            let all: Vec<_> = raw.params().map(|(_, kind)| (kind.cloned(), kinds.next())).collect();
            let mut all = all.into_iter().map(|(own, groups)| own.or(groups));
            let mut fill = raw.clone();
            fill.set_kinds(|| all.next().flatten());
            let typed = fill
                .typed(|name| Err(format!("{{{name}}} has no type")))
                .map_err(|error| (error, String::new()))?;
            return Ok(Some((typed, vec![draft.id])));
        }
        [] => {}
        _ => {
            let keys: Vec<&str> = agreeing.iter().map(|(_, template)| template.text()).collect();
            return Err((
                format!("it could be one of {}", keys.join(" and ")),
                "give its parameters the types of the one that is meant".to_owned(),
            ));
        }
    }
    if let Some((draft, template)) = alike.first() {
        let message = format!("its types are not those of {template} of {}", draft.title());
        return Err((message, "remove the types, they are taken from the group".to_owned()));
    }
    if raw.params().all(|(_, kind)| kind.is_some()) {
        let typed = raw.typed(|_| Err(String::new())).map_err(|error| (error, String::new()))?;
        let matching: Vec<GroupId> =
            groups().filter(|(_, template)| overlap(&typed, template)).map(|(draft, _)| draft.id).collect();
        if !matching.is_empty() {
            return Ok(Some((typed, matching)));
        }
    }
    if drafts.iter().any(|draft| draft.template.is_none()) {
        return Ok(None);
    }
    let bare = RawTemplate::bare;
    let known: Vec<(String, &str)> = groups()
        .filter_map(|(_, template)| Some((bare(&RawTemplate::parse(template.text()).ok()?), template.text())))
        .collect();
    let near = did_you_mean(&bare(&raw), known.iter().map(|(bare, _)| bare.as_str()));
    let near = near.and_then(|near| known.iter().find(|(bare, _)| bare == near));
    let remedy = match near {
        Some((_, near)) => format!("did you mean {near}, with columns as parameters?"),
        None => "write it like a group's key with columns as parameters, or give each parameter its type"
            .to_owned(),
    };
    Err(("no group has such keys".to_owned(), remedy))
}

/// A tag of groups, its types theirs.
fn tag(text: &str, drafts: &[Draft]) -> Result<(Template, Vec<GroupId>), (String, String)> {
    let raw = RawTemplate::parse(text).map_err(|error| (error, String::new()))?;
    let all = || drafts.iter().flat_map(|draft| draft.tags.iter().map(move |(tag, _)| (draft, tag)));
    let kinds = |tag: &Template| tag.params().iter().map(|param| param.kind.clone()).collect::<Vec<_>>();
    let agrees = |tag: &Template| {
        raw.same_shape(tag)
            && raw
                .params()
                .zip(tag.params())
                .all(|((_, kind), param)| kind.is_none_or(|kind| *kind == param.kind))
    };
    let Some((_, first)) = all().find(|(_, tag)| agrees(tag)) else {
        if let Some((draft, tag)) = all().find(|(_, tag)| raw.same_shape(tag)) {
            let message = format!("its types are not those of {tag} of {}", draft.title());
            return Err((message, "remove the types, they are taken from the group".to_owned()));
        }
        let known: Vec<&str> = all().map(|(_, tag)| tag.text()).collect();
        let remedy = match did_you_mean(text, known.iter().copied()) {
            Some(near) => format!("did you mean {near}, with columns as parameters?"),
            None => "give the groups that it is for tags = [..] of that form".to_owned(),
        };
        return Err(("no group has such tags".to_owned(), remedy));
    };
    let kinds_of_first = kinds(first);
    if let Some((draft, other)) = all().find(|(_, tag)| agrees(tag) && kinds(tag) != kinds_of_first) {
        let message = format!("it could be {first} or {other} of {}", draft.title());
        return Err((message, "give its parameters the types of the one that is meant".to_owned()));
    }
    let mut next = kinds_of_first.into_iter();
    let mut fill = raw.clone();
    fill.set_kinds(|| next.next());
    let typed =
        fill.typed(|name| Err(format!("{{{name}}} has no type"))).map_err(|error| (error, String::new()))?;
    let mut groups: Vec<GroupId> = all().filter(|(_, tag)| agrees(tag)).map(|(draft, _)| draft.id).collect();
    groups.dedup();
    Ok((typed, groups))
}
