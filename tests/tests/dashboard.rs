//! What the dashboards and alerts ask for is what a node and a sync service serve: every name, and every value of a label that is named.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use cache_node::{Config, Node, Parts, Server};
use catalog::Catalog;
use client::{Client, Peers};
use daemon::{
    admin::Readiness,
    config::{BinlogSource, DatabaseUrl},
};
use loader::{Limits, Loader, memory::Memory};
use ring::{NodeId, memory::Registry};
use sync_service::{
    Service,
    config::Sync,
    offsets::Partition,
    source::{binlog::Binlog, memory},
    verify::{AGES, Checker, Settings, Watch},
};
use tokio_util::sync::CancellationToken;

const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"
"#;

const CHANGE: &str = r#"{"data":[{"id":"7","name":"n"}],"database":"shop","isDdl":false,"old":null,"table":"users","type":"INSERT"}"#;

/// All that a node and a sync service say at `/metrics`, once a change was delivered.
async fn served() -> String {
    let metrics = daemon::metrics::shared();
    let (database, membership) = (Memory::new(), Registry::new(1));
    let catalog = Arc::new(Catalog::parse("test.toml", CATALOG).unwrap());
    let of = loader::Metrics::register(&mut metrics.lock());
    let loader = Loader::new(Arc::new(database.clone()), Limits::default(), of);

    let local = ([127, 0, 0, 1], 0).into();
    let server = Server::bind(local, local).unwrap();
    let id = NodeId::from("a");
    let member = server.member(id.clone(), 1);
    let parts = Parts {
        catalog: catalog.clone(),
        loader: loader.clone(),
        membership: membership.observer(),
        registration: membership.register(member),
        peers: Peers::new(client::Config::default()),
        id,
    };
    let node = Node::start(Config::default(), parts, &mut metrics.lock());
    let (readiness, stop) = (Readiness::new(), CancellationToken::new());
    let mut waits = readiness.subscribe();
    tokio::spawn(server.serve(node, metrics.clone(), readiness, stop.clone()));
    waits.wait_for(std::collections::BTreeMap::is_empty).await.unwrap();

    // Both sources and the steady comparison register; the source in memory is the one that is read.
    let binlog = BinlogSource {
        url: DatabaseUrl::new("mysql://nobody@127.0.0.1:1/"),
        position_file: Some("position".into()),
        ..BinlogSource::default()
    };
    Binlog::new(&binlog, None, catalog.clone(), &Sync::default(), &[], &mut metrics.lock()).unwrap();
    let client = Client::from_membership(membership.observer(), client::Config::default());
    let checker = Checker::new(client, loader, catalog.clone());
    Watch::over(checker, Arc::new(database), Settings::default(), AGES.to_vec(), &mut metrics.lock());
    let partition = Partition::new("shop", 0);
    let source = memory::Memory::new([partition.clone()]);
    source.append(&partition, 0, CHANGE);
    let peers = Peers::new(client::Config::default());
    let observer = membership.observer();
    let service = Service::new(Sync::default(), catalog, observer, peers, source, &mut metrics.lock());
    let mut delivered = service.delivered();
    let running = tokio::spawn(service.run(stop.clone()));
    tokio::time::timeout(Duration::from_secs(20), delivered.recv()).await.unwrap().unwrap();
    // Lag and watermarks are told at the next survey.
    let text = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let text = daemon::metrics::encode(&metrics).unwrap();
            if text.contains("freshline_sync_lag{") && text.contains("freshline_sync_watermark_lag_seconds{")
            {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let text = text.await.expect("lag and watermarks are told");
    stop.cancel();
    running.await.unwrap().unwrap();
    text
}

/// Names of metrics in a query, each with the labels that it has to have: `name` and `name{label="value"`.
fn asked(query: &str) -> Vec<(String, Vec<String>)> {
    let mut asked = Vec::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (start, _) in query.match_indices("freshline_") {
        let rest = &query[start..];
        let (name, rest) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let selector =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let mut labels = Vec::new();
        for matcher in selector.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, values) = matcher.split_once(['=', '!']).expect("a matcher compares");
            let values = values.trim_start_matches(['=', '~']).trim_matches('"');
            labels.extend(values.split('|').map(|value| format!("{label}=\"{value}\"")));
        }
        asked.push((name.to_owned(), labels));
    }
    asked
}

/// The queries of all panels and alerts, each with its file.
fn queries() -> Vec<(String, String)> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut queries = Vec::new();
    for file in fs::read_dir(deploy.join("grafana/dashboards")).unwrap() {
        let file = file.unwrap().path();
        let dashboard: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64()), "two panels have the id {}", panel["id"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push((panel["title"].to_string(), target["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    let alerts = fs::read_to_string(deploy.join("config/alerts.yml")).unwrap();
    let exprs = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    queries.extend(exprs.map(|expr| ("an alert".to_owned(), expr.to_owned())));
    queries
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_dashboards_and_alerts_is_served() {
    let text = served().await;
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let of = |name: &str| {
        let is = |line: &&&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        series.iter().filter(is).copied().collect::<Vec<&str>>()
    };
    let queries = queries();
    assert!(queries.len() > 100, "{}", queries.len());
    let mut problems = BTreeSet::new();
    for (place, query) in queries {
        for (name, labels) in asked(&query) {
            let found = of(&name);
            if found.is_empty() {
                problems.insert(format!("{place}: {name} is not served"));
                continue;
            }
            for label in labels {
                if !found.iter().any(|line| line.contains(&label)) {
                    problems.insert(format!("{place}: {name} is never {label}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn names_and_labels_are_found_in_queries() {
    let query = "sum(rate(freshline_a_total{outcome=~\"hit|miss\",x!~\"y\"}[1m])) / freshline_b";
    let labels = ["outcome=\"hit\"", "outcome=\"miss\"", "x=\"y\""].map(str::to_owned).to_vec();
    assert_eq!(
        asked(query),
        [("freshline_a_total".to_owned(), labels), ("freshline_b".to_owned(), Vec::new())]
    );
}
