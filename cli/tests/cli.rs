//! The command line without any node: what it refuses, and how it says so.

#[path = "common/stack.rs"]
mod stack;

use std::process::{Command, Output};

fn freshline(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshline"));
    command
        .args(arguments)
        .env_remove("FRESHLINE_NODES")
        .env_remove("FRESHLINE__CONFIG")
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_command_line_that_is_not_understood_exits_with_2() {
    for arguments in [
        &["gte", "user:1"][..],
        &["get"],
        &["get", "user:1", "--nod", "x"],
        &[],
        &["flush"],
        &["get", "a", "--raw", "--json"],
    ] {
        assert_eq!(freshline(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn every_command_explains_itself() {
    let commands = [
        "dev",
        "get",
        "get-many",
        "del",
        "flush",
        "explain",
        "verify",
        "ring",
        "stats",
        "hot",
        "check",
        "sql",
        "completions",
        "shell",
        "warm",
        "replay",
        "bench",
        "man",
    ];
    let overview = stdout(&freshline(&["--help"]));
    for command in commands {
        assert!(overview.contains(command), "{command} is missing in the overview");
        let help = freshline(&[command, "--help"]);
        assert!(help.status.success() && stdout(&help).contains("Usage:"), "{command}");
    }
}

#[test]
fn a_node_that_is_not_there_is_named_with_what_to_do() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", held.local_addr().unwrap());
    drop(held);
    for arguments in [["get", "user:1"], ["explain", "user:1"]] {
        let output = freshline(&[arguments[0], arguments[1], "--node", &url]);
        let error = stderr(&output);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{error}");
        assert!(
            error.starts_with("freshline: failed to") && error.contains(&url) && error.contains("--node"),
            "{error}"
        );
    }
}

#[test]
fn check_reports_all_mistakes_of_a_file_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    let text = "\
[cluster]
replcas = 2
[[group]]
name = \"user\"
key = \"user:{id:u46}\"
query = \"SELECT id FROM shop.users WHERE id = {id}\"
[[group]]
name = \"order\"
key = \"order:{id:u64}\"
query = \"SELEKT id FROM shop.orders WHERE id = {id}\"
";
    std::fs::write(&file, text).unwrap();
    let output = freshline(&["check", "--config", file.to_str().unwrap()]);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for line in ["bad.toml:2:", "bad.toml:5:", "bad.toml:10:"] {
        assert!(error.contains(line), "no {line} in:\n{error}");
    }
    // What is right beside them is shown all the same.
    let good = "[[group]]\nname = \"item\"\nkey = \"item:{id:u64}\"\nquery = \"SELECT id FROM shop.items WHERE id = {id}\"\n";
    std::fs::write(&file, format!("{text}{good}")).unwrap();
    let output = freshline(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("shop.items -> removes item:{id}"), "{}", stdout(&output));
    assert!(stderr(&output).contains("left out above"), "{}", stderr(&output));
    std::fs::write(&file, text).unwrap();
    let json = freshline(&["check", "--json", "--config", file.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert!(json["errors"].as_array().unwrap().len() >= 3, "{json}");
}

#[test]
fn check_says_which_table_makes_which_group_stale() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    std::fs::write(&file, include_str!("../src/dev/shop.toml")).unwrap();
    let output = freshline(&["check", "--config", file.to_str().unwrap()]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    for line in [
        "user:{user_id}:orders",
        "shop.orders",
        "shop.products -> removes what carries shop.products.id={id}, when name or id changed\n",
        "shop.reviews_1 -> removes product:{product_id}:reviews",
        "shop.reviews_* -> removes page:product:{product_id} (rule at",
        "look-aside: applications set its values",
        "shop.users -> removes what carries sessions-of:{id}, on delete (rule at",
        "plain: applications set, read and remove its values",
        "8 groups, 0 errors, 0 warnings",
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

#[test]
fn check_names_the_file_that_is_not_there() {
    let output = freshline(&["check", "--config", "/nowhere/freshline.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere/freshline.toml"));
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = freshline(&["completions", shell]);
        assert!(output.status.success() && stdout(&output).contains("get-many"), "{shell}");
    }
}

#[test]
fn a_slip_in_a_name_gets_the_nearest_one() {
    for (arguments, known) in [
        (&["gte", "user:1"][..], "'get'"),
        (&["verfy"], "'verify'"),
        (&["get", "user:1", "--verbos"], "'--verbose'"),
        (&["bench", "--distribution", "ziph"], "'zipf'"),
    ] {
        let error = stderr(&freshline(arguments));
        assert!(error.contains(known), "no {known} in:\n{error}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    assert!(stdout(&freshline(&["man"])).contains(".TH freshline 1"));
    let output = freshline(&["man", "--dir", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    for page in ["freshline.1", "freshline-get.1", "freshline-warm.1"] {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
}

#[test]
fn check_tells_for_each_group_which_changes_invalidate_it_and_how() {
    const CATALOG: &str = r#"
[[group]]
name = "cart"
key = "cart:{user_id:u64}"
query = "SELECT c.id, p.name FROM shop.cart c LEFT JOIN shop.products p ON p.id = c.product_id WHERE c.user_id = {user_id}"
rows = "many"

[[group]]
name = "orders"
key = "orders:{user_id:u64}"
query = "SELECT o.id, o.sku, p.name FROM shop.orders o JOIN shop.products p ON p.id = o.product_id WHERE o.user_id = {user_id}"
rows = "many"
tags = ["sku:{sku:str}"]

[[rule]]
table = "shop.skus"
tags = ["sku:{code}"]

[[rule]]
table = "shop.taxes"
on = ["insert", "delete"]
groups = ["orders"]
"#;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    std::fs::write(&file, CATALOG).unwrap();
    let output = freshline(&["check", "--config", file.to_str().unwrap()]);
    let told = stdout(&output);
    assert!(output.status.success(), "{told}{}", stderr(&output));
    for line in [
        "shop.cart -> removes cart:{user_id}, when id or product_id or user_id changed",
        "shop.products -> removes what carries shop.products.id={id}, when name or id changed",
        "entries carry shop.products.id={id}",
        "shop.orders -> removes orders:{user_id}",
        "shop.products -> removes what carries shop.products.id={id}, when name or id changed; flushes the group for a new row, or when id changed",
        "shop.skus -> removes what carries sku:{code} (rule at line 15)",
        "shop.taxes -> flushes the group, on insert or delete (rule at line 19)",
        "entries carry sku:{sku:str}, shop.products.id={id}",
    ] {
        assert!(told.contains(line), "{line}\nnot in\n{told}");
    }
    let warned = stderr(&output) + &told;
    assert!(
        warned.contains("a new row of shop.products, or a change of its id, flushes the group"),
        "{warned}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&freshline(&["check", "--json", "--config", file.to_str().unwrap()])))
            .unwrap();
    let products = &json["groups"][1]["tables"][1];
    assert_eq!((&products["effect"], &products["tags"]), (&"tags".into(), &"shop.products.id={id}".into()));
    assert_eq!(products["flush_when_joined"], serde_json::json!(["id"]));
    assert_eq!(products["on"], serde_json::json!(["insert", "update", "delete"]));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    std::fs::write(&file, include_str!("../src/dev/shop.toml")).unwrap();
    let file = file.to_str().unwrap();
    for arguments in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["man"],
        &["check", "--config", file],
        &["check", "--json", "--config", file],
        &["--help"],
        &["get", "--help"],
    ] {
        // Nobody reads: the first byte is refused.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output =
            Command::new(env!("CARGO_BIN_EXE_freshline")).args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_port_that_speaks_something_else_is_named_with_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let stack = stack::Stack::start(dir.path());
    let state = stack.state();
    let grpc = state["nodes"][0].as_str().unwrap();
    let told = stack::freshline(dir.path()).args(["ring", "--json"]).output().unwrap();
    let ring: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let member = ring["members"].as_array().unwrap().iter().find(|member| member["grpc"] == grpc).unwrap();
    let http = member["http"].as_str().unwrap();
    let error = stderr(&freshline(&["get", "user:1", "--node", http]));
    assert!(
        error.contains("is an HTTP port") && error.contains(grpc) && error.lines().count() == 1,
        "{error}"
    );
    let resp = state["resp"][0].as_str().unwrap();
    let error = stderr(&freshline(&["get", "user:1", "--node", resp]));
    assert!(error.contains("port for Redis clients") && error.contains("7400"), "{error}");
}
