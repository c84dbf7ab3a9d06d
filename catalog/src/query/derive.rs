//! Which columns of a query's tables must equal its parameters.
//!
//! A change of a row can change the answer for a key only if the row can be part of that answer (or keep another row
//! out of it). Where every such row must have `column = {param}` for every parameter of the template, the row's own
//! columns tell the one key that it concerns. Equalities that a row must satisfy are those of the WHERE clauses and the
//! join conditions around it; those of an outer join only for rows of its optional side.

use std::collections::HashMap;
use std::ops::Range;

use sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Statement};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

use super::TableName;
use super::joins::{Partner, partners};
use super::used::UsedColumns;
use super::walk::Walk;

/// What a query says about its tables.
#[derive(Debug)]
pub(crate) struct Analysis {
    /// Each place where a table is read.
    pub(crate) tables: Vec<TableRef>,
    /// The statement.
    pub(crate) query: Box<Query>,
    /// The names of the result's columns; `None` where a `*` hides them.
    pub(crate) columns: Option<Vec<Box<str>>>,
    /// What each of them is, as SQL, where that is told.
    pub(crate) projected: Vec<(Box<str>, String)>,
}

/// One place where a table is read.
#[derive(Debug)]
pub(crate) struct TableRef {
    pub(crate) table: TableName,
    /// For each parameter of the template the column that must equal it, if any.
    pub(crate) columns: Vec<Option<Box<str>>>,
    /// The columns that the query reads of it; `None`: it can't be told, so all.
    pub(crate) used: Option<Vec<Box<str>>>,
    /// The tag of a result's rows that covers its changes, or why there is none.
    pub(crate) partner: Result<Partner, String>,
}

/// One side of an equality.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    /// A column of the place of that number, in lower case.
    Column(usize, String),
    /// A parameter of the template.
    Param(usize),
}

/// Two terms that are equal in every row that matters to the places in `within`.
#[derive(Clone, Debug)]
pub(crate) struct Equality {
    pub(crate) left: Term,
    pub(crate) right: Term,
    pub(crate) within: Option<Range<usize>>,
}

/// Parses a statement with placeholders `?0`, `?1` ..; `params` tells each one's parameter.
pub(crate) fn analyze(
    sql: &str,
    params: &[usize],
    param_count: usize,
    database: Option<&str>,
) -> Result<Analysis, String> {
    let query = parse(sql)?;
    let mut walk = Walk::new(params, database);
    walk.query(&query)?;
    let used = UsedColumns::of(&query);
    let (places, equalities) = walk.finish();
    let total = places.len();
    let aliases: Vec<&str> = places.iter().map(|(_, alias)| alias.as_str()).collect();
    let partners = partners(&query, &aliases);
    let tables = places
        .iter()
        .zip(partners)
        .enumerate()
        .map(|(place, ((table, alias), partner))| {
            let classes = Classes::of(&equalities, place);
            let columns = (0..param_count).map(|param| classes.column(place, param)).collect();
            TableRef { used: used.of_place(alias, total), table: table.clone(), columns, partner }
        })
        .collect();
    let (columns, projected) = (result_columns(&query.body), projected(&query.body));
    Ok(Analysis { tables, query, columns, projected })
}

/// The names of a result's columns; `None` where a `*` hides them.
fn result_columns(body: &SetExpr) -> Option<Vec<Box<str>>> {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return result_columns(&query.body),
        SetExpr::SetOperation { left, .. } => return result_columns(left),
        _ => return None,
    };
    let name = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.value.as_str().into()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
            parts.last().map(|name| name.value.as_str().into())
        }
        SelectItem::UnnamedExpr(expr) => Some(expr.to_string().into()),
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.as_str().into()),
        _ => None,
    };
    select.projection.iter().map(name).collect()
}

/// What the named columns of a plain SELECT's result are, as SQL; those of a `*` are not told.
fn projected(body: &SetExpr) -> Vec<(Box<str>, String)> {
    let SetExpr::Select(select) = body else { return Vec::new() };
    let named = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(parts)) => {
            Some((parts.last()?.value.as_str().into(), expr.to_string()))
        }
        SelectItem::ExprWithAlias { alias, expr } => Some((alias.value.as_str().into(), expr.to_string())),
        _ => None,
    };
    select.projection.iter().filter_map(named).collect()
}

fn parse(sql: &str) -> Result<Box<Query>, String> {
    let statements = Parser::parse_sql(&MySqlDialect {}, sql)
        .map_err(|error| format!("the SQL can't be read: {error}"))?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(Statement::Query(query)), None) => Ok(query),
        (None, _) => Err("the query is empty; write a SELECT".to_owned()),
        (_, Some(_)) => Err("the query has several statements; keep one SELECT".to_owned()),
        _ => Err("the query is no SELECT; a fill may only read".to_owned()),
    }
}

/// Which terms are equal for one place.
struct Classes<'a> {
    class: HashMap<&'a Term, usize>,
    columns: Vec<&'a Term>,
}

impl<'a> Classes<'a> {
    fn of(equalities: &'a [Equality], place: usize) -> Self {
        let mut classes = Self { class: HashMap::new(), columns: Vec::new() };
        let applies =
            |equality: &&Equality| equality.within.as_ref().is_none_or(|within| within.contains(&place));
        for (number, Equality { left, right, .. }) in equalities.iter().filter(applies).enumerate() {
            let left_class = *classes.class.entry(left).or_insert(2 * number);
            let right_class = *classes.class.entry(right).or_insert(2 * number + 1);
            classes
                .class
                .values_mut()
                .filter(|class| **class == right_class)
                .for_each(|class| *class = left_class);
            classes.columns.extend([left, right]);
        }
        classes
    }

    /// The first column of the place that equals the parameter.
    fn column(&self, place: usize, param: usize) -> Option<Box<str>> {
        let wanted = self.class.get(&Term::Param(param))?;
        self.columns.iter().find_map(|term| match term {
            Term::Column(of, name) if *of == place && self.class.get(*term) == Some(wanted) => {
                Some(name.as_str().into())
            }
            _ => None,
        })
    }
}
