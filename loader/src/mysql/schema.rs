//! What `information_schema` knows of the tables that a catalog names.

use std::collections::{BTreeSet, HashMap, HashSet};

use catalog::{
    Catalog, GroupId,
    schema::{Action, Field, ForeignKey, RowImageMode, Schema, Table},
};
use sqlx::{
    AssertSqlSafe, Column as _, ColumnOrigin, Row as _,
    mysql::{MySqlColumn, MySqlConnection, MySqlRow},
};

use crate::{mysql::bind::Binding, plan::compared};

/// The databases that a catalog names; `None` where a rule's pattern may mean any.
pub(super) fn databases(catalog: &Catalog) -> Option<Vec<String>> {
    let mut databases = BTreeSet::new();
    for group in catalog.groups() {
        databases.extend(group.tables().iter().map(|table| table.database.to_string()));
    }
    for used in catalog.tables() {
        let (database, _) = used.table.split_once('.')?;
        let plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '$');
        if database.is_empty() || !database.chars().all(plain) {
            return None;
        }
        databases.insert(database.to_owned());
    }
    Some(databases.into_iter().collect())
}

/// Columns that hold JSON as text, as MariaDB's JSON columns do: `database.table.column`, in lower case.
#[derive(Debug, Default)]
pub(super) struct JsonColumns(HashSet<String>);

impl JsonColumns {
    /// Whether a result's column is one of them.
    pub(super) fn has(&self, column: &MySqlColumn) -> bool {
        let ColumnOrigin::Table(origin) = column.origin() else { return false };
        !self.0.is_empty() && self.0.contains(&format!("{}.{}", origin.table, origin.name).to_lowercase())
    }
}

/// MariaDB's JSON is LONGTEXT with a check that says so. Other servers have a type for it.
pub(super) async fn json_columns(
    connection: &mut MySqlConnection,
    databases: Option<&[String]>,
) -> sqlx::Result<JsonColumns> {
    let variables = variables(connection).await?;
    if !variables.get("version").is_some_and(|version| version.to_lowercase().contains("mariadb")) {
        return Ok(JsonColumns::default());
    }
    let sql = format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE {}",
        of_databases("CONSTRAINT_SCHEMA", databases)
    );
    let mut columns = HashSet::new();
    for row in fetch(connection, sql, databases, 1).await? {
        if let Some(column) = checked_json(&text(&row, 2)?) {
            columns.insert(format!("{}.{}.{column}", text(&row, 0)?, text(&row, 1)?).to_lowercase());
        }
    }
    Ok(JsonColumns(columns))
}

/// The column of which a check says that it holds JSON, and nothing else: ``json_valid(`extra`)``.
fn checked_json(clause: &str) -> Option<String> {
    let (function, rest) = clause.trim().split_once('(')?;
    let name = rest.strip_suffix(')')?.trim();
    let name = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')).unwrap_or(name);
    let plain = !name.is_empty() && !name.contains(['`', '(', ')', ',']);
    (plain && function.trim().eq_ignore_ascii_case("json_valid")).then(|| name.to_owned())
}

/// Reads columns, foreign keys and what the binary log holds.
pub(super) async fn read(
    connection: &mut MySqlConnection,
    databases: Option<&[String]>,
) -> sqlx::Result<Schema> {
    let variables = variables(connection).await?;
    let version = variables.get("version").map_or("", String::as_str);
    Ok(Schema {
        tables: tables(connection, databases).await?,
        foreign_keys: foreign_keys(connection, databases).await?,
        row_image: variables.get("binlog_row_image").and_then(|name| RowImageMode::from_name(name)),
        logs_cascades: logs_cascades(version),
    })
}

/// The server's settings that decide whether its change stream is whole.
pub(super) async fn variables(connection: &mut MySqlConnection) -> sqlx::Result<HashMap<String, String>> {
    let sql = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
               ('version', 'log_bin', 'binlog_format', 'binlog_row_image', 'binlog_row_value_options', 'read_only', \
               'rpl_semi_sync_source_enabled', 'rpl_semi_sync_source_wait_point', 'rpl_semi_sync_source_timeout', \
               'rpl_semi_sync_master_enabled', 'rpl_semi_sync_master_wait_point', 'rpl_semi_sync_master_timeout')";
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((text(row, 0)?.to_ascii_lowercase(), text(row, 1)?))).collect()
}

/// How each group's parameters are bound, by the columns that they are compared with.
pub(super) fn bindings(catalog: &Catalog, schema: &Schema) -> HashMap<GroupId, Vec<Binding>> {
    let of_group = |group: &catalog::Group| {
        let params = group.template.params().iter().enumerate();
        params.map(|(at, param)| Binding::of(&param.kind, &compared(group, at, schema))).collect()
    };
    catalog.groups().iter().map(|group| (group.id, of_group(group))).collect()
}

