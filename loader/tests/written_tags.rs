//! Tags and rules written by hand, against brute force on SQLite: whatever a catalog accepts never leaves an entry that differs from the
//! database, whichever rows are not there: empty pages, counts of nothing, absent partners, negative entries.

#[path = "common/shop.rs"]
mod shop;

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use catalog::{Catalog, Effect, Key, RowImage};
use loader::{Limits, Loaded, Loader, Metrics, RowSource as _, sqlite::Sqlite};
use shop::{Dice, SCHEMA, Shown, change, open};

const USERS: u64 = shop::USERS;
const PAGES: u64 = 3;

/// Queries whose results may be empty, or hide rows; `{u}` and `{p}` are the key's.
const QUERIES: [&str; 14] = [
    "SELECT COLUMNS FROM orders o WHERE o.user_id = {u} ORDER BY o.id LIMIT 2 OFFSET {p}",
    "SELECT COLUMNS FROM orders o WHERE o.user_id = {u} AND o.qty >= {p} ORDER BY o.id",
    "SELECT COUNT(*) AS id FROM orders o WHERE o.user_id = {u} AND o.qty >= {p}",
    "SELECT MAX(o.product_id) AS product_id, SUM(o.qty) AS id FROM orders o WHERE o.user_id = {u} AND o.id > {p}",
    "SELECT o.product_id, COUNT(*) AS id FROM orders o WHERE o.user_id = {u} GROUP BY o.product_id HAVING COUNT(*) > {p} ORDER BY 1",
    "SELECT DISTINCT o.product_id FROM orders o WHERE o.user_id = {u} AND o.id > {p} ORDER BY 1",
    "SELECT COLUMNS, p.name FROM orders o LEFT JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} AND o.qty >= {p} ORDER BY o.id",
    "SELECT COLUMNS, p.name FROM orders o JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} AND o.qty >= {p} ORDER BY o.id",
    "SELECT o.id, p.id AS product_id, p.name FROM orders o JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} AND o.qty = {p} ORDER BY o.id",
    "SELECT o.id, p.id AS product_id, p.name FROM orders o LEFT JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} AND o.qty = {p} ORDER BY o.id",
    "SELECT COLUMNS, p.name FROM orders o LEFT JOIN products p ON p.id = o.product_id WHERE o.user_id = {u} ORDER BY o.id LIMIT 2 OFFSET {p}",
    "SELECT COLUMNS, p.name FROM orders o LEFT JOIN products p ON p.id = o.product_id AND p.active = {p} WHERE o.user_id = {u} ORDER BY o.id",
    "SELECT o.id, o.product_id FROM orders o WHERE o.user_id = {u} AND EXISTS (SELECT 1 FROM products p WHERE p.id = o.product_id AND p.active = {p}) ORDER BY o.id",
    "SELECT p.id, COUNT(o.id) AS product_id FROM products p LEFT JOIN orders o ON o.product_id = p.id AND o.user_id = {u} WHERE p.category_id >= {p} GROUP BY p.id ORDER BY 1",
];
const COLUMNS: [&str; 4] = ["o.id", "o.id, o.user_id, o.product_id", "o.*", "o.qty AS product_id, o.id"];
/// What a group may write, and the columns by which a rule may make the same tag.
const TAGS: [(&str, &[&str]); 6] = [
    ("a#:{u:u64}", &["a#:{user_id}", "a#:{id}", "a#:{qty}", "a#:{category_id}"]),
    ("b#:{product_id:u64}", &["b#:{product_id}", "b#:{id}"]),
    ("c#:{id:u64}", &["c#:{id}", "c#:{product_id}"]),
    ("d#:{user_id:u64}", &["d#:{user_id}"]),
    ("e#:{u:u64}:{p:u64}", &["e#:{user_id}:{qty}", "e#:{user_id}:{id}"]),
    ("f#:{p:u64}", &["f#:{active}", "f#:{category_id}", "f#:{qty}"]),
];

fn one<'a, T: ?Sized>(dice: &mut Dice, all: &[&'a T]) -> &'a T {
    all[dice.below(all.len() as u64) as usize]
}

/// A group with its rules; whether a catalog takes it is for the catalog to say.
fn group(dice: &mut Dice, number: usize) -> String {
    let query = one(dice, &QUERIES).replace("COLUMNS", one(dice, &COLUMNS));
    let rows = one(dice, &["one", "many", "many"]);
    let tags: Vec<_> = (0..=dice.below(2)).map(|_| TAGS[dice.below(6) as usize]).collect();
    let list: Vec<String> = tags.iter().map(|(tag, _)| format!("\"{tag}\"")).collect();
    let mut text = format!(
        "[[group]]\nname = \"g#\"\nkey = \"g#:{{u:u64}}:{{p:u64}}\"\nrows = \"{rows}\"\nquery = \"{query}\"\ntags = [{}]\n",
        list.join(", ")
    );
    for table in ["orders", "products"] {
        let what = match dice.below(6) {
            0 => continue,
            1 => "groups = [\"g#\"]".to_owned(),
            _ => {
                let (_, columns) = tags[dice.below(tags.len() as u64) as usize];
                let when =
                    ["", "", "", "", "on = [\"insert\", \"delete\"]", "when_changed = [\"qty\", \"name\"]"];
                format!("tags = [\"{}\"]\n{}", one(dice, columns), one(dice, &when))
            }
        };
        let _ = write!(text, "[[rule]]\ntable = \"shop.{table}\"\n{what}\n");
    }
    text.replace('#', &number.to_string())
}

