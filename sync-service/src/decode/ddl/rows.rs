//! Statements that change rows: whose they are.
//!
//! With several tables those count that the statement changes, where it says which; else all that it joins. What a trigger, a foreign key, a
//! function or a view behind a name changes beside them is not in the text.

use super::cursor::Cursor;
use super::subject::{MOST, Subject, TableName, alike};
use super::tokens::Token;

/// What is read or written under a name: the table, and the name that the statement gives it.
struct Factor {
    table: TableName,
    alias: Option<String>,
}

/// Parentheses around tables; no statement has more.
const DEEPEST: usize = 32;

pub(super) fn statement(mut at: Cursor<'_, '_>) -> Option<Subject> {
    let mut common = Vec::new();
    if at.take("WITH") {
        at.take("RECURSIVE");
        loop {
            common.push(at.name().filter(|_| common.len() < MOST)?.to_owned());
            if at.is_sign('(') {
                at.parentheses().then_some(())?;
            }
            at.take("AS").then_some(())?;
            at.parentheses().then_some(())?;
            if at.take("CYCLE") {
                while !at.take("RESTRICT") {
                    at.skip().then_some(())?;
                }
            }
            if !at.take_sign(',') {
                break;
            }
        }
    }
    let word = at.word()?.to_ascii_uppercase();
    at.step();
    let mut factors = Vec::new();
    let names = match word.as_str() {
        "INSERT" | "REPLACE" => {
            while at.take_one_of(&["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"]) {}
            vec![at.table()?]
        }
        "UPDATE" => updated(at, &mut factors, &common)?,
        "DELETE" => deleted(at, &mut factors, &common)?,
        "LOAD" if at.take_all(&["INDEX", "INTO", "CACHE"]) => {
            return at.table().map(|_| Subject::nothing());
        }
        "LOAD" => {
            at.take_one_of(&["DATA", "XML"]).then_some(())?;
            while !at.take_all(&["INTO", "TABLE"]) {
                at.skip().then_some(())?;
            }
            vec![at.table()?]
        }
        _ => return None,
    };
    let read = factors.into_iter().map(|factor| factor.table).collect();
    (!names.is_empty()).then(|| Subject::rows(names, read))
}

/// The tables that an UPDATE changes: those whose columns it sets.
fn updated(mut at: Cursor<'_, '_>, factors: &mut Vec<Factor>, common: &[String]) -> Option<Vec<TableName>> {
    while at.take_one_of(&["LOW_PRIORITY", "IGNORE"]) {}
    references(&mut at, factors, &["SET"], 0)?;
    at.take("SET").then_some(())?;
    let mut owners: Vec<TableName> = Vec::new();
    loop {
        // A column, with or without its table.
        let column = parts(&mut at)?;
        match column.as_slice() {
            [table, _] => owners.push(TableName { database: None, table: table.clone() }),
            [database, table, _] => {
                owners.push(TableName { database: Some(database.clone()), table: table.clone() });
            }
            _ => return Some(all(factors, common)),
        }
        if owners.len() > MOST {
            return Some(all(factors, common));
        }
        while !at.ends() && !at.is_sign(',') && !at.is_one_of(&["WHERE", "ORDER", "LIMIT", "RETURNING"]) {
            at.skip().then_some(())?;
        }
        if !at.take_sign(',') {
            break;
        }
    }
    Some(named(owners, factors, common))
}

/// The tables that a DELETE empties: those between DELETE and FROM, or between FROM and USING, or its only one.
fn deleted(mut at: Cursor<'_, '_>, factors: &mut Vec<Factor>, common: &[String]) -> Option<Vec<TableName>> {
    while at.take_one_of(&["LOW_PRIORITY", "QUICK", "IGNORE"]) {}
    // Rows of the past, in MariaDB.
    if at.take_all(&["HISTORY", "FROM"]) {
        return Some(vec![at.table()?]);
    }
    let from = at.take("FROM");
    let mut targets = Vec::new();
    loop {
        targets.push(at.table().filter(|_| targets.len() < MOST)?);
        if at.take_sign('.') {
            at.take_sign('*').then_some(())?;
        }
        if !at.take_sign(',') {
            break;
        }
    }
    if !at.take(if from { "USING" } else { "FROM" }) {
        // Only one table, which may have an alias behind it.
        return (from && targets.len() == 1).then_some(targets);
    }
    references(&mut at, factors, &["WHERE", "ORDER", "LIMIT", "RETURNING"], 0)?;
    Some(named(targets, factors, common))
}

