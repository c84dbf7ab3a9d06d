//! The example, run as it is; and how an embedded node ends.

#[path = "../examples/embedded.rs"]
mod example;

use freshline::node::Settings;

#[test]
fn the_example_fills_serves_is_told_of_a_change_and_stops() {
    example::main().unwrap();
}

/// A catalog on this database, with ports that are free.
fn settings(url: &str, more: &str) -> String {
    format!(
        "[node]\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n{more}\n[database]\nurl = {url:?}\n[[group]]\nname = \"user\"\n\
         key = \"user:{{id:u64}}\"\nquery = \"SELECT id FROM shop.users WHERE id = {{id}}\"\n"
    )
}

#[tokio::test]
async fn mistakes_are_told_all_at_once_and_by_their_lines() {
    let text = settings("postgres://nowhere", "memmory = \"1GiB\"").replace("u64", "u46");
    let problems = Settings::parse("mine.toml", &text).unwrap_err().to_string();
    for told in ["mine.toml:4: node.memmory", "mine.toml:6: database.url", "mine.toml:9:"] {
        assert!(problems.contains(told), "no {told} in:\n{problems}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_and_a_table_that_is_missing_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.db");
    std::fs::write(&file, "").unwrap();
    let url = format!("sqlite:{}", file.display());
    let mut node = Settings::parse("mine.toml", &settings(&url, "")).unwrap().start().unwrap();
    let error = format!("{:#}", node.ready().await.unwrap_err());
    assert!(error.contains("users"), "{error}");
    assert!(node.ended().await.is_ok(), "its end is told once");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("resp = \"{}\"", taken.local_addr().unwrap());
    let error = Settings::parse("mine.toml", &settings(&url, &more)).unwrap().start().unwrap_err();
    assert!(format!("{error:#}").contains("node.resp"), "{error:#}");
}

#[tokio::test]
async fn without_its_feature_etcd_is_refused_with_what_to_do() {
    if Settings::HAS_ETCD {
        // Of the whole workspace, whose binaries have it.
        return eprintln!("skipped: this build finds members in etcd");
    }
    let text = settings("sqlite:mine.db", "[cluster]\netcd = [\"http://127.0.0.1:2379\"]");
    let error = Settings::parse("mine.toml", &text).unwrap().start().unwrap_err();
    assert!(format!("{error:#}").contains("feature `etcd`"), "{error:#}");
}
