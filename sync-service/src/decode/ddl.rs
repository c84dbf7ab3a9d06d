//! Which tables a DDL statement touches.
//!
//! A message names one table; `DROP TABLE a, b` and `RENAME TABLE a TO b` touch others that are only in the text. What
//! can't be told is taken to touch everything: a flush too many costs misses, one too few costs truth.

use sqlparser::ast::{AlterTableOperation, ObjectName, ObjectType, RenameTableNameKind, Statement};
use sqlparser::dialect::MySqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;

use super::Concerned;

/// What a DDL message of this `kind` (Canal's event type) touches; `None` if no rows.
pub(super) fn concerned(kind: &str, database: &str, table: &str, sql: &str) -> Option<Concerned> {
    let own = || {
        if database.is_empty() || table.is_empty() {
            Concerned::Everything
        } else {
            Concerned::Tables(vec![(database.to_owned(), table.to_owned())])
        }
    };
    match kind {
        "CINDEX" | "DINDEX" => {
            // An ALTER that adds an index may change columns in the same breath.
            words(sql).next().is_some_and(|word| word == "ALTER").then(own)
        }
        "ALTER" => {
            let swaps = words(sql).any(|word| word == "EXCHANGE");
            Some(if swaps { Concerned::Everything } else { own() })
        }
        "ERASE" | "DROP" | "RENAME" => Some(match named(sql, database) {
            Some(Named::Tables(mut tables)) => {
                let first = (database.to_owned(), table.to_owned());
                if !table.is_empty() && !tables.contains(&first) {
                    tables.push(first);
                }
                Concerned::Tables(tables)
            }
            _ => Concerned::Everything,
        }),
        "QUERY" => query(database, sql),
        // TRUNCATE, CREATE and whatever else names its one table.
        _ => Some(own()),
    }
}

/// What a statement touches, of which nothing is known but its text and the database that it ran in; `None` if no rows.
pub(super) fn statement(database: &str, sql: &str) -> Option<Concerned> {
    // What the binlog carries beside DDL, and what changes no rows that a query could read.
    const HARMLESS: [&str; 16] = [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT",
        "RELEASE",
        "XA",
        "GRANT",
        "REVOKE",
        "SET",
        "FLUSH",
        "ANALYZE",
        "OPTIMIZE",
        "CHECK",
        "REPAIR",
        "INSTALL",
        "UNINSTALL",
    ];
    let mut first = words(sql);
    let (first, second) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    if HARMLESS.contains(&first.as_str()) {
        return None;
    }
    let index = || words(sql).skip(1).take(3).any(|word| word == "INDEX" || word == "KEY");
    let altered = || words(sql).any(|word| word == "EXCHANGE");
    match (first.as_str(), second.as_str()) {
        ("CREATE", "INDEX" | "UNIQUE" | "FULLTEXT" | "SPATIAL") if index() => None,
        ("DROP", "INDEX") => None,
        ("ALTER", "TABLE") if altered() => Some(Concerned::Everything),
        // An ALTER in words that the parser doesn't know still begins with its table's name.
        ("ALTER", "TABLE") => match query(database, sql) {
            Some(Concerned::Everything) if words(sql).all(|word| word != "RENAME") => Some(
                subject(database, sql).map_or(Concerned::Everything, |table| Concerned::Tables(vec![table])),
            ),
            concerned => concerned,
        },
        _ => query(database, sql),
    }
}

/// The table that an ALTER is about.
fn subject(database: &str, sql: &str) -> Option<(String, String)> {
    if sql.len() > LONGEST {
        return None;
    }
    let mut parser = Parser::new(&MySqlDialect {}).try_with_sql(sql).ok()?;
    parser.expect_keywords(&[Keyword::ALTER, Keyword::TABLE]).ok()?;
    qualified(&parser.parse_object_name(false).ok()?, database)
}

/// The first word of a statement, in upper case.
pub(super) fn first_word(sql: &str) -> String {
    words(sql).next().unwrap_or_default()
}

/// Whether a text is DDL, for messages that don't say so themselves.
pub(super) fn is_ddl(sql: &str) -> bool {
    words(sql)
        .next()
        .is_some_and(|word| ["CREATE", "DROP", "ALTER", "RENAME", "TRUNCATE"].contains(&word.as_str()))
}

