//! Statements by their whole heads. What has none of these forms is not understood.
//!
//! Harmless is what matches one of a closed list of forms to its end, or up to a body that the server keeps for later: never a first word
//! alone, since servers learn new statements.

use super::alter;
use super::create;
use super::cursor::Cursor;
use super::rows;
use super::subject::{Sort, Subject};
use crate::decode::Object;

/// What one statement is about; `None` if it is not understood. `depth` counts the statements around it.
pub(super) fn statement(mut at: Cursor<'_, '_>, depth: usize) -> Option<Subject> {
    if depth > 4 {
        return None;
    }
    let start = at;
    let word = at.word()?.to_ascii_uppercase();
    at.step();
    match word.as_str() {
        "CREATE" => create::create(at),
        "ALTER" => alter::alter(at),
        "DROP" => create::drop(at),
        "RENAME" => rename(at),
        "TRUNCATE" => truncate(at),
        "SET" => set(at, depth),
        "REPAIR" => repair(at),
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "LOAD" | "WITH" => rows::statement(start),
        // TiDB's.
        "RECOVER" if at.take("TABLE") => Some(Subject::tables(vec![at.table().filter(|_| at.ends())?])),
        "FLASHBACK" if at.take("TABLE") => {
            let mut names = vec![at.table()?];
            if at.take("TO") {
                names.push(at.table()?);
            }
            at.ends().then(|| Subject::tables(names))
        }
        _ => transaction(&word, at).or_else(|| administration(&word, at)).map(|()| Subject::nothing()),
    }
}

fn rename(mut at: Cursor<'_, '_>) -> Option<Subject> {
    if at.take("USER") {
        loop {
            (at.account() && at.take("TO") && at.account()).then_some(())?;
            if !at.take_sign(',') {
                return at.ends().then(Subject::nothing);
            }
        }
    }
    at.take_one_of(&["TABLE", "TABLES"]).then_some(())?;
    at.if_exists();
    let mut names = Vec::new();
    loop {
        names.push(at.table()?);
        at.wait();
        at.take("TO").then_some(())?;
        names.push(at.table()?);
        if !at.take_sign(',') {
            break;
        }
    }
    // Views are renamed by it too.
    at.ends().then(|| Subject::of(names, Object::Either))
}

fn truncate(mut at: Cursor<'_, '_>) -> Option<Subject> {
    at.take("TABLE");
    at.if_exists();
    let names = at.tables()?;
    at.wait();
    // In MariaDB's mode for Oracle.
    if at.take_one_of(&["DROP", "REUSE"]) {
        at.take("STORAGE").then_some(())?;
    }
    at.ends().then(|| Subject { sort: Sort::Truncation, ..Subject::tables(names) })
}

/// A repaired table may have lost rows.
fn repair(mut at: Cursor<'_, '_>) -> Option<Subject> {
    at.take_one_of(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
    if at.take_one_of(&["VIEW", "VIEWS"]) {
        return at.table().map(|_| Subject::nothing());
    }
    at.take_one_of(&["TABLE", "TABLES"]).then_some(())?;
    let names = at.tables()?;
    while at.take_one_of(&["QUICK", "EXTENDED", "USE_FRM", "FORCE"]) {}
    at.ends().then(|| Subject::tables(names))
}

/// Variables, and MariaDB's `SET STATEMENT variables FOR statement`.
fn set(mut at: Cursor<'_, '_>, depth: usize) -> Option<Subject> {
    if at.take("STATEMENT") {
        while !at.is("FOR") {
            at.skip().then_some(())?;
        }
        at.step();
        return statement(at, depth + 1);
    }
    let known = ["GLOBAL", "SESSION", "LOCAL", "PERSIST", "PERSIST_ONLY"];
    let forms = ["NAMES", "CHARACTER", "CHARSET", "TRANSACTION", "PASSWORD", "ROLE", "RESOURCE", "DEFAULT"];
    let variable = |mut at: Cursor<'_, '_>| {
        at.take_one_of(&known);
        at.take_sign('@');
        at.take_sign('@');
        at.take_one_of(&known);
        at.take_sign('.');
        (at.table().is_some() || at.take_text()) && (at.is_sign('=') || at.is_sign(':'))
    };
    let good = variable(at) || at.is_one_of(&forms) || (at.take_one_of(&known) && at.is("TRANSACTION"));
    good.then(Subject::nothing)
}

/// Where transactions begin and end. What an XA transaction changes when it is committed is nobody's knowledge here.
fn transaction(word: &str, mut at: Cursor<'_, '_>) -> Option<()> {
    match word {
        "BEGIN" => {
            at.take("WORK");
        }
        "START" if at.take("TRANSACTION") => {
            while at.take_one_of(&["WITH", "CONSISTENT", "SNAPSHOT", "READ", "WRITE", "ONLY"])
                || at.take_sign(',')
            {}
        }
        "COMMIT" | "ROLLBACK" => {
            at.take("WORK");
            if word == "ROLLBACK" && at.take("TO") {
                at.take("SAVEPOINT");
                at.name()?;
            }
            if at.take("AND") {
                at.take("NO");
                at.take("CHAIN").then_some(())?;
            }
            if !at.take_all(&["NO", "RELEASE"]) {
                at.take("RELEASE");
            }
        }
        "SAVEPOINT" => {
            at.name()?;
        }
        "RELEASE" if at.take("SAVEPOINT") => {
            at.name()?;
        }
        "XA" => {
            at.take_one_of(&["START", "BEGIN", "END", "PREPARE", "ROLLBACK", "RECOVER"]).then_some(())?;
            return Some(());
        }
        _ => return None,
    }
    at.ends().then_some(())
}

/// Accounts, maintenance, and questions: nothing that changes rows.
fn administration(word: &str, mut at: Cursor<'_, '_>) -> Option<()> {
    let table = |at: &mut Cursor<'_, '_>| {
        at.take_one_of(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
        at.take_one_of(&["TABLE", "TABLES", "VIEW"]) && at.table().is_some()
    };
    let has = |mut at: Cursor<'_, '_>, word: &str| {
        while !at.ends() && !at.is(word) && at.skip() {}
        at.is(word)
    };
    let good = match word {
        "GRANT" => has(at, "TO"),
        "REVOKE" => has(at, "FROM"),
        "ANALYZE" | "OPTIMIZE" | "CHECK" | "CHECKSUM" => table(&mut at),
        "FLUSH" => {
            at.take_one_of(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
            at.word().is_some()
        }
        "INSTALL" | "UNINSTALL" => at.take_one_of(&["PLUGIN", "COMPONENT", "SONAME"]),
        "USE" => at.name().is_some() && at.ends(),
        "SHOW" | "HELP" | "KILL" => !at.ends(),
        "LOCK" => at.take_one_of(&["TABLE", "TABLES", "INSTANCE"]),
        "UNLOCK" => at.take_one_of(&["TABLE", "TABLES", "INSTANCE"]) && at.ends(),
        "DEALLOCATE" => at.take("PREPARE") && at.name().is_some() && at.ends(),
        "PURGE" => at.take_one_of(&["BINARY", "MASTER"]) && at.take("LOGS"),
        "CHANGE" => at.take_one_of(&["MASTER", "REPLICATION"]),
        "START" | "STOP" => at.take_one_of(&["SLAVE", "REPLICA", "GROUP_REPLICATION", "ALL"]),
        "CACHE" => at.take("INDEX") && at.table().is_some(),
        "BACKUP" => at.take_one_of(&["STAGE", "LOCK", "UNLOCK"]),
        _ => false,
    };
    good.then_some(())
}
