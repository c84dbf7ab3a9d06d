//! Changes of rows while they are read, in the database of a running `freshline dev`.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use catalog::{Catalog, Group, Value};
use serde::Serialize;
use sqlx::{AssertSqlSafe, sqlite::SqliteConnection};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use crate::dev::{database, state::State};

/// Changes rows at a steady rate.
pub(super) struct Changer {
    connection: SqliteConnection,
    catalog: Arc<Catalog>,
    /// With `?` for each parameter.
    sql: String,
    /// Which of the key's parameters each `?` is.
    binds: Vec<usize>,
}

/// What was changed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Changes {
    pub(super) made: u64,
    pub(super) rows: u64,
}

impl Changer {
    pub(super) async fn open(
        sql: &str,
        dev: &State,
        catalog: Arc<Catalog>,
        group: &Group,
    ) -> anyhow::Result<Self> {
        let (sql, binds) = placed(sql, group)?;
        let connection = database::open_as(&dev.database, &dev.schema).await?;
        Ok(Self { connection, catalog, sql, binds })
    }

    pub(super) async fn run(
        mut self,
        keys: Arc<Vec<String>>,
        choice: Arc<Choice>,
        rate: f64,
        stop: CancellationToken,
    ) -> anyhow::Result<Changes> {
        let mut changes = Changes::default();
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(changes),
                _ = ticks.tick() => {}
            }
            let key = self.catalog.resolve(&keys[choice.at(rand::random())]).context("read a key")?;
            // The user's own SQL, on the user's own file.
            let mut statement = sqlx::query(AssertSqlSafe(self.sql.clone()));
            for at in &self.binds {
                statement = match &key.params[*at] {
                    Value::U64(number) => statement.bind(i64::try_from(*number).unwrap_or(i64::MAX)),
                    Value::I64(number) => statement.bind(*number),
                    other => statement.bind(other.sql_text()),
                };
            }
            let done = statement.execute(&mut self.connection).await.context("run --change")?;
            changes.made += 1;
            changes.rows += done.rows_affected();
        }
    }
}

/// `{id}` becomes `?`.
fn placed(sql: &str, group: &Group) -> anyhow::Result<(String, Vec<usize>)> {
    let (mut text, mut binds, mut rest) = (String::new(), Vec::new(), sql);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').context("read --change: a { has no }")?;
        let at = group.template.param(name).with_context(|| {
            let names: Vec<&str> = group.template.params().iter().map(|param| &*param.name).collect();
            format!("read --change: the group {} has no {{{name}}}; it has {}", group.name, names.join(", "))
        })?;
        text += before;
        text.push('?');
        binds.push(at);
        rest = after;
    }
    text += rest;
    Ok((text, binds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_group_become_binds() {
        let text = "[[group]]\nname = \"user\"\nkey = \"user:{id:u64}\"\nquery = \"SELECT id FROM shop.users WHERE id = {id}\"\n";
        let catalog = Catalog::parse("t.toml", text).unwrap();
        let group = catalog.group("user").unwrap();
        let (sql, binds) = placed("UPDATE users SET a = {id} WHERE id = {id}", group).unwrap();
        assert_eq!((sql.as_str(), binds), ("UPDATE users SET a = ? WHERE id = ?", vec![0, 0]));
        assert!(placed("UPDATE users SET a = {x}", group).unwrap_err().to_string().contains("it has id"));
    }
}
