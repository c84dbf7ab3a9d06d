//! Walking a SELECT: the places where tables are read, and the equalities around them.

mod names;

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem,
    SetExpr, TableAlias, TableFactor, TableWithJoins, Value, Visit,
};

use super::TableName;
use super::derive::{Equality, Term};
use super::used::{Nested, has_aggregate, has_window};
use names::Outputs;

/// More places than any server joins; CTEs that use each other could multiply without end.
const MAX_PLACES: usize = 256;

pub(super) struct Walk<'p> {
    params: &'p [usize],
    database: Option<&'p str>,
    /// Each place: its table, and its alias in lower case.
    places: Vec<(TableName, String)>,
    equalities: Vec<Equality>,
    scopes: Vec<Vec<Source>>,
    ctes: Vec<Cte>,
    /// Subqueries of `IN` that were walked already.
    walked: Vec<*const Query>,
}

/// What a FROM clause offers under a name.
struct Source {
    alias: String,
    table: Option<TableName>,
    outputs: Outputs,
}

#[derive(Clone)]
struct Cte {
    name: String,
    /// `None` for a recursive reference to itself.
    query: Option<Rc<Query>>,
    recursive: bool,
    plain: bool,
}

impl<'p> Walk<'p> {
    pub(super) fn new(params: &'p [usize], database: Option<&'p str>) -> Self {
        let (places, equalities, scopes, ctes, walked) = Default::default();
        Self { params, database, places, equalities, scopes, ctes, walked }
    }

    pub(super) fn finish(self) -> (Vec<(TableName, String)>, Vec<Equality>) {
        (self.places, self.equalities)
    }