const OBJECTS: [&str; 12] = [
    "TABLE",
    "VIEW",
    "DATABASE",
    "SCHEMA",
    "INDEX",
    "TABLESPACE",
    "PROCEDURE",
    "FUNCTION",
    "TRIGGER",
    "EVENT",
    "USER",
    "ROLE",
];
// Making or dropping a routine, a trigger or an account changes no row.
const HARMLESS: [&str; 6] = ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "USER", "ROLE"];

fn query(database: &str, sql: &str) -> Option<Concerned> {
    match named(sql, database) {
        Some(Named::Tables(tables)) => return Some(Concerned::Tables(tables)),
        Some(Named::Database(name)) => return Some(Concerned::Database(name)),
        Some(Named::NewDatabase) => return None,
        None => {}
    }
    let object = words(sql).skip(1).take(16).find(|word| OBJECTS.contains(&word.as_str()));
    let harmless = is_ddl(sql) && object.is_some_and(|object| HARMLESS.contains(&object.as_str()));
    (!harmless).then_some(Concerned::Everything)
}

/// The parser recurses; no statement about tables is anywhere near this long.
const LONGEST: usize = 64 * 1024;

enum Named {
    Tables(Vec<(String, String)>),
    Database(String),
    NewDatabase,
}

/// The objects that a statement names, if it can be parsed and is of a kind that touches rows.
fn named(sql: &str, database: &str) -> Option<Named> {
    if sql.len() > LONGEST {
        return None;
    }
    let statements = Parser::parse_sql(&MySqlDialect {}, sql).ok()?;
    let mut tables = Vec::new();
    let mut add = |name: &ObjectName| {
        let table = qualified(name, database)?;
        tables.push(table);
        Some(())
    };
    let [statement] = statements.as_slice() else { return None };
    match statement {
        Statement::Drop { object_type: ObjectType::Table | ObjectType::View, names, .. } => {
            for name in names {
                add(name)?;
            }
        }
        Statement::Drop { object_type: ObjectType::Database | ObjectType::Schema, names, .. } => {
            let [name] = names.as_slice() else { return None };
            return Some(Named::Database(name.0.last()?.as_ident()?.value.clone()));
        }
        Statement::CreateDatabase { .. } | Statement::CreateSchema { .. } => return Some(Named::NewDatabase),
        Statement::RenameTable(pairs) => {
            for pair in pairs {
                add(&pair.old_name)?;
                add(&pair.new_name)?;
            }
        }
        Statement::Truncate(truncate) => {
            for target in &truncate.table_names {
                add(&target.name)?;
            }
        }
        Statement::CreateTable(create) => add(&create.name)?,
        Statement::AlterTable(alter) => {
            add(&alter.name)?;
            for operation in &alter.operations {
                if let AlterTableOperation::RenameTable { table_name } = operation {
                    let (RenameTableNameKind::As(name) | RenameTableNameKind::To(name)) = table_name;
                    add(name)?;
                }
            }
        }
        _ => return None,
    }
    Some(Named::Tables(tables))
}

fn qualified(name: &ObjectName, database: &str) -> Option<(String, String)> {
    let part = |index: usize| Some(name.0.get(index)?.as_ident()?.value.clone());
    match name.0.len() {
        1 if !database.is_empty() => Some((database.to_owned(), part(0)?)),
        2 => Some((part(0)?, part(1)?)),
        _ => None,
    }
}