/// Groups that a catalog takes, each by itself; and how many it refused.
fn accepted(dice: &mut Dice, many: usize) -> (Catalog, usize) {
    const HEAD: &str = "[catalog]\ndatabase = \"shop\"\n";
    let (mut all, mut found, mut refused) = (HEAD.to_owned(), 0, 0);
    while found < many {
        let text = group(dice, found);
        match Catalog::parse("test.toml", &format!("{HEAD}{text}")) {
            Ok(_) => {
                all.push_str(&text);
                found += 1;
            }
            Err(report) => {
                let report = report.to_string();
                assert!(
                    report.contains("does not tell the key") || report.contains("selects no column"),
                    "{report}"
                );
                refused += 1;
            }
        }
    }
    (Catalog::parse("test.toml", &all).unwrap_or_else(|report| panic!("{report}")), refused)
}

/// Every key's value and tags; `None` for those that can't be loaded, of a tag that a `*` turned out not to have.
async fn load(loader: &Loader, keys: &[Key]) -> BTreeMap<String, Option<Loaded>> {
    let mut all = BTreeMap::new();
    for key in keys {
        let entry = loader.load_tagged(key.clone()).await;
        if let Err(error) = &entry {
            assert!(error.to_string().contains("has no column"), "{error}");
        }
        all.insert(key.text.to_string(), entry.ok());
    }
    all
}

#[tokio::test]
async fn what_is_accepted_never_leaves_an_entry_that_differs_from_the_database() {
    let (mut by_tag, mut spared, mut refused, mut empty) = (0, 0, 0, 0);
    for seed in 1..=6u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (catalog, no) = accepted(&mut dice, 30);
        refused += no;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.db");
        let mut database = open(&file).await;
        sqlx::raw_sql(SCHEMA).execute(&mut database).await.unwrap();
        let catalog = Arc::new(catalog);
        let source = Sqlite::open(&file, &catalog).unwrap();
        source.ready().await.unwrap();
        let loader = Loader::new(source, Limits::default(), Metrics::default());
        let keys: Vec<Key> = catalog
            .groups()
            .iter()
            .flat_map(|group| {
                let of_page = |u: u64| (0..PAGES).map(move |p| (u, p));
                (1..=USERS)
                    .flat_map(of_page)
                    .map(|(u, p)| format!("{}:{u}:{p}", group.name))
                    .collect::<Vec<_>>()
            })
            .map(|text| catalog.resolve(&text).unwrap())
            .collect();
        let mut cached = load(&loader, &keys).await;
        for step in 0..40 {
            let Some((table, op, before, after)) = change(&mut database, &mut dice).await else { continue };
            let (mut removed, mut tags, mut groups) = (Vec::new(), Vec::new(), Vec::new());
            let (old, new) = (before.as_ref().map(Shown), after.as_ref().map(Shown));
            if let Some(rules) = catalog.table("shop", table) {
                rules.map(
                    op,
                    old.as_ref().map(|image| image as &dyn RowImage),
                    new.as_ref().map(|image| image as &dyn RowImage),
                    &mut |effect| match effect {
                        Effect::Remove(key) => removed.push(key),
                        Effect::RemoveTag(tag) => tags.push(tag),
                        Effect::Flush { group, .. } => groups.push(group),
                    },
                );
            }
            for key in &keys {
                // What can't be loaded, or has tags that can't be told, is in no memory.
                let Some(Some(entry)) = cached.get(&*key.text) else { continue };
                let Ok(carried) = &entry.tags else { continue };
                let tagged = carried.iter().any(|tag| tags.iter().any(|removed| **tag == **removed));
                by_tag += usize::from(tagged);
                if tagged
                    || groups.contains(&key.group.id)
                    || removed.iter().any(|removed| **removed == *key.text)
                {
                    cached.remove(&*key.text);
                }
            }
            for (text, fresh) in load(&loader, &keys).await {
                if let Some(Some(entry)) = cached.get(&text)
                    && let (Ok(carried), Some(fresh)) = (&entry.tags, &fresh)
                {
                    spared += 1;
                    empty += usize::from(entry.value.as_ref().is_none_or(|value| &**value == b"[]"));
                    let query =
                        catalog.resolve(&text).unwrap().group.query.as_ref().unwrap().text().to_owned();
                    assert_eq!(
                        entry.value, fresh.value,
                        "seed {seed}, step {step}: {text} of {query} differs after {op:?} of {table}, {before:?} to {after:?}; it \
                         carries {carried:?}, removed were {removed:?} {tags:?} {groups:?}"
                    );
                } else {
                    cached.insert(text, fresh);
                }
            }
        }
    }
    println!("{by_tag} by tag, {spared} spared, {empty} of them of nothing, {refused} groups refused");
    // It must not be true for the wrong reason.
    assert!(
        by_tag > 1000 && spared > 5000 && empty > 500 && refused > 50,
        "{by_tag} {spared} {empty} {refused}"
    );
}
