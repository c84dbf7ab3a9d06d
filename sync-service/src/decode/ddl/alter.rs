//! ALTER: a table's name stands at its beginning; others in the few clauses that name one.

use super::cursor::Cursor;
use super::subject::{Subject, TableName};
use crate::decode::Object;

pub(super) fn alter(mut at: Cursor<'_, '_>) -> Option<Subject> {
    at.take_one_of(&["ONLINE", "OFFLINE"]);
    let ignores = at.take("IGNORE");
    if at.take("TABLE") {
        return table(at, ignores);
    }
    let mut view = false;
    loop {
        if at.take("ALGORITHM") {
            (at.take_sign('=') && at.name().is_some()).then_some(())?;
            view = true;
        } else if at.take("DEFINER") {
            (at.take_sign('=') && at.account()).then_some(())?;
        } else if at.take_all(&["SQL", "SECURITY"]) {
            at.name()?;
            view = true;
        } else if at.take("MATERIALIZED") {
            view = true;
        } else if !at.take_all(&["JSON", "RELATIONAL"]) && !at.take("JSON") && !at.take("DUALITY") {
            break;
        }
    }
    let object = at.word()?.to_ascii_uppercase();
    at.step();
    match object.as_str() {
        "VIEW" => {
            at.if_exists();
            let name = at.table()?;
            Some(Subject::of(vec![name], Object::View))
        }
        _ if view => None,
        "SEQUENCE" => {
            at.if_exists();
            Some(Subject::tables(vec![at.table()?]))
        }
        "DATABASE" | "SCHEMA" => database(at),
        "EVENT" => {
            at.if_exists();
            at.table().map(|_| Subject::body())
        }
        "PROCEDURE" | "FUNCTION" | "LIBRARY" => {
            at.if_exists();
            at.table().map(|_| Subject::nothing())
        }
        "USER" | "ROLE" => {
            at.if_exists();
            at.account().then(Subject::nothing)
        }
        "INSTANCE" => (!at.ends()).then(Subject::nothing),
        "UNDO" => (at.take("TABLESPACE") && at.name().is_some()).then(Subject::nothing),
        "TABLESPACE" | "SERVER" => (at.name().is_some() || at.take_text()).then(Subject::nothing),
        "LOGFILE" | "RESOURCE" => (at.take("GROUP") && at.name().is_some()).then(Subject::nothing),
        _ => None,
    }
}