async fn tables(connection: &mut MySqlConnection, databases: Option<&[String]>) -> sqlx::Result<Vec<Table>> {
    let sql = format!(
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, t.TABLE_TYPE, c.COLUMN_NAME, c.COLUMN_TYPE, c.IS_NULLABLE, c.COLLATION_NAME \
         FROM information_schema.COLUMNS c \
         JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
         WHERE {} ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION",
        of_databases("c.TABLE_SCHEMA", databases)
    );
    let mut tables: Vec<Table> = Vec::new();
    for row in fetch(connection, sql, databases, 1).await? {
        let (database, name) = (text(&row, 0)?, text(&row, 1)?);
        if tables.last().is_none_or(|table| table.database != database || table.name != name) {
            let view = text(&row, 2)?.to_ascii_uppercase().contains("VIEW");
            tables.push(Table { database, name, view, columns: Vec::new() });
        }
        let field = Field {
            name: text(&row, 3)?,
            mysql_type: text(&row, 4)?,
            nullable: text(&row, 5)?.eq_ignore_ascii_case("YES"),
            collation: row.try_get_unchecked::<Option<String>, _>(6)?,
        };
        tables.last_mut().expect("one was pushed where there was none").columns.push(field);
    }
    Ok(tables)
}

async fn foreign_keys(
    connection: &mut MySqlConnection,
    databases: Option<&[String]>,
) -> sqlx::Result<Vec<ForeignKey>> {
    let sql = format!(
        "SELECT k.CONSTRAINT_NAME, k.TABLE_SCHEMA, k.TABLE_NAME, k.COLUMN_NAME, \
         k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE \
         FROM information_schema.KEY_COLUMN_USAGE k \
         JOIN information_schema.REFERENTIAL_CONSTRAINTS r ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA \
         AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME \
         WHERE k.REFERENCED_TABLE_NAME IS NOT NULL AND ({} OR {}) \
         ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION",
        of_databases("k.TABLE_SCHEMA", databases),
        of_databases("k.REFERENCED_TABLE_SCHEMA", databases)
    );
    let mut keys: Vec<ForeignKey> = Vec::new();
    for row in fetch(connection, sql, databases, 2).await? {
        let (name, database, table) = (text(&row, 0)?, text(&row, 1)?, text(&row, 2)?);
        if keys.last().is_none_or(|key| key.name != name || key.database != database || key.table != table) {
            keys.push(ForeignKey {
                name,
                database,
                table,
                columns: Vec::new(),
                parent_database: text(&row, 4)?,
                parent_table: text(&row, 5)?,
                parent_columns: Vec::new(),
                on_delete: Action::from_name(&text(&row, 7)?),
                on_update: Action::from_name(&text(&row, 8)?),
            });
        }
        let key = keys.last_mut().expect("one was pushed where there was none");
        key.columns.push(text(&row, 3)?);
        key.parent_columns.push(text(&row, 6)?);
    }
    Ok(keys)
}

fn of_databases(column: &str, databases: Option<&[String]>) -> String {
    match databases {
        None => format!("{column} NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"),
        Some([]) => "FALSE".to_owned(),
        Some(names) => format!("{column} IN ({})", vec!["?"; names.len()].join(", ")),
    }
}

/// Runs `sql`, which has the placeholders of [`of_databases`] so many times.
async fn fetch(
    connection: &mut MySqlConnection,
    sql: String,
    databases: Option<&[String]>,
    times: usize,
) -> sqlx::Result<Vec<MySqlRow>> {
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for _ in 0..times {
        for name in databases.unwrap_or_default() {
            query = query.bind(name);
        }
    }
    query.persistent(false).fetch_all(connection).await
}

/// Some servers answer `information_schema` in binary strings, so the type is not looked at.
fn text(row: &MySqlRow, index: usize) -> sqlx::Result<String> {
    row.try_get_unchecked::<String, _>(index)
}

/// MySQL writes the rows that foreign keys change to its binary log since 9.6; MariaDB doesn't.
fn logs_cascades(version: &str) -> bool {
    let mut numbers =
        version.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let major_minor = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    major_minor >= (9, 6) && !version.to_ascii_lowercase().contains("mariadb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cascades_are_logged_from_mysql_9_6_on() {
        for (version, logged) in [
            ("9.7.4", true),
            ("9.6.0-debug", true),
            ("9.5.1", false),
            ("8.4.3", false),
            ("10.11.18-MariaDB", false),
            ("", false),
        ] {
            assert_eq!(logs_cascades(version), logged, "{version}");
        }
    }

    #[test]
    fn a_check_of_one_column_for_json_alone_makes_it_a_column_of_json() {
        for (clause, column) in [
            ("json_valid(`extra`)", Some("extra")),
            ("JSON_VALID ( extra )", Some("extra")),
            ("json_valid(`a b`)", Some("a b")),
            ("json_valid(`a`) or `b` > 0", None),
            ("json_valid(`a`) and json_valid(`b`)", None),
            ("json_valid(lower(`a`))", None),
            ("`a` > (0)", None),
            ("", None),
        ] {
            assert_eq!(checked_json(clause).as_deref(), column, "{clause}");
        }
    }
}
