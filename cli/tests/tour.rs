//! The embedded stack as a user meets it: the built binary, its own ports, its own files.

#[path = "common/stack.rs"]
mod stack;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use stack::{Stack, freshline, interrupt, query, sqlite, text};

#[test]
fn the_tour_shows_all_that_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    let output = freshline(dir.path()).args(["dev", "--tour"]).output().unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}\n{err}");
    for step in [
        "miss, filled by node c",
        "hit on node c",
        "removed from c",
        "the new value from each",
        "hit on node a: no such row",
        "order:42:items removed by tag shop.products.id=11",
        "pushes \"invalidate user:7\"",
        "All of it happened",
    ] {
        assert!(out.contains(step), "no `{step}` in:\n{out}\n{err}");
    }
    assert_eq!(err, "", "a good tour has nothing to complain about");
}

#[test]
fn the_tour_prints_its_steps_as_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    let output = freshline(dir.path()).args(["dev", "--tour", "--json"]).output().unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}\n{err}");
    let steps: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        steps.len() > 10 && steps.iter().all(|step| step["step"].is_string() && step["ms"].is_number()),
        "{out}"
    );
}

#[test]
fn a_stack_serves_every_command_and_ends_by_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let mut stack = Stack::start(dir.path());
    let run = |arguments: &[&str]| freshline(dir.path()).args(arguments).output().unwrap();
    let json = |arguments: &[&str]| -> Value {
        let output = run(arguments);
        let (out, err) = text(&output);
        assert!(output.status.success(), "{arguments:?}: {out}\n{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    };
    assert_eq!(stack.state()["nodes"].as_array().unwrap().len(), 3);

    let empty = run(&["verify", "--all", "--ages", "100ms"]);
    let (out, err) = text(&empty);
    assert!(empty.status.success() && out.contains("nothing was compared"), "{out}\n{err}");
    assert!(!out.contains("all\n") && !out.contains("100.0000 %"), "no claim for nothing: {out}");

    // Found by the state file, without an address.
    let get = json(&["get", "user:42", "--json"]);
    assert_eq!(get["value"]["id"], 42);
    assert!(get["node"].is_string() && get["age_ms"].is_number());
    let raw = run(&["get", "user:42", "--raw", "-v"]);
    assert!(serde_json::from_slice::<Value>(&raw.stdout).is_ok() && text(&raw).1.contains("from node"));
    let many = json(&["get-many", "user:1", "user:999999", "product:1", "--json"]);
    assert_eq!((&many[0]["value"]["id"], &many[1]["value"]), (&Value::from(1), &Value::Null));

    let absent = run(&["get", "user:999999"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent).1.contains("no such row"), "{:?}", text(&absent));
    let bad = run(&["get", "user:007"]);
    let (out, err) = text(&bad);
    assert_eq!((bad.status.code(), out.as_str()), (Some(1), ""));
    assert!(err.starts_with("freshline: failed to get user:007") && err.contains("user:7"), "{err}");

    assert_eq!(json(&["explain", "user:42", "--json"])["group"], "user");
    let ring = json(&["ring", "--json"]);
    let slots: u64 = ring["members"].as_array().unwrap().iter().map(|m| m["slots"].as_u64().unwrap()).sum();
    assert_eq!(slots, 16384);
    assert_eq!(json(&["stats", "--json"]).as_array().unwrap().len(), 3);
    assert!(json(&["del", "user:1", "--json"])["removed"].is_number());
    assert_eq!(json(&["flush", "user", "--json"])["flushed"][0], "user");

    // A change by another process removes the key. Nothing tells when, so it is asked for until it is there.
    let changed = json(&["sql", "--json", "UPDATE users SET city = 'Reykjavik' WHERE id = 42"]);
    assert_eq!(changed["changed"], 1);
    let late = Instant::now() + Duration::from_secs(10);
    while json(&["get", "user:42", "--json"])["value"]["city"] != "Reykjavik" {
        assert!(Instant::now() < late, "the change never arrived");
    }
    let shown = text(&run(&["sql", "--dir", "shop", "SELECT id, city FROM shop.users WHERE id = 42"])).0;
    assert!(shown.contains("Reykjavik"), "{shown}");
    let wrong = run(&["sql", "SELEKT"]);
    assert!(wrong.status.code() == Some(1) && text(&wrong).1.contains("syntax error"), "{:?}", text(&wrong));

    // A change that leaves no trace in the stream: the cache can't know, and verify finds it.
    let late = Instant::now() + Duration::from_secs(10);
    while json(&["get", "user:7", "--json"])["outcome"] != "hit" {
        assert!(Instant::now() < late, "user:7 is never kept");
    }
    let well = json(&["verify", "--all", "--ages", "100ms", "--json"]);
    assert!(well["ok"] == true && well["checked"].as_u64() >= Some(1), "{well}");
    assert_eq!(json(&["explain", "user:7", "--compare", "--json"])["compared"][0]["same"], true);
    let silent =
        "BEGIN; UPDATE users SET city = 'Nowhere' WHERE id = 7; DELETE FROM _freshline_changes; COMMIT";
    json(&["sql", "--json", silent]);
    let found = run(&["verify", "--all", "--ages", "100ms,200ms", "--json"]);
    assert_eq!(found.status.code(), Some(1), "{:?}", text(&found));
    let report: Value = serde_json::from_slice(&found.stdout).unwrap();
    let stale = &report["stale"][0];
    assert_eq!(
        (&stale["key"], &stale["database"]["city"]),
        (&"user:7".into(), &"Nowhere".into()),
        "{report}"
    );
    assert_eq!((&report["ages"][2]["age_ms"], &report["ages"][2]["inconsistent"]), (&200.into(), &1.into()));
    assert!(stale["history"]["timeline"].as_array().unwrap().iter().any(|moment| moment["what"] == "filled"));
    let compared = run(&["explain", "user:7", "--compare"]);
    let (out, _) = text(&compared);
    assert!(compared.status.code() == Some(1) && out.contains("not what the database says"), "{out}");
    assert!(out.contains("filled") && out.contains("Nowhere"), "{out}");
    let mended = text(&run(&["verify", "--all", "--ages", "100ms", "--repair"])).0;
    assert!(mended.contains("user:7 on") && mended.contains("removed from all nodes"), "{mended}");
    assert_eq!(json(&["verify", "--all", "--ages", "100ms", "--json"])["ok"], true);

    let catalog = dir.path().join("shop/freshline.toml");
    let own = json(&["check", "--json"]);
    assert_eq!(own["file"], catalog.to_str().unwrap(), "without --config it is that of the running stack");
    let database = format!("sqlite:{}", dir.path().join("shop/shop.db").display());
    let check = json(&["check", "--json", "--config", catalog.to_str().unwrap(), "--database", &database]);
    assert_eq!(check["ok"], true, "{check}");
    assert!(
        check["groups"].as_array().unwrap().iter().all(|g| !g["tables"].as_array().unwrap().is_empty()),
        "{check}"
    );

    interrupt(stack.child());
    assert!(stack.child().wait().unwrap().success(), "a stack that is told to stop has not failed");
    assert!(!dir.path().join("freshline-dev.json").exists(), "it has taken its state file along");
    assert!(dir.path().join("shop/shop.db").exists(), "--dir is kept");
}

#[test]
fn a_port_in_use_is_told_with_the_flag_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let output = freshline(dir.path()).args(["dev", "--port-base", &port]).output().unwrap();
    let (_, err) = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.starts_with("freshline: failed to") && err.contains("--port-base") && err.contains(&port),
        "{err}"
    );
}

