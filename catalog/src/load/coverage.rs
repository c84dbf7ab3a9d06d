//! Rules from queries, and whether each table that a query reads is covered: by keys, by tags of joins, or by tags of the key.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::groups::Draft;
use super::written;
use crate::catalog::{Declared, Origin};
use crate::group::{GroupId, Kind};
use crate::param::ParamType;
use crate::query::{Partner, TableColumn, TableName, TableRef};
use crate::report::Collector;
use crate::rules::pattern::Pattern;
use crate::rules::{Ops, Rule, TagRule};
use crate::tagging::KeyTag;
use crate::template::{Param, Piece, Template};

/// All rules, and what is deliberately not covered.
pub(super) struct Covered {
    pub(super) rules: Vec<Declared>,
    /// By group: the tags that its entries carry for its joins.
    pub(super) derived: HashMap<GroupId, Vec<Derived>>,
    /// By group: the tags that its entries carry by their keys.
    pub(super) of_key: HashMap<GroupId, Vec<KeyTag>>,
    pub(super) ignored: Vec<(TableName, GroupId)>,
}

/// A tag that a join has, and the SQL of its parts.
pub(super) struct Derived {
    pub(super) template: Template,
    pub(super) exprs: Vec<String>,
}

/// Derives rules from the groups' queries. A table that no rule covers and no group ignores is a problem.
pub(super) fn cover(drafts: &[Draft], written: Vec<Vec<Declared>>, problems: &mut Collector<'_>) -> Covered {
    let mut rules: Vec<Declared> = written.into_iter().flatten().collect();
    let written = rules.len();
    let mut ignored = Vec::new();
    let mut derived: HashMap<GroupId, Vec<Derived>> = HashMap::new();
    let mut of_key: HashMap<GroupId, Vec<KeyTag>> = HashMap::new();
    for draft in drafts {
        match draft.kind {
            Kind::Filled => {}
            Kind::LookAside => {
                look_aside(draft, &rules[..written], problems);
                continue;
            }
            // Whoever sets its values says when they are old; rules may, and need not.
            Kind::Plain => continue,
        }
        let (Some((template, _)), Some((query, at))) = (&draft.template, &draft.query) else { continue };
        ignored.extend(draft.ignored.iter().map(|table| (table.clone(), draft.id)));
        for table in query.tables() {
            if draft.ignored.iter().any(|known| known.is(table)) {
                continue;
            }
            let places = || draft.places.iter().filter(|place| place.table.is(table));
            let of_table = || {
                rules[..written].iter().filter(|declared| {
                    declared.rule.groups.contains(&draft.id) && declared.pattern.matches(table)
                })
            };
            // By place: whether what is written covers all changes of it.
            let by_hand: Vec<bool> = places()
                .map(|place| of_table().any(|declared| written::covers(&declared.rule, draft, query, place)))
                .collect();
            let tagged = of_table().any(|declared| declared.rule.tags.is_some());
            let left_out = written::left_out(&of_table().map(|declared| &*declared.rule).collect::<Vec<_>>());
            let mut covered_by_hand = false;
            for (place, covered) in places().zip(by_hand) {
                match derive(template, place) {
                    Ok((keys, when_changed)) => {
                        add(&mut rules, written, draft.id, table, (Some(keys), None), when_changed);
                    }
                    Err(_) if covered => covered_by_hand = true,
                    Err(param) => match &place.partner {
                        Ok(partner) => {
                            let tags = tag_rule(table, partner, &draft.places);
                            if let Some(joining) = &tags.joining {
                                warn_of_join(draft, table, joining, at, problems);
                            }
                            let tag =
                                Derived { template: tags.template.clone(), exprs: partner.exprs.clone() };
                            derived.entry(draft.id).or_default().push(tag);
                            let when_changed = place.used.clone().unwrap_or_default();
                            add(&mut rules, written, draft.id, table, (None, Some(tags)), when_changed);
                        }
                        Err(_) if let Some((tag, tags)) = key_tag(draft, template, place) => {
                            let known = of_key.entry(draft.id).or_default();
                            if !known.contains(&tag) {
                                known.push(tag);
                            }
                            let when_changed = place.used.clone().unwrap_or_default();
                            add(&mut rules, written, draft.id, table, (None, Some(tags)), when_changed);
                        }
                        Err(reason) => {
                            let mut message = format!(
                                "{}: a changed row of {table} does not tell the key: no column of it must equal {{{param}}}; \
                                 nor can a tag tell: {reason}",
                                draft.title()
                            );
                            if tagged {
                                message += "; the tags of its [[rule]] do not cover it, since an entry that shows too few rows carries none of \
                                             theirs: they must be made of the key, by the columns that equal its parameters, and \
                                             removed by every change of what the query reads";
                            }
                            let remedy = written::remedy(draft, place, &param);
                            problems.error(at, message, remedy);
                            break;
                        }
                    },
                }
            }
            if covered_by_hand && !left_out.is_empty() {
                warn_of_left_out(draft, table, &left_out, at, problems);
            }
        }
    }
    Covered { rules, derived, of_key, ignored }
}

/// A tag of the key's own parameters that covers a place, and what a changed row of it removes: `page/shop.orders.user_id={user_id}`.
///
/// A row matters to a key only if its columns equal the parameters that they must equal, so whatever the query does with its rows - pages,
/// UNION, aggregates -, an entry that a change can make differ has these parameters in its key. It carries the tag without any row.
/// `None` where no column must equal a parameter.
fn key_tag(draft: &Draft, key: &Template, place: &TableRef) -> Option<(KeyTag, TagRule)> {
    let known = place.columns.iter().enumerate().filter_map(|(at, column)| Some((at, column.clone()?)));
    let (params, columns): (Vec<usize>, Vec<Box<str>>) = known.unzip();
    let (group, _) = draft.name.as_ref()?;
    if params.is_empty() {
        return None;
    }
    let name = format!("{group}/{}.{}=", place.table, columns.join(",")).to_lowercase();
    let template = tag_template(&name, params.iter().map(|param| key.params()[*param].clone()).collect());
    let rule = TagRule { template: template.of_columns(&columns), joining: None, against: Vec::new() };
    Some((KeyTag { template, params }, rule))
}

