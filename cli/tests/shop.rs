//! The sample shop's groups, each by the commands that a user has: what they hold, and which changes are printed as removals.

#[path = "common/stack.rs"]
mod stack;

use std::path::Path;

use serde_json::Value;
use stack::{Stack, freshline, sqlite, text};

/// What a command printed, as JSON; it must end with 0.
fn json(dir: &Path, arguments: &[&str]) -> Value {
    let output = freshline(dir).args(arguments).arg("--json").output().unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{arguments:?}: {out}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

/// Whether a list of a printed removal has this name.
fn names(removal: &Value, list: &str, name: &str) -> bool {
    removal[list].as_array().unwrap().iter().any(|listed| listed == name)
}

/// Reads a key until it is in memory.
fn keep(dir: &Path, key: &str) -> Value {
    loop {
        let answer = json(dir, &["get", key]);
        if answer["outcome"] == "hit" {
            return answer["value"].clone();
        }
    }
}

#[test]
fn a_products_new_name_removes_by_tag_what_shows_it_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::start(dir.path());
    let (shows, shows_not) = ("order:42:items", "order:43:items");
    let has = |items: &Value| items.as_array().unwrap().iter().any(|item| item["product_id"] == 11);
    assert!(has(&keep(dir.path(), shows)) && !has(&keep(dir.path(), shows_not)));
    json(dir.path(), &["sql", "UPDATE products SET name = 'Iron pan' WHERE id = 11"]);
    let removal = stack.removal(|removal| names(removal, "tags", "shop.products.id=11"));
    assert!(names(&removal, "removed", "product:11") && names(&removal, "removed", "page:product:11"));
    assert_eq!(removal["flushed"], serde_json::json!([]));
    assert!(json(dir.path(), &["get", shows])["value"].to_string().contains("Iron pan"));
    assert_eq!(json(dir.path(), &["get", shows_not])["outcome"], "hit");
    let story = json(dir.path(), &["explain", shows]);
    let removed = story["timeline"].as_array().unwrap().iter().find(|moment| moment["what"] == "removed");
    assert!(removed.unwrap()["detail"].as_str().unwrap().ends_with("by tag shop.products.id=11"), "{story}");

    let stats = json(dir.path(), &["stats"]);
    let mut removed = stats.as_array().unwrap().iter().map(|node| node["tag_removes"].as_u64());
    assert!(removed.all(|tags| tags >= Some(1)), "each node was told of the tag: {stats}");

    let both =
        freshline(dir.path()).args(["del", "user:1", "--tag", "shop.products.id=11"]).output().unwrap();
    assert!(text(&both).0.starts_with("removed what carries shop.products.id=11, on every node\n"));
}

#[test]
fn reviews_follow_the_rows_of_their_shard_and_so_does_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::start(dir.path());
    for (product, shard) in [(7, "reviews_1"), (8, "reviews_0")] {
        let key = format!("product:{product}:reviews");
        let before = keep(dir.path(), &key).as_array().unwrap().len();
        assert!(before > 0, "{key} has reviews");
        let insert = format!(
            "INSERT INTO {shard}(product_id, user_id, stars, body) VALUES ({product}, 42, 5, 'As it should be.')"
        );
        json(dir.path(), &["sql", &insert]);
        let removal = stack.removal(|removal| names(removal, "removed", &key));
        assert!(names(&removal, "removed", &format!("page:product:{product}")), "{removal}");
        let after = json(dir.path(), &["get", &key])["value"].clone();
        assert_eq!(after.as_array().unwrap().len(), before + 1);
        assert!(after.to_string().contains("As it should be."), "{after}");
    }
    let page = freshline(dir.path()).args(["get", "page:product:7"]).output().unwrap();
    assert_eq!(page.status.code(), Some(1), "only an application can fill it: {:?}", text(&page));
}

#[test]
fn a_session_goes_with_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::start(dir.path());
    for key in ["session:42:a", "session:43:a"] {
        json(dir.path(), &["put", key, "{\"cart\": [7]}"]);
        assert_eq!(json(dir.path(), &["get", key])["value"]["cart"][0], 7);
    }
    json(dir.path(), &["sql", "DELETE FROM users WHERE id = 42"]);
    stack.removal(|removal| names(removal, "tags", "sessions-of:42"));
    let gone = freshline(dir.path()).args(["get", "session:42:a"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1), "{:?}", text(&gone));
    assert_eq!(json(dir.path(), &["get", "session:43:a"])["value"]["cart"][0], 7);
}

/// *A row was larger than a message: the log told of a flush that never came.*
#[test]
fn a_row_that_is_larger_than_a_message_flushes_its_groups() {
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::start(dir.path());
    let before = keep(dir.path(), "product:3");
    json(dir.path(), &["sql", "UPDATE products SET name = hex(zeroblob(700000)) WHERE id = 3"]);
    stack.removal(|removal| names(removal, "flushed", "product"));
    json(dir.path(), &["sql", "UPDATE products SET name = 'small' WHERE id = 3"]);
    stack.removal(|removal| names(removal, "flushed", "product"));
    let after = json(dir.path(), &["get", "product:3"])["value"].clone();
    assert_eq!((&after["name"], &after["id"]), (&Value::from("small"), &before["id"]));
}

/// *Without regard to case a name in capitals is the same: no trigger noted it.*
#[test]
fn a_column_that_changes_in_case_alone_has_changed_and_a_new_one_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    sqlite(
        &dir.path().join("own.db"),
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE); INSERT INTO users VALUES (7, 'Ada')",
    );
    let catalog = "[database]\nurl = \"sqlite:own.db\"\n[[group]]\nname = \"user\"\nkey = \"user:{id:u64}\"\n\
                   query = \"SELECT * FROM own.users WHERE id = {id}\"\n";
    std::fs::write(dir.path().join("own.toml"), catalog).unwrap();
    let stack = Stack::with(dir.path(), &["--config", "own.toml"]);
    let second =
        freshline(dir.path()).args(["dev", "--port-base", "0", "--config", "own.toml"]).output().unwrap();
    let (_, err) = text(&second);
    assert!(!second.status.success() && err.contains("another `freshline dev --config` follows it"), "{err}");
    assert_eq!(keep(dir.path(), "user:7")["name"], "Ada");
    sqlite(&dir.path().join("own.db"), "UPDATE users SET name = 'ADA'");
    stack.removal(|removal| names(removal, "removed", "user:7"));
    assert_eq!(keep(dir.path(), "user:7")["name"], "ADA");
    sqlite(&dir.path().join("own.db"), "ALTER TABLE users ADD COLUMN city TEXT DEFAULT 'Oslo'");
    stack.removal(|removal| names(removal, "flushed", "user"));
    assert_eq!(keep(dir.path(), "user:7")["city"], "Oslo");
    sqlite(&dir.path().join("own.db"), "UPDATE users SET city = 'Quito'");
    stack.removal(|removal| names(removal, "removed", "user:7"));
    assert_eq!(keep(dir.path(), "user:7")["city"], "Quito");
}
