//! `[[group]]`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use super::coverage::Derived;
use super::fields::{Fields, Placed};
use super::plain;
use crate::binary::Binary;
use crate::codec::Compress;
use crate::group::{Group, GroupId, Kind, OnChange, Rows};
use crate::query::{Query, TableName, TableRef};
use crate::report::{Collector, did_you_mean};
use crate::rules::pattern::Pattern;
use crate::tagging::{DEFAULT_MAX_TAGS, KeyTag, Tag, TagSource, Tagging};
use crate::template::overlap::overlap;
use crate::template::{Param, Template};

const DEFAULT_TTL: Duration = Duration::from_mins(10);
const DEFAULT_NEGATIVE_TTL: Duration = Duration::from_secs(30);
const DEFAULT_JITTER: f64 = 0.1;
/// Longer is a mistake more likely than a wish.
const MAX_TTL: Duration = Duration::from_hours(366 * 24);

/// Each tag of an entry takes 8 bytes, and a moment at each hit.
const MOST_TAGS: usize = 10_000;

/// What no change of a row tells.
fn warn_of_clocks(title: &str, query: &Query, at: &Range<usize>, problems: &mut Collector<'_>) {
    if query.clocks().is_empty() {
        return;
    }
    let calls = query.clocks().iter().map(|name| format!("{name}()")).collect::<Vec<_>>().join(", ");
    problems.warn(
        at,
        format!("{title}: the query asks {calls}, whose answer changes without any row: an entry keeps what it said until its ttl"),
        "read the column and compare in the application, or give the group a ttl that you can bear",
    );
}

/// A group as far as it could be read.
pub(super) struct Draft {
    pub(super) id: GroupId,
    pub(super) span: Range<usize>,
    pub(super) name: Option<Placed<String>>,
    pub(super) template: Option<Placed<Template>>,
    pub(super) query: Option<Placed<Query>>,
    pub(super) places: Vec<TableRef>,
    pub(super) ignored: Vec<TableName>,
    pub(super) kind: Kind,
    /// Where it says `rules = "none"`.
    pub(super) no_rules: Option<Range<usize>>,
    rows: Rows,
    binary: Binary,
    ttl: Duration,
    ttl_jitter: f64,
    negative_ttl: Duration,
    max_staleness: Option<Duration>,
    stale_if_error: Option<Duration>,
    max_value: Option<u64>,
    compress: Option<Compress>,
    compress_above: Option<u64>,
    /// Written tags, each with its place.
    pub(super) tags: Vec<Placed<Template>>,
    max_tags: usize,
    on_change: OnChange,
    refresh_ahead: Option<f64>,
}

