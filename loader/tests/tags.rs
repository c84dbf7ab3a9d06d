//! The tags that joins derive, against brute force on SQLite: whenever a change makes the answer for a key differ, it must remove
//! the key, or a tag that the entry carries, or flush the group.

#[path = "common/shop.rs"]
mod shop;

use std::fmt::Write as _;

use std::{collections::BTreeMap, sync::Arc};

use catalog::{Catalog, Effect, Key, RowImage};
use loader::{Limits, Loaded, Loader, Metrics, RowSource, Untagged, sqlite::Sqlite};
use shop::{Dice, SCHEMA, Shown, change, open};

const QUERIES: [&str; 16] = [
    "SELECT o.id, p.name FROM orders o LEFT JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} ORDER BY o.id",
    "SELECT o.id, p.name FROM orders o LEFT JOIN products p ON o.product_id = p.id AND p.active = 1 WHERE o.user_id = {u} ORDER BY o.id",
    "SELECT o.id, p.name FROM orders o JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} ORDER BY o.id",
    "SELECT o.id, p.name FROM orders o, products p WHERE p.id = o.product_id AND p.active = 1 AND o.user_id = {u} ORDER BY o.id",
    "SELECT o.*, p.name, c.title FROM orders o LEFT JOIN products p ON p.id = o.product_id LEFT JOIN categories c ON c.id = p.category_id WHERE o.user_id = {u} ORDER BY o.id",
    "SELECT o.id, c.title FROM orders o JOIN products p ON p.id = o.product_id LEFT JOIN categories c ON c.id = p.category_id WHERE o.user_id = {u} ORDER BY o.id",
    "SELECT o.id, c.title FROM orders o JOIN products p ON p.id = o.product_id JOIN categories c ON c.id = p.category_id WHERE o.user_id = {u} ORDER BY o.id",
    "SELECT o.id, p.name FROM orders o LEFT JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} ORDER BY o.id LIMIT 2",
    "SELECT o.id, p.name FROM orders o JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} ORDER BY o.id DESC LIMIT 2",
    "SELECT o.id, p.name FROM orders o JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} ORDER BY p.name, o.id LIMIT 2",
    // Many partners of one row.
    "SELECT o.id, p.id AS product FROM orders o LEFT JOIN products p ON p.category_id = o.product_id WHERE o.user_id = {u} ORDER BY o.id, p.id",
    "SELECT o.id, p.id AS product FROM orders o JOIN products p ON p.category_id = o.product_id WHERE o.user_id = {u} ORDER BY o.id, p.id",
    "SELECT o.id, p.name FROM orders o LEFT JOIN products p ON p.sku = o.sku WHERE o.user_id = {u} ORDER BY o.id, p.id",
    "SELECT o.id, p.name FROM orders o LEFT JOIN products p ON p.sku = o.sku AND p.id = o.product_id WHERE o.user_id = {u} ORDER BY o.id, p.id",
    // One table twice; the joined table first.
    "SELECT o.id, a.name, b.name AS other FROM orders o LEFT JOIN products a ON a.id = o.product_id LEFT JOIN products b ON b.id = o.qty WHERE o.user_id = {u} ORDER BY o.id",
    "SELECT p.name, o.id FROM products p JOIN orders o ON o.product_id = p.id WHERE o.user_id = {u} AND o.qty > 0 ORDER BY o.id",
];
/// Queries that hide rows, or whose rows don't tell all of the key: of these the tags are made of the key.
const PAGES: [&str; 12] = [
    "SELECT o.id, o.qty FROM orders o WHERE o.user_id = {u} ORDER BY o.id LIMIT 2 OFFSET {p}",
    "SELECT o.id FROM orders o WHERE o.user_id = {u} AND o.id > {p} ORDER BY o.id LIMIT 2",
    "SELECT o.id, o.qty FROM orders o WHERE o.user_id = {u} AND o.id > {p} UNION SELECT q.id, q.product_id FROM orders q WHERE q.user_id = {u} AND q.qty >= {p} ORDER BY 1, 2 LIMIT 3",
    "SELECT o.id FROM orders o WHERE o.user_id = {u} AND o.qty > {p} UNION ALL SELECT p.id FROM products p WHERE p.category_id = {p} ORDER BY 1 LIMIT 4",
    "SELECT COUNT(*) AS n FROM orders o WHERE o.user_id = {u} AND o.qty >= {p}",
    "SELECT COUNT(*) AS n, SUM(o.qty) AS q FROM orders o JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} AND p.active = {p}",
    "SELECT o.product_id, COUNT(*) AS n FROM orders o WHERE o.user_id = {u} GROUP BY o.product_id HAVING COUNT(*) > {p} ORDER BY 1",
    "SELECT DISTINCT o.product_id FROM orders o WHERE o.user_id = {u} AND o.id > {p} ORDER BY 1",
    "SELECT o.id FROM orders o WHERE o.user_id = {u} AND EXISTS (SELECT 1 FROM products p WHERE p.id = o.product_id AND p.active = {p}) ORDER BY o.id",
    "SELECT p.id, COUNT(o.id) AS n FROM products p LEFT JOIN orders o ON o.product_id = p.id AND o.user_id = {u} WHERE p.category_id = {p} GROUP BY p.id ORDER BY 1",
    "SELECT s.product_id, s.n FROM (SELECT o.product_id, COUNT(*) AS n FROM orders o WHERE o.user_id = {u} GROUP BY o.product_id) s WHERE s.n > {p} ORDER BY 1",
    "WITH mine AS (SELECT id, qty FROM orders WHERE user_id = {u}) SELECT SUM(m.qty) AS q FROM mine m WHERE m.id > {p}",
];
const USERS: u64 = shop::USERS;

