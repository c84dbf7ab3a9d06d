//! SQLite, the database of the embedded stack.
//!
//! The file is attached under the name that the queries use, so that `shop.users` means the same as in MySQL. Other processes
//! write to it (the `sqlite3` shell, for one): in WAL mode each statement reads what is committed when it begins.

mod value;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use catalog::{
    Binary, Catalog, Dialect, Group, GroupId, Key, ParamType, Problem, Query, Report, Severity, TagSource,
    Value,
    schema::{Field, Schema, Table},
};
use futures_util::TryStreamExt;
use parking_lot::RwLock;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _,
    SqlSafeStr as _, SqlitePool,
    error::BoxDynError,
    pool::PoolConnection,
    sqlite::{
        Sqlite as Driver, SqliteArguments, SqliteConnectOptions, SqliteConnection, SqlitePoolOptions,
        SqliteRow,
    },
};

use crate::{
    Error, Loaded, RowSource,
    assign::{Assignment, Collected},
    cell::{Cell, Names},
    plan::{Plan, chunks, compared, named},
    sqlite::value::{Form, declared},
};

/// Connections; each has a thread of its own.
const CONNECTIONS: u32 = 4;
/// How long a statement waits for a lock, and a fill for a connection.
const BUSY: Duration = Duration::from_secs(1);
/// SQLite's limit of attached files.
const MOST_DATABASES: usize = 10;

/// Rows from a SQLite file.
pub struct Sqlite {
    catalog: Arc<Catalog>,
    path: PathBuf,
    pool: SqlitePool,
    databases: Vec<String>,
    plans: HashMap<GroupId, Plan>,
    /// Guards the declared types of all columns; replaced when the file has a column that it lacks.
    schema: RwLock<Arc<Schema>>,
}

impl Sqlite {
    /// Prepares for the file at `path`, which must exist by the time of the first load.
    pub fn open(path: impl AsRef<Path>, catalog: &Arc<Catalog>) -> Result<Arc<Self>, Error> {
        let path = path.as_ref().to_owned();
        let tables = catalog.groups().iter().flat_map(|group| group.tables());
        let databases: BTreeSet<String> = tables.map(|table| table.database.to_string()).collect();
        if databases.len() > MOST_DATABASES {
            let reason = format!(
                "SQLite attaches at most {MOST_DATABASES} databases, the catalog names {}",
                databases.len()
            );
            return Err(Error::Unavailable(reason.into()));
        }
        let databases: Vec<String> = databases.into_iter().collect();
        // No statement is kept: one that was prepared before a column was added gives rows of more columns than it knows.
        let options = SqliteConnectOptions::new()
            .filename(":memory:")
            .busy_timeout(BUSY)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        let attached = Arc::new((path.clone(), databases.clone()));
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(BUSY)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let attached = Arc::clone(&attached);
                Box::pin(async move { attach(connection, &attached.0, &attached.1).await })
            })
            .connect_lazy_with(options);
        let plans = catalog
            .groups()
            .iter()
            .filter_map(|group| Some((group.id, Plan::new(group, Dialect::Sqlite)?)))
            .collect();
        Ok(Arc::new(Self {
            catalog: Arc::clone(catalog),
            path,
            pool,
            databases,
            plans,
            schema: RwLock::default(),
        }))
    }

    /// What the file knows of its tables; the same for each name that it is attached under.
    pub async fn schema(&self) -> Result<Schema, Error> {
        let mut connection = self.connection().await?;
        self.read_schema(&mut connection).await
    }

    async fn read_schema(&self, connection: &mut SqliteConnection) -> Result<Schema, Error> {
        let mut schema = Schema { logs_cascades: true, ..Schema::default() };
        for database in &self.databases {
            let sql = format!(
                "SELECT m.name, m.type = 'view', c.name, c.type, c.\"notnull\" FROM {}.sqlite_master m, \
                 pragma_table_info(m.name, ?) c WHERE m.type IN ('table', 'view') ORDER BY m.name, c.cid",
                quoted(database)
            );
            let rows = sqlx::query_as::<_, (String, bool, String, String, bool)>(AssertSqlSafe(sql))
                .bind(database)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| self.unavailable(&error))?;
            for (table, view, name, mysql_type, not_null) in rows {
                if schema.tables.last().is_none_or(|last| last.name != table || last.database != *database) {
                    schema.tables.push(Table {
                        database: database.clone(),
                        name: table,
                        view,
                        columns: Vec::new(),
                    });
                }
                let columns =
                    &mut schema.tables.last_mut().expect("one was pushed where there was none").columns;
                columns.push(Field { name, mysql_type, nullable: !not_null, collation: None });
            }
        }
        *self.schema.write() = Arc::new(schema.clone());
        Ok(schema)
    }

    async fn connection(&self) -> Result<PoolConnection<Driver>, Error> {
        self.pool.acquire().await.map_err(|error| self.unavailable(&error))
    }

    fn unavailable(&self, error: &sqlx::Error) -> Error {
        Error::Unavailable(format!("database {} is unavailable: {error}", self.path.display()).into())
    }

    /// The schema as last seen; seen now if it wasn't yet.
    async fn known_schema(&self) -> Result<Arc<Schema>, Error> {
        let known = Arc::clone(&self.schema.read());
        if !known.tables.is_empty() {
            return Ok(known);
        }
        self.schema().await?;
        Ok(Arc::clone(&self.schema.read()))
    }

    async fn load_chunk(&self, group: &Group, keys: &[Key]) -> Result<Vec<Loaded>, Error> {
        let plan = self
            .plans
            .get(&group.id)
            .ok_or_else(|| Error::query(&group.name, "the group is of another catalog"))?;
        let mut schema = self.known_schema().await?;
        let mut connection = self.connection().await?;
        // In one transaction, which looks at the schema first: a statement that is prepared by an older one, before a column was added, would give
        // rows of more columns than its driver knows, which panics.
        let mut read = connection.begin().await.map_err(|error| self.unavailable(&error))?;
        for database in &self.databases {
            let look = format!("SELECT 1 FROM {}.sqlite_master LIMIT 1", quoted(database));
            let looked = sqlx::query(AssertSqlSafe(look)).execute(&mut *read).await;
            looked.map_err(|error| self.unavailable(&error))?;
        }
        let rows = self.fetch(&mut read, plan, group, keys, &schema).await?;
        read.rollback().await.map_err(|error| self.unavailable(&error))?;
        drop(connection);
        let binary = group.binary;
        let extra = (rows.key_columns, group.query.as_ref().map_or(0, Query::hidden));
        let Some(first) = rows.rows.first() else { return collect(plan, group, keys, &rows, None) };
        let mut shape = Shape::of(first, extra, binary, &schema);
        if shape.is_none() {
            self.schema().await?;
            schema = Arc::clone(&self.schema.read());
            shape = Shape::of(first, extra, binary, &schema);
        }
        let shape = shape.unwrap_or_else(|| Shape::untyped(first, extra, binary));
        collect(plan, group, keys, &rows, Some(&shape))
    }

    async fn fetch(
        &self,
        connection: &mut SqliteConnection,
        plan: &Plan,
        group: &Group,
        keys: &[Key],
        schema: &Schema,
    ) -> Result<Fetched, Error> {
        let statement = plan.statement(group, keys);
        let mut arguments = SqliteArguments::default();
        for (param, value) in &statement.values {
            let kind = &group.template.params()[*param].kind;
            let bytes = *kind == ParamType::Uuid
                && compared(group, *param, schema)
                    .iter()
                    .any(|column| declared(&column.mysql_type).is_bytes());
            bind(&mut arguments, value, bytes).map_err(|error| Error::query(&group.name, error))?;
        }
        let mut stream = sqlx::query_with(AssertSqlSafe(statement.sql), arguments).fetch(connection);
        let mut rows = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => return Ok(Fetched { rows, key_columns: statement.key_columns }),
                Err(error) if is_busy(&error) => return Err(self.unavailable(&error)),
                Err(error) => return Err(Error::query(&group.name, error)),
            }
        }
    }
}

