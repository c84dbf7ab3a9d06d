//! What a statement is about, and which tables of which databases that may be.

use crate::decode::{Concerned, Named, Object, Reason};

/// The name of a table or view as a statement writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TableName {
    pub(super) database: Option<String>,
    pub(super) table: String,
}

/// What a statement is about. Nothing, unless something is added.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Subject {
    pub(super) names: Vec<(TableName, Object)>,
    /// What is only read beside them.
    pub(super) read: Vec<TableName>,
    pub(super) databases: Vec<String>,
    /// It is not understood.
    pub(super) unknown: bool,
    /// The rest of the text, semicolons included, belongs to it.
    pub(super) has_body: bool,
    pub(super) sort: Sort,
}

/// Tables that a text may name; one with more is not understood.
pub(in crate::decode) const MOST: usize = 1000;

/// What a statement does to what it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Sort {
    #[default]
    Definition,
    Truncation,
    Rows,
}

impl Subject {
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    pub(super) fn unknown() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// A statement that changes nothing, and whose text ends with it.
    pub(super) fn body() -> Self {
        Self { has_body: true, ..Self::default() }
    }

    pub(super) fn tables(names: Vec<TableName>) -> Self {
        Self::of(names, Object::Table)
    }

    pub(super) fn of(names: Vec<TableName>, object: Object) -> Self {
        Self { names: names.into_iter().map(|name| (name, object)).collect(), ..Self::default() }
    }

    pub(super) fn rows(names: Vec<TableName>, read: Vec<TableName>) -> Self {
        Self { sort: Sort::Rows, read, ..Self::tables(names) }
    }

    pub(super) fn database(name: &str) -> Self {
        Self { databases: vec![name.to_owned()], ..Self::default() }
    }

    pub(super) fn is_nothing(&self) -> bool {
        !self.unknown && self.names.is_empty() && self.databases.is_empty()
    }

    /// Adds what another reading, or another statement, is about.
    pub(super) fn add(&mut self, other: Self) {
        let first = self.is_nothing();
        self.unknown |= other.unknown || self.names.len() + other.names.len() > MOST;
        if self.unknown {
            return;
        }
        for (name, object) in other.names {
            match self.names.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = object.max(*known),
                None => self.names.push((name, object)),
            }
        }
        self.read.extend(other.read);
        for database in other.databases {
            if !self.databases.contains(&database) {
                self.databases.push(database);
            }
        }
        if first {
            self.sort = other.sort;
        }
    }

    pub(super) fn reason(&self) -> Reason {
        match self.sort {
            Sort::Definition => Reason::Ddl,
            Sort::Truncation => Reason::Truncate,
            Sort::Rows => Reason::Statement,
        }
    }
}

/// What a message tells of the session that a statement ran in.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) enum Session<'s> {
    /// Its database; empty where it had none.
    Of(&'s str),
    /// Tables that the statement changed, as (database, table). Their databases need not be the session's.
    Changed(&'s [(String, String)]),
}

impl Session<'_> {
    /// The database that names without one are of, where that is certain.
    ///
    /// It is where a changed table is written without its database, and nowhere in the statement with one: then the session's database is
    /// that table's.
    fn database(&self, subject: &Subject) -> Option<&str> {
        let changed = match self {
            Self::Of(database) => return Some(*database).filter(|database| !database.is_empty()),
            Self::Changed(changed) => *changed,
        };
        let mut certain: Option<&str> = None;
        for (database, table) in changed.iter().filter(|(database, _)| !database.is_empty()) {
            let names = subject.names.iter().map(|(name, _)| name).chain(&subject.read);
            let mut same = names.filter(|name| alike(&name.table, table)).peekable();
            if same.peek().is_some() && same.all(|name| name.database.is_none()) {
                if certain.is_some_and(|certain| certain != database) {
                    return None;
                }
                certain = Some(database);
            }
        }
        certain
    }

    /// What a statement of this session touches; `None` if no rows.
    pub(super) fn concerned(&self, subject: &Subject) -> Option<Concerned> {
        if subject.is_nothing() {
            return None;
        }
        match (subject.unknown || subject.names.len() > MOST, subject.databases.as_slice()) {
            (false, []) => {}
            (false, [database]) if subject.names.is_empty() => {
                return Some(Concerned::Database(database.clone()));
            }
            _ => return Some(Concerned::Everything),
        }
        let own = self.database(subject);
        let mut named: Vec<Named> = Vec::with_capacity(subject.names.len());
        for (name, object) in &subject.names {
            let database = name.database.as_deref().or(own).map(str::to_owned);
            let new = Named { database, table: name.table.clone(), object: *object };
            match named.iter_mut().find(|named| named.is(&new)) {
                Some(known) => known.object = known.object.max(new.object),
                None => named.push(new),
            }
        }
        Some(Concerned::Tables(named))
    }
}

impl Named {
    /// Whether both stand for the same tables.
    fn is(&self, other: &Self) -> bool {
        self.covers(other) && other.covers(self)
    }

    /// Whether the other's tables are among these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        alike(&self.table, &other.table)
            && match (&self.database, &other.database) {
                (Some(one), Some(other)) => alike(one, other),
                (None, _) => true,
                (Some(_), None) => false,
            }
    }
}

/// Whether two names may be the same: servers with `lower_case_table_names` don't regard case.
pub(super) fn alike(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || (!(one.is_ascii() && other.is_ascii()) && one.to_lowercase() == other.to_lowercase())
}
