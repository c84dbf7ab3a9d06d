//! Every query is prepared before the first key is served, and everything that is wrong is said at once.

use catalog::{Column, ColumnError, Dialect, Group, Problem, Report, Severity, schema::Schema};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, SqlSafeStr as _, Statement as _,
    mysql::{MySqlConnection, MySqlStatement},
};

use crate::{
    Error,
    mysql::{Mysql, is_lost, pool, schema, visibility},
    plan::compared,
};

impl Mysql {
    /// Prepares each group's query, alone and batched, and looks at its parameters and columns.
    pub(super) async fn check_queries(&self, schema: &Schema) -> Result<Report, Error> {
        let mut report = Report::default();
        for group in self.catalog.groups() {
            let Some(query) = &group.query else { continue };
            let mut said = Problems { group, place: self.place(), report: &mut report };
            let (sql, params) = query.render();
            let statement = self.prepare(sql).await?;
            let readable = said.statement(statement, params.len());
            if let (true, Some(batched)) = (readable, query.batched()) {
                let statement = self.prepare(&batched.sql(Dialect::MySql, 2)).await?;
                said.batched(statement, 2 * batched.params().len());
            }
            said.types(schema);
        }
        Ok(report)
    }

    /// Warns of a server whose change stream can't be whole.
    pub(super) async fn check_server(&self) -> Result<Vec<Problem>, Error> {
        let mut lease = self.pool.take().await?;
        let variables = match schema::variables(&mut lease.connection).await {
            Ok(variables) => variables,
            Err(error) => return Err(self.pool.unavailable(&pool::reason(&error))),
        };
        if lease.finish().await == pool::Finished::Void {
            return Err(self.pool.unavailable("its server has just changed"));
        }
        let unseen_for = visibility::unseen_for(&variables);
        self.pool
            .server()
            .send_if_modified(|server| std::mem::replace(&mut server.unseen_for, unseen_for) != unseen_for);
        let hidden = visibility::warning(unseen_for);
        self.pool
            .warnings()
            .set("semi_sync", hidden.as_ref().map(|(text, remedy)| format!("{text}; {remedy}")));
        let is = |name: &str, value: &str| {
            variables.get(name).is_some_and(|have| have.eq_ignore_ascii_case(value))
        };
        let mut problems = Vec::new();
        let mut warn = |message: &str, remedy: &str| {
            problems.push(Problem {
                file: self.place(),
                line: None,
                severity: Severity::Warning,
                message: message.to_owned(),
                remedy: Some(remedy.to_owned()),
            });
        };
        if let Some((text, remedy)) = &hidden {
            warn(text, remedy);
        }
        if is("read_only", "ON") {
            warn(
                "the server is read-only and probably a replica; one that lags fills the cache with rows that are old already",
                "let database.url lead to the primary",
            );
        }
        if is("log_bin", "OFF") {
            warn("the server writes no binary log, so no change can be followed", "start it with log_bin");
        } else if variables.contains_key("binlog_format") && !is("binlog_format", "ROW") {
            warn("binlog_format is not ROW, so changes come without their rows", "set binlog_format = ROW");
        }
        Ok(problems)
    }

    fn place(&self) -> String {
        format!("database {}", self.pool.address())
    }

    /// `Ok(Err(..))` where the server refuses the statement, or answers what can't be read.
    async fn prepare(&self, sql: &str) -> Result<Result<MySqlStatement, sqlx::Error>, Error> {
        let mut lease = self.pool.take().await?;
        match prepare(&mut lease.connection, sql).await {
            Err(error) if is_lost(&error) => {
                self.pool.forget_idle();
                Err(self.pool.unavailable(&pool::reason(&error)))
            }
            answer @ (Ok(_) | Err(sqlx::Error::Database(_))) => {
                lease.finish().await;
                Ok(answer)
            }
            // The connection is in the middle of an answer that it can't read.
            answer => Ok(answer),
        }
    }
}

