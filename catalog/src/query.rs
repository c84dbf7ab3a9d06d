//! A group's query: SQL with `{param}` in the place of values.

mod batch;
mod clocks;
mod derive;
mod joins;
mod scan;
mod used;
mod walk;

use std::fmt;

use crate::template::Template;
pub use batch::{BatchedQuery, Dialect};
pub(crate) use derive::TableRef;
pub(crate) use joins::Partner;
use scan::Scanned;

/// A table, as `database.table`. Names compare without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The database (schema).
    pub database: Box<str>,
    /// The table.
    pub table: Box<str>,
}

/// A column of a table of a query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableColumn {
    /// The table.
    pub table: TableName,
    /// The column's name, as the query writes it.
    pub column: Box<str>,
}

/// Name of a hidden column, before its number.
const TAG_COLUMN: &str = "__freshline_tag";

/// What is wrong, and what to do about it.
pub(crate) type Fault = (String, String);

/// A checked query of a group.
#[derive(Debug)]
pub struct Query {
    text: Box<str>,
    rendered: String,
    order: Vec<usize>,
    batched: Option<BatchedQuery>,
    tables: Vec<TableName>,
    compared: Vec<Vec<TableColumn>>,
    clocks: Vec<String>,
    columns: Option<Vec<Box<str>>>,
    projected: Vec<(Box<str>, String)>,
    /// Where FROM begins in `rendered`; what is selected beside the written columns goes before it.
    from: Option<usize>,
    hidden: Vec<String>,
}

impl Query {
    /// Reads the query of a group with that template; also tells each place where it reads a table.
    ///
    /// All problems are returned, each as message and remedy.
    pub(crate) fn parse(
        text: &str,
        template: &Template,
        database: Option<&str>,
    ) -> Result<(Self, Vec<TableRef>), Vec<Fault>> {
        let text = text.trim().trim_end_matches(';').trim_end();
        let scanned = Scanned::new(text)
            .map_err(|error| vec![(error, "see the query rules in the guide".to_owned())])?;
        let mut problems = Vec::new();
        let mut order = Vec::new();
        for (_, name) in &scanned.uses {
            match template.param(name) {
                Some(param) => order.push(param),
                None => problems.push((
                    format!("the query uses {{{name}}}, which key {template} does not have"),
                    match crate::report::did_you_mean(
                        name,
                        template.params().iter().map(|param| &*param.name),
                    ) {
                        Some(known) => format!("did you mean {{{known}}}?"),
                        None => format!("add {{{name}:u64}} to the key, or remove it from the query"),
                    },
                )),
            }
        }
        for (index, param) in template.params().iter().enumerate() {
            if !order.contains(&index) && problems.is_empty() {
                problems.push((
                    format!("the query does not use {{{}}} of key {template}", param.name),
                    format!("add a condition like column = {{{}}}, or remove it from the key", param.name),
                ));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let numbered = scanned.replaced(|index| format!(" ?{index} "));
        let analysis = derive::analyze(&numbered, &order, template.params().len(), database)
            .map_err(|error| vec![(error, "write one plain SELECT in MySQL's SQL".to_owned())])?;
        let mut tables: Vec<TableName> = Vec::new();
        for place in &analysis.tables {
            if !tables.iter().any(|known| known.is(&place.table)) {
                tables.push(place.table.clone());
            }
        }
        let compared = (0..template.params().len()).map(|param| compared(&analysis.tables, param)).collect();
        let batched = BatchedQuery::new(&scanned, &order, template.params().len(), &analysis.query);
        let rendered = scanned.replaced(|_| "?".to_owned());
        let from = scanned.keyword("FROM").map(|from| {
            let before = scanned.uses.iter().map(|(range, _)| range).filter(|range| range.end <= from);
            before.fold(from, |from, range| from + 1 - range.len())
        });
        let query = Self {
            text: text.into(),
            rendered,
            order,
            batched,
            tables,
            compared,
            clocks: clocks::clocks(&analysis.query),
            columns: analysis.columns,
            projected: analysis.projected,
            from,
            hidden: Vec::new(),
        };
        Ok((query, analysis.tables))
    }

    /// The query as written, with `{param}`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The SQL with `?` for each parameter, and for each `?` the index of its parameter in the template.
    pub fn render(&self) -> (&str, &[usize]) {
        (&self.rendered, &self.order)
    }

    /// The same query for many keys at once, or `None` where one statement can't answer for many keys.
    pub fn batched(&self) -> Option<&BatchedQuery> {
        self.batched.as_ref()
    }

    /// The functions in it whose answers change with time, or at each call.
    pub(crate) fn clocks(&self) -> &[String] {
        &self.clocks
    }

    /// The tables that it reads, each once.
    pub fn tables(&self) -> &[TableName] {
        &self.tables
    }

    /// What the result's column of that name is, as SQL; `None` if that is not told, or there are two.
    pub(crate) fn projected(&self, name: &str) -> Option<&str> {
        let mut named = self.projected.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let (_, expr) = named.next()?;
        named.next().is_none().then_some(expr)
    }

    /// The names of the result's columns; `None` where a `*` hides them.
    pub(crate) fn columns(&self) -> Option<&[Box<str>]> {
        self.columns.as_deref()
    }

    /// How many columns are added to the end of the result, batched or not, that are no part of the value: tags are made of them.
    pub fn hidden(&self) -> usize {
        self.hidden.len()
    }

    /// Adds a hidden column, if it isn't there; returns its number among them.
    pub(crate) fn hide(&mut self, expr: &str) -> usize {
        if let Some(known) = self.hidden.iter().position(|known| known == expr) {
            return known;
        }
        let number = self.hidden.len();
        let column = format!(", {expr} AS {TAG_COLUMN}_{number} ");
        if let Some(from) = &mut self.from {
            self.rendered.insert_str(*from, &column);
            *from += column.len();
        }
        if let Some(batched) = &mut self.batched {
            batched.select(&column);
        }
        self.hidden.push(expr.to_owned());
        number
    }

    /// For each parameter of the template the columns that it must equal; tells how to bind it.
    pub fn compared(&self) -> &[Vec<TableColumn>] {
        &self.compared
    }
}

impl TableName {
    pub(crate) fn new(database: &str, table: &str) -> Self {
        Self { database: database.into(), table: table.into() }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        alike(&self.database, &other.database) && alike(&self.table, &other.table)
    }
}

/// Whether two names may be the same: servers with `lower_case_table_names` regard no case, of no script.
pub(crate) fn alike(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || (!(one.is_ascii() && other.is_ascii()) && one.to_lowercase() == other.to_lowercase())
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

impl fmt::Display for TableColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// The columns that must equal a parameter, each once.
fn compared(places: &[TableRef], param: usize) -> Vec<TableColumn> {
    let mut columns: Vec<TableColumn> = Vec::new();
    for place in places {
        let Some(column) = &place.columns[param] else { continue };
        let column = TableColumn { table: place.table.clone(), column: column.clone() };
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

#[cfg(test)]
mod tests;