#[test]
fn a_stack_on_an_own_catalog_follows_an_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mine.toml");
    let script = "[database]\nurl = \"sqlite:mine.db\"\n[[group]]\nname = \"note\"\nkey = \"note:{id:u64}\"\n\
                  query = \"SELECT id, text FROM app.notes WHERE id = {id}\"\n";
    std::fs::write(&config, script).unwrap();
    let missing =
        freshline(dir.path()).args(["dev", "--port-base", "0", "--config", "mine.toml"]).output().unwrap();
    assert!(text(&missing).1.contains("mine.db"), "{:?}", text(&missing));

    sqlite(
        &dir.path().join("mine.db"),
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes VALUES (1, 'old')",
    );
    let _stack = Stack::with(dir.path(), &["--config", "mine.toml"]);
    let get = || -> Value {
        let output = freshline(dir.path()).args(["get", "note:1", "--json"]).output().unwrap();
        assert!(output.status.success(), "{:?}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    while get()["outcome"] != "hit" {}
    let output = freshline(dir.path()).args(["sql", "UPDATE app.notes SET text = 'new'"]).output().unwrap();
    assert!(output.status.success(), "{:?}", text(&output));
    let late = Instant::now() + Duration::from_secs(10);
    while get()["value"]["text"] != "new" {
        assert!(Instant::now() < late, "the change never arrived");
    }
}

/// What a file holds of ours, and how it is journalled.
fn traces(file: &Path) -> (Vec<String>, String) {
    let names = "SELECT name FROM sqlite_master WHERE name LIKE '\\_freshline%' ESCAPE '\\' ORDER BY name";
    (query(file, names), query(file, "PRAGMA journal_mode").remove(0))
}

#[test]
fn a_database_of_your_own_is_left_as_it_was_also_by_one_that_was_killed_before() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("mine")).unwrap();
    let file = dir.path().join("mine/own.db");
    sqlite(
        &file,
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes VALUES (12, 'old')",
    );
    let script = "[database]\nurl = \"sqlite:own.db\"\n[[group]]\nname = \"note\"\nkey = \"note:{id:u64}\"\n\
                  query = \"SELECT id, text FROM app.notes WHERE id = {id}\"\n";
    std::fs::write(dir.path().join("mine/own.toml"), script).unwrap();
    let before = traces(&file);
    assert_eq!(before, (vec![], "delete".to_owned()));

    // Killed: it can take nothing back. Its path is from the folder of the configuration, not from here.
    let mut stack = Stack::with(dir.path(), &["--config", "mine/own.toml"]);
    assert!(traces(&file).0.contains(&"_freshline_changes".to_owned()), "{:?}", traces(&file));
    stack.child().kill().unwrap();
    stack.child().wait().unwrap();
    assert!(!traces(&file).0.is_empty(), "a killed one leaves what it has put in");

    let mut child = freshline(dir.path())
        .args(["dev", "--port-base", "0", "--config", "mine/own.toml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let tried: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.starts_with("Removals"))
        .collect();
    for line in
        ["get note:12 -v", "sql \"UPDATE app.notes SET text = text || '.' WHERE id = 12\"", "explain note:12"]
    {
        assert!(tried.iter().any(|tried| tried.ends_with(line)), "no {line} in {tried:#?}");
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let (_, said) = text(&output);
    assert!(output.status.success(), "{said}");
    let first = said.lines().next().unwrap_or_default();
    assert!(["own.db", "_freshline_", "taken back"].iter().all(|word| first.contains(word)), "{said}");
    assert!(said.contains("as it was"), "{said}");
    assert_eq!(traces(&file), before);
    let rows = query(&file, "SELECT text FROM notes");
    assert_eq!(rows, ["old"], "and nothing else is touched");
}

#[test]
fn a_start_that_fails_leaves_nothing_behind_either() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.db");
    sqlite(&file, "CREATE TABLE notes (id INTEGER PRIMARY KEY)");
    let script = "[database]\nurl = \"sqlite:own.db\"\n[[group]]\nname = \"note\"\nkey = \"note:{id:u64}\"\n\
                  query = \"SELECT id, text FROM app.notes WHERE id = {id}\"\n";
    std::fs::write(dir.path().join("own.toml"), script).unwrap();
    let output =
        freshline(dir.path()).args(["dev", "--port-base", "0", "--config", "own.toml"]).output().unwrap();
    assert!(!output.status.success() && text(&output).1.contains("text"), "{:?}", text(&output));
    assert_eq!(traces(&file), (vec![], "delete".to_owned()));
}

#[test]
fn sql_without_a_stack_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = freshline(dir.path()).args(["sql", "SELECT 1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).1.contains("freshline dev"), "{:?}", text(&output));
    // Lines are read as lines, so that a wrapped message does not pass for two errors.
    assert_eq!(output.stderr.lines().count(), 1);
}