/// A name, and behind it all parameters.
fn tag_template(name: &str, params: Vec<Param>) -> Template {
    let mut pieces = vec![Piece::Literal(name.into())];
    for index in 0..params.len() {
        if index > 0 {
            pieces.push(Piece::Literal(":".into()));
        }
        pieces.push(Piece::Param(index));
    }
    let shown: Vec<String> = params.iter().map(|param| format!("{{{}}}", param.name)).collect();
    Template::new(&format!("{name}{}", shown.join(":")), pieces, params).expect("':' is in no part")
}

/// How changes of a joined table find the entries that show their rows: `shop.products.id={id}`. The same columns of a table
/// make the same tag in all groups.
fn tag_rule(table: &TableName, partner: &Partner, places: &[TableRef]) -> TagRule {
    let columns: Vec<&str> = partner.columns.iter().map(|column| &**column).collect();
    let name = format!("{table}.{}=", columns.join(",")).to_lowercase();
    let params = columns.iter().map(|column| Param { name: (*column).into(), kind: ParamType::Compared });
    let template = tag_template(&name, params.collect());
    let against = partner.against.iter().filter_map(|(place, column)| {
        Some(TableColumn { table: places.get(*place)?.table.clone(), column: column.clone() })
    });
    TagRule { template, joining: partner.joining.clone(), against: against.collect() }
}

/// A plain JOIN has a price that who writes it should know.
fn warn_of_join(
    draft: &Draft,
    table: &TableName,
    joining: &[Box<str>],
    at: &Range<usize>,
    problems: &mut Collector<'_>,
) {
    let message = format!(
        "{}: a new row of {table}, or a change of its {}, flushes the group: it may join rows that no entry shows yet",
        draft.title(),
        joining.join(" or ")
    );
    let remedy = format!("write LEFT JOIN if rows without partner may show, or a [[rule]] for {table}");
    problems.warn(at, message, remedy);
}

/// A row that is not there is a value too, which an INSERT makes stale.
fn warn_of_left_out(
    draft: &Draft,
    table: &TableName,
    left_out: &[&str],
    at: &Range<usize>,
    problems: &mut Collector<'_>,
) {
    let what = left_out.join(" and ");
    let message = format!("{}: nothing is removed at an {what} of a row of {table}", draft.title());
    problems.warn(
        at,
        message,
        format!("leave `on` out of a [[rule]] for {table}, unless no {what} changes what the query returns"),
    );
}

/// A group without a query says what makes it stale: by a written rule, or that nothing does.
fn look_aside(draft: &Draft, rules: &[Declared], problems: &mut Collector<'_>) {
    let covered = rules.iter().any(|declared| declared.rule.groups.contains(&draft.id));
    match &draft.no_rules {
        Some(at) if covered => {
            let message = format!("{}: rules = \"none\", but a [[rule]] names it", draft.title());
            problems.error(at, message, "remove one of the two");
        }
        None if !covered => {
            let name = draft.name.as_ref().map_or("..", |(name, _)| name);
            let remedy = format!(
                "write query = \"SELECT id, name FROM shop.users WHERE id = {{id}}\"; or, if applications set its \
                 values, say what makes them stale by a [[rule]] with keys or groups = [{name:?}], or rules = \"none\"; or, if they \
                 are set without a token, kind = \"plain\""
            );
            problems.error(&draft.span, format!("{} has no query", draft.title()), remedy);
        }
        _ => {}
    }
}

/// The keys and the columns read of one place; or the parameter that it doesn't tell.
fn derive(template: &Template, place: &TableRef) -> Result<(Template, Vec<Box<str>>), Box<str>> {
    let mut columns = Vec::with_capacity(place.columns.len());
    for (column, param) in place.columns.iter().zip(template.params()) {
        columns.push(column.clone().ok_or_else(|| param.name.clone())?);
    }
    Ok((template.of_columns(&columns), place.used.clone().unwrap_or_default()))
}

/// Adds a derived rule; one of the same group, table and keys takes it in.
fn add(
    rules: &mut Vec<Declared>,
    written: usize,
    group: GroupId,
    table: &TableName,
    (keys, tags): (Option<Template>, Option<TagRule>),
    when_changed: Vec<Box<str>>,
) {
    let same = |declared: &&mut Declared| {
        let named = matches!(&declared.pattern, Pattern::Table(known) if known.is(table));
        let same = declared.rule.keys == keys && declared.rule.tags == tags;
        named && declared.rule.groups == [group] && same
    };
    if let Some(known) = rules[written..].iter_mut().find(same) {
        let mut rule = Rule::clone(&known.rule);
        if rule.when_changed.is_empty() || when_changed.is_empty() {
            rule.when_changed.clear();
        } else {
            let new = when_changed.into_iter().filter(|column| !rule.when_changed.contains(column));
            let new: Vec<_> = new.collect();
            rule.when_changed.extend(new);
        }
        known.rule = Arc::new(rule);
        return;
    }
    let rule = Rule { on: Ops::ALL, when_changed, keys, tags, groups: vec![group] };
    rules.push(Declared {
        pattern: Pattern::Table(table.clone()),
        origin: Origin::Query,
        rule: Arc::new(rule),
    });
}
