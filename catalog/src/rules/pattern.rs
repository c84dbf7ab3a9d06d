//! Which tables a rule is for: one, a shape of names with `*`, or a regular expression.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::query::{TableName, alike};

/// Names compare without regard to case: too many changes matched are only work, one missed is a stale value.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Table(TableName),
    /// Database and table, in lower case, with `*` for any characters.
    Shape(String, String),
    /// Over `database.table`.
    Regex(Regex),
}

impl Pattern {
    /// Reads `shop.orders`, `orders` (in `database`), `shop_*.orders_*` or `^shop_\d+\.orders`.
    pub(crate) fn parse(text: &str, database: Option<&str>) -> Result<Self, (String, String)> {
        if text.starts_with('^') {
            let regex = RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build();
            return regex.map(Self::Regex).map_err(|error| {
                let error = error.to_string();
                let reason =
                    error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                (format!("the regular expression {text:?} can't be read: {reason}"), "correct it".to_owned())
            });
        }
        let (database, table) = match text.split_once('.') {
            Some((database, table)) => (database, table),
            None => match database {
                Some(database) => (database, text),
                None => {
                    return Err((
                        format!("table {text:?} has no database"),
                        format!("write shop.{text}, or set database in [catalog]"),
                    ));
                }
            },
        };
        let good = |name: &str| {
            !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter == '.')
        };
        if !good(database) || !good(table) {
            return Err((
                format!("{text:?} is no table"),
                "write database.table, with * for any characters, or a ^regex".to_owned(),
            ));
        }
        if text.contains('*') {
            return Ok(Self::Shape(database.to_lowercase(), table.to_lowercase()));
        }
        Ok(Self::Table(TableName::new(database, table)))
    }

    pub(crate) fn matches(&self, table: &TableName) -> bool {
        match self {
            Self::Table(known) => known.is(table),
            Self::Shape(databases, tables) => {
                glob(databases.as_bytes(), table.database.to_lowercase().as_bytes())
                    && glob(tables.as_bytes(), table.table.to_lowercase().as_bytes())
            }
            Self::Regex(regex) => regex.is_match(&table.to_string()),
        }
    }

    /// Whether a table of this name may match, in some database.
    pub(crate) fn may_name(&self, table: &str) -> bool {
        match self {
            Self::Table(known) => alike(&known.table, table),
            Self::Shape(_, tables) => glob(tables.as_bytes(), table.to_lowercase().as_bytes()),
            Self::Regex(_) => true,
        }
    }

    /// Whether some table of this database may match.
    pub(crate) fn may_be_in(&self, database: &str) -> bool {
        match self {
            Self::Table(known) => alike(&known.database, database),
            Self::Shape(databases, _) => glob(databases.as_bytes(), database.to_lowercase().as_bytes()),
            Self::Regex(_) => true,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => table.fmt(f),
            Self::Shape(database, table) => write!(f, "{database}.{table}"),
            Self::Regex(regex) => f.write_str(regex.as_str()),
        }
    }
}

/// Whether `name` has the shape; on a mismatch the last `*` takes one more byte.
fn glob(shape: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < name.len() {
        if shape.get(at) == Some(&b'*') {
            star = Some((at, from));
            at += 1;
        } else if shape.get(at) == Some(&name[from]) {
            at += 1;
            from += 1;
        } else if let Some((star_at, star_from)) = star {
            star = Some((star_at, star_from + 1));
            at = star_at + 1;
            from = star_from + 1;
        } else {
            return false;
        }
    }
    shape[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, database: &str, table: &str) -> bool {
        Pattern::parse(pattern, Some("shop")).unwrap().matches(&TableName::new(database, table))
    }

    #[test]
    fn patterns_match_whole_names_in_any_case() {
        assert!(matches("shop.orders", "Shop", "ORDERS"));
        assert!(matches("orders", "shop", "orders"));
        assert!(!matches("orders", "other", "orders"));
        assert!(matches("shop_*.orders_*", "shop_12", "orders_3"));
        assert!(!matches("shop_*.orders_*", "shop_12", "old_orders_3"));
        assert!(!matches("shop_*.orders_*", "shop", "orders_3"));
        assert!(matches("*.a*b*c", "x", "axxbbyc"));
        assert!(!matches("*.a*b*c", "x", "axxbbyd"));
        assert!(matches(r"^shop_\d+\.orders$", "SHOP_7", "orders"));
        assert!(!matches(r"^shop_\d+\.orders$", "shop_7", "orders_old"));
    }

    #[test]
    fn what_is_no_pattern_gets_a_remedy() {
        assert!(Pattern::parse("orders", None).unwrap_err().1.contains("shop.orders"));
        assert!(Pattern::parse("^shop(", None).unwrap_err().0.contains("can't be read"));
        for text in ["", "a.", ".b", "a.b.c", "a b.c"] {
            assert!(Pattern::parse(text, Some("shop")).is_err(), "{text}");
        }
    }
}
