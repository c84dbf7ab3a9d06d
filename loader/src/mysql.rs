//! MySQL (and MariaDB), through sqlx.
//!
//! `docs/values.md` says what a fill reads and how a row becomes JSON. Reads go to the server of `database.url`, which must be
//! the primary; each is one autocommitted statement with a snapshot of its own.

mod bind;
mod check;
mod identity;
pub(crate) mod pool;
mod schema;
mod value;
mod visibility;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use catalog::{Binary, Catalog, Dialect, Group, GroupId, Key, Query, Report, TagSource, schema::Schema};
use daemon::{
    admin::Warnings,
    config::{Database, DatabaseUrl},
};
use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Column as _, Row as _,
    mysql::{MySqlArguments, MySqlColumn, MySqlConnectOptions, MySqlConnection, MySqlRow},
};
use tokio::{
    sync::{OnceCell, watch},
    time::Instant,
};
use tracing::{debug, info, warn};

use crate::{
    Error, Loaded, RowSource, Server, Untagged,
    assign::{Assignment, Collected},
    cell::{Names, Written},
    mysql::{
        bind::Binding,
        pool::{Finished, Pool, server_error},
        schema::JsonColumns,
        value::{Form, shown_width},
    },
    plan::{Plan, chunks, named},
};

/// Between two looks at a database that is down, while the start waits for it.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a reading is repeated because the server behind it has changed.
const MOST_VOID: u32 = 3;
/// How often a server that nobody reads from any more is asked who it is, and how often its settings are looked at.
const LOOK: Duration = Duration::from_secs(1);
const SETTINGS: Duration = Duration::from_secs(5);

/// How the server of a URL is reached.
///
/// # Errors
///
/// sqlx's, of a URL that is none of MySQL's.
pub fn options(url: &DatabaseUrl) -> Result<MySqlConnectOptions, sqlx::Error> {
    let options: MySqlConnectOptions = url.expose().parse()?;
    // A URL has an IPv6 address in brackets, and nothing else has.
    let host = options.get_host();
    Ok(match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned) {
        Some(address) => options.host(&address),
        None => options,
    })
}

/// Rows from MySQL. Made without a connection; [`ready`](RowSource::ready) waits for the first one and checks the catalog's queries.
pub struct Mysql {
    catalog: Arc<Catalog>,
    pool: Arc<Pool>,
    deadline: Duration,
    plans: HashMap<GroupId, Plan>,
    /// Known once the database has been seen.
    bindings: OnceCell<HashMap<GroupId, Vec<Binding>>>,
    json: OnceCell<schema::JsonColumns>,
}

impl Mysql {
    /// Prepares for the database of `config`. Connects to nothing yet; fails only for a URL that is none.
    pub fn connect(config: &Database, catalog: &Arc<Catalog>) -> Result<Arc<Self>, Error> {
        let options = options(&config.url).map_err(|error| {
            let reason = format!(
                "database.url is not a MySQL URL: {error}, write it like mysql://user:password@host:3306/shop"
            );
            Error::Unavailable(reason.into())
        })?;
        let plans = catalog
            .groups()
            .iter()
            .filter_map(|group| Some((group.id, Plan::new(group, Dialect::MySql)?)))
            .collect();
        // A statement per group and size of batch.
        let options = options.statement_cache_capacity(512);
        Ok(Arc::new(Self {
            catalog: Arc::clone(catalog),
            pool: Pool::new(options, config.pool, config.deadline, config.max_lifetime),
            deadline: config.deadline,
            plans,
            bindings: OnceCell::new(),
            json: OnceCell::new(),
        }))
    }

    /// What the database knows of the tables that the catalog names.
    pub async fn schema(&self) -> Result<Schema, Error> {
        let mut lease = self.pool.take().await?;
        let databases = schema::databases(&self.catalog);
        let read = async {
            let schema = schema::read(&mut lease.connection, databases.as_deref()).await?;
            Ok((schema, schema::json_columns(&mut lease.connection, databases.as_deref()).await?))
        };
        match read.await {
            Ok((schema, json)) => {
                lease.finish().await;
                let _ = self.json.set(json);
                let _ = self.bindings.set(schema::bindings(&self.catalog, &schema));
                Ok(schema)
            }
            Err(error) => {
                self.pool.forget_idle();
                Err(self.pool.unavailable(&format!("its schema can't be read: {}", pool::reason(&error))))
            }
        }
    }

    async fn bindings(&self, group: &Group) -> Result<&[Binding], Error> {
        if self.bindings.get().is_none() {
            self.schema().await?;
        }
        let bindings = self.bindings.get().and_then(|all| all.get(&group.id));
        Ok(bindings.map_or(&[], Vec::as_slice))
    }

