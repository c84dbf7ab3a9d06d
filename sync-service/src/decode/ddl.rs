//! Which tables a statement touches, whatever source it comes from.
//!
//! A message names one table; `DROP TABLE a, b` and `RENAME TABLE a TO b` touch others that are only in the text. A statement's *subject* is
//! read: its head, up to the tables that it names, and the few clauses that name others. What is not understood is taken to touch
//! everything: a flush too many costs misses, one too few costs truth.

mod alter;
mod create;
mod cursor;
mod forms;
mod rows;
mod subject;
mod tokens;

use self::cursor::Cursor;
use self::subject::{Subject, alike};
use self::tokens::Token;
use super::{Concerned, Named, Reason};

pub(super) use self::subject::{MOST, Session};

/// Longer texts are not read; no statement about tables is anywhere near it.
const LONGEST: usize = 1 << 20;

/// What a statement touches, of which nothing is known but its text and what is told of its session; `None` if no rows. And why.
pub(super) fn statement(session: Session<'_>, sql: &str) -> (Option<Concerned>, Reason) {
    let subject = subject(sql);
    (session.concerned(&subject), subject.reason())
}

/// What a message of this `kind` (Canal's event type) with a statement touches; `None` if no rows. And why.
///
/// `database` and `table` are those of a table that the statement changed, not of its session.
pub(super) fn message(kind: &str, database: &str, table: &str, sql: &str) -> (Option<Concerned>, Reason) {
    let own = (!database.is_empty() && !table.is_empty()).then(|| Named::table(database, table));
    let kinds_own = match kind {
        "TRUNCATE" => Reason::Truncate,
        "INSERT" | "UPDATE" | "DELETE" => Reason::Statement,
        _ => Reason::Ddl,
    };
    if sql.trim().is_empty() {
        // Others may be concerned by it.
        let alone = !matches!(kind, "ERASE" | "DROP" | "RENAME" | "QUERY");
        let own = own.filter(|_| alone).map(|own| Concerned::Tables(vec![own]));
        return (Some(own.unwrap_or(Concerned::Everything)), kinds_own);
    }
    let changed = [(database.to_owned(), table.to_owned())];
    let subject = subject(sql);
    let concerned = Session::Changed(&changed).concerned(&subject);
    let concerned = match (concerned, own) {
        // It is among them, unless the text was understood otherwise.
        (Some(concerned), Some(own)) => Some(with(Some(concerned), own)),
        // A statement that changes nothing is of none of these kinds.
        (None, own) if matches!(kind, "TRUNCATE" | "RENAME" | "INSERT" | "UPDATE" | "DELETE") => {
            Some(own.map_or(Concerned::Everything, |own| Concerned::Tables(vec![own])))
        }
        (concerned, _) => concerned,
    };
    (concerned, if subject.unknown || subject.is_nothing() { kinds_own } else { subject.reason() })
}

/// What is concerned, and one table more.
pub(super) fn with(concerned: Option<Concerned>, own: Named) -> Concerned {
    match concerned {
        Some(Concerned::Tables(mut named)) => {
            if !named.iter().any(|named| named.covers(&own)) {
                named.push(own);
            }
            Concerned::Tables(named)
        }
        Some(Concerned::Database(name)) if own.database.as_deref().is_some_and(|of| alike(of, &name)) => {
            Concerned::Database(name)
        }
        Some(Concerned::Database(_) | Concerned::Everything) => Concerned::Everything,
        None => Concerned::Tables(vec![own]),
    }
}

/// What a text is about, in whatever way a server may have read it.
fn subject(sql: &str) -> Subject {
    let sql = sql.trim_end_matches('\0');
    // Of a text in another character set than the reader took it for, neither names nor quotes are certain.
    if sql.is_empty() || sql.len() > LONGEST || sql.contains(char::REPLACEMENT_CHARACTER) {
        return Subject::unknown();
    }
    let mut found: Option<Subject> = None;
    for reading in tokens::readings(sql) {
        let Some(tokens) = tokens::tokens(sql, reading) else { continue };
        let subject = statements(&tokens);
        match &mut found {
            Some(found) => found.add(subject),
            None => found = Some(subject),
        }
    }
    found.unwrap_or_else(Subject::unknown)
}

/// What the statements of a text are about; one, but for programs that send several.
fn statements(tokens: &[Token<'_>]) -> Subject {
    let mut whole = Subject::nothing();
    for tokens in tokens.split(|token| *token == Token::Sign(';')).filter(|tokens| !tokens.is_empty()) {
        let subject = forms::statement(Cursor::new(tokens), 0).unwrap_or_else(Subject::unknown);
        let has_body = subject.has_body;
        whole.add(subject);
        if has_body {
            break;
        }
    }
    whole
}

#[cfg(test)]
mod tests;
