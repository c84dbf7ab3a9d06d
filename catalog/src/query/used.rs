//! Looking through parsed SQL: subqueries, aggregates, and the columns that are read.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor, Value,
    Visit, Visitor,
};

/// Collects the subqueries of an expression, the outermost alone.
pub(super) struct Nested<'a> {
    depth: usize,
    skip: &'a [*const Query],
    found: Vec<Query>,
}

impl<'a> Nested<'a> {
    pub(super) fn of(part: &impl Visit, skip: &'a [*const Query]) -> Vec<Query> {
        let mut nested = Self { depth: 0, skip, found: Vec::new() };
        let _ = part.visit(&mut nested);
        nested.found
    }
}

impl Visitor for Nested<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.depth == 0 && !self.skip.contains(&std::ptr::from_ref(query)) {
            self.found.push(query.clone());
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Whether an expression outside of subqueries has what `wanted` looks for.
struct Find<F> {
    depth: usize,
    wanted: F,
}

impl<F: Fn(&Expr) -> bool> Visitor for Find<F> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth == 0 && (self.wanted)(expr) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

fn has(part: &impl Visit, wanted: impl Fn(&Expr) -> bool) -> bool {
    part.visit(&mut Find { depth: 0, wanted }).is_break()
}

pub(super) fn has_subquery(part: &impl Visit) -> bool {
    !Nested::of(part, &[]).is_empty()
}

pub(super) fn has_window(select: &Select) -> bool {
    !select.named_window.is_empty()
        || has(&select.projection, |expr| matches!(expr, Expr::Function(Function { over: Some(_), .. })))
}

pub(super) fn has_aggregate(part: &impl Visit) -> bool {
    has(part, |expr| matches!(expr, Expr::Function(function) if is_aggregate(&function.name.to_string())))
}

fn is_aggregate(name: &str) -> bool {
    const NAMES: [&str; 22] = [
        "COUNT",
        "SUM",
        "AVG",
        "MIN",
        "MAX",
        "GROUP_CONCAT",
        "JSON_ARRAYAGG",
        "JSON_OBJECTAGG",
        "BIT_AND",
        "BIT_OR",
        "BIT_XOR",
        "STD",
        "STDDEV",
        "STDDEV_POP",
        "STDDEV_SAMP",
        "VARIANCE",
        "VAR_POP",
        "VAR_SAMP",
        "ANY_VALUE",
        "TOTAL",
        "JSON_GROUP_ARRAY",
        "JSON_GROUP_OBJECT",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The names that a query reads, wherever they stand.
#[derive(Default)]
pub(super) struct UsedColumns {
    /// Table or alias, and column, as written.
    names: Vec<(Option<String>, String)>,
    aliases: Vec<String>,
    /// Something reads columns that can't be told by name.
    unclear: bool,
}

impl UsedColumns {
    pub(super) fn of(query: &Query) -> Self {
        let mut used = Self::default();
        let _ = query.visit(&mut used);
        used.unclear |= query.with.is_some() || !matches!(&*query.body, SetExpr::Select(_));
        used
    }

    /// The columns that are read of the table known as `alias`, one of `places`; `None` where that isn't certain.
    pub(super) fn of_place(&self, alias: &str, places: usize) -> Option<Vec<Box<str>>> {
        let mut columns: Vec<Box<str>> = Vec::new();
        for (table, column) in &self.names {
            match table {
                Some(table) if !table.eq_ignore_ascii_case(alias) => continue,
                None if places > 1 || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(column)) => {
                    return None;
                }
                _ => {}
            }
            if !columns.iter().any(|known| known.eq_ignore_ascii_case(column)) {
                columns.push(column.as_str().into());
            }
        }
        (!self.unclear).then_some(columns)
    }
}

impl Visitor for UsedColumns {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, expr } => {
                    if !matches!(expr, Expr::Identifier(name) if name.value.eq_ignore_ascii_case(&alias.value))
                    {
                        self.aliases.push(alias.value.clone());
                    }
                }
                SelectItem::UnnamedExpr(_) => {}
                _ => self.unclear = true,
            }
        }
        for join in select.from.iter().flat_map(|from| &from.joins) {
            let (JoinOperator::Join(on)
            | JoinOperator::Inner(on)
            | JoinOperator::Left(on)
            | JoinOperator::LeftOuter(on)
            | JoinOperator::Right(on)
            | JoinOperator::RightOuter(on)
            | JoinOperator::CrossJoin(on)
            | JoinOperator::StraightJoin(on)) = &join.join_operator
            else {
                self.unclear = true;
                continue;
            };
            self.unclear |= matches!(on, JoinConstraint::Using(_) | JoinConstraint::Natural);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.unclear |= !matches!(factor, TableFactor::Table { args: None, .. });
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.names.push((None, name.value.clone())),
            Expr::CompoundIdentifier(parts) => {
                let column = parts.last().map(|name| name.value.clone()).unwrap_or_default();
                let table = parts.iter().rev().nth(1).map(|name| name.value.clone());
                self.names.push((table, column));
            }
            // Names that stand in no expression of their own, and what ANSI_QUOTES would read as a name.
            Expr::MatchAgainst { .. } | Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                self.unclear = true;
            }
            Expr::Value(value) => self.unclear |= matches!(value.value, Value::DoubleQuotedString(_)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