    async fn load_chunk(&self, group: &Arc<Group>, keys: &[Key]) -> Result<Vec<Loaded>, Error> {
        let plan = self
            .plans
            .get(&group.id)
            .ok_or_else(|| Error::query(&group.name, "the group is of another catalog"))?;
        let bindings = self.bindings(group).await?;
        let mut again = true;
        let mut void = 0;
        loop {
            let mut lease = self.pool.take().await?;
            match read(&mut lease.connection, plan, (bindings, self.json.get()), group, keys).await {
                Ok(values) => match lease.finish().await {
                    Finished::Counts { keep: true } => return Ok(values),
                    Finished::Counts { keep: false } => {
                        let tags = Err(Untagged::NotPrimary);
                        return Ok(values
                            .into_iter()
                            .map(|loaded| Loaded { tags: tags.clone(), ..loaded })
                            .collect());
                    }
                    Finished::Void if void < MOST_VOID => void += 1,
                    Finished::Void => {
                        return Err(self.pool.unavailable("its server changes again and again"));
                    }
                },
                Err(Failure::Ours(error)) => return Err(error),
                Err(Failure::Sql(error)) if is_lost(&error) => {
                    // The server went away since the connection was last used: the others went with it. Reading again is safe.
                    let reused = lease.reused;
                    self.pool.forget_idle();
                    drop(lease);
                    if !(reused && std::mem::take(&mut again)) {
                        return Err(self.pool.unavailable(&pool::reason(&error)));
                    }
                }
                Err(Failure::Sql(error)) => {
                    if matches!(error, sqlx::Error::Database(_)) {
                        lease.finish().await;
                    }
                    return Err(match server_error(&error) {
                        // max_execution_time, and MariaDB's max_statement_time.
                        Some(3024 | 1969) => {
                            Error::Deadline { group: Arc::clone(&group.name), deadline: self.deadline }
                        }
                        _ => Error::query(&group.name, pool::reason(&error)),
                    });
                }
            }
        }
    }
}

#[async_trait]
impl RowSource for Mysql {
    fn batches(&self, group: &Group) -> bool {
        group.batched().is_some()
    }

