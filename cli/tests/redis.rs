//! What a plain Redis client, which knows nothing of clusters, sees of the embedded stack.

#[path = "common/stack.rs"]
mod stack;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use serde_json::Value;
use stack::{Stack, sqlite};

/// One GET on a connection of its own: the value, or the line of an error.
fn get(address: &str, key: &str) -> Result<Value, String> {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).unwrap();
    let mut reply = BufReader::new(connection);
    let mut line = String::new();
    reply.read_line(&mut line).unwrap();
    let Some(length) = line.strip_prefix('$') else { return Err(line) };
    let mut value = vec![0; length.trim().parse().unwrap()];
    reply.read_exact(&mut value).unwrap();
    Ok(serde_json::from_slice(&value).unwrap())
}

/// What each node says to a GET of one key.
fn answers(stack: &Stack) -> Vec<Result<Value, String>> {
    let nodes = stack.state()["resp"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    nodes.iter().map(|node| get(node.as_str().unwrap(), "user:42")).collect()
}

/// A catalog for the one row of `own.db`.
fn catalog(dir: &Path, more: &str) {
    let catalog = format!(
        "[database]\nurl = \"sqlite:own.db\"\n{more}\n[[group]]\nname = \"user\"\nkey = \"user:{{id:u64}}\"\n\
         query = \"SELECT id, name FROM own.users WHERE id = {{id}}\"\n"
    );
    std::fs::write(dir.join("own.toml"), catalog).unwrap();
}

#[test]
fn every_node_of_dev_answers_every_key_to_a_client_that_knows_no_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::start(dir.path());
    for answer in answers(&stack) {
        assert_eq!(answer.unwrap()["id"], 42);
    }
}

#[test]
fn a_catalog_of_your_own_may_have_nodes_name_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    sqlite(
        &dir.path().join("own.db"),
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO users VALUES (42, 'Ada')",
    );
    catalog(dir.path(), "");
    let stack = Stack::with(dir.path(), &["--config", "own.toml"]);
    assert!(answers(&stack).iter().all(Result::is_ok));
    drop(stack);

    catalog(dir.path(), "[node]\nresp_forward = false");
    let stack = Stack::with(dir.path(), &["--config", "own.toml"]);
    let refused: Vec<String> = answers(&stack).into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|error| error.starts_with("-MOVED ")), "{refused:?}");
}