async fn prepare(connection: &mut MySqlConnection, sql: &str) -> sqlx::Result<MySqlStatement> {
    // A statement that was prepared before tells of the tables as they were then.
    connection.clear_cached_statements().await?;
    connection.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await
}

/// Collects what is wrong with one group.
struct Problems<'a> {
    group: &'a Group,
    place: String,
    report: &'a mut Report,
}

impl Problems<'_> {
    fn error(&mut self, message: &str, remedy: impl Into<String>) {
        self.report.problems.push(Problem {
            file: self.place.clone(),
            line: None,
            severity: Severity::Error,
            message: format!("group {}: {message}", self.group.name),
            remedy: Some(remedy.into()),
        });
    }

    /// Whether the statement could be prepared.
    fn statement(&mut self, statement: sqlx::Result<MySqlStatement>, params: usize) -> bool {
        let statement = match statement {
            Ok(statement) => statement,
            Err(error) => {
                self.error(&format!("its query can't be prepared: {}", pool::reason(&error)), remedy(&error));
                return false;
            }
        };
        let asked = statement.parameters().map_or(0, |params| params.either(<[_]>::len, |count| count));
        if asked != params {
            self.error(
                &format!("its query has {asked} placeholders where the catalog counts {params} parameters"),
                "write parameters as {name}, and no ? of your own",
            );
        }
        let names: Vec<&str> = statement.columns().iter().map(sqlx::Column::name).collect();
        if names.is_empty() {
            self.error("its query returns no columns", "write a SELECT");
        }
        let mut twice: Vec<&str> = names
            .iter()
            .enumerate()
            .filter(|(at, name)| names[..*at].contains(name))
            .map(|(_, name)| *name)
            .collect();
        twice.sort_unstable();
        twice.dedup();
        for name in twice {
            self.error(
                &format!("its query returns more than one column {name:?}"),
                format!("give each a name of its own: SELECT .. AS {name}_2"),
            );
        }
        true
    }

    fn batched(&mut self, statement: sqlx::Result<MySqlStatement>, params: usize) {
        let problem = match statement {
            Ok(statement) => {
                let asked =
                    statement.parameters().map_or(0, |params| params.either(<[_]>::len, |count| count));
                if asked == params {
                    return;
                }
                format!("it has {asked} placeholders, not {params}")
            }
            Err(error) => pool::reason(&error),
        };
        self.error(
            &format!("the form of its query for many keys can't be prepared: {problem}"),
            "write the query so that `WHERE column IN (..)` in the place of `WHERE column = {param}` is valid SQL",
        );
    }

    /// Parameters must be of types that the columns they are compared with can have.
    fn types(&mut self, schema: &Schema) {
        for (at, param) in self.group.template.params().iter().enumerate() {
            for column in compared(self.group, at, schema) {
                let empty = Column::Text { text: "", mysql_type: Some(&column.mysql_type) };
                if let Err(error @ ColumnError::Type { .. }) = param.kind.normalize(empty) {
                    self.error(
                        &format!(
                            "{{{}:{}}} is compared with the column {}: {error}",
                            param.name, param.kind, column.name
                        ),
                        "give the parameter a type that the column has",
                    );
                }
            }
        }
    }
}

fn remedy(error: &sqlx::Error) -> String {
    match (error, pool::server_error(error)) {
        (_, Some(1046)) => "write the table as database.table".to_owned(),
        (_, Some(1049 | 1146)) => "create the table, or correct its name in the query".to_owned(),
        (_, Some(1052)) => "write the column as table.column".to_owned(),
        (_, Some(1054)) => "correct the column's name in the query".to_owned(),
        (_, Some(1064)) => "correct the query's SQL".to_owned(),
        (_, Some(1044 | 1142 | 1143)) => "GRANT SELECT on the table to the user of database.url".to_owned(),
        (sqlx::Error::Protocol(text), _) if text.contains("unknown column type") => {
            "a column has a type that can't be read, like VECTOR: select VECTOR_TO_STRING(column) AS column"
                .to_owned()
        }
        _ => "run the query by hand to see what the server wants".to_owned(),
    }
}