/// Defaults for tables that are made later. Another name changes what its tables are called.
fn database(mut at: Cursor<'_, '_>) -> Option<Subject> {
    const OPTIONS: [&str; 8] =
        ["DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "ENCRYPTION", "READ", "COMMENT", "PLACEMENT"];
    if !at.is_one_of(&OPTIONS) {
        at.name()?;
    }
    at.is_one_of(&OPTIONS).then(Subject::nothing)
}

fn table(mut at: Cursor<'_, '_>, ignores: bool) -> Option<Subject> {
    at.if_exists();
    let own = at.table()?;
    at.wait();
    if looks_at_partitions(at) {
        return Some(Subject::nothing());
    }
    let clauses = at.clauses()?;
    // IGNORE drops rows that a new unique index refuses.
    if !ignores && clauses.iter().all(|clause| keeps_rows(*clause)) {
        return Some(Subject::nothing());
    }
    let mut found = Subject::tables(vec![own.clone()]);
    for clause in clauses {
        others(clause, &own, &mut found)?;
    }
    Some(found)
}

/// Whether the statement only looks at partitions, or orders them anew.
fn looks_at_partitions(mut at: Cursor<'_, '_>) -> bool {
    at.take_one_of(&["ANALYZE", "OPTIMIZE", "CHECK"]) && at.take("PARTITION") && {
        at.take_one_of(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
        while at.name().is_some() && at.take_sign(',') {}
        at.ends()
    }
}

/// Adds the tables that a clause names beside the altered one; `None` where it speaks of tables in a way that is not understood.
fn others(mut at: Cursor<'_, '_>, own: &TableName, found: &mut Subject) -> Option<()> {
    // Views are renamed by it too.
    let rename = |name: TableName| Subject::of(vec![own.clone(), name], Object::Either);
    while !at.ends() {
        let before = at;
        if at.take("RENAME") {
            if at.is_one_of(&["COLUMN", "INDEX", "KEY"]) {
                continue;
            }
            let signed = at.take_one_of(&["TO", "AS"]) || at.take_sign('=');
            match at.table() {
                Some(name) => found.add(rename(name)),
                None if signed => return None,
                // `DROP rename` and its like.
                None => {}
            }
        } else if at.take_all(&["EXCHANGE", "PARTITION"]) {
            at.name()?;
            at.take_all(&["WITH", "TABLE"]).then_some(())?;
            found.add(Subject::tables(vec![at.table()?]));
        } else if at.take_all(&["CONVERT", "PARTITION"]) {
            at.name()?;
            at.take_all(&["TO", "TABLE"]).then_some(())?;
            found.add(Subject::tables(vec![at.table()?]));
        } else if at.take_all(&["CONVERT", "TABLE"]) {
            found.add(Subject::tables(vec![at.table()?]));
        } else if at.is_one_of(&["TABLE", "TABLES"]) {
            return None;
        } else {
            at = before;
            at.skip().then_some(())?;
        }
    }
    Some(())
}

/// Whether a clause, to its end, leaves every row and its columns as they are: indexes, constraints, and options of the table.
fn keeps_rows(at: Cursor<'_, '_>) -> bool {
    at.ends() || added(at).is_some() || dropped(at) || altered(at) || options(at)
}

fn added(mut at: Cursor<'_, '_>) -> Option<()> {
    at.take("ADD").then_some(())?;
    if at.take("CONSTRAINT") {
        at.if_not_exists();
        if !at.is_one_of(&["FOREIGN", "UNIQUE", "CHECK"]) {
            at.name()?;
        }
    }
    if at.take("CHECK") {
        at.parentheses().then_some(())?;
        at.take("NOT");
        at.take("ENFORCED");
        return at.ends().then_some(());
    }
    if at.take_all(&["FOREIGN", "KEY"]) {
        at.if_not_exists();
        if !at.is_sign('(') {
            at.name()?;
        }
        at.parentheses().then_some(())?;
        at.take("REFERENCES").then_some(())?;
        at.table()?;
        at.parentheses().then_some(())?;
        if at.take("MATCH") {
            at.name()?;
        }
        while at.take("ON") {
            at.take_one_of(&["DELETE", "UPDATE"]).then_some(())?;
            let done = at.take_one_of(&["CASCADE", "RESTRICT"])
                || at.take_all(&["SET", "NULL"])
                || at.take_all(&["SET", "DEFAULT"])
                || at.take_all(&["NO", "ACTION"]);
            done.then_some(())?;
        }
        return at.ends().then_some(());
    }
    let plain = at.take_one_of(&["UNIQUE", "FULLTEXT", "SPATIAL"]);
    if !at.take_one_of(&["INDEX", "KEY"]) && !at.take_all(&["VECTOR", "INDEX"]) && !plain {
        return None;
    }
    at.if_not_exists();
    if !at.is_sign('(') && !at.is("USING") {
        at.name()?;
    }
    if at.take("USING") {
        at.name()?;
    }
    at.parentheses().then_some(())?;
    index_options(at)
}

fn index_options(mut at: Cursor<'_, '_>) -> Option<()> {
    while !at.ends() {
        if at.take("USING") || at.take_all(&["WITH", "PARSER"]) {
            at.name()?;
        } else if at.take_one_of(&["KEY_BLOCK_SIZE"]) {
            at.take_sign('=');
            at.take_number().then_some(())?;
        } else if at.take_one_of(&["COMMENT", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"]) {
            at.take_sign('=');
            at.take_text().then_some(())?;
        } else {
            at.take("NOT");
            at.take_one_of(&["VISIBLE", "INVISIBLE", "IGNORED"]).then_some(())?;
        }
    }
    Some(())
}

fn dropped(mut at: Cursor<'_, '_>) -> bool {
    if !at.take("DROP") {
        return false;
    }
    if at.take_all(&["PRIMARY", "KEY"]) {
        return at.ends();
    }
    if !at.take_all(&["FOREIGN", "KEY"]) && !at.take_one_of(&["INDEX", "KEY", "CHECK", "CONSTRAINT"]) {
        return false;
    }
    at.if_exists();
    at.name().is_some() && at.ends()
}

fn altered(mut at: Cursor<'_, '_>) -> bool {
    let good = if at.take("RENAME") {
        let object = at.take_one_of(&["INDEX", "KEY"]);
        at.if_exists();
        object && at.name().is_some() && at.take("TO") && at.name().is_some()
    } else if at.take("ALTER") {
        if at.take_one_of(&["INDEX", "KEY"]) {
            at.if_exists();
            let named = at.name().is_some();
            at.take("NOT");
            named && at.take_one_of(&["VISIBLE", "INVISIBLE", "IGNORED"])
                || named && at.take("SET") && at.take_one_of(&["VISIBLE", "INVISIBLE"])
        } else if at.take_one_of(&["CHECK", "CONSTRAINT"]) {
            let named = at.name().is_some();
            at.take("NOT");
            named && at.take("ENFORCED")
        } else {
            false
        }
    } else if at.take_one_of(&["ENABLE", "DISABLE"]) {
        at.take("KEYS")
    } else {
        at.take_one_of(&["SECONDARY_LOAD", "SECONDARY_UNLOAD", "FORCE"])
    };
    good && at.ends()
}

/// Options that say how the table is kept or what later columns are like.
fn options(mut at: Cursor<'_, '_>) -> bool {
    const OPTIONS: [&str; 16] = [
        "ALGORITHM",
        "LOCK",
        "COMMENT",
        "AUTO_INCREMENT",
        "ROW_FORMAT",
        "KEY_BLOCK_SIZE",
        "STATS_PERSISTENT",
        "STATS_AUTO_RECALC",
        "STATS_SAMPLE_PAGES",
        "AVG_ROW_LENGTH",
        "MAX_ROWS",
        "MIN_ROWS",
        "CHECKSUM",
        "DELAY_KEY_WRITE",
        "PACK_KEYS",
        "AUTOEXTEND_SIZE",
    ];
    if at.ends() {
        return false;
    }
    while !at.ends() {
        let charset = at.take("DEFAULT");
        let named = at.take_all(&["CHARACTER", "SET"])
            || at.take_one_of(&["CHARSET", "COLLATE"])
            || (!charset && at.take_one_of(&OPTIONS));
        at.take_sign('=');
        if !named || !(at.take_text() || at.take_number() || at.name().is_some()) {
            return false;
        }
    }
    true
}
