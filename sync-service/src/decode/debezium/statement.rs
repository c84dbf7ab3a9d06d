//! Records of the schema change topic: a statement, and which tables Debezium thinks that it made, changed or dropped.
//!
//! Both count. Debezium's own parser may not know a statement, and then lists nothing; and it lists nothing for rows.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Envelope;
use crate::decode::{About, Concerned, Idle, Meaning, Named, Reason, ddl, json};

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    /// Of a renamed table.
    #[serde(borrow, default, rename = "previousId")]
    previous: Option<&'a RawValue>,
}

pub(super) fn meaning(envelope: &Envelope<'_>, about: &About) -> Meaning {
    let changed = envelope.table_changes.map_or(Some(Vec::new()), changes);
    let database = json::name(envelope.database_name);
    let sql = json::text(envelope.ddl);
    let mut told = changed.clone().unwrap_or_default();
    if !about.table.is_empty() {
        let of = [&about.database, &database].into_iter().find(|name| !name.is_empty()).cloned();
        told.push((of.unwrap_or_default(), about.table.clone()));
    }
    let (concerned, reason) = match &sql {
        Some(sql) if !sql.trim().is_empty() => ddl::statement(ddl::Session::Changed(&told), sql),
        // What other connectors write of a table's columns.
        _ if changed.as_ref().is_some_and(|changed| !changed.is_empty()) => (None, Reason::Ddl),
        _ => (Some(Concerned::Everything), Reason::Ddl),
    };
    let concerned = match (concerned, changed) {
        (_, None) => Some(Concerned::Everything),
        (concerned, Some(changed)) => changed.iter().fold(concerned, |concerned, (database, table)| {
            Some(ddl::with(concerned, Named::table(database, table)))
        }),
    };
    match concerned {
        Some(concerned) => Meaning::Whole { concerned, reason },
        None => Meaning::Nothing(Idle::NoRowsTouched),
    }
}

/// The tables that are listed; `None` where one can't be read.
fn changes(raw: &RawValue) -> Option<Vec<(String, String)>> {
    let changes: Option<Vec<Change<'_>>> = serde_json::from_str(raw.get()).ok()?;
    let mut tables = Vec::new();
    for change in changes.unwrap_or_default() {
        if tables.len() > ddl::MOST {
            return None;
        }
        tables.push(table(&json::text(change.id)?)?);
        if let Some(previous) = change.previous.filter(|raw| raw.get() != "null") {
            tables.push(table(&json::text(Some(previous))?)?);
        }
    }
    Some(tables)
}

/// Database and table of an id: `"shop"."users"`, where a quote in a name is written twice.
fn table(id: &str) -> Option<(String, String)> {
    let mut parts = Vec::new();
    let mut rest = id;
    loop {
        let mut part = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (before, after) = quoted.split_once('"')?;
                part.push_str(before);
                let Some(more) = after.strip_prefix('"') else {
                    rest = after;
                    break;
                };
                part.push('"');
                quoted = more;
            }
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            part.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    // Other databases have a catalog before the schema.
    let (table, database) = (parts.pop()?, parts.pop()?);
    (!table.is_empty() && !database.is_empty()).then_some((database, table))
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn ids_are_read_with_their_quotes() {
        let names = |database: &str, table: &str| Some((database.to_owned(), table.to_owned()));
        assert_eq!(table(r#""shop"."users""#), names("shop", "users"));
        assert_eq!(table(r#""sh.op"."us""ers""#), names("sh.op", "us\"ers"));
        assert_eq!(table("shop.users"), names("shop", "users"));
        for bad in ["", "users", r#""shop"."#, r#""shop""users""#, r#""shop"#] {
            assert_eq!(table(bad), None, "{bad}");
        }
    }
}
