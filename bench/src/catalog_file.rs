//! The catalog that everything is measured with: a shop's orders, one by one and by customer.

use std::sync::Arc;

use anyhow::Context as _;
use catalog::Catalog;

/// The catalog over the table `orders` of `database`.
pub(crate) fn catalog(database: &str) -> anyhow::Result<Arc<Catalog>> {
    let text = format!(
        r#"
[[group]]
name = "order"
key = "order:{{id:u64}}"
query = "SELECT id, customer_id, status, total, note FROM {database}.orders WHERE id = {{id}}"
ttl = "10m"
negative_ttl = "30s"

[[group]]
name = "customer_orders"
key = "customer:{{customer_id:u64}}:orders"
query = "SELECT id, status, total FROM {database}.orders WHERE customer_id = {{customer_id}} ORDER BY id DESC LIMIT 20"
rows = "many"
ttl = "10m"
negative_ttl = "30s"
"#
    );
    let catalog = Catalog::parse("bench.toml", &text).context("read the catalog of the measurement")?;
    Ok(Arc::new(catalog))
}

/// The key of one order.
pub(crate) fn order(id: u64) -> String {
    format!("order:{id}")
}

/// What a row of orders looks like: twelve columns.
pub(crate) const TABLE: &str = "CREATE TABLE orders (
    id BIGINT UNSIGNED PRIMARY KEY, customer_id BIGINT UNSIGNED NOT NULL, status TINYINT UNSIGNED NOT NULL, currency CHAR(3) NOT NULL,
    total DECIMAL(12,2) NOT NULL, items INT NOT NULL, street VARCHAR(80) NOT NULL, city VARCHAR(40) NOT NULL, country CHAR(2) NOT NULL,
    note VARCHAR(200), created_at DATETIME(3) NOT NULL, updated_at TIMESTAMP(6) NOT NULL, KEY (customer_id))";
