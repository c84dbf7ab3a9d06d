//! `kind = "plain"`: what such a group may say, and what it may not.

use toml::de::DeTable;

use super::fields::{Fields, Placed};
use super::groups::of_params;
use crate::group::Kind;
use crate::report::Collector;
use crate::template::Template;

/// Fields that speak of what a plain group has not got, and why it has not.
const FOREIGN: [(&str, &str); 11] = [
    ("query", "remove it, or kind: what a query fills is changed in the database"),
    ("rows", "remove it: applications set what they like"),
    ("binary", "remove it: values are the bytes that were set"),
    ("rules", "remove it: rules may name a plain group, and need not"),
    ("ignore", "remove it: only what a [[rule]] names removes its values"),
    ("negative_ttl", "remove it: that a key has no value is not kept"),
    ("ttl_jitter", "remove it: a value is there for as long as it was set for"),
    ("max_staleness", "remove it: its values come from no database that could have newer ones"),
    ("stale_if_error", "remove it: when its time is over a value is gone"),
    ("refresh_ahead", "remove it: nothing could fill it again"),
    ("on_change", "remove it: nothing could fill it again"),
];

/// Where the values of a group come from.
pub(super) fn kind(
    title: &str,
    table: &DeTable<'_>,
    written: Option<Placed<String>>,
    problems: &mut Collector<'_>,
) -> Kind {
    let otherwise = if table.get("query").is_some() { Kind::Filled } else { Kind::LookAside };
    let Some((text, at)) = written else { return otherwise };
    if text != "plain" {
        let remedy = "write \"plain\", or leave it out: a group with a query is filled by it, one without is look-aside";
        problems.error(&at, format!("{title}: kind = {text:?} is unknown"), remedy);
        return otherwise;
    }
    for (name, remedy) in FOREIGN {
        if let Some(value) = table.get(name) {
            problems.error(&value.span(), format!("{title}: a plain group has no {name}"), remedy);
        }
    }
    Kind::Plain
}

/// The tags that its entries carry: made of the key alone, since there are no rows.
pub(super) fn tags(
    title: &str,
    fields: &mut Fields<'_, '_>,
    key: Option<&Template>,
    problems: &mut Collector<'_>,
) -> Vec<Placed<Template>> {
    let mut tags = Vec::new();
    for (text, at) in fields.list("tags", problems) {
        match Template::parse(&text) {
            Err(error) => problems.error(&at, format!("{title}: tag {text:?}: {error}"), ""),
            Ok(template) if key.is_some_and(|key| of_params(&template, key).is_none()) => {
                let message = format!("{title}: tag {text:?} is not made of the key alone");
                let remedy = "use parameters of the key, with the types that they have there: a plain group has no rows";
                problems.error(&at, message, remedy);
            }
            Ok(template) => tags.push((template, at)),
        }
    }
    tags
}
