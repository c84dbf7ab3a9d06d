//! A change outside of the promise, and how it is found: MySQL does not log what a session with `sql_log_bin = 0` writes.

use std::{path::Path, process::Command, time::Duration};

use serde_json::Value;
use sqlx::Executor;
use tests::{cluster::Cluster, process, stack::Stack, wait};

use crate::shop::{self, user};

pub(crate) async fn a_change_that_mysql_does_not_log_is_named_and_repaired(stack: &Stack) {
    let name = "t_verify";
    let database = shop::database(stack, name).await;
    let catalog = format!("[sync.verify]\nrate = 50.0\n{}", shop::catalog(name));
    let cluster = Cluster::start(stack, name, 2, &catalog).await;
    for key in ["user:1", "user:2", "user:1:orders"] {
        cluster.nodes[0].get(key).await.unwrap();
    }
    let config = cluster.folder().join("sync.toml");
    let (code, report) = verify(&config, &["--all", "--ages", "1s"]).await;
    assert_eq!(
        (code, &report["ok"], &report["stale"]),
        (Some(0), &true.into(), &Value::Array(vec![])),
        "{report}"
    );

    let mut session = database.acquire().await.unwrap();
    session.execute("SET SESSION sql_log_bin = 0").await.unwrap();
    session.execute("UPDATE users SET name = 'Eve' WHERE id = 1").await.unwrap();
    session.execute("SET SESSION sql_log_bin = 1").await.unwrap();
    drop(session);

    let (code, report) = verify(&config, &["--all", "--ages", "500ms,2s", "--repair"]).await;
    assert_eq!(code, Some(1), "{report}");
    let stale = report["stale"].as_array().unwrap();
    assert_eq!(stale.len(), 1, "{report}");
    assert_eq!(stale[0]["key"], "user:1");
    assert_eq!(stale[0]["cached"], user(1, "Ada", "ada@example.com"));
    assert_eq!(stale[0]["database"], user(1, "Eve", "ada@example.com"));
    assert_eq!(stale[0]["repaired"], true);
    let verdict = stale[0]["history"]["verdict"].as_str().unwrap();
    assert!(verdict.contains("no removal of it has reached any node since"), "{verdict}");
    assert_eq!(report["ages"][2]["inconsistent"], 1, "{report}");
    cluster.until_everywhere("user:1", &user(1, "Eve", "ada@example.com")).await;
    let (code, report) = verify(&config, &["--all", "--ages", "500ms"]).await;
    assert_eq!(code, Some(0), "{report}");

    // The steady task of the sync service has seen it too.
    wait::until("the sync service to have seen the difference", Duration::from_secs(30), async || {
        let seen = cluster.sync().metric("freshline_verify_inconsistent_total").await;
        if seen >= 1.0 { Ok(()) } else { Err(seen) }
    })
    .await;
}

/// Runs `freshline verify --json`; returns its exit code and report.
async fn verify(config: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(process::binaries().join("freshline"));
    command.args(["verify", "--json", "--config"]).arg(config).args(arguments).env_remove("FRESHLINE_NODES");
    let output =
        tokio::task::spawn_blocking(move || command.output().expect("freshline runs")).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"));
    (output.status.code(), report)
}