fn catalog() -> Catalog {
    let mut text = "[catalog]\ndatabase = \"shop\"\n".to_owned();
    for (index, query) in QUERIES.iter().chain(&PAGES).enumerate() {
        let page = if query.contains("{p}") { ":{p:u64}" } else { "" };
        for rows in ["one", "many"] {
            let _ = write!(
                text,
                "[[group]]\nname = \"{rows}_{index}\"\nkey = \"{rows}:{index}:{{u:u64}}{page}\"\nquery = \"{query}\"\nrows = \"{rows}\"\n"
            );
        }
    }
    Catalog::parse("test.toml", &text).unwrap_or_else(|report| panic!("{report}"))
}

async fn load(loader: &Loader, catalog: &Catalog) -> BTreeMap<String, Loaded> {
    let mut all = BTreeMap::new();
    for group in catalog.groups() {
        let prefix = group.name.replace('_', ":");
        let pages: &[&str] = if group.template.params().len() == 1 { &[""] } else { &[":0", ":1", ":2"] };
        let keys = (1..=USERS).flat_map(|user| pages.iter().map(move |page| format!("{user}{page}")));
        let keys: Vec<Key> = keys.map(|key| catalog.resolve(&format!("{prefix}:{key}")).unwrap()).collect();
        for key in keys {
            all.insert(key.text.to_string(), loader.load_tagged(key).await.unwrap());
        }
    }
    all
}