impl Draft {
    pub(super) fn read(
        index: usize,
        table: &DeTable<'_>,
        span: Range<usize>,
        database: Option<&str>,
        problems: &mut Collector<'_>,
    ) -> Self {
        let title = match table.get("name").and_then(|name| name.get_ref().as_str()) {
            Some(name) => format!("group {name}"),
            None => "[[group]]".to_owned(),
        };
        let mut fields = Fields::new(&title, table, span);
        let name = fields.required("name", "user", problems);
        if let Some((name, at)) = &name
            && !name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'))
        {
            problems.error(at, format!("{name:?} is no name of a group"), "use letters, digits, '_' and '-'");
        }
        let key = fields.required("key", "user:{id:u64}", problems);
        let template = key.and_then(|(text, at)| match template(&text) {
            Ok(template) => Some((template, at)),
            Err(error) => {
                problems.error(&at, format!("{title}: key {text:?}: {error}"), "");
                None
            }
        });
        let kind = plain::kind(&title, table, fields.text("kind", problems), problems);
        let look_aside = kind == Kind::LookAside;
        let sql = fields.text("query", problems);
        let (mut query, mut places) = (None, Vec::new());
        if let (Some((sql, at)), Some((template, _))) = (sql, &template) {
            match Query::parse(&sql, template, database) {
                Ok((parsed, read)) => {
                    warn_of_clocks(&title, &parsed, &at, problems);
                    query = Some((parsed, at));
                    places = read;
                }
                Err(errors) => errors
                    .into_iter()
                    .for_each(|(message, remedy)| problems.error(&at, format!("{title}: {message}"), remedy)),
            }
        }
        let no_rules = no_rules(&title, kind != Kind::Filled, fields.text("rules", problems), problems);
        let rows = match fields.text("rows", problems) {
            None => Rows::One,
            Some((_, at)) if look_aside => {
                let message = format!("{title}: rows says what a query's rows become, and it has no query");
                problems.error(&at, message, "remove it: applications set what they like");
                Rows::One
            }
            Some((text, at)) => match text.as_str() {
                "one" => Rows::One,
                "many" => Rows::Many,
                _ => {
                    problems.error(
                        &at,
                        format!("{title}: rows = {text:?} is unknown"),
                        "write \"one\" or \"many\"",
                    );
                    Rows::One
                }
            },
        };
        let binary = binary(&title, fields.text("binary", problems), look_aside, problems);
        let ttl = positive(&title, "ttl", fields.duration("ttl", problems), problems).unwrap_or(DEFAULT_TTL);
        let negative_ttl =
            fields.duration("negative_ttl", problems).map_or(DEFAULT_NEGATIVE_TTL, |(ttl, _)| ttl);
        let ttl_jitter = match fields.number("ttl_jitter", problems) {
            // What was set for ten seconds is there for ten seconds.
            None if kind == Kind::Plain => 0.0,
            None => DEFAULT_JITTER,
            Some((share, at)) => {
                if !(0.0..1.0).contains(&share) {
                    let message = format!("{title}: ttl_jitter = {share} is no share");
                    problems.error(
                        &at,
                        message,
                        "write a number from 0 to below 1; 0.1 is up to 10 % shorter",
                    );
                }
                share
            }
        };
        let max_staleness =
            positive(&title, "max_staleness", fields.duration("max_staleness", problems), problems);
        let stale_if_error = fields.duration("stale_if_error", problems);
        if let (true, Some((_, at))) = (look_aside, &stale_if_error) {
            let message = format!("{title}: stale_if_error is for groups with a query");
            problems.error(at, message, "remove it: who reads by himself knows what failed");
        }
        let stale_if_error = positive(&title, "stale_if_error", stale_if_error, problems);
        let max_value = fields.size("max_value", problems).map(|(size, _)| size);
        let compress = compress(&title, fields.text("compress", problems), problems);
        let compress_above = fields.size("compress_above", problems).map(|(size, _)| size);
        let own = template.as_ref().map(|(template, _)| template);
        let tags = if kind == Kind::Plain {
            plain::tags(&title, &mut fields, own, problems)
        } else {
            tags(&title, &mut fields, (own, query.as_ref()), look_aside, problems)
        };
        let max_tags = max_tags(&title, &mut fields, problems);
        let on_change = on_change(&title, look_aside, fields.text("on_change", problems), problems);
        let refresh_ahead =
            refresh_ahead(&title, look_aside, fields.number("refresh_ahead", problems), problems);
        let ignored = ignored(&title, &mut fields, query.as_ref(), look_aside, database, problems);
        let span = fields.span().clone();
        fields.finish(problems);
        let id = GroupId(u16::try_from(index).unwrap_or(u16::MAX));
        Self {
            id,
            span,
            name,
            template,
            query,
            places,
            ignored,
            kind,
            no_rules,
            rows,
            binary,
            ttl,
            ttl_jitter,
            negative_ttl,
            max_staleness,
            stale_if_error,
            max_value,
            compress,
            compress_above,
            tags,
            max_tags,
            on_change,
            refresh_ahead,
        }
    }

    /// Lines of the key and the query.
    pub(super) fn lines(&self, problems: &Collector<'_>) -> (usize, usize) {
        let line = |span: Option<&Range<usize>>| problems.line(span.unwrap_or(&self.span).start);
        (line(self.template.as_ref().map(|(_, at)| at)), line(self.query.as_ref().map(|(_, at)| at)))
    }

