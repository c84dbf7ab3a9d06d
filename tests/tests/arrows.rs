//! The workspace's arrows, as `ARCHITECTURE.md` draws them, checked against what the manifests say.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// The rooms from top to bottom: a room may use only rooms below it.
const ROOMS: [&str; 14] = [
    "freshline-bench",
    "tests",
    "freshline-cli",
    "freshline",
    "freshline-cache-node",
    "freshline-sync-service",
    "freshline-memory",
    "freshline-client",
    "freshline-wire",
    "freshline-loader",
    "freshline-ring",
    "freshline-catalog",
    "freshline-daemon",
    "freshline-proto",
];

/// Heavy dependencies and the only rooms that may name them.
const OWNERS: [(&str, &[&str]); 7] = [
    ("rdkafka", &["freshline-sync-service", "freshline-cli", "tests", "freshline-bench"]),
    ("mysql_async", &["freshline-sync-service"]),
    ("sqlx", &["freshline-loader", "freshline-cli", "freshline", "tests", "freshline-bench"]),
    ("etcd-client", &["freshline-ring", "tests"]),
    (
        "freshline-proto",
        &["freshline-client", "freshline-wire", "freshline-cache-node", "tests", "freshline-bench"],
    ),
    ("testcontainers", &["freshline-loader", "tests", "freshline-bench"]),
    ("freshline-cache-node", &["freshline-cli", "freshline", "tests", "freshline-bench"]),
];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("packages is an array").clone()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("a package has a name")
}

fn dependencies(package: &Value) -> impl Iterator<Item = &str> {
    package["dependencies"].as_array().expect("dependencies is an array").iter().map(name)
}

#[test]
fn arrows_only_go_down() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for package in &packages() {
        let from = name(package);
        let level = |room: &str| ROOMS.iter().position(|r| *r == room);
        let Some(from_level) = level(from) else {
            wrong.push(format!("{from} is not on ARCHITECTURE.md's code map"));
            continue;
        };
        seen.insert(from.to_owned());
        for to in dependencies(package) {
            if level(to).is_some_and(|to_level| to_level <= from_level && to != from) {
                wrong.push(format!("{from} must not depend on {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), ROOMS.len(), "a room of the code map is gone");
}

#[test]
fn binaries_do_not_depend_on_each_other() {
    for package in &packages() {
        if name(package) == "freshline-cache-node" {
            assert!(
                !dependencies(package).any(|to| to == "freshline-sync-service"),
                "cache-node uses sync-service"
            );
        }
    }
}

#[test]
fn heavy_dependencies_have_owners() {
    let mut wrong = Vec::new();
    for package in &packages() {
        for to in dependencies(package) {
            if let Some((_, owners)) = OWNERS.iter().find(|(heavy, _)| *heavy == to)
                && !owners.contains(&name(package))
            {
                wrong.push(format!("{} names {to}, which belongs to {}", name(package), owners.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