    pub(super) fn query(&mut self, query: &Query) -> Result<Outputs, String> {
        if !query.locks.is_empty() {
            return Err("a fill takes no locks; remove FOR UPDATE or FOR SHARE".to_owned());
        }
        let outer_ctes = self.ctes.len();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes.push(Cte {
                name: cte.alias.name.value.to_lowercase(),
                query: Some(Rc::new((*cte.query).clone())),
                recursive: query.with.as_ref().is_some_and(|with| with.recursive),
                plain: cte.alias.columns.is_empty(),
            });
        }
        let mut outputs = self.set(&query.body)?;
        if let Some(order) = &query.order_by {
            self.nested(order)?;
        }
        self.ctes.truncate(outer_ctes);
        if query.limit_clause.is_some() || query.fetch.is_some() {
            // Which rows are within the limit depends on rows of other keys.
            outputs = Outputs::default();
        }
        Ok(outputs)
    }

    fn set(&mut self, body: &SetExpr) -> Result<Outputs, String> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.set(left)?;
                self.set(right)?;
                Ok(Outputs::default())
            }
            SetExpr::Values(values) => {
                self.nested(values)?;
                Ok(Outputs::default())
            }
            SetExpr::Table(_) => Err("TABLE is not understood; write SELECT * FROM".to_owned()),
            _ => Err("the query is no SELECT; a fill may only read".to_owned()),
        }
    }

    fn select(&mut self, select: &Select) -> Result<Outputs, String> {
        if select.into.is_some() {
            return Err("a fill stores nothing; remove INTO".to_owned());
        }
        let (first_place, first_equality) = (self.places.len(), self.equalities.len());
        let first_walked = self.walked.len();
        self.scopes.push(Vec::new());
        for from in &select.from {
            self.joins(from)?;
        }
        if let Some(condition) = &select.selection {
            self.conditions(condition)?;
        }
        let outputs = self.outputs(select);
        self.nested(&select.selection)?;
        self.nested(&select.projection)?;
        self.nested(&select.having)?;
        self.nested(&select.group_by)?;
        self.scopes.pop();
        // Addresses are only good for as long as this select lives.
        self.walked.truncate(first_walked);
        self.limit(first_equality, first_place..self.places.len());
        Ok(outputs)
    }

    /// Says of the equalities from `first` on that have no limit yet that they hold for these places alone.
    fn limit(&mut self, first: usize, within: Range<usize>) {
        for equality in self.equalities[first..].iter_mut().filter(|equality| equality.within.is_none()) {
            equality.within = Some(within.clone());
        }
    }

    fn joins(&mut self, from: &TableWithJoins) -> Result<(), String> {
        let (first_place, first_equality) = (self.places.len(), self.equalities.len());
        self.factor(&from.relation)?;
        for join in &from.joins {
            let (right_place, right_equality) = (self.places.len(), self.equalities.len());
            let left_sources = self.scopes.last().map_or(0, Vec::len);
            match &join.join_operator {
                JoinOperator::Join(on)
                | JoinOperator::Inner(on)
                | JoinOperator::CrossJoin(on)
                | JoinOperator::StraightJoin(on) => {
                    self.factor(&join.relation)?;
                    self.on(on, left_sources)?;
                }
                JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => {
                    self.factor(&join.relation)?;
                    let optional = right_place..self.places.len();
                    self.on(on, left_sources)?;
                    self.limit(right_equality, optional);
                }
                JoinOperator::Right(on) | JoinOperator::RightOuter(on) => {
                    self.limit(first_equality, first_place..right_place);
                    self.factor(&join.relation)?;
                    let on_equality = self.equalities.len();
                    self.on(on, left_sources)?;
                    self.limit(on_equality, first_place..right_place);
                }
                _ => {
                    return Err(
                        "this kind of join is not understood; use JOIN, LEFT JOIN or RIGHT JOIN".to_owned()
                    );
                }
            }
        }
        Ok(())
    }

    fn on(&mut self, constraint: &JoinConstraint, left_sources: usize) -> Result<(), String> {
        match constraint {
            JoinConstraint::On(condition) => {
                self.conditions(condition)?;
                self.nested(condition)
            }
            JoinConstraint::Using(columns) => {
                // With more than one table on the left it is not certain whose column is meant.
                let sources = self.scopes.last().map_or(&[][..], Vec::as_slice);
                if let ([left], [right]) = (&sources[..left_sources], &sources[left_sources..]) {
                    let pairs: Vec<_> = columns
                        .iter()
                        .filter_map(|name| name.0.last()?.as_ident())
                        .filter_map(|name| {
                            Some((left.outputs.get(&name.value)?, right.outputs.get(&name.value)?))
                        })
                        .collect();
                    for (left, right) in pairs {
                        self.equalities.push(Equality { left, right, within: None });
                    }
                }
                Ok(())
            }
            JoinConstraint::Natural | JoinConstraint::None => Ok(()),
        }
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<(), String> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => self.table(name, alias.as_ref()),
            TableFactor::Derived { subquery, alias, .. } => {
                let outputs = self.query(subquery)?;
                self.offer(alias.as_ref(), None, outputs);
                Ok(())
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joins(table_with_joins),
            TableFactor::JsonTable { json_expr, alias, .. } => {
                self.nested(json_expr)?;
                self.offer(alias.as_ref(), None, Outputs::default());
                Ok(())
            }
            other => Err(format!("{other} in FROM is not understood; use tables, subqueries and joins")),
        }
    }

    fn table(&mut self, name: &ObjectName, alias: Option<&TableAlias>) -> Result<(), String> {
        let parts: Vec<&str> =
            name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
        let (database, table) = match parts[..] {
            [table] if table.eq_ignore_ascii_case("dual") => return Ok(()),
            [table] => {
                if let Some(outputs) = self.cte(table)? {
                    self.offer(alias, Some(&TableName::new("", table)), outputs);
                    return Ok(());
                }
                let database = self.database.ok_or_else(|| {
                    format!("table {table} has no database; write shop.{table}, or set database in [catalog]")
                })?;
                (database, table)
            }
            [database, table] => (database, table),
            _ => return Err(format!("{name} is no table name; write database.table")),
        };
        if self.places.len() >= MAX_PLACES {
            return Err(format!("the query reads more than {MAX_PLACES} tables"));
        }
        let table = TableName::new(database, table);
        let place = self.places.len();
        let known_as = alias.map_or(&*table.table, |alias| &alias.name.value).to_lowercase();
        self.places.push((table.clone(), known_as));
        self.offer(alias, Some(&table), Outputs::all_of(place));
        Ok(())
    }

    /// Walks a common table expression for one reference to it; `None` when there is none of that name.
    fn cte(&mut self, name: &str) -> Result<Option<Outputs>, String> {
        let name = name.to_lowercase();
        let Some(index) = self.ctes.iter().rposition(|cte| cte.name == name) else { return Ok(None) };
        let cte = self.ctes[index].clone();
        let Some(query) = &cte.query else { return Ok(Some(Outputs::default())) };
        // Inside, only those before it are known, and itself where it is recursive.
        let later = self.ctes.split_off(index);
        if cte.recursive {
            self.ctes.push(Cte { query: None, ..cte.clone() });
        }
        let outer = std::mem::take(&mut self.scopes);
        let outputs = self.query(query);
        self.scopes = outer;
        self.ctes.truncate(index);
        self.ctes.extend(later);
        Ok(Some(if cte.plain { outputs? } else { outputs.map(|_| Outputs::default())? }))
    }

    fn offer(&mut self, alias: Option<&TableAlias>, table: Option<&TableName>, outputs: Outputs) {
        let renamed = alias.is_some_and(|alias| !alias.columns.is_empty());
        let name = alias
            .map_or_else(|| table.map_or("", |table| &*table.table), |alias| &alias.name.value)
            .to_lowercase();
        let source = Source {
            alias: name,
            table: if alias.is_none() { table.cloned() } else { None },
            outputs: if renamed { Outputs::default() } else { outputs },
        };
        self.scopes.last_mut().expect("a select has a scope").push(source);
    }

    /// Takes the equalities out of conditions that are joined by AND.
    fn conditions(&mut self, condition: &Expr) -> Result<(), String> {
        match condition {
            Expr::Nested(inner) => self.conditions(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.conditions(left)?;
                self.conditions(right)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::Spaceship, right } => {
                self.equal(left, right);
                Ok(())
            }
            Expr::InList { expr, list, negated: false } => {
                if let [only] = list.as_slice() {
                    self.equal(expr, only);
                }
                Ok(())
            }
            Expr::InSubquery { expr, subquery, negated: false } => {
                let first_place = self.places.len();
                let outputs = self.query(subquery)?;
                self.walked.push(std::ptr::from_ref(&**subquery));
                if let (Some(left), Some(right)) = (self.term(expr), outputs.first()) {
                    let within = Some(first_place..self.places.len());
                    self.equalities.push(Equality { left, right, within });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn equal(&mut self, left: &Expr, right: &Expr) {
        if let (Expr::Tuple(left), Expr::Tuple(right)) = (left, right) {
            if left.len() == right.len() {
                left.iter().zip(right).for_each(|(left, right)| self.equal(left, right));
            }
            return;
        }
        if let (Some(left), Some(right)) = (self.term(left), self.term(right)) {
            self.equalities.push(Equality { left, right, within: None });
        }
    }

    fn term(&self, expr: &Expr) -> Option<Term> {
        match expr {
            Expr::Nested(inner) => self.term(inner),
            // A binary comparison is what keys do; others may equate more.
            Expr::Collate { expr, collation } if collation.to_string().to_lowercase().ends_with("_bin") => {
                self.term(expr)
            }
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => {
                    let index: usize = name.strip_prefix('?')?.parse().ok()?;
                    self.params.get(index).map(|param| Term::Param(*param))
                }
                _ => None,
            },
            Expr::Identifier(name) => self.unqualified(&name.value),
            Expr::CompoundIdentifier(parts) => match &parts[..] {
                [alias, column] => self.qualified(None, &alias.value, &column.value),
                [database, table, column] => {
                    self.qualified(Some(&database.value), &table.value, &column.value)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Walks the subqueries inside expressions.
    fn nested(&mut self, part: &impl Visit) -> Result<(), String> {
        for query in Nested::of(part, &self.walked) {
            self.query(&query)?;
        }
        Ok(())
    }

    /// What a select offers to the outside: plain columns, where a row's column alone decides which rows it can affect.
    fn outputs(&self, select: &Select) -> Outputs {
        let grouped: Option<Vec<Term>> = match &select.group_by {
            GroupByExpr::Expressions(columns, modifiers) if modifiers.is_empty() => {
                (!columns.is_empty()).then(|| columns.iter().filter_map(|column| self.term(column)).collect())
            }
            _ => return Outputs::default(),
        };
        if has_window(select) || (grouped.is_none() && has_aggregate(&select.projection)) {
            return Outputs::default();
        }
        let allowed = |term: &Term| {
            matches!(term, Term::Column(..)) && grouped.as_ref().is_none_or(|grouped| grouped.contains(term))
        };
        let mut named = HashMap::new();
        let mut first = None;
        for (index, item) in select.projection.iter().enumerate() {
            let (name, expr) = match item {
                SelectItem::UnnamedExpr(expr @ Expr::Identifier(name)) => (&name.value, expr),
                SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(parts)) => match parts.last() {
                    Some(name) => (&name.value, expr),
                    None => continue,
                },
                SelectItem::ExprWithAlias { expr, alias } => (&alias.value, expr),
                SelectItem::Wildcard(_) if grouped.is_none() => {
                    return match self.scopes.last().map(Vec::as_slice) {
                        Some([only]) if select.projection.len() == 1 => only.outputs.clone(),
                        _ => Outputs::default(),
                    };
                }
                _ => continue,
            };
            if let Some(term) = self.term(expr).filter(allowed) {
                if index == 0 {
                    first = Some(term.clone());
                }
                named.insert(name.to_lowercase(), term);
            }
        }
        Outputs::named(named, first)
    }
}
