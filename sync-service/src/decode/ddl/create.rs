//! CREATE and DROP: the kind of object stands behind words that say how it is made.

use super::cursor::Cursor;
use super::subject::Subject;
use crate::decode::Object;

pub(super) fn create(mut at: Cursor<'_, '_>) -> Option<Subject> {
    let replaces = at.take_all(&["OR", "REPLACE"]);
    let mut temporary = false;
    loop {
        if at.take("TEMPORARY") {
            temporary = true;
        } else if at.take("DEFINER") {
            (at.take_sign('=') && at.account()).then_some(())?;
        } else if at.take("ALGORITHM") {
            (at.take_sign('=') && at.name().is_some()).then_some(())?;
        } else if at.take_all(&["SQL", "SECURITY"]) {
            at.name()?;
        } else if !at.take_one_of(&[
            "AGGREGATE",
            "EXTERNAL",
            "UNIQUE",
            "FULLTEXT",
            "ONLINE",
            "OFFLINE",
            "MATERIALIZED",
        ]) && !at.take_all(&["JSON", "RELATIONAL"])
            && !at.take("JSON")
            && !at.take("DUALITY")
        {
            break;
        }
    }
    if at.take_all(&["SPATIAL", "REFERENCE", "SYSTEM"]) {
        at.if_not_exists();
        return at.take_number().then(Subject::nothing);
    }
    at.take_one_of(&["SPATIAL", "VECTOR"]);
    let object = at.word()?.to_ascii_uppercase();
    at.step();
    match object.as_str() {
        "TABLE" => {
            at.if_not_exists();
            let name = at.table()?;
            // One of another session, or of this one: no other sees it.
            Some(if temporary { Subject::nothing() } else { Subject::tables(vec![name]) })
        }
        // It holds a row, as a table does.
        "SEQUENCE" => {
            at.if_not_exists();
            let name = at.table()?;
            Some(if temporary { Subject::nothing() } else { Subject::tables(vec![name]) })
        }
        "VIEW" => {
            at.if_not_exists();
            let name = at.table()?;
            if at.is_sign('(') {
                at.parentheses().then_some(())?;
            }
            at.take("AS").then(|| Subject::of(vec![name], Object::View))
        }
        "DATABASE" | "SCHEMA" => {
            at.if_not_exists();
            let name = at.name()?;
            Some(if replaces { Subject::database(name) } else { Subject::nothing() })
        }
        "INDEX" => {
            at.if_not_exists();
            if !at.is("ON") {
                at.name()?;
            }
            if at.take_one_of(&["USING", "TYPE"]) {
                at.name()?;
            }
            at.take("ON").then_some(())?;
            at.table()?;
            at.wait();
            at.parentheses().then(Subject::nothing)
        }
        "PROCEDURE" | "FUNCTION" => {
            at.if_not_exists();
            at.table()?;
            (at.is_sign('(') || at.is("RETURNS") || at.is("RETURN") || at.is("AS") || at.is("IS"))
                .then(Subject::body)
        }
        "PACKAGE" => {
            at.take("BODY");
            at.if_not_exists();
            at.table()?;
            Some(Subject::body())
        }
        "LIBRARY" => {
            at.if_not_exists();
            at.table()?;
            Some(Subject::body())
        }
        "TRIGGER" => {
            at.if_not_exists();
            at.table()?;
            at.take_one_of(&["BEFORE", "AFTER"]).then(Subject::body)
        }
        "EVENT" => {
            at.if_not_exists();
            at.table()?;
            at.take_all(&["ON", "SCHEDULE"]).then(Subject::body)
        }
        "USER" | "ROLE" => {
            at.if_not_exists();
            at.account().then(Subject::nothing)
        }
        "UNDO" => (at.take("TABLESPACE") && at.name().is_some()).then(Subject::nothing),
        "TABLESPACE" | "SERVER" => {
            at.if_not_exists();
            (at.name().is_some() || at.take_text()).then(Subject::nothing)
        }
        "LOGFILE" | "RESOURCE" => (at.take("GROUP") && at.name().is_some()).then(Subject::nothing),
        _ => None,
    }
}

pub(super) fn drop(mut at: Cursor<'_, '_>) -> Option<Subject> {
    let temporary = at.take("TEMPORARY");
    at.take_one_of(&["ONLINE", "OFFLINE", "MATERIALIZED"]);
    if at.take_all(&["SPATIAL", "REFERENCE", "SYSTEM"]) {
        at.if_exists();
        return at.take_number().then(Subject::nothing);
    }
    let object = at.word()?.to_ascii_uppercase();
    at.step();
    match object.as_str() {
        "TABLE" | "TABLES" | "SEQUENCE" | "VIEW" => {
            at.if_exists();
            let names = at.tables()?;
            at.wait();
            at.take_one_of(&["RESTRICT", "CASCADE"]);
            at.wait();
            at.ends().then_some(())?;
            let object = if object == "VIEW" { Object::View } else { Object::Table };
            Some(if temporary { Subject::nothing() } else { Subject::of(names, object) })
        }
        "DATABASE" | "SCHEMA" => {
            at.if_exists();
            let name = at.name()?;
            at.ends().then(|| Subject::database(name))
        }
        "INDEX" => {
            at.if_exists();
            at.name()?;
            at.take("ON").then_some(())?;
            at.table().map(|_| Subject::nothing())
        }
        "PROCEDURE" | "FUNCTION" | "TRIGGER" | "EVENT" | "LIBRARY" => {
            at.if_exists();
            at.table()?;
            at.ends().then(Subject::nothing)
        }
        "PACKAGE" => {
            at.take("BODY");
            at.if_exists();
            at.table()?;
            at.ends().then(Subject::nothing)
        }
        "USER" | "ROLE" => {
            at.if_exists();
            loop {
                at.account().then_some(())?;
                if !at.take_sign(',') {
                    return at.ends().then(Subject::nothing);
                }
            }
        }
        "SERVER" | "PREPARE" => {
            at.if_exists();
            (at.name().is_some() || at.take_text()).then(Subject::nothing)
        }
        "UNDO" => (at.take("TABLESPACE") && at.name().is_some()).then(Subject::nothing),
        "TABLESPACE" => at.name().map(|_| Subject::nothing()),
        "LOGFILE" | "RESOURCE" => (at.take("GROUP") && at.name().is_some()).then(Subject::nothing),
        _ => None,
    }
}