    async fn ready(&self) -> Result<(), Report> {
        info!(database = %self.pool.address(), "waiting for the database");
        let report = loop {
            match self.check().await {
                Ok(report) => break report,
                // The pool logs why, once.
                Err(error) => debug!(%error, "the database is not ready"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        for warning in report.warnings() {
            warn!("{warning}");
        }
        if report.is_ok() {
            info!(database = %self.pool.address(), groups = self.plans.len(), "the database answers and all queries are good");
            Ok(())
        } else {
            Err(report)
        }
    }

    async fn check(&self) -> Result<Report, Error> {
        let schema = self.schema().await?;
        let mut report = self.check_queries(&schema).await?;
        report.problems.extend(catalog::schema::check(&self.catalog, &schema).problems);
        report.problems.extend(self.check_server().await?);
        let mut seen = std::collections::HashSet::new();
        report.problems.retain(|problem| seen.insert(problem.to_string()));
        Ok(report)
    }

    fn server(&self) -> watch::Receiver<Server> {
        self.pool.server().subscribe()
    }

    fn warnings(&self) -> Warnings {
        self.pool.warnings().clone()
    }

    async fn attend(&self) {
        let (mut looked, mut switches) = (Instant::now(), self.pool.server().borrow().switches);
        loop {
            tokio::time::sleep(LOOK).await;
            self.pool.verify().await;
            // Another server has settings of its own.
            let now = self.pool.server().borrow().switches;
            if looked.elapsed() >= SETTINGS || now != switches {
                match self.check_server().await {
                    Ok(_) => (looked, switches) = (Instant::now(), now),
                    Err(error) => debug!(%error, "the server's settings can't be looked at"),
                }
            }
        }
    }

    async fn load(&self, group: &Arc<Group>, keys: &[Key]) -> Result<Vec<Loaded>, Error> {
        let mut values = Vec::with_capacity(keys.len());
        for chunk in chunks(group, keys) {
            values.extend(self.load_chunk(group, chunk).await?);
        }
        Ok(values)
    }
}

enum Failure {
    Sql(sqlx::Error),
    Ours(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// Whether the connection is gone, rather than the statement refused.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => true,
        // Shutdown in progress, connection killed, closed for its idleness; a statement that the server forgot.
        sqlx::Error::Database(_) => {
            matches!(server_error(error), Some(1053 | 1077 | 1158..=1161 | 1243 | 1927 | 3169 | 4031))
        }
        _ => false,
    }
}

async fn read(
    connection: &mut MySqlConnection,
    plan: &Plan,
    (bindings, json): (&[Binding], Option<&JsonColumns>),
    group: &Group,
    keys: &[Key],
) -> Result<Vec<Loaded>, Failure> {
    let statement = plan.statement(group, keys);
    let mut arguments = MySqlArguments::default();
    for (param, value) in &statement.values {
        let binding = bindings.get(*param).copied().unwrap_or_default();
        binding.add(&mut arguments, value).map_err(|error| Error::query(&group.name, error))?;
    }
    let mut rows = sqlx::query_with(AssertSqlSafe(Arc::clone(&statement.sql)), arguments).fetch(connection);
    let mut shape = None;
    let hidden = group.query.as_ref().map_or(0, Query::hidden);
    if statement.key_columns == 0 {
        let mut collected = Collected::new(group.rows);
        while let Some(row) = rows.try_next().await? {
            let shape = shape.get_or_insert_with(|| Shape::of(&row, (0, hidden), group.binary, json));
            collected.push(group, |source| shape.part(&row, source), |out| shape.write(&row, out))?;
        }
        return Ok(vec![collected.finish()]);
    }
    let params = group.batched().map_or(&[][..], |batched| batched.params());
    let mut assignment = Assignment::new(group, keys, params);
    while let Some(row) = rows.try_next().await? {
        let shape =
            shape.get_or_insert_with(|| Shape::of(&row, (statement.key_columns, hidden), group.binary, json));
        assignment.push(
            |at| shape.key_cell(&row, at),
            |source| shape.part(&row, source),
            |out| shape.write(&row, out),
        )?;
    }
    if assignment.strays() > 0 {
        plan.warn_of_strays(group);
    }
    Ok(assignment.finish())
}

/// The columns of a result: those of the value, then those that tell whose row it is, then those that only tags are made of.
struct Shape {
    names: Names,
    forms: Vec<Form>,
    /// Of the value's columns alone: what makes keys and tags stays as the row's changes write it.
    written: Vec<Written>,
    value_columns: usize,
    key_columns: usize,
}

impl Shape {
    /// `extra` columns tell whose row it is, and make tags.
    fn of(
        row: &MySqlRow,
        (key_columns, hidden): (usize, usize),
        binary: Binary,
        json: Option<&JsonColumns>,
    ) -> Self {
        let columns = row.columns();
        let value_columns = columns.len().saturating_sub(key_columns + hidden);
        let written = |column: &MySqlColumn| match Form::of(column) {
            Form::Bytes => Written::bytes(binary, shown_width(column.type_info())),
            Form::Text if json.is_some_and(|json| json.has(column)) => Written::Json,
            _ => Written::Plain,
        };
        Self {
            names: Names::new(columns[..value_columns].iter().map(sqlx::Column::name)),
            forms: columns.iter().map(Form::of).collect(),
            written: columns[..value_columns].iter().map(written).collect(),
            value_columns,
            key_columns,
        }
    }

    fn write(&self, row: &MySqlRow, out: &mut Vec<u8>) -> Result<(), String> {
        self.names.write(out, |index| Ok(self.written[index].of(self.forms[index].read(row, index)?)))
    }

    fn key_cell<'r>(&self, row: &'r MySqlRow, at: usize) -> Result<crate::cell::Cell<'r>, String> {
        let index = self.value_columns + at;
        self.forms.get(index).ok_or("the result lacks a key column")?.read(row, index)
    }

    /// What a part of a tag is made of.
    fn part<'r>(&self, row: &'r MySqlRow, source: &TagSource) -> Result<crate::cell::Cell<'r>, String> {
        let index = match source {
            TagSource::Hidden(number) => self.value_columns + self.key_columns + number,
            TagSource::Named(name) => {
                named(row.columns()[..self.value_columns].iter().map(sqlx::Column::name), name)?
            }
        };
        self.forms.get(index).ok_or("the result lacks a column of a tag")?.read(row, index)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::ConnectOptions as _;
    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_server_at_an_ipv6_address_is_reached() {
        let plain = options(&DatabaseUrl::new("mysql://app:p%40ss@db:3307/shop")).unwrap();
        assert_eq!((plain.get_host(), plain.get_port()), ("db", 3307));
        let Ok(listener) = TcpListener::bind("[::1]:0").await else {
            return eprintln!("skipped: this machine has no IPv6");
        };
        let port = listener.local_addr().unwrap().port();
        let options = options(&DatabaseUrl::new(format!("mysql://app@[::1]:{port}/shop"))).unwrap();
        let accepted = async {
            tokio::select! {
                accepted = listener.accept() => drop(accepted.unwrap()),
                connected = options.connect() => panic!("{:?}", connected.map(drop)),
            }
        };
        timeout(Duration::from_secs(10), accepted).await.expect("it connects");
    }
}
