//! Which tags of a result cover the changes of a joined table.
//!
//! A row of a joined table may not tell the key, as a product that many users' orders show. Then the entries that show it are
//! found by a tag. A tag is made of what the rows of the result hold; so it covers a change only if every row of the result
//! that the change can make differ *was in the result before*. Two forms of joins give that:
//!
//! - **`LEFT JOIN p ON p.id = o.product_id`**, where nothing but ON looks at `p`: a row of the left side is in the result with
//!   or without a partner, and its `product_id` names the partner that it has, had or may get. All changes of `p` are covered.
//! - **`JOIN p`**: a row of `p` is in the result if its conditions hold. An UPDATE of columns that no condition looks at, and a
//!   DELETE, change only rows that were in the result, where `p.id` named it. An INSERT, or an UPDATE of a column that a condition
//!   looks at, may bring a row in that was in no result: the group is flushed.
//!
//! What else a query does with its rows (aggregates, DISTINCT, OFFSET, subqueries) hides rows that matter: no tag is derived.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, JoinConstraint, JoinOperator, LimitClause, OrderBy, OrderByKind,
    Query, Select, SetExpr, TableFactor, TableWithJoins, Value, Visit, Visitor,
};

use super::used::{has_aggregate, has_subquery, has_window};

/// How the changes of one place are covered by a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partner {
    /// The columns of the place that the tag names, sorted.
    pub(crate) columns: Vec<Box<str>>,
    /// What holds the same values in the rows of the result, as SQL, column by column.
    pub(crate) exprs: Vec<String>,
    /// What each column is compared with: place and column.
    pub(crate) against: Vec<(usize, Box<str>)>,
    /// `Some` for a plain JOIN: an INSERT, and an UPDATE of one of these columns, is not covered.
    pub(crate) joining: Option<Vec<Box<str>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
}

/// An equality between columns of two places.
#[derive(Debug)]
struct Edge<'q> {
    left: (usize, String, &'q Expr),
    right: (usize, String, &'q Expr),
}

/// For each place the tag that covers it, or why none does.
pub(super) fn partners(query: &Query, aliases: &[&str]) -> Vec<Result<Partner, String>> {
    match Joins::of(query, aliases) {
        Ok(joins) => (0..aliases.len()).map(|place| joins.partner(place)).collect(),
        Err(reason) => vec![Err(reason); aliases.len()],
    }
}

struct Joins<'q> {
    aliases: Vec<&'q str>,
    kinds: Vec<Kind>,
    /// By place: the equalities of its own ON.
    own: Vec<Vec<Edge<'q>>>,
    /// Equalities that hold in every row of the result.
    all: Vec<Edge<'q>>,
    /// Columns that decide whether a row is in the result, beside those of each left join's own ON.
    deciding: Refs,
}

impl<'q> Joins<'q> {
    fn of(query: &'q Query, aliases: &'q [&'q str]) -> Result<Self, String> {
        let select = plain(query)?;
        let mut joins = Self {
            aliases: aliases.to_vec(),
            kinds: Vec::new(),
            own: Vec::new(),
            all: Vec::new(),
            deciding: Refs::default(),
        };
        let lower: BTreeSet<String> = aliases.iter().map(|alias| alias.to_lowercase()).collect();
        if lower.len() != aliases.len() {
            return Err("two of its tables have one name; give each an alias".to_owned());
        }
        for from in &select.from {
            joins.from(from)?;
        }
        if joins.kinds.len() != aliases.len() {
            return Err("it reads more than plain tables".to_owned());
        }
        if let Some(condition) = &select.selection {
            joins.decides(condition);
            let edges = joins.edges(condition);
            joins.all.extend(edges);
        }
        if query.limit_clause.is_some() || query.fetch.is_some() {
            // Which rows are within the limit is decided by their order.
            if let Some(order) = &query.order_by {
                joins.decides(order);
                joins.deciding.unclear |= by_position(order);
            }
        }
        Ok(joins)
    }

    fn from(&mut self, from: &'q TableWithJoins) -> Result<(), String> {
        self.table(&from.relation, Kind::Inner)?;
        for join in &from.joins {
            let (kind, on) = match &join.join_operator {
                JoinOperator::Join(on)
                | JoinOperator::Inner(on)
                | JoinOperator::CrossJoin(on)
                | JoinOperator::StraightJoin(on) => (Kind::Inner, on),
                JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (Kind::Left, on),
                _ => return Err("only JOIN and LEFT JOIN are understood here".to_owned()),
            };
            let place = self.kinds.len();
            self.table(&join.relation, kind)?;
            match on {
                JoinConstraint::On(condition) => {
                    let edges = self.edges(condition);
                    if kind == Kind::Left {
                        self.own[place] = edges;
                    } else {
                        self.decides(condition);
                        self.all.extend(edges);
                    }
                }
                JoinConstraint::None => {}
                JoinConstraint::Using(_) | JoinConstraint::Natural => {
                    return Err("USING does not name the tables of its columns; write ON".to_owned());
                }
            }
        }
        Ok(())
    }

    fn table(&mut self, factor: &TableFactor, kind: Kind) -> Result<(), String> {
        match factor {
            TableFactor::Table { args: None, alias, .. }
                if alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) =>
            {
                self.kinds.push(kind);
                self.own.push(Vec::new());
                Ok(())
            }
            _ => Err("it reads more than plain tables".to_owned()),
        }
    }

    /// Notes the columns that a part of the query looks at as deciding.
    fn decides(&mut self, part: &impl Visit) {
        let mut find = Find { aliases: &self.aliases, refs: std::mem::take(&mut self.deciding) };
        let _ = part.visit(&mut find);
        self.deciding = find.refs;
    }

