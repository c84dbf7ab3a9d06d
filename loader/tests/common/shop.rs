//! A shop in SQLite that changes at random, for brute force.

use std::{collections::BTreeMap, path::Path};

use catalog::{Column, Op, RowImage};
use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};

/// Users that orders are of, from 1.
pub(crate) const USERS: u64 = 3;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE orders(id INTEGER PRIMARY KEY, user_id INT NOT NULL, product_id INT, sku TEXT COLLATE NOCASE, qty INT);
    CREATE TABLE products(id INTEGER PRIMARY KEY, category_id INT, sku TEXT COLLATE NOCASE, name TEXT, active INT);
    CREATE TABLE categories(id INTEGER PRIMARY KEY, title TEXT);";

/// Column by column: text, or `None` for NULL.
pub(crate) type Image = BTreeMap<String, Option<String>>;

pub(crate) struct Shown<'a>(pub(crate) &'a Image);

impl RowImage for Shown<'_> {
    fn column(&self, name: &str) -> Column<'_> {
        match self.0.get(&name.to_lowercase()) {
            None => Column::Missing,
            Some(None) => Column::Null,
            Some(Some(text)) => Column::Text { text, mysql_type: None },
        }
    }
}

/// A small generator: the same numbers for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// SQL for a value: few different ones, so that rows join.
    fn value(&mut self, column: &str) -> String {
        match column {
            "user_id" => (1 + self.below(USERS)).to_string(),
            "sku" => ["NULL", "''", "'a'", "'A'", "'b '", "'7'"][self.below(6) as usize].to_owned(),
            "name" | "title" => format!("'{}'", ["x", "y", "z"][self.below(3) as usize]),
            "active" => self.below(2).to_string(),
            _ if self.below(5) == 0 => "NULL".to_owned(),
            _ => self.below(4).to_string(),
        }
    }
}

async fn image(database: &mut SqliteConnection, table: &str, id: u64) -> Option<Image> {
    let columns = columns(table);
    let casts: Vec<String> = columns.iter().map(|column| format!("CAST({column} AS TEXT)")).collect();
    let sql = format!("SELECT {} FROM {table} WHERE id = {id}", casts.join(", "));
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_optional(database).await.unwrap()?;
    Some(columns.iter().enumerate().map(|(at, column)| ((*column).to_owned(), row.get(at))).collect())
}

fn columns(table: &str) -> &'static [&'static str] {
    match table {
        "orders" => &["id", "user_id", "product_id", "sku", "qty"],
        "products" => &["id", "category_id", "sku", "name", "active"],
        _ => &["id", "title"],
    }
}

/// Changes one row at random; returns its table and its images.
pub(crate) async fn change(
    database: &mut SqliteConnection,
    dice: &mut Dice,
) -> Option<(&'static str, Op, Option<Image>, Option<Image>)> {
    let table = ["orders", "products", "products", "categories"][dice.below(4) as usize];
    let id = dice.below(if table == "orders" { 12 } else { 4 });
    let before = image(database, table, id).await;
    let rest = &columns(table)[1..];
    let (sql, now) = match (&before, dice.below(4)) {
        (None, _) => {
            let values: Vec<String> = rest.iter().map(|column| dice.value(column)).collect();
            (format!("INSERT INTO {table} VALUES ({id}, {})", values.join(", ")), Some(id))
        }
        (Some(_), 0) => (format!("DELETE FROM {table} WHERE id = {id}"), None),
        (Some(_), 1) => {
            let other = dice.below(4);
            (format!("UPDATE OR IGNORE {table} SET id = {other} WHERE id = {id}"), Some(other))
        }
        (Some(_), _) => {
            let column = rest[dice.below(rest.len() as u64) as usize];
            (format!("UPDATE {table} SET {column} = {} WHERE id = {id}", dice.value(column)), Some(id))
        }
    };
    let changed = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *database).await.unwrap().rows_affected();
    let after = match now {
        Some(now) if changed > 0 => image(database, table, now).await,
        _ => None,
    };
    let op = match (&before, &after) {
        (None, Some(_)) => Op::Insert,
        (Some(_), None) if changed > 0 => Op::Delete,
        (Some(old), Some(new)) if old != new => Op::Update,
        _ => return None,
    };
    Some((table, op, before, after))
}

pub(crate) async fn open(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}