/// A name with points in it.
fn parts(at: &mut Cursor<'_, '_>) -> Option<Vec<String>> {
    at.take_sign('.');
    let mut parts = vec![at.name()?.to_owned()];
    while at.take_sign('.') {
        parts.push(at.name()?.to_owned());
    }
    (parts.len() <= 3).then_some(parts)
}

/// The tables of these names and aliases; all, where one of them is of none.
fn named(targets: Vec<TableName>, factors: &[Factor], common: &[String]) -> Vec<TableName> {
    let mut found: Vec<TableName> = Vec::new();
    for target in &targets {
        let mut fits = factors.iter().filter(|factor| factor.is(target)).peekable();
        if fits.peek().is_none() {
            let mut every = all(factors, common);
            every.extend(targets);
            return every;
        }
        for factor in fits {
            if !found.contains(&factor.table) {
                found.push(factor.table.clone());
            }
        }
    }
    found
}

fn all(factors: &[Factor], common: &[String]) -> Vec<TableName> {
    let is_common =
        |table: &TableName| table.database.is_none() && common.iter().any(|name| alike(name, &table.table));
    factors.iter().map(|factor| factor.table.clone()).filter(|table| !is_common(table)).collect()
}

impl Factor {
    fn is(&self, name: &TableName) -> bool {
        let same = |factor: &str| alike(factor, &name.table);
        match (&name.database, &self.alias) {
            (None, Some(alias)) => same(alias),
            (None, None) => same(&self.table.table),
            // An alias may be written behind the database.
            (Some(database), alias) => {
                self.table.database.as_ref().is_none_or(|own| alike(own, database))
                    && (same(&self.table.table) || alias.as_deref().is_some_and(same))
            }
        }
    }
}

/// Tables and joins, up to one of the words `until`, the end, or a closing parenthesis.
fn references(
    at: &mut Cursor<'_, '_>,
    factors: &mut Vec<Factor>,
    until: &[&str],
    depth: usize,
) -> Option<()> {
    if depth > DEEPEST {
        return None;
    }
    let stops = |at: &Cursor<'_, '_>| at.ends() || at.is_sign(')') || at.is_one_of(until);
    loop {
        factor(at, factors, depth)?;
        loop {
            if stops(at) {
                return Some(());
            }
            if at.take_sign(',') || at.take_one_of(&["JOIN", "STRAIGHT_JOIN"]) {
                break;
            }
            // Hints, conditions, kinds of joins.
            at.skip().then_some(())?;
        }
    }
}

fn factor(at: &mut Cursor<'_, '_>, factors: &mut Vec<Factor>, depth: usize) -> Option<()> {
    if depth > DEEPEST || factors.len() > MOST {
        return None;
    }
    at.take("LATERAL");
    // ODBC's `{ OJ a LEFT OUTER JOIN b .. }`.
    if at.take_sign('{') {
        at.name()?;
        return factor(at, factors, depth + 1);
    }
    if at.is_sign('(') {
        if matches!(at.ahead(1), Some(Token::Word(word)) if reads(word)) {
            return at.parentheses().then_some(());
        }
        at.step();
        references(at, factors, &[], depth + 1)?;
        return at.take_sign(')').then_some(());
    }
    // The rest of a query in parentheses, such as UNION.
    let table = at.table()?;
    // A function that makes a table.
    if at.is_sign('(') {
        return at.parentheses().then_some(());
    }
    if at.take("PARTITION") {
        at.parentheses().then_some(())?;
    }
    let alias = if at.take("AS") {
        Some(at.name()?.to_owned())
    } else {
        match at.peek() {
            Some(Token::Word(word)) if continues(word) => None,
            _ => at.name().map(str::to_owned),
        }
    };
    factors.push(Factor { table, alias });
    Some(())
}

/// Words that a query in parentheses begins with.
fn reads(word: &str) -> bool {
    ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Words behind a table that are no alias.
fn continues(word: &str) -> bool {
    const WORDS: [&str; 20] = [
        "SET",
        "JOIN",
        "INNER",
        "CROSS",
        "LEFT",
        "RIGHT",
        "FULL",
        "NATURAL",
        "STRAIGHT_JOIN",
        "ON",
        "USING",
        "USE",
        "FORCE",
        "IGNORE",
        "WHERE",
        "ORDER",
        "LIMIT",
        "RETURNING",
        "FOR",
        "UNION",
    ];
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}
