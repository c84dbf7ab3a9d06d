//! Row changes of every kind, from MySQL to every node.

use proto::v1::Outcome;
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, DELIVERED},
    stack::Stack,
    wait,
};

use crate::shop::{self, sql, user};

pub(crate) async fn miss_then_hit_then_update_reaches_every_node(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_update").await;
    let first = cluster.nodes[0].get("user:1").await.unwrap();
    assert_eq!(first.outcome(), Outcome::Miss);
    for node in &cluster.nodes {
        let reply = node.get("user:1").await.unwrap();
        assert_eq!(reply.outcome(), Outcome::Hit, "{} shares the owner's entry", node.id);
        assert_eq!(node.value("user:1").await.unwrap(), user(1, "Ada", "ada@example.com"));
    }

    sql(&database, "UPDATE users SET name = 'Ada L.' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "Ada L.", "ada@example.com")).await;
    assert!(cluster.sync().metric("freshline_sync_removes_sent_total").await >= 1.0);
}

pub(crate) async fn negative_entry_gives_way_to_an_insert(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_insert").await;
    assert_eq!(cluster.nodes[0].value("user:77").await.unwrap(), Value::Null);
    assert_eq!(cluster.nodes[1].get("user:77").await.unwrap().outcome(), Outcome::NegativeHit);

    sql(&database, "INSERT INTO users VALUES (77, 'Gus', 'gus@example.com')").await;
    cluster.until_everywhere("user:77", &user(77, "Gus", "gus@example.com")).await;
}

pub(crate) async fn changed_key_column_removes_both_keys(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_key_column").await;
    let (old, new) = ("user_by_email:ben@example.com", "user_by_email:benjamin@example.com");
    assert_eq!(cluster.nodes[0].value(old).await.unwrap(), user(2, "Ben", "ben@example.com"));
    assert_eq!(cluster.nodes[0].value(new).await.unwrap(), Value::Null);

    sql(&database, "UPDATE users SET email = 'benjamin@example.com' WHERE id = 2").await;
    cluster.until_everywhere(old, &Value::Null).await;
    cluster.until_everywhere(new, &user(2, "Ben", "benjamin@example.com")).await;

    // The primary key itself: Canal may send the two images' partitions in any order.
    cluster.nodes[0].get("user:3").await.unwrap();
    cluster.nodes[0].get("user:300").await.unwrap();
    sql(&database, "UPDATE users SET id = 300 WHERE id = 3").await;
    cluster.until_everywhere("user:3", &Value::Null).await;
    cluster.until_everywhere("user:300", &user(300, "Cy", "cy@example.com")).await;
}

pub(crate) async fn delete_removes(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_delete").await;
    assert_eq!(cluster.nodes[2].value("user:1").await.unwrap(), user(1, "Ada", "ada@example.com"));
    sql(&database, "DELETE FROM users WHERE id = 1").await;
    cluster.until_everywhere("user:1", &Value::Null).await;
}

pub(crate) async fn truncate_flushes_the_groups_that_read_the_table(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_truncate").await;
    for key in ["user:1", "user:2"] {
        assert_ne!(cluster.nodes[0].value(key).await.unwrap(), Value::Null);
    }
    cluster.nodes[0].get("user:1:orders").await.unwrap();
    sql(&database, "TRUNCATE TABLE users").await;
    for key in ["user:1", "user:2"] {
        cluster.until_everywhere(key, &Value::Null).await;
    }
    let orders = cluster.nodes[0].get("user:1:orders").await.unwrap();
    assert_eq!(orders.outcome(), Outcome::Hit, "a group that does not read the table keeps its entries");
}

pub(crate) async fn a_statement_flushes_the_groups_of_all_tables_that_it_changes(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_statement").await;
    let mut session = database.acquire().await.expect("a connection");
    let mut run = async |statement: &'static str| {
        sqlx::query(statement).execute(&mut *session).await.expect(statement);
    };
    let list = "user:1:orders";
    cluster.nodes[0].get("user:1").await.unwrap();
    cluster.nodes[0].get(list).await.unwrap();
    // Comments on rows come before them, and say nothing.
    run("SET SESSION binlog_rows_query_log_events = ON").await;
    run("UPDATE users SET name = 'Ada L.' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "Ada L.", "ada@example.com")).await;
    assert_eq!(cluster.nodes[0].get(list).await.unwrap().outcome(), Outcome::Hit);

    run("SET SESSION binlog_format = 'STATEMENT'").await;
    run("UPDATE orders o JOIN users u ON u.id = o.user_id SET o.total = 7, u.name = 'Ada S.' WHERE u.id = 1")
        .await;
    cluster.until_everywhere("user:1", &user(1, "Ada S.", "ada@example.com")).await;
    let sevens = json!([{ "id": 11, "total": "7.00" }, { "id": 10, "total": "7.00" }]);
    cluster.until_everywhere(list, &sevens).await;
    run("DELETE u, o FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 1").await;
    cluster.until_everywhere("user:1", &Value::Null).await;
    cluster.until_everywhere(list, &json!([])).await;
}

pub(crate) async fn list_follows_its_rows(stack: &Stack) {
    let (database, cluster) = shop::open(stack, "t_list").await;
    let key = "user:1:orders";
    let both = json!([{ "id": 11, "total": "100.00" }, { "id": 10, "total": "9.90" }]);
    assert_eq!(cluster.nodes[0].value(key).await.unwrap(), both);
    sql(&database, "INSERT INTO orders VALUES (13, 1, 1.50, NULL)").await;
    let three = json!([{ "id": 13, "total": "1.50" }, { "id": 11, "total": "100.00" }, { "id": 10, "total": "9.90" }]);
    cluster.until_everywhere(key, &three).await;
    // An order that moves to another user changes both lists.
    cluster.nodes[0].get("user:2:orders").await.unwrap();
    sql(&database, "UPDATE orders SET user_id = 2 WHERE id = 11").await;
    cluster
        .until_everywhere(key, &json!([{ "id": 13, "total": "1.50" }, { "id": 10, "total": "9.90" }]))
        .await;
    cluster
        .until_everywhere(
            "user:2:orders",
            &json!([{ "id": 12, "total": "5.00" }, { "id": 11, "total": "100.00" }]),
        )
        .await;
}

pub(crate) async fn ten_thousand_rows_in_one_transaction(stack: &Stack) {
    const ROWS: u64 = 10_000;
    let database = stack.database("t_bulk", &["CREATE TABLE users (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50), email VARCHAR(100) COLLATE utf8mb4_bin)",
        "CREATE TABLE orders (id BIGINT UNSIGNED PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, total DECIMAL(10,2) NOT NULL)",
        "INSERT INTO users WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT a.i + 1000 * (b.i - 1), 'before', CONCAT('u', a.i + 1000 * (b.i - 1)) FROM n a JOIN n b ON b.i <= 10"]).await;
    let cluster = Cluster::start(stack, "t_bulk", 3, &shop::catalog("t_bulk")).await;
    let keys: Vec<String> = (1..=ROWS).map(|id| format!("user:{id}")).collect();
    for chunk in keys.chunks(1000) {
        let replies = cluster.nodes[0].get_many(chunk).await.unwrap();
        assert!(replies.iter().all(|reply| reply.value.is_some()));
    }

    sql(&database, "UPDATE users SET name = 'after'").await;
    wait::until("all 10 000 keys to be fresh on every node", DELIVERED, async || {
        for node in &cluster.nodes {
            for chunk in keys.chunks(1000) {
                for reply in node.get_many(chunk).await.map_err(|status| status.to_string())? {
                    let value: Value = serde_json::from_slice(&reply.value.unwrap_or_default())
                        .map_err(|error| error.to_string())?;
                    if value["name"] != "after" {
                        return Err(format!("{} answers {value}", node.id));
                    }
                }
            }
        }
        Ok(())
    })
    .await;
}

pub(crate) async fn sharded_tables_map_by_pattern(stack: &Stack) {
    let name = "t_shards";
    let database = stack
        .database(
            name,
            &[
                "CREATE TABLE items_0 (id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(20))",
                "CREATE TABLE items_1 (id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(20))",
                "CREATE VIEW items AS SELECT * FROM items_0 UNION ALL SELECT * FROM items_1",
                "INSERT INTO items_0 VALUES (2, 'two')",
                "INSERT INTO items_1 VALUES (1, 'one')",
            ],
        )
        .await;
    let catalog = format!(
        "[[group]]\nname = \"item\"\nkey = \"item:{{id:u64}}\"\nignore = [\"{name}.items\"]\nquery = \"SELECT id, title FROM {name}.items WHERE id = {{id}}\"\nttl = \"10m\"\n\n\
         [[rule]]\ntable = \"{name}.items_*\"\nkeys = [\"item:{{id}}\"]\n"
    );
    let cluster = Cluster::start(stack, name, 3, &catalog).await;
    for (id, title) in [(1, "one"), (2, "two")] {
        assert_eq!(
            cluster.nodes[0].value(&format!("item:{id}")).await.unwrap(),
            json!({ "id": id, "title": title })
        );
    }
    sql(&database, "UPDATE items_0 SET title = 'deux' WHERE id = 2").await;
    sql(&database, "UPDATE items_1 SET title = 'un' WHERE id = 1").await;
    for (id, title) in [(1, "un"), (2, "deux")] {
        cluster.until_everywhere(&format!("item:{id}"), &json!({ "id": id, "title": title })).await;
    }
}

pub(crate) async fn rule_with_when_changed_spares_other_updates(stack: &Stack) {
    let name = "t_when";
    let database = shop::database(stack, name).await;
    let catalog = format!(
        "[[group]]\nname = \"sum\"\nkey = \"sum:{{user_id:u64}}\"\nignore = [\"{name}.orders\"]\n\
         query = \"SELECT SUM(total) AS total FROM {name}.orders WHERE user_id = {{user_id}}\"\nttl = \"10m\"\n\n\
         [[group]]\nname = \"order\"\nkey = \"order:{{id:u64}}\"\n\
         query = \"SELECT note FROM {name}.orders WHERE id = {{id}}\"\nttl = \"10m\"\n\n\
         [[rule]]\ntable = \"{name}.orders\"\nkeys = [\"sum:{{user_id}}\"]\nwhen_changed = [\"total\", \"user_id\"]\n"
    );
    let cluster = Cluster::start(stack, name, 2, &catalog).await;
    assert_eq!(cluster.nodes[0].value("sum:1").await.unwrap(), json!({ "total": "109.90" }));
    assert_eq!(cluster.nodes[0].value("order:10").await.unwrap(), json!({ "note": null }));

    // One message maps to both keys: when `order:10` has gone, the message has been applied.
    sql(&database, "UPDATE orders SET note = 'x' WHERE id = 10").await;
    cluster.until_everywhere("order:10", &json!({ "note": "x" })).await;
    assert_eq!(
        cluster.nodes[0].get("sum:1").await.unwrap().outcome(),
        Outcome::Hit,
        "an update of `note` spares the sum"
    );

    sql(&database, "UPDATE orders SET total = 10.00 WHERE id = 10").await;
    cluster.until_everywhere("sum:1", &json!({ "total": "110.00" })).await;
}

pub(crate) async fn joined_rows_reach_the_lists_that_show_them(stack: &Stack) {
    let name = "t_joined_rows";
    let database = stack
        .database(
            name,
            &[
                "CREATE TABLE products (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50) NOT NULL)",
                "CREATE TABLE cart (id INT PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, product_id BIGINT UNSIGNED, KEY (user_id))",
                "INSERT INTO products VALUES (7, 'Pen'), (8, 'Ink')",
                "INSERT INTO cart VALUES (1, 1, 7), (2, 1, 8), (3, 2, 7), (4, 2, 9), (5, 3, NULL)",
            ],
        )
        .await;
    let catalog = format!(
        r#"
[[group]]
name = "cart"
key = "cart:{{user_id:u64}}"
query = "SELECT c.id, p.name FROM {name}.cart c LEFT JOIN {name}.products p ON p.id = c.product_id WHERE c.user_id = {{user_id}} ORDER BY c.id"
rows = "many"
ttl = "10m"
"#
    );
    let cluster = Cluster::start(stack, name, 3, &catalog).await;
    let list = |rows: &[(u64, Value)]| {
        json!(rows.iter().map(|(id, name)| json!({ "id": id, "name": name })).collect::<Vec<_>>())
    };
    let three = list(&[(5, Value::Null)]);
    for (key, expected) in [
        ("cart:1", list(&[(1, json!("Pen")), (2, json!("Ink"))])),
        ("cart:2", list(&[(3, json!("Pen")), (4, Value::Null)])),
        ("cart:3", three.clone()),
    ] {
        cluster.until_everywhere(key, &expected).await;
    }
    // One product that two users' carts show, which its row does not tell.
    sql(&database, "UPDATE products SET name = 'Pencil' WHERE id = 7").await;
    cluster.until_everywhere("cart:1", &list(&[(1, json!("Pencil")), (2, json!("Ink"))])).await;
    cluster.until_everywhere("cart:2", &list(&[(3, json!("Pencil")), (4, Value::Null)])).await;
    // A partner that comes later, and one that goes.
    sql(&database, "INSERT INTO products VALUES (9, 'Cap')").await;
    cluster.until_everywhere("cart:2", &list(&[(3, json!("Pencil")), (4, json!("Cap"))])).await;
    sql(&database, "DELETE FROM products WHERE id = 8").await;
    cluster.until_everywhere("cart:1", &list(&[(1, json!("Pencil")), (2, Value::Null)])).await;
    assert_eq!(
        cluster.nodes[0].get("cart:3").await.unwrap().outcome(),
        Outcome::Hit,
        "what shows none of them stays"
    );
    assert_eq!(cluster.nodes[0].value("cart:3").await.unwrap(), three);
}
