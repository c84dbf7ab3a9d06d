//! A plain group of a catalog of one's own, on the embedded stack: by the command, and by a plain Redis client of every node.

#[path = "common/stack.rs"]
mod stack;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use stack::{Stack, fed, freshline, sqlite, text};

const CATALOG: &str = r#"
[database]
url = "sqlite:own.db"

[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id, name FROM own.users WHERE id = {id}"

[[group]]
name = "session"
kind = "plain"
key = "session:{user:u64}:{id:u64}"
ttl = "1h"
tags = ["user:{user:u64}"]

[[rule]]
table = "own.users"
tags = ["user:{id}"]
"#;

/// One command on a connection of its own: the lines of the reply.
fn redis(address: &str, words: &[&str]) -> Vec<String> {
    let mut connection = TcpStream::connect(address).unwrap();
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &[&*format!("${}\r\n", word.len()), word, "\r\n"].concat();
    }
    connection.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(connection).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let more = first.starts_with('$') && first != "$-1";
    std::iter::once(first).chain(lines.take(usize::from(more))).collect()
}

#[test]
fn a_session_is_put_read_by_every_node_and_gone_when_its_users_row_changes() {
    let dir = tempfile::tempdir().unwrap();
    sqlite(
        &dir.path().join("own.db"),
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO users VALUES (7, 'Ada')",
    );
    std::fs::write(dir.path().join("own.toml"), CATALOG).unwrap();
    let stack = Stack::with(dir.path(), &["--config", "own.toml"]);
    let run = |words: &[&str]| {
        let output = freshline(dir.path()).args(words).output().unwrap();
        let (out, err) = text(&output);
        (output.status.code().unwrap(), out, err)
    };
    let (status, out, err) = run(&["put", "session:7:1", "cart", "--ttl", "10m"]);
    assert!(status == 0 && out.starts_with("put session:7:1, at all its holders"), "{out}{err}");
    let (status, _, err) = run(&["put", "session:7:1", "other", "--if-absent"]);
    assert!(status == 1 && err.contains("session:7:1 has a value"), "{err}");
    let put = fed(freshline(dir.path()).args(["put", "session:8:1", "-"]), "from a pipe");
    assert!(put.status.success());
    assert_eq!(run(&["get", "session:8:1", "--raw"]).1, "from a pipe");
    let (status, _, err) = run(&["put", "user:7", "v"]);
    assert!(status == 1 && err.contains("group user is not plain"), "{err}");
    let (status, _, err) = run(&["get", "session:7:2"]);
    assert!(status == 1 && err.contains("no value: session:7:2"), "{err}");

    let state = stack.state();
    let nodes: Vec<&str> =
        state["resp"].as_array().unwrap().iter().map(|node| node.as_str().unwrap()).collect();
    for (at, node) in nodes.iter().enumerate() {
        assert_eq!(redis(node, &["GET", "session:7:1"]), ["$4", "cart"]);
        let key = format!("session:7:{}", at + 10);
        assert_eq!(redis(node, &["SET", &key, "v", "EX", "60", "NX"]), ["+OK"]);
        assert_eq!(redis(node, &["SET", &key, "v", "NX"]), ["$-1"]);
        for other in &nodes {
            assert_eq!(redis(other, &["GET", &key]), ["$1", "v"]);
        }
        assert_eq!(redis(node, &["EXPIRE", &key, "600"]), [":1"]);
    }
    assert_eq!(run(&["del", "session:7:10"]).1, "removed 1 entry from memory\n");
    assert_eq!(redis(nodes[0], &["GET", "session:7:10"]), ["$-1"]);

    let (status, _, err) = run(&["sql", "UPDATE users SET name = 'Eve' WHERE id = 7"]);
    assert_eq!(status, 0, "{err}");
    let gone = || nodes.iter().all(|node| redis(node, &["GET", "session:7:1"]) == ["$-1"]);
    let begun = std::time::Instant::now();
    while !gone() {
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(20),
            "the rule has removed its user's sessions"
        );
    }
    assert_eq!(redis(nodes[0], &["GET", "session:8:1"]), ["$11", "from a pipe"], "others' stay");
}
