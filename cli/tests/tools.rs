//! `warm`, `bench` and `replay`, against a stack and against recorded messages.

#[path = "common/stack.rs"]
mod stack;

use std::{
    fmt::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use stack::{Stack, fed, freshline, interrupt, text};

/// Runs a command and reads the JSON that it prints.
fn json(dir: &Path, status: i32, arguments: &[&str]) -> Value {
    let output = freshline(dir).args(arguments).arg("--json").output().unwrap();
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {out}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}\n{err}"))
}

#[test]
fn warm_fills_from_lines_and_queries_and_goes_on_after_an_interrupt() {
    let dir = tempfile::tempdir().unwrap();
    let _stack = Stack::start(dir.path());
    let warm = |status, arguments: &[&str]| json(dir.path(), status, &[&["warm"], arguments].concat());

    // Keys and parameters, lines that are none, and a row that is not there.
    std::fs::write(dir.path().join("ids"), "id\nuser:1\n2\n\n003\nx\n999999\n").unwrap();
    let first = warm(0, &["user", "--from", "ids"]);
    let tally = &first["tally"];
    assert_eq!(
        (&tally["filled"], &tally["absent"], &tally["bad"], &tally["already"]),
        (&3.into(), &1.into(), &1.into(), &0.into()),
        "{first}"
    );
    assert!(tally["bad_examples"][0].as_str().unwrap().starts_with("6: "), "the line is told: {first}");
    assert_eq!(warm(0, &["user", "--from", "ids"])["tally"]["already"], 4, "the absence is kept too");
    let strict = freshline(dir.path()).args(["warm", "user", "--from", "ids", "--strict"]).output().unwrap();
    assert_eq!(strict.status.code(), Some(1));
    assert!(text(&strict).1.contains("6: "), "{:?}", text(&strict));
    let get = json(dir.path(), 0, &["get", "user:3"]);
    assert_eq!(get["outcome"], "hit");

    // By columns, from the nodes' database; several parameters are not needed for one to be told by its name.
    let rows = warm(
        0,
        &[
            "user_orders",
            "--query",
            "SELECT id AS user_id, name FROM users WHERE id <= 20 ORDER BY id",
            "--state",
            "q",
        ],
    );
    assert_eq!((&rows["tally"]["filled"], &rows["finished"]), (&20.into(), &true.into()), "{rows}");
    let again = warm(
        0,
        &[
            "user_orders",
            "--query",
            "SELECT id AS user_id, name FROM users WHERE id <= 20 ORDER BY id",
            "--state",
            "q",
        ],
    );
    assert_eq!((&again["already"], &again["position"]), (&true.into(), &20.into()));
    for (arguments, told) in [
        (&["warm", "user", "--query", "SELECT name FROM users"][..], "no column id"),
        (&["warm", "user", "--query", "DELETE FROM users"], "readonly"),
        (&["warm", "user", "--query", "SELECT id FROM users", "--state", "s"], "ORDER BY"),
        (&["warm", "usr", "--from", "ids"], "did you mean user?"),
        (&["warm", "user", "--from", "ids", "--state", "q"], "name another file"),
        (&["warm", "user", "--from", "nowhere"], "open nowhere"),
    ] {
        let refused = freshline(dir.path()).args(arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(text(&refused).1.contains(told), "{arguments:?}: {:?}", text(&refused));
    }

    // Interrupted in the middle, it says how to go on, and goes on from there.
    let many: String = (1..=3000).fold(String::new(), |mut all, id| {
        let _ = writeln!(all, "{id}");
        all
    });
    std::fs::write(dir.path().join("many"), many).unwrap();
    let arguments = ["warm", "user", "--from", "many", "--state", "many.state"];
    let slow = freshline(dir.path())
        .args(arguments)
        .args(["--rate", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let state = || -> Option<Value> {
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("many.state")).ok()?).ok()
    };
    let late = Instant::now() + Duration::from_secs(20);
    while state().is_none() {
        assert!(Instant::now() < late, "the state is never written");
        std::thread::yield_now();
    }
    interrupt(&slow);
    let stopped = slow.wait_with_output().unwrap();
    let (out, err) = text(&stopped);
    assert_eq!(stopped.status.code(), Some(1), "{out}\n{err}");
    assert!(err.contains("stopped after") && err.contains("the same command goes on from there"), "{err}");
    let position = state().unwrap()["position"].as_u64().unwrap();
    assert!((1..3000).contains(&position), "{position}");
    let rest = json(dir.path(), 0, &[&arguments[..], &["--rate", "100000"]].concat());
    let tally = &rest["tally"];
    let keys: u64 =
        ["filled", "already", "absent", "not_kept"].iter().map(|name| tally[*name].as_u64().unwrap()).sum();
    assert_eq!(keys, 3000 - position, "each key once: {rest}");
    assert_eq!((&rest["finished"], &rest["position"]), (&true.into(), &3000.into()));
}

#[test]
fn bench_and_replay_tell_what_happens_in_a_stack() {
    let dir = tempfile::tempdir().unwrap();
    let _stack = Stack::start(dir.path());
    let bench = json(
        dir.path(),
        0,
        &[
            "bench",
            "--time",
            "1s",
            "--keys",
            "20",
            "--readers",
            "2",
            "--distribution",
            "uniform",
            "--change",
            "UPDATE users SET city = city || 'x' WHERE id = {id}",
            "--changes",
            "100",
        ],
    );
    let number = |name: &str| bench[name].as_f64().unwrap_or_else(|| panic!("no {name}: {bench}"));
    assert!(
        number("reads") > 0.0
            && (0.0..=1.0).contains(&number("hit_ratio"))
            && number("reads_per_second") > 0.0,
        "{bench}"
    );
    assert!(bench["latency_us"]["p50"].as_u64() <= bench["latency_us"]["p999"].as_u64(), "{bench}");
    let changed = bench["changes"]["rows"].as_u64().unwrap();
    assert!(changed > 0, "{bench}");
    let keys = fed(
        freshline(dir.path()).args(["bench", "--time", "100ms", "--from", "-", "--group", "user_orders"]),
        "1\nuser:2:orders\n",
    );
    assert!(keys.status.success(), "{:?}", text(&keys));

    // All that was changed is in the broker, when the last of it is.
    let late = Instant::now() + Duration::from_secs(20);
    loop {
        let replay = json(dir.path(), 0, &["replay", "--from-kafka"]);
        if replay["tables"]["shop.users"]["updated"] == changed {
            // Rows of one message that have one key remove it once.
            let removals = replay["groups"]["user"]["removals"].as_u64().unwrap();
            let messages = replay["messages"].as_u64().unwrap();
            assert!((messages..=changed).contains(&removals), "{replay}");
            break;
        }
        assert!(Instant::now() < late, "{replay}");
    }
    let none = json(dir.path(), 0, &["replay", "--from-kafka", "--until", "2020-01-01T00:00:00Z"]);
    assert_eq!(none["messages"], 0);
    let some = json(dir.path(), 0, &["replay", "--from-kafka", "--since", "1h", "--limit", "1", "--keys"]);
    // One message may hold the rows of several changes.
    let named = some["keys"].as_object().unwrap();
    assert_eq!(
        (&some["messages"], &some["groups"]["user"]["keys"]),
        (&1.into(), &named.len().into()),
        "{some}"
    );
    assert!(
        (1..=some["tables"]["shop.users"]["updated"].as_u64().unwrap()).contains(&(named.len() as u64)),
        "{some}"
    );
    // Nothing was removed, and no group was joined: the stack has its partitions and delivers.
    assert_eq!(json(dir.path(), 0, &["sql", "UPDATE users SET city = 'Rome' WHERE id = 7"])["changed"], 1);
    while json(dir.path(), 0, &["get", "user:7"])["value"]["city"] != "Rome" {
        assert!(Instant::now() < late, "the change never arrived");
    }
    let absent =
        freshline(dir.path()).args(["replay", "--from-kafka", "--topic", "nowhere"]).output().unwrap();
    assert!(!absent.status.success() && text(&absent).1.contains("nowhere"), "{:?}", text(&absent));
}

const HERE: &str = r#"
[[group]]
name = "row"
key = "row:{id:u64}"
query = "SELECT id, vc FROM app.t_all WHERE id = {id}"

[[group]]
name = "child"
key = "child:{id:i64}"
query = "SELECT id FROM app.c WHERE id = {id}"
"#;

const THERE: &str = r#"
[[group]]
name = "row"
key = "row:{id:u64}"
query = "SELECT id, vc FROM app.t_all WHERE id = {id}"

[[group]]
name = "by_name"
key = "name:{vc:str}"
query = "SELECT id FROM app.t_all WHERE vc = {vc}"
rows = "many"
"#;

/// Messages that Canal has written from a real MySQL.
const RECORDED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../sync-service/tests/samples/mysql-9.7.4-all-types.jsonl");

#[test]
fn replay_tells_what_recorded_messages_would_remove() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("freshline.toml"), HERE).unwrap();
    std::fs::write(dir.path().join("there.toml"), THERE).unwrap();
    let told = json(dir.path(), 0, &["replay", RECORDED, "--keys", "--against", "there.toml"]);
    assert_eq!(told["messages"], 26);
    let all = &told["tables"]["app.t_all"];
    assert_eq!(
        ["messages", "inserted", "updated", "deleted", "whole", "removals"]
            .map(|name| all[name].as_u64().unwrap()),
        [11, 2, 9, 1, 1, 9]
    );
    assert_eq!(
        told["groups"]["row"],
        serde_json::json!({ "keys": 2, "removals": 9, "by_tag": 0, "flushes": 3 })
    );
    assert_eq!(told["keys"], serde_json::json!({ "row:1": 7, "row:2": 2 }));
    assert_eq!(told["fan_out"], serde_json::json!({ "messages": 10, "p50": 1, "p99": 2, "max": 2 }));
    let flushes = told["flushes"].as_array().unwrap();
    assert!(
        flushes.contains(&serde_json::json!({ "group": "child", "reason": "truncate", "times": 1 })),
        "{told}"
    );
    let groups = &told["comparison"]["groups"];
    assert_eq!((&groups["row"]["both"], &groups["row"]["only_here"]), (&2.into(), &0.into()));
    assert_eq!((&groups["by_name"]["only_there"], &groups["child"]["flushes_here"]), (&8.into(), &4.into()));
    assert_eq!(groups["by_name"]["examples_there"][0], "name:odku");

    let same =
        freshline(dir.path()).args(["replay", RECORDED, "--against", "freshline.toml"]).output().unwrap();
    assert!(text(&same).0.contains("freshline.toml would do the same"), "{:?}", text(&same));
}