    fn edges(&self, condition: &'q Expr) -> Vec<Edge<'q>> {
        match condition {
            Expr::Nested(inner) => self.edges(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                let mut edges = self.edges(left);
                edges.extend(self.edges(right));
                edges
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                let term = |expr: &'q Expr| {
                    let (place, column) = column(&self.aliases, expr)??;
                    Some((place, column, expr))
                };
                match (term(left), term(right)) {
                    (Some(left), Some(right)) if left.0 != right.0 => vec![Edge { left, right }],
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn partner(&self, place: usize) -> Result<Partner, String> {
        if self.deciding.unclear {
            let hint = "a condition, or the order under its LIMIT, looks at a column without its table; write table.column";
            return Err(hint.to_owned());
        }
        let alias = self.aliases[place];
        let (edges, kind) = match self.kinds[place] {
            Kind::Left => (&self.own[place], Kind::Left),
            Kind::Inner => (&self.all, Kind::Inner),
        };
        let mut found: Vec<(String, String, (usize, String))> = Vec::new();
        for Edge { left, right } in edges {
            let (own, other) = match place {
                _ if left.0 == place => (left, right),
                _ if right.0 == place => (right, left),
                _ => continue,
            };
            if found.iter().any(|(column, ..)| *column == own.1) {
                continue;
            }
            let expr = if kind == Kind::Left { other.2 } else { own.2 };
            found.push((own.1.clone(), expr.to_string(), (other.0, other.1.clone())));
        }
        if found.is_empty() {
            return Err(format!("no column of {alias} must equal one of another table of the query"));
        }
        found.sort();
        let deciding = || self.deciding.columns.iter().filter(|(of, _)| *of == place);
        if kind == Kind::Left
            && let Some((_, column)) = deciding().next()
        {
            return Err(format!(
                "a condition looks at {alias}.{column}, so a row without partner may be in no result; write JOIN if only rows \
                 with a partner are wanted, or move the condition to ON"
            ));
        }
        let joining = (kind == Kind::Inner)
            .then(|| deciding().map(|(_, column)| column.as_str().into()).collect::<Vec<Box<str>>>());
        Ok(Partner {
            columns: found.iter().map(|(column, ..)| column.as_str().into()).collect(),
            exprs: found.iter().map(|(_, expr, _)| expr.clone()).collect(),
            against: found.into_iter().map(|(.., (place, column))| (place, column.into())).collect(),
            joining,
        })
    }
}

/// A query whose result shows each row that it joined.
fn plain(query: &Query) -> Result<&Select, String> {
    let SetExpr::Select(select) = &*query.body else {
        return Err("it is not one plain SELECT".to_owned());
    };
    let no = |reason: &str| Err(format!("{reason}, so its result does not show which rows it joined"));
    if query.with.is_some() {
        return no("it has a WITH");
    }
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(columns, _) if columns.is_empty());
    if !ungrouped || select.having.is_some() || has_aggregate(&select.projection) || has_window(select) {
        return no("it groups or aggregates rows");
    }
    if select.distinct.is_some() {
        return no("it has a DISTINCT");
    }
    if has_subquery(&**select) || query.order_by.as_ref().is_some_and(has_subquery) {
        return no("it has a subquery");
    }
    if query.order_by.as_ref().is_some_and(has_aggregate) {
        return no("it groups or aggregates rows");
    }
    match &query.limit_clause {
        None | Some(LimitClause::LimitOffset { offset: None, .. }) => {}
        Some(_) => return no("it has an OFFSET"),
    }
    Ok(select)
}

/// Whether a result is ordered by the number of a column.
fn by_position(order: &OrderBy) -> bool {
    match &order.kind {
        OrderByKind::Expressions(all) => all.iter().any(|by| matches!(by.expr, Expr::Value(_))),
        OrderByKind::All(_) => true,
    }
}

/// Columns that a part of a query looks at.
#[derive(Clone, Debug, Default)]
struct Refs {
    columns: BTreeSet<(usize, String)>,
    /// One of them can't be told.
    unclear: bool,
}

/// The place and the column of a name, in lower case: `None` if it is no name, `Some(None)` if it can't be told whose it is.
#[expect(clippy::option_option, reason = "no name, and a name that is not clear, are two things")]
fn column(aliases: &[&str], expr: &Expr) -> Option<Option<(usize, String)>> {
    match expr {
        Expr::Nested(inner) => column(aliases, inner),
        Expr::Identifier(name) => Some((aliases.len() == 1).then(|| (0, name.value.to_lowercase()))),
        Expr::CompoundIdentifier(parts) => {
            let [.., table, name] = parts.as_slice() else { return Some(None) };
            let place = aliases.iter().position(|alias| alias.eq_ignore_ascii_case(&table.value));
            Some(place.map(|place| (place, name.value.to_lowercase())))
        }
        _ => None,
    }
}

struct Find<'a> {
    aliases: &'a [&'a str],
    refs: Refs,
}

impl Visitor for Find<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Nested(_) => {}
            Expr::MatchAgainst { .. } | Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                self.refs.unclear = true;
            }
            // A name under ANSI_QUOTES.
            Expr::Value(value) => {
                self.refs.unclear |= matches!(value.value, Value::DoubleQuotedString(_));
            }
            other => match column(self.aliases, other) {
                Some(Some(found)) => {
                    self.refs.columns.insert(found);
                }
                Some(None) => self.refs.unclear = true,
                None => {}
            },
        }
        ControlFlow::Continue(())
    }
}
