//! The embedded stack and values that MySQL has not: SQLite lets any value into any column, and none may end the stream of changes.

#[path = "common/stack.rs"]
mod stack;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use stack::{Stack, freshline, text};

fn run(runtime: &Path, arguments: &[&str]) -> String {
    let output = freshline(runtime).args(arguments).output().unwrap();
    let (out, error) = text(&output);
    assert!(output.status.success(), "{arguments:?}: {out}{error}");
    out
}

/// Changes a row, and waits until that has removed what was cached of it.
fn delivered(runtime: &Path, sql: &str, get: &[&str], shows: &str) {
    run(runtime, &["sql", "--dir", "shop", sql]);
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let output = freshline(runtime).args(get).output().unwrap();
        let (out, error) = text(&output);
        if out.contains(shows) || error.contains(shows) {
            return;
        }
        assert!(Instant::now() < end, "after {sql}: {get:?} says {out}{error}, not {shows}");
    }
}

/// Each makes user 8 what MySQL has not; what a get says of it then.
const ODD: [(&str, &str); 10] = [
    ("UPDATE users SET city = CAST(X'FF' AS TEXT) WHERE id = 8", "city"),
    ("UPDATE users SET city = 'a' || char(0) || 'b' WHERE id = 8", "a"),
    ("UPDATE users SET city = X'FF00FE' WHERE id = 8", "city"),
    ("UPDATE users SET city = CAST('bytes' AS BLOB) WHERE id = 8", "city"),
    ("UPDATE users SET city = 'x' || CAST(X'C328' AS TEXT) || '\"' WHERE id = 8", "city"),
    ("UPDATE users SET city = char(65533) || 'kept' WHERE id = 8", "kept"),
    ("UPDATE users SET city = 9223372036854775807 WHERE id = 8", "9223372036854775807"),
    ("UPDATE users SET city = 9e999 WHERE id = 8", "Inf"),
    ("UPDATE users SET name = CAST(X'F0288CBC' AS TEXT), city = 'named' WHERE id = 8", "name"),
    ("UPDATE users SET email = CAST(X'FFFE' AS TEXT), name = 'Ada', city = 'mailed' WHERE id = 8", "email"),
];

#[test]
fn no_value_ends_the_stream_of_changes() {
    let runtime = tempfile::tempdir().unwrap();
    let runtime = runtime.path();
    let stack = Stack::start(runtime);
    for (number, (odd, shows)) in ODD.into_iter().enumerate() {
        delivered(runtime, odd, &["get", "user:8"], shows);
        let city = format!("City {number}");
        let plain =
            format!("UPDATE users SET name = 'Ada', email = 'ada@example.org', city = '{city}' WHERE id = 8");
        delivered(runtime, &plain, &["get", "user:8"], &city);
    }
    // Numbers that an integer column can't hold; a row with one is read by another key.
    delivered(runtime, "UPDATE orders SET total_cents = 9e999 WHERE id = 1", &["get", "user:8"], "City 9");
    delivered(runtime, "UPDATE orders SET total_cents = 1.5 WHERE id = 2", &["get", "user:8"], "City 9");
    delivered(
        runtime,
        "UPDATE orders SET total_cents = 18446744073709551615 WHERE id = 3",
        &["get", "user:8"],
        "City 9",
    );
    // A row that no message of Kafka takes, and one after it.
    delivered(
        runtime,
        "UPDATE users SET city = 'big' || hex(zeroblob(3000000)) WHERE id = 9; UPDATE users SET city = 'After' WHERE id = 8",
        &["get", "user:8"],
        "After",
    );
    drop(stack);
    // What waits in the outbox when a stack starts is read too, whatever it is; as is what an earlier version's triggers wrote.
    run(runtime, &["sql", "--dir", "shop", "UPDATE users SET city = CAST(X'FF' AS TEXT) WHERE id = 8"]);
    for broken in [
        "'users', 'UPDATE', '[{\"id\":9e999}]', 'no JSON'",
        "NULL, X'FF', NULL, NULL",
        "'users', 'MOVE', NULL, NULL",
    ] {
        let sql =
            format!("INSERT INTO _freshline_changes(at, tbl, op, before, after) VALUES (NULL, {broken})");
        run(runtime, &["sql", "--dir", "shop", &sql]);
    }
    let _stack = Stack::start(runtime);
    delivered(runtime, "UPDATE users SET city = 'Again' WHERE id = 8", &["get", "user:8"], "Again");
}
