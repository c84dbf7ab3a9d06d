//! One statement for many keys.

use sqlparser::ast::{BinaryOperator, Expr, GroupByExpr, Query, SetExpr, Value};

use super::scan::Scanned;
use super::used::{has_aggregate, has_subquery, has_window};

/// Name of the added column; with more than one parameter they are numbered.
const KEY_COLUMN: &str = "__freshline_key";

/// Whose SQL is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// MySQL and MariaDB.
    MySql,
    /// SQLite, of the embedded stack.
    Sqlite,
}

/// A query that answers for many keys: the original columns, then one column for each parameter that tells whose row it is.
///
/// Rows keep the query's ORDER BY. A row whose key columns, normalised by the parameters' types, are none of the keys
/// asked for (the column's collation equates more than keys do) belongs to none of them and must be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchedQuery {
    head: String,
    /// Where FROM begins in `head`.
    from: usize,
    tail: String,
    params: Vec<usize>,
    key_columns: Vec<String>,
}

impl BatchedQuery {
    /// The SQL for `keys` keys, with `?` for values: for each key its [`params`](Self::params), key after key.
    pub fn sql(&self, dialect: Dialect, keys: usize) -> String {
        let one = match self.params.len() {
            1 => "?".to_owned(),
            count => format!("({})", vec!["?"; count].join(", ")),
        };
        let rows = if self.params.len() > 1 && dialect == Dialect::Sqlite { "VALUES " } else { "" };
        format!("{}{rows}{}{}", self.head, vec![one; keys].join(", "), self.tail)
    }

    /// Which of the template's parameters each key binds, in order.
    pub fn params(&self) -> &[usize] {
        &self.params
    }

    /// Names of the added columns of the result: one for each of [`params`](Self::params), in that order. They come after the
    /// query's own columns and before those of [`Query::hidden`](super::Query::hidden).
    pub fn key_columns(&self) -> &[String] {
        &self.key_columns
    }

    /// Selects one more column.
    pub(super) fn select(&mut self, column: &str) {
        self.head.insert_str(self.from, column);
        self.from += column.len();
    }

    /// The batched form, where one statement gives the same rows as one for each key: a plain select whose WHERE has
    /// `column = {param}` for each parameter, once, and nothing that looks across rows.
    pub(super) fn new(
        scanned: &Scanned<'_>,
        params: &[usize],
        param_count: usize,
        query: &Query,
    ) -> Option<Self> {
        let plain = query.with.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
        let SetExpr::Select(select) = &*query.body else { return None };
        let ungrouped =
            matches!(&select.group_by, GroupByExpr::Expressions(columns, _) if columns.is_empty());
        let across = has_aggregate(&select.projection) || has_window(select) || has_subquery(&**select);
        if !plain || !ungrouped || across || select.distinct.is_some() || select.having.is_some() {
            return None;
        }
        if query.order_by.as_ref().is_some_and(|order| has_aggregate(order) || has_subquery(order)) {
            return None;
        }
        if params.len() != param_count || params.is_empty() {
            return None;
        }
        let mut equal = Vec::new();
        conjuncts(select.selection.as_ref()?, &mut equal);
        let mut parts = Vec::with_capacity(params.len());
        for (index, param) in params.iter().enumerate() {
            if !equal.contains(&index) || params[..index].contains(param) {
                return None;
            }
            parts.push((scanned.comparison(index)?, *param));
        }
        let from = scanned.keyword("FROM").filter(|from| *from < parts[0].0.0.start)?;
        let key_columns: Vec<String> = match parts.len() {
            1 => vec![KEY_COLUMN.to_owned()],
            count => (0..count).map(|index| format!("{KEY_COLUMN}_{index}")).collect(),
        };

        let text = scanned.text;
        let added: Vec<String> = parts
            .iter()
            .zip(&key_columns)
            .map(|(((_, column), _), name)| format!(", {column} AS {name}"))
            .collect();
        let columns: Vec<&str> = parts.iter().map(|((_, column), _)| *column).collect();
        let left =
            if columns.len() == 1 { columns[0].to_owned() } else { format!("({})", columns.join(", ")) };
        let (first, _) = &parts[0];
        let mut head = format!("{}{} ", text[..from].trim_end_matches(' '), added.concat());
        let select = head.len();
        head.push_str(&text[from..first.0.start]);
        head.push_str(&left);
        head.push_str(" IN (");
        let mut tail = ")".to_owned();
        let mut at = first.0.end;
        for ((range, _), _) in &parts[1..] {
            tail.push_str(&text[at..range.start]);
            tail.push_str("1 = 1");
            at = range.end;
        }
        tail.push_str(&text[at..]);
        let params = parts.into_iter().map(|(_, param)| param).collect();
        Some(Self { head, from: select, tail, params, key_columns })
    }
}

/// The placeholders that stand in `column = ?` or `column IN (?)`, joined by AND.
fn conjuncts(condition: &Expr, found: &mut Vec<usize>) {
    let is_column = |expr: &Expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    let placeholder = |expr: &Expr| -> Option<usize> {
        match expr {
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => name.strip_prefix('?')?.parse().ok(),
                _ => None,
            },
            _ => None,
        }
    };
    match condition {
        Expr::Nested(inner) => conjuncts(inner, found),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, found);
            conjuncts(right, found);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_column(left) => {
            found.extend(placeholder(right));
        }
        Expr::InList { expr, list, negated: false } if is_column(expr) => {
            if let [only] = &list[..] {
                found.extend(placeholder(only));
            }
        }
        _ => {}
    }
}