const LEFT_JOIN: &str = r#"
[[group]]
name = "shown"
key = "shown:{by:u64}"
query = "SELECT s.id, t.vc FROM app.shown s LEFT JOIN app.t_all t ON t.id = s.t_id WHERE s.shown_by = {by}"
rows = "many"
"#;

#[test]
fn replay_tells_removed_tags_and_whether_another_catalog_would_remove_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("freshline.toml"), [HERE, LEFT_JOIN].concat()).unwrap();
    std::fs::write(dir.path().join("there.toml"), HERE).unwrap();
    let told = json(dir.path(), 0, &["replay", RECORDED, "--against", "there.toml"]);
    let tags = told["tags"].as_object().unwrap();
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["app.t_all.id=1", "app.t_all.id=2"]);
    let times: u64 = tags.values().map(|times| times.as_u64().unwrap()).sum();
    let shown = &told["groups"]["shown"];
    assert_eq!((&shown["keys"], &shown["removals"], &shown["by_tag"]), (&0.into(), &0.into(), &times.into()));
    assert_eq!(told["tables"]["app.t_all"]["removals"], 9 + times, "9 of keys");
    let compared = &told["comparison"]["groups"]["shown"];
    assert_eq!((&compared["only_here"], &compared["tags"]["only_here"]), (&0.into(), &2.into()), "{told}");
    assert_eq!(compared["tags"]["examples_here"][0], "app.t_all.id=1");
    let same =
        freshline(dir.path()).args(["replay", RECORDED, "--against", "freshline.toml"]).output().unwrap();
    assert!(text(&same).0.contains("freshline.toml would do the same"), "{:?}", text(&same));
    let less = freshline(dir.path()).args(["replay", RECORDED, "--against", "there.toml"]).output().unwrap();
    assert!(text(&less).0.contains("shown, only here: app.t_all.id=1, app.t_all.id=2"), "{:?}", text(&less));
}

#[test]
fn replay_counts_what_can_not_be_decoded_and_says_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("freshline.toml"), HERE).unwrap();
    let output = fed(freshline(dir.path()).args(["replay", "-", "--json"]), "\n{\"broken\n");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["messages"], &told["undecodable"]["messages"]), (&1.into(), &1.into()));
    assert_eq!(told["undecodable"]["examples"][0]["at"], "stdin/0@2");
    assert_eq!(told["groups"]["row"]["flushes"], 1, "what may be stale is flushed");
    let nothing = freshline(dir.path()).args(["replay"]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
}