/// The words of a statement in upper case, comments left out.
fn words(sql: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(|c: char| !c.is_alphanumeric() && !"/#-_".contains(c));
            // `/*! .. */` is no comment to MySQL, so its words count.
            if rest.starts_with("/*") && !rest.starts_with("/*!") {
                rest = rest.split_once("*/").map_or("", |(_, after)| after);
            } else if rest.starts_with('#') || rest.starts_with("-- ") {
                rest = rest.split_once('\n').map_or("", |(_, after)| after);
            } else if rest.starts_with(['/', '-']) {
                rest = &rest[1..];
            } else {
                break;
            }
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then(|| word.to_uppercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as `concerned` returns it")]
    fn tables(names: &[(&str, &str)]) -> Option<Concerned> {
        Some(Concerned::Tables(
            names.iter().map(|(database, table)| ((*database).into(), (*table).into())).collect(),
        ))
    }

    #[test]
    fn statements_touch_the_tables_that_they_name() {
        let cases = [
            (
                "ERASE",
                "c",
                "DROP TABLE `c`,`p` /* generated by server */",
                tables(&[("app", "c"), ("app", "p")]),
            ),
            ("ERASE", "c", "DROP TABLE IF EXISTS c, other.p", tables(&[("app", "c"), ("other", "p")])),
            ("RENAME", "cp2", "RENAME TABLE cp TO cp2", tables(&[("app", "cp"), ("app", "cp2")])),
            (
                "RENAME",
                "b",
                "rename table a to b, x.c to x.d",
                tables(&[("app", "a"), ("app", "b"), ("x", "c"), ("x", "d")]),
            ),
            ("RENAME", "cp3", "ALTER TABLE cp2 RENAME TO cp3", tables(&[("app", "cp2"), ("app", "cp3")])),
            ("TRUNCATE", "t", "TRUNCATE TABLE t", tables(&[("app", "t")])),
            ("ALTER", "t", "/* by user */ ALTER TABLE t ADD COLUMN v INT", tables(&[("app", "t")])),
            ("ALTER", "t", "ALTER TABLE t EXCHANGE PARTITION p0 WITH TABLE t2", Some(Concerned::Everything)),
            ("CINDEX", "t", "CREATE INDEX i ON t(a)", None),
            ("CINDEX", "t", "ALTER TABLE t ADD COLUMN c INT, ADD INDEX (c)", tables(&[("app", "t")])),
            ("RENAME", "t", "RENAME GARBAGE", Some(Concerned::Everything)),
            ("QUERY", "", "DROP DATABASE IF EXISTS zz", Some(Concerned::Database("zz".into()))),
            ("QUERY", "", "CREATE DATABASE IF NOT EXISTS app;", None),
            ("QUERY", "", "CREATE DEFINER=`root`@`%` PROCEDURE p() BEGIN DROP TABLE x; END", None),
            ("QUERY", "", "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1", None),
            ("QUERY", "", "DO SOMETHING ODD", Some(Concerned::Everything)),
            ("QUERY", "", "", Some(Concerned::Everything)),
        ];
        for (kind, table, sql, expected) in cases {
            assert_eq!(concerned(kind, "app", table, sql), expected, "{kind}: {sql}");
        }
        assert_eq!(concerned("TRUNCATE", "", "", "TRUNCATE t"), Some(Concerned::Everything));
    }

    #[test]
    fn statements_alone_tell_what_they_touch() {
        let cases = [
            ("BEGIN", None),
            ("GRANT SELECT ON app.* TO u", None),
            ("ANALYZE TABLE t", None),
            ("CREATE UNIQUE INDEX i ON t (a)", None),
            ("DROP INDEX i ON t", None),
            ("CREATE USER 'u'@'%' IDENTIFIED BY 'x'", None),
            ("ALTER TABLE t ADD COLUMN a INT FIRST", tables(&[("app", "t")])),
            ("/* x */ ALTER TABLE `other`.`t` PARTITION BY KEY (id) PARTITIONS 4", tables(&[("other", "t")])),
            ("ALTER TABLE a RENAME TO b", tables(&[("app", "a"), ("app", "b")])),
            ("ALTER TABLE a EXCHANGE PARTITION p WITH TABLE b", Some(Concerned::Everything)),
            ("RENAME TABLE a TO b", tables(&[("app", "a"), ("app", "b")])),
            ("DROP TABLE `a`,`b` /* generated by server */", tables(&[("app", "a"), ("app", "b")])),
            ("TRUNCATE TABLE t", tables(&[("app", "t")])),
            ("DROP DATABASE app", Some(Concerned::Database("app".into()))),
            ("INSERT INTO t VALUES (1)", Some(Concerned::Everything)),
        ];
        for (sql, expected) in cases {
            assert_eq!(statement("app", sql), expected, "{sql}");
        }
    }

    #[test]
    fn words_skip_comments() {
        assert_eq!(
            words("/* a */ -- b\n# c\n alter - table `x`").collect::<Vec<_>>(),
            ["ALTER", "TABLE", "X"]
        );
        assert_eq!(words("/* never ends").count(), 0);
    }
}