    pub(super) fn title(&self) -> String {
        self.name.as_ref().map_or_else(|| "[[group]]".to_owned(), |(name, _)| format!("group {name}"))
    }

    /// The group; `derived` are the tags that its joins have, `of_key` those that its key makes.
    pub(super) fn build(mut self, derived: Vec<Derived>, mut of_key: Vec<KeyTag>) -> Option<Group> {
        let mut tags = Vec::new();
        for (template, _) in self.tags {
            let own = self.template.as_ref().and_then(|(key, _)| of_params(&template, key));
            let columns = self.query.as_ref().and_then(|(query, _)| query.columns());
            let selected = columns.is_none_or(|columns| {
                template
                    .params()
                    .iter()
                    .all(|param| columns.iter().any(|column| column.eq_ignore_ascii_case(&param.name)))
            });
            if selected && self.kind != Kind::Plain {
                let sources =
                    template.params().iter().map(|param| TagSource::Named(param.name.clone())).collect();
                tags.push(Tag { sources, template: template.clone(), also_of_key: own.is_some() });
            }
            of_key.extend(own.map(|params| KeyTag { template, params }));
        }
        for Derived { template, exprs } in derived {
            let (query, _) = self.query.as_mut()?;
            let sources = exprs.iter().map(|expr| TagSource::Hidden(query.hide(expr))).collect();
            let tag = Tag { template, sources, also_of_key: false };
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Some(Group {
            tagging: Tagging { tags, of_key, max_tags: self.max_tags },
            id: self.id,
            name: Arc::from(self.name?.0),
            kind: self.kind,
            template: self.template?.0,
            query: if self.kind == Kind::Filled { Some(self.query?.0) } else { None },
            rows: self.rows,
            binary: self.binary,
            ttl: self.ttl,
            ttl_jitter: self.ttl_jitter,
            negative_ttl: self.negative_ttl,
            max_staleness: self.max_staleness,
            stale_if_error: self.stale_if_error,
            max_value: self.max_value,
            compress: self.compress,
            compress_above: self.compress_above,
            on_change: self.on_change,
            refresh_ahead: self.refresh_ahead,
            digest: 0, // told when all rules are known
        })
    }
}

/// How a group's values are compressed.
fn compress(title: &str, written: Option<Placed<String>>, problems: &mut Collector<'_>) -> Option<Compress> {
    let (text, at) = written?;
    let compress = Compress::parse(&text);
    if compress.is_none() {
        let remedy = match did_you_mean(&text, Compress::NAMES) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of \"{}\"", Compress::NAMES.join("\", \"")),
        };
        problems.error(&at, format!("{title}: compress = {text:?} is unknown"), remedy);
    }
    compress
}

/// How bytes are written in a group's values.
fn binary(
    title: &str,
    written: Option<Placed<String>>,
    look_aside: bool,
    problems: &mut Collector<'_>,
) -> Binary {
    let Some((text, at)) = written else { return Binary::default() };
    if look_aside {
        let message = format!("{title}: binary says how a query's bytes are written, and it has no query");
        problems.error(&at, message, "remove it: applications set what they like");
    }
    Binary::parse(&text).unwrap_or_else(|| {
        let remedy = match did_you_mean(&text, Binary::NAMES) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of \"{}\"", Binary::NAMES.join("\", \"")),
        };
        problems.error(&at, format!("{title}: binary = {text:?} is unknown"), remedy);
        Binary::default()
    })
}

/// The parameters of a key that a tag is made of; `None` if it has others.
pub(super) fn of_params(tag: &Template, key: &Template) -> Option<Vec<usize>> {
    let own = |param: &Param| key.param(&param.name).filter(|at| key.params()[*at].kind == param.kind);
    tag.params().iter().map(own).collect()
}