#[async_trait]
impl RowSource for Sqlite {
    fn batches(&self, group: &Group) -> bool {
        group.batched().is_some()
    }

    async fn ready(&self) -> Result<(), Report> {
        let mut pause = Duration::from_millis(20);
        let report = loop {
            match self.check().await {
                Ok(report) => break report,
                Err(error) => tracing::warn!(%error, "waiting for the database"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        };
        if report.is_ok() { Ok(()) } else { Err(report) }
    }

    async fn check(&self) -> Result<Report, Error> {
        let mut connection = self.connection().await?;
        // The connection sees the tables as they are only after it has read; what it prepared before is of the past.
        self.read_schema(&mut connection).await?;
        connection.clear_cached_statements().await.map_err(|error| self.unavailable(&error))?;
        let mut report = Report::default();
        for group in self.catalog.groups() {
            let Some(query) = &group.query else { continue };
            let batched = query.batched().map(|batched| batched.sql(Dialect::Sqlite, 2));
            for sql in [Some(query.render().0.to_owned()), batched].into_iter().flatten() {
                let Err(error) = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await else {
                    continue;
                };
                report.problems.push(Problem {
                    file: format!("database {}", self.path.display()),
                    line: None,
                    severity: Severity::Error,
                    message: format!("group {}: its query can't be prepared: {error}", group.name),
                    remedy: Some("correct the query, or create what it names".to_owned()),
                });
                break;
            }
        }
        Ok(report)
    }

    async fn load(&self, group: &Arc<Group>, keys: &[Key]) -> Result<Vec<Loaded>, Error> {
        let mut values = Vec::with_capacity(keys.len());
        for chunk in chunks(group, keys) {
            values.extend(self.load_chunk(group, chunk).await?);
        }
        Ok(values)
    }
}

struct Fetched {
    rows: Vec<SqliteRow>,
    key_columns: usize,
}

fn collect(
    plan: &Plan,
    group: &Group,
    keys: &[Key],
    fetched: &Fetched,
    shape: Option<&Shape>,
) -> Result<Vec<Loaded>, Error> {
    let write = |row, out: &mut Vec<u8>| shape.map_or(Ok(()), |shape| shape.write(row, out));
    if fetched.key_columns == 0 && group.batched().is_none() {
        let mut collected = Collected::new(group.rows);
        for row in &fetched.rows {
            let part = |source: &TagSource| shape.map_or(Ok(Cell::Null), |shape| shape.part(row, source));
            collected.push(group, part, |out| write(row, out))?;
        }
        return Ok(vec![collected.finish()]);
    }
    let params = group.batched().map_or(&[][..], |batched| batched.params());
    let mut assignment = Assignment::new(group, keys, params);
    for row in &fetched.rows {
        let cell = |at| shape.map_or(Ok(Cell::Null), |shape| shape.key_cell(row, at));
        let part = |source: &TagSource| shape.map_or(Ok(Cell::Null), |shape| shape.part(row, source));
        assignment.push(cell, part, |out| write(row, out))?;
    }
    if assignment.strays() > 0 {
        plan.warn_of_strays(group);
    }
    Ok(assignment.finish())
}

async fn attach(connection: &mut SqliteConnection, path: &Path, databases: &[String]) -> sqlx::Result<()> {
    // SQLite would create what is missing.
    if !tokio::fs::try_exists(path).await? {
        return Err(sqlx::Error::Configuration(format!("there is no file {}", path.display()).into()));
    }
    for database in databases {
        sqlx::query(AssertSqlSafe(format!("ATTACH ? AS {}", quoted(database))))
            .bind(path.to_string_lossy().into_owned())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn is_busy(error: &sqlx::Error) -> bool {
    // The primary result codes BUSY and LOCKED; extended codes add to them in higher bits.
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed)
        || code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// SQLite compares by the column's affinity, so text is enough for what it has no type of its own for.
fn bind(arguments: &mut SqliteArguments, value: &Value, uuid_bytes: bool) -> Result<(), BoxDynError> {
    match value {
        Value::U64(number) => match i64::try_from(*number) {
            Ok(number) => arguments.add(number),
            Err(_) => arguments.add(number.to_string()),
        },
        Value::I64(number) => arguments.add(*number),
        Value::Bool(value) => arguments.add(i64::from(*value)),
        Value::Bytes(bytes) => arguments.add(bytes.clone()),
        Value::Uuid(bytes) if uuid_bytes => arguments.add(bytes.to_vec()),
        other => arguments.add(other.sql_text()),
    }
}

/// The columns of a result: those of the value, then those that tell whose row it is, then those that only tags are made of.
struct Shape {
    names: Names,
    forms: Vec<Form>,
    /// How bytes are written: in the value alone, not in keys and tags.
    binary: Binary,
    value_columns: usize,
    key_columns: usize,
}

impl Shape {
    /// `None` if a column's table is not in `schema`.
    fn of(row: &SqliteRow, extra: (usize, usize), binary: Binary, schema: &Schema) -> Option<Self> {
        let forms = row.columns().iter().map(|column| value::form(column, schema)).collect::<Option<_>>()?;
        Some(Self::with(row, extra, binary, forms))
    }

    fn untyped(row: &SqliteRow, extra: (usize, usize), binary: Binary) -> Self {
        Self::with(row, extra, binary, row.columns().iter().map(|_| Form::Any).collect())
    }

    /// `extra` columns tell whose row it is, and make tags.
    fn with(
        row: &SqliteRow,
        (key_columns, hidden): (usize, usize),
        binary: Binary,
        forms: Vec<Form>,
    ) -> Self {
        let value_columns = row.columns().len().saturating_sub(key_columns + hidden);
        let names = Names::new(row.columns()[..value_columns].iter().map(sqlx::Column::name));
        Self { names, forms, binary, value_columns, key_columns }
    }

    fn write(&self, row: &SqliteRow, out: &mut Vec<u8>) -> Result<(), String> {
        self.names.write(out, |index| {
            Ok(self.forms[index].written(self.binary).of(self.forms[index].read(row, index)?))
        })
    }

    fn key_cell<'r>(&self, row: &'r SqliteRow, at: usize) -> Result<Cell<'r>, String> {
        let index = self.value_columns + at;
        self.forms.get(index).ok_or("the result lacks a key column")?.read(row, index)
    }

    /// What a part of a tag is made of.
    fn part<'r>(&self, row: &'r SqliteRow, source: &TagSource) -> Result<Cell<'r>, String> {
        let index = match source {
            TagSource::Hidden(number) => self.value_columns + self.key_columns + number,
            TagSource::Named(name) => {
                named(row.columns()[..self.value_columns].iter().map(sqlx::Column::name), name)?
            }
        };
        self.forms.get(index).ok_or("the result lacks a column of a tag")?.read(row, index)
    }
}