#[tokio::test]
async fn what_makes_an_answer_differ_hits_its_key_or_a_tag_that_it_carries() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.db");
    let mut database = open(&file).await;
    sqlx::raw_sql(SCHEMA).execute(&mut database).await.unwrap();
    let catalog = Arc::new(catalog());
    let source = Sqlite::open(&file, &catalog).unwrap();
    source.ready().await.unwrap();
    let loader = Loader::new(source, Limits::default(), Metrics::default());
    let (mut by_key, mut by_tag, mut by_page, mut by_flush, mut spared) = (0, 0, 0, 0, 0);
    for seed in 1..=6u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut cached = load(&loader, &catalog).await;
        for step in 0..80 {
            let Some((table, op, before, after)) = change(&mut database, &mut dice).await else { continue };
            let (mut keys, mut tags, mut groups) = (Vec::new(), Vec::new(), Vec::new());
            let (old, new) = (before.as_ref().map(Shown), after.as_ref().map(Shown));
            catalog.table("shop", table).unwrap().map(
                op,
                old.as_ref().map(|image| image as &dyn RowImage),
                new.as_ref().map(|image| image as &dyn RowImage),
                &mut |effect| match effect {
                    Effect::Remove(key) => keys.push(key),
                    Effect::RemoveTag(tag) => tags.push(tag),
                    Effect::Flush { group, .. } => groups.push(group),
                },
            );
            for (text, fresh) in load(&loader, &catalog).await {
                let entry = &cached[&text];
                let carried = entry.tags.as_ref().unwrap();
                let key = catalog.resolve(&text).unwrap();
                let hit = if keys.contains(&text) {
                    by_key += 1;
                    true
                } else if groups.contains(&key.group.id) {
                    by_flush += 1;
                    true
                } else if carried.iter().any(|tag| tags.iter().any(|removed| **tag == **removed)) {
                    by_tag += 1;
                    by_page += usize::from(!key.group.tagging.of_key.is_empty());
                    true
                } else {
                    spared += 1;
                    false
                };
                if hit {
                    cached.insert(text, fresh);
                } else {
                    assert_eq!(
                        entry.value, fresh.value,
                        "seed {seed}, step {step}: {text} differs after {op:?} of {table}, {before:?} to {after:?}; it carries \
                         {carried:?}, removed were {keys:?} {tags:?} {groups:?}"
                    );
                }
            }
        }
    }
    // It must not be true for the wrong reason.
    assert!(by_key > 100 && by_tag > 1000 && by_flush > 1000, "{by_key} {by_tag} {by_flush}");
    assert!(by_page > 1000, "{by_page}");
    assert!(spared > 2 * (by_key + by_tag + by_flush), "{spared} of {}", by_key + by_tag + by_flush + spared);
}

#[tokio::test]
async fn written_tags_are_made_of_each_row_and_too_many_or_unreadable_ones_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.db");
    let mut database = open(&file).await;
    sqlx::raw_sql(SCHEMA).execute(&mut database).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO orders VALUES (1, 1, 7, 'A', 1), (2, 1, 7, 'b', 1), (3, 1, NULL, 'c', 1), (4, 1, 9, NULL, 1), (5, 2, -1, 'x', 1)",
    )
    .execute(&mut database)
    .await
    .unwrap();
    let group = |name: &str, columns: &str, tags: &str, more: &str| {
        format!(
            "[[group]]\nname = \"{name}\"\nkey = \"{name}:{{u:u64}}\"\nrows = \"many\"\ntags = [{tags}]\n{more}\n\
             query = \"SELECT {columns} FROM shop.orders WHERE user_id = {{u}} ORDER BY id\"\n"
        )
    };
    let text = group("plain", "id, product_id", "\"product:{product_id:u64}\"", "")
        + &group("star", "*", "\"product:{product_id:u64}\", \"sku:{SKU:str|lower}\"", "")
        + &group("few", "id", "\"order:{id:u64}\"", "max_tags = 2")
        + &group("lost", "*", "\"product:{product:u64}\"", "");
    let catalog = Arc::new(Catalog::parse("test.toml", &text).unwrap_or_else(|report| panic!("{report}")));
    let source = Sqlite::open(&file, &catalog).unwrap();
    let load = async |text: &str| {
        let key = catalog.resolve(text).unwrap();
        source.load(&key.group, std::slice::from_ref(&key)).await.map(|mut loaded| loaded.remove(0))
    };
    let tags =
        |loaded: &Loaded| loaded.tags.as_ref().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    let plain = load("plain:1").await.unwrap();
    assert_eq!(tags(&plain), ["product:7", "product:9"], "NULL makes no tag, and each is there once");
    assert_eq!(tags(&load("star:1").await.unwrap()), ["product:7", "product:9", "sku:a", "sku:b", "sku:c"]);
    assert_eq!(tags(&load("plain:3").await.unwrap()), Vec::<String>::new());
    let few = load("few:1").await.unwrap();
    assert_eq!(few.tags, Err(Untagged::TooMany { limit: 2 }));
    assert!(few.value.is_some(), "it is served all the same");
    let unreadable = load("plain:2").await.unwrap().tags.unwrap_err();
    assert_eq!(unreadable.label(), "unreadable_tag");
    assert!(unreadable.to_string().contains("{product_id} of tag product:{product_id:u64}"), "{unreadable}");
    let lost = load("lost:1").await.unwrap_err().to_string();
    assert!(lost.contains("the result has no column product"), "{lost}");
}
