//! Functions of a query that answer differently without any row having changed.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, FunctionArguments, Query, Visit as _, Visitor};

/// Those that tell the time, and those that draw.
const CLOCKS: [&str; 16] = [
    "NOW",
    "CURDATE",
    "CURTIME",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SYSDATE",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
    "UNIX_TIMESTAMP",
    "RAND",
    "UUID",
    "UUID_SHORT",
];

/// The functions of that kind that a query calls anywhere, each once, in capitals.
pub(crate) fn clocks(query: &Query) -> Vec<String> {
    let mut find = Find(Vec::new());
    // It never breaks off.
    let _ = query.visit(&mut find);
    find.0
}

struct Find(Vec<String>);

impl Visitor for Find {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            let name = function.name.to_string().to_ascii_uppercase();
            // Of a time that is given it tells nothing new.
            let given = matches!(&function.args, FunctionArguments::List(list) if !list.args.is_empty());
            let asks = CLOCKS.contains(&name.as_str()) && !(given && name == "UNIX_TIMESTAMP");
            if asks && !self.0.contains(&name) {
                self.0.push(name);
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::derive;
    use super::*;

    #[test]
    fn what_tells_the_time_is_found_anywhere_in_a_query() {
        for (sql, found) in [
            ("SELECT id FROM t WHERE ends_at > NOW() AND id = 1", &["NOW"][..]),
            ("SELECT id, curdate() AS today FROM t", &["CURDATE"]),
            (
                "SELECT id FROM t WHERE d = CURRENT_DATE OR d > CURRENT_TIMESTAMP - INTERVAL 1 DAY",
                &["CURRENT_DATE", "CURRENT_TIMESTAMP"],
            ),
            ("SELECT id FROM t WHERE id IN (SELECT t_id FROM u WHERE at < SYSDATE())", &["SYSDATE"]),
            ("SELECT id FROM t ORDER BY RAND() LIMIT 1", &["RAND"]),
            ("SELECT UNIX_TIMESTAMP(at) FROM t", &[]),
            ("SELECT id FROM t WHERE at < UNIX_TIMESTAMP()", &["UNIX_TIMESTAMP"]),
            ("SELECT now, 'NOW()' FROM t WHERE `curdate` = 1", &[]),
        ] {
            assert_eq!(clocks(&derive::analyze(sql, &[], 0, Some("shop")).unwrap().query), found, "{sql}");
        }
    }
}