/// The tags that a group writes: over columns of its result, or parameters of its key.
fn tags(
    title: &str,
    fields: &mut Fields<'_, '_>,
    (key, query): (Option<&Template>, Option<&Placed<Query>>),
    look_aside: bool,
    problems: &mut Collector<'_>,
) -> Vec<Placed<Template>> {
    let mut tags = Vec::new();
    for (text, at) in fields.list("tags", problems) {
        if look_aside {
            let message = format!("{title}: tags are made of the rows of a query, and it has none");
            problems.error(&at, message, "remove them, or write a query");
            continue;
        }
        let template = match Template::parse(&text) {
            Ok(template) => template,
            Err(error) => {
                problems.error(&at, format!("{title}: tag {text:?}: {error}"), "");
                continue;
            }
        };
        let columns = query.and_then(|(query, _)| query.columns());
        let own = key.is_some_and(|key| of_params(&template, key).is_some());
        for param in template.params() {
            let Some(columns) = columns.filter(|_| !own) else { continue };
            if columns.iter().any(|column| column.eq_ignore_ascii_case(&param.name)) {
                continue;
            }
            let message = format!("{title}: tag {text:?}: its query selects no column {}", param.name);
            let remedy = match did_you_mean(&param.name, columns.iter().map(|column| &**column)) {
                Some(near) => format!("did you mean {{{near}}}? Else add {} to the SELECT", param.name),
                None => match key.and_then(|key| Some(&key.params()[key.param(&param.name)?].kind)) {
                    Some(kind) if *kind != param.kind => {
                        format!(
                            "add it to the SELECT, or give it the type that it has in the key, {}",
                            kind.name()
                        )
                    }
                    _ => format!("add {} to the SELECT", param.name),
                },
            };
            problems.error(&at, message, remedy);
        }
        tags.push((template, at));
    }
    tags
}

/// How many tags an entry may have.
#[expect(clippy::cast_sign_loss, reason = "it is in a range of positive numbers")]
fn max_tags(title: &str, fields: &mut Fields<'_, '_>, problems: &mut Collector<'_>) -> usize {
    let Some((number, at)) = fields.number("max_tags", problems) else { return DEFAULT_MAX_TAGS };
    if number.fract() == 0.0 && (1.0..=MOST_TAGS as f64).contains(&number) {
        return number as usize;
    }
    let message = format!("{title}: max_tags = {number} is no number of tags");
    problems.error(&at, message, format!("write a whole number from 1 to {MOST_TAGS}"));
    DEFAULT_MAX_TAGS
}

/// A template in which each parameter has its own name.
fn template(text: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    for (index, param) in template.params().iter().enumerate() {
        if template.param(&param.name) != Some(index) {
            return Err(format!("{{{}}} stands there twice; give each parameter its own name", param.name));
        }
    }
    Ok(template)
}

/// Where a look-aside group says that no change makes it stale.
fn no_rules(
    title: &str,
    without_query: bool,
    written: Option<Placed<String>>,
    problems: &mut Collector<'_>,
) -> Option<Range<usize>> {
    let (text, at) = written?;
    if text != "none" {
        let message = format!("{title}: rules = {text:?} is unknown");
        problems.error(&at, message, "write \"none\" if no change makes it stale, else a [[rule]]");
    } else if !without_query {
        let message = format!("{title}: rules follow from its query");
        problems.error(&at, message, "remove it; to miss the changes of a table write ignore = [..]");
    }
    Some(at)
}

/// What becomes of the keys that a change makes stale.
fn on_change(
    title: &str,
    look_aside: bool,
    written: Option<Placed<String>>,
    problems: &mut Collector<'_>,
) -> OnChange {
    match written {
        Some((text, at)) if text == "reload" && look_aside => {
            let message = format!("{title}: on_change = \"reload\", but it has no query to load by");
            problems.error(&at, message, "remove it: applications set the values of a look-aside group");
            OnChange::Remove
        }
        Some((text, _)) if text == "reload" => OnChange::Reload,
        Some((text, at)) if text != "remove" => {
            let message = format!("{title}: on_change = {text:?} is unknown");
            problems.error(&at, message, "write \"remove\" or \"reload\"");
            OnChange::Remove
        }
        _ => OnChange::Remove,
    }
}

