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

    // What a process registers as it starts.
    client::Metrics::register(&mut metrics.lock());
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

/// Name, kind and meaning of every metric that is served, with the labels that it has.
fn described(text: &str) -> Vec<[String; 3]> {
    let mut all = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, meaning) = line.split_once(' ').expect("a metric has a meaning");
        let kind =
            text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect("and a kind");
        let shown = match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        let sample = match kind {
            "histogram" => format!("{shown}_sum"),
            _ => shown.clone(),
        };
        let labels =
            text.lines().find_map(|line| line.strip_prefix(&sample)?.strip_prefix('{')?.split_once('}'));
        let labels: Vec<&str> = labels.map_or(Vec::new(), |(labels, _)| {
            labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0)).collect()
        });
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // The encoder ends each meaning with a full stop.
        all.push([
            format!("{shown}{labels}"),
            kind.to_owned(),
            meaning.trim_end_matches('.').replace('|', "\\|"),
        ]);
    }
    all.sort();
    all.dedup();
    all
}

/// What is registered anywhere in the code: the names, as far as they are written there.
fn registered() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    let mut folders: Vec<_> = ["cache-node", "client", "daemon", "loader", "ring", "sync-service"]
        .map(|room| root.join(room).join("src"))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for call in [".register(", ".register_with_unit("] {
                for rest in code.split(call).skip(1) {
                    let name = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                    names.extend(name.map(|(name, _)| name.to_owned()));
                }
            }
        }
    }
    names
}

/// `FRESHLINE_BLESS=1` writes the page's table anew.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_has_its_line_in_the_guide_and_every_line_its_metric() {
    let served = described(&served().await);
    let is = |metric: &[String; 3], name: &str| metric[0].contains(&format!("_{name}"));
    let unserved: Vec<_> =
        registered().into_iter().filter(|name| !served.iter().any(|metric| is(metric, name))).collect();
    assert!(
        unserved.is_empty(),
        "{unserved:?} are registered, and not served here: start what registers them"
    );
    let lines: Vec<String> =
        served.iter().map(|[name, kind, meaning]| format!("| `{name}` | {kind} | {meaning} |\n")).collect();
    let table = lines.concat();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = fs::read_to_string(&file).unwrap();
    let head = "| metric | kind | meaning |\n|---|---|---|\n";
    let (before, rest) = page.split_once(head).expect("the page has a table");
    let rows: String = rest.split_inclusive('\n').take_while(|line| line.starts_with('|')).collect();
    if std::env::var_os("FRESHLINE_BLESS").is_some() {
        let after = &rest[rows.len()..];
        fs::write(&file, format!("{before}{head}{table}{after}")).unwrap();
        return;
    }
    // Labels of open sets are seen once there is a figure, which may be now or later: they are the page's own.
    let plain = |row: &str| match (row.find('{'), row.find("}` |")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &row[..from], &row[to + 1..]),
        _ => row.to_owned(),
    };
    let page: BTreeSet<String> = rows.lines().map(plain).collect();
    let code: BTreeSet<String> = table.lines().map(plain).collect();
    let missing: Vec<_> = code.difference(&page).collect();
    let superfluous: Vec<_> = page.difference(&code).collect();
    assert!(
        missing.is_empty() && superfluous.is_empty(),
        "docs/metrics.md lacks {missing:#?} and has too much: {superfluous:#?}; FRESHLINE_BLESS=1 cargo test -p tests --test dashboard writes it"
    );
}