/// The last share of a hot key's TTL in which it is filled again.
fn refresh_ahead(
    title: &str,
    look_aside: bool,
    written: Option<Placed<f64>>,
    problems: &mut Collector<'_>,
) -> Option<f64> {
    let (share, at) = written?;
    if look_aside {
        let message = format!("{title}: refresh_ahead needs a query to load by, and it has none");
        problems.error(&at, message, "remove it: applications set the values of a look-aside group");
    } else if !(0.0..1.0).contains(&share) {
        let message = format!("{title}: refresh_ahead = {share} is no share");
        problems.error(&at, message, "write a number from 0 to below 1; 0.1 is the last tenth of the TTL");
    }
    Some(share)
}

fn positive(
    title: &str,
    name: &str,
    duration: Option<Placed<Duration>>,
    problems: &mut Collector<'_>,
) -> Option<Duration> {
    let (duration, at) = duration?;
    if duration.is_zero() {
        problems.error(
            &at,
            format!("{title}: {name} is zero, so nothing would be cached"),
            "write a time like \"10m\"",
        );
    } else if duration > MAX_TTL {
        problems.error(&at, format!("{title}: {name} is more than a year"), "write a time like \"10m\"");
    }
    Some(duration)
}

/// The tables whose changes the group accepts to miss.
fn ignored(
    title: &str,
    fields: &mut Fields<'_, '_>,
    query: Option<&Placed<Query>>,
    look_aside: bool,
    database: Option<&str>,
    problems: &mut Collector<'_>,
) -> Vec<TableName> {
    let mut tables = Vec::new();
    for (text, at) in fields.list("ignore", problems) {
        if look_aside {
            let message = format!("{title} ignores {text}, but it has no query that reads it");
            problems.error(&at, message, "remove it; only what a [[rule]] names makes the group stale");
            continue;
        }
        match Pattern::parse(&text, database) {
            Ok(Pattern::Table(table)) => {
                if let Some((query, _)) = query
                    && !query.tables().iter().any(|known| known.is(&table))
                {
                    let known: Vec<String> = query.tables().iter().map(ToString::to_string).collect();
                    let remedy = match did_you_mean(&table.to_string(), known.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean {near}?"),
                        None => format!("it reads {}; remove the entry", known.join(", ")),
                    };
                    problems.error(
                        &at,
                        format!("{title} ignores {table}, which its query does not read"),
                        remedy,
                    );
                }
                tables.push(table);
            }
            Ok(_) => problems.error(&at, format!("{title} ignores the pattern {text}"), "name each table"),
            Err((message, remedy)) => problems.error(&at, format!("{title}: ignore: {message}"), remedy),
        }
    }
    tables
}

/// What no group shows alone: names given twice, keys that two would match.
pub(super) fn check(drafts: &[Draft], problems: &mut Collector<'_>) {
    if let Some(extra) = drafts.get(usize::from(u16::MAX)) {
        problems.error(&extra.span, format!("{} groups are too many", drafts.len()), "keep at most 65535");
    }
    let mut names: HashMap<&str, &Range<usize>> = HashMap::new();
    for (name, at) in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        if let Some(first) = names.insert(name, at) {
            let line = problems.line(first.start);
            problems.error(
                at,
                format!("a group {name} is declared in line {line} already"),
                "give it another name",
            );
        }
    }
    for (index, draft) in drafts.iter().enumerate() {
        let Some((template, at)) = &draft.template else { continue };
        for other in &drafts[..index] {
            let Some((known, known_at)) = &other.template else { continue };
            let (a, b) = (template.prefix(), known.prefix());
            if (a.starts_with(b) || b.starts_with(a)) && overlap(template, known) {
                let line = problems.line(known_at.start);
                let message = format!(
                    "{}: key {template} can match the same keys as {known} of {} in line {line}",
                    draft.title(),
                    other.title()
                );
                problems.error(
                    at,
                    message,
                    "begin one of them with another word, or give its parameter a narrower type",
                );
            }
        }
    }
}
