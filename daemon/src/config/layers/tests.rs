//! Promises of the configuration, on texts and lists of variables.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::*;
use crate::config::{
    ByteSize, ClientSection, Cluster, Database, Effective, KafkaSource, Secret, Telemetry, duration,
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Node {
    id: String,
    grpc: SocketAddr,
    memory: ByteSize,
    weight: u32,
    #[serde(with = "duration")]
    quarantine: Duration,
    fenced: Fenced,
    token: Secret,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fenced {
    #[default]
    ReadThrough,
    Unavailable,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            id: "host".to_owned(),
            grpc: "0.0.0.0:7400".parse().unwrap(),
            memory: ByteSize(256 << 20),
            weight: 1,
            quarantine: Duration::from_millis(100),
            fenced: Fenced::ReadThrough,
            token: Secret::default(),
        }
    }
}

fn layers(text: &str, env: &[(&str, &str)]) -> Result<Layers, Problems> {
    Layers::from_text(
        "f.toml",
        text,
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn node(text: &str, env: &[(&str, &str)]) -> (Node, Vec<String>) {
    let mut problems = Problems::default();
    let node = layers(text, env).unwrap().section("node", &mut problems);
    (node, problems.iter().map(str::to_owned).collect())
}

#[test]
fn all_mistakes_are_reported_at_once_with_line_field_and_remedy() {
    let text = "[nodes]\nid = 1\n\n[node]\nmemory = \"lots\"\nwieght = 2\nquarantine = 5\nweight = -1\nfenced = \"no\"\n";
    let (node, problems) = node(text, &[("FRESHLINE__NODE__GRPC", "here")]);
    assert_eq!(
        problems,
        [
            "f.toml:1: nodes: unknown section, did you mean `node`?",
            "f.toml:5: node.memory: `lots` is not a size, write bytes or a unit: 1024, \"64KB\", \"256MiB\", \"1GiB\"",
            "f.toml:6: node.wieght: unknown field `wieght`, did you mean `weight`?",
            "f.toml:7: node.quarantine: 5 has no unit, write \"5s\" or \"5ms\"",
            "f.toml:8: node.weight: expected a whole number, 0 or more, found integer `-1`",
            "f.toml:9: node.fenced: `no` is not known, write \"read_through\" or \"unavailable\"",
            "FRESHLINE__NODE__GRPC: not an address with a port, write it like \"0.0.0.0:7400\"",
        ]
    );
    assert_eq!(node, Node::default(), "bad fields keep their defaults");
}

#[test]
fn the_environment_lies_over_the_file_and_the_file_over_the_defaults() {
    let text = "[node]\nid = \"a\"\nweight = 2\nmemory = \"1GiB\"\n";
    let env = [
        ("FRESHLINE__NODE__WEIGHT", "3"),
        ("FRESHLINE__NODE__ID", "7"), // a string that looks like a number
        ("FRESHLINE__NODE__GRPC", "[::1]:7400"),
        ("FRESHLINE__NODE__QUARANTINE", ""), // empty counts as not set
        ("FRESHLINE_PORT", "tcp://10.0.0.1:7400"),
        ("FRESHLINE__CONFIG", "f.toml"),
    ];
    let (node, problems) = node(text, &env);
    assert!(problems.is_empty(), "{problems:?}");
    let grpc = "[::1]:7400".parse().unwrap();
    let wanted = Node { id: "7".to_owned(), weight: 3, memory: ByteSize(1 << 30), grpc, ..Node::default() };
    assert_eq!(node, wanted);
}

#[test]
fn lists_and_tables_can_come_from_the_environment() {
    let env = [
        ("FRESHLINE__CLUSTER__ETCD", "[\"http://a:2379\", \"http://b:2379\"]"),
        ("FRESHLINE__SOURCE__KAFKA__TOPICS", "[\"^shop.*\"]"),
        ("FRESHLINE__SOURCE__KAFKA__BROKERS", "kafka:9092"),
        ("FRESHLINE__SOURCE__KAFKA__PROPERTIES", "{ \"session.timeout.ms\" = 10000 }"),
        ("FRESHLINE__SOURCE__KAFKA__PROPERTIES__SASL.PASSWORD", "hunter2"),
    ];
    let layers = layers("[source.kafka]\ngroup = \"g\"\n", &env).unwrap();
    let mut problems = Problems::default();
    let cluster: Cluster = layers.section("cluster", &mut problems);
    let kafka: KafkaSource = layers.section("source.kafka", &mut problems);
    cluster.check(&layers, &mut problems);
    kafka.check(&layers, &mut problems);
    assert_eq!(problems, Problems::default());
    assert_eq!(cluster.etcd, ["http://a:2379", "http://b:2379"]);
    assert_eq!((kafka.group.as_str(), kafka.topics), ("g", vec!["^shop.*".to_owned()]));
    assert_eq!(kafka.properties.get("session.timeout.ms"), Some("10000"));
    assert_eq!(kafka.properties.get("sasl.password"), Some("hunter2"));
    assert!(layers.has("source.kafka") && layers.has("cluster.etcd") && !layers.has("node"));
}

#[test]
fn unknown_variables_are_refused_with_the_name_that_was_meant() {
    for (name, problem) in [
        ("FRESHLINE__NODE__MEMRY", "unknown field, did you mean FRESHLINE__NODE__MEMORY?"),
        ("FRESHLINE__NOD__MEMORY", "unknown section, did you mean FRESHLINE__NODE__MEMORY?"),
        ("FRESHLINE__GROUP__NAME", "the catalog can't be set by the environment, write it in the file"),
        ("FRESHLINE__MEMORY", "not a field, write FRESHLINE__SECTION__FIELD, like FRESHLINE__NODE__MEMORY"),
    ] {
        assert_eq!(node("", &[(name, "1")]).1, [format!("{name}: {problem}")]);
    }
}

#[test]
fn catalog_tables_are_left_to_the_catalog() {
    let text = "[[group]]\nname = \"user\"\n[[rule]]\ntable = \"t\"\n[catalog]\nx = 1\n[node]\nid = \"a\"\n";
    let (node, problems) = node(text, &[]);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(node.id, "a");
}

#[test]
fn every_syntax_error_has_its_line() {
    let problems = layers("[node]\nid = \nweight = 1\nmemory = 1MiB\n", &[]).unwrap_err();
    let lines: Vec<_> = problems.iter().filter_map(|problem| problem.split(": not TOML").next()).collect();
    assert_eq!(lines, ["f.toml:2", "f.toml:4"], "{problems}");
}

#[test]
fn a_section_that_is_no_table_says_how_to_write_it() {
    assert_eq!(
        node("node = 3\n", &[]).1,
        ["f.toml:1: node: must be a table, write [node] on a line of its own"]
    );
    let problems = node("[[node]]\nid = \"a\"\n", &[]).1;
    assert_eq!(problems, ["f.toml:1: node: must be a table, write [node] on a line of its own"]);
    let problems = node("[source.kafak]\n", &[]).1;
    assert_eq!(problems, ["f.toml:1: source.kafak: unknown section, did you mean `source.kafka`?"]);
    let problems = node("node = 3\n", &[("FRESHLINE__NODE__ID", "a")]).1;
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_mistake_inside_a_list_has_the_line_of_the_item() {
    let text = "[cluster]\nmembers = [\n  { id = \"a\", grpc = \"http://a:1\" },\n  { id = \"b\", grcp = \"x\" },\n]\n";
    let mut problems = Problems::default();
    let _: Cluster = layers(text, &[]).unwrap().section("cluster", &mut problems);
    let problems = problems.to_string();
    assert!(problems.starts_with("f.toml:4: cluster.members"), "{problems}");
    assert!(problems.contains("did you mean `grpc`?"), "{problems}");
}

#[test]
fn what_single_fields_cannot_tell_is_checked_with_their_places() {
    let text = "[cluster]\nname = \"a b\"\netcd = [\"etcd:2379\"]\nreplicas = 0\nlease = \"1s\"\nmembers = [{ id = \"a\", grpc = \"http://a:1\" }, { id = \"a\", grpc = \"http://b:1\", weight = 0 }]\n\
        [database]\npool = 0\n[telemetry]\nlog = \"loud\"\n[client]\ndeadline = \"0s\"\n[source.kafka]\ntopics = [\"^a\", \"b\"]\nproperties = { \"enable.auto.commit\" = true }\n";
    let layers = layers(text, &[]).unwrap();
    let mut problems = Problems::default();
    layers.section::<Cluster>("cluster", &mut problems).check(&layers, &mut problems);
    layers.section::<Database>("database", &mut problems).check(&layers, &mut problems);
    layers.section::<Telemetry>("telemetry", &mut problems).check(&layers, &mut problems);
    layers.section::<ClientSection>("client", &mut problems).check(&layers, &mut problems);
    layers.section::<KafkaSource>("source.kafka", &mut problems).check(&layers, &mut problems);
    let places: Vec<_> =
        problems.iter().map(|problem| problem.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(
        places,
        [
            "f.toml:2: cluster.name",
            "f.toml:6: cluster.members",
            "f.toml:3: cluster.etcd",
            "f.toml:4: cluster.replicas",
            "f.toml:5: cluster.lease",
            "f.toml:6: cluster.members",
            "f.toml:6: cluster.members",
            "f.toml: database.url",
            "f.toml:8: database.pool",
            "f.toml:10: telemetry.log",
            "f.toml:12: client.deadline",
            "f.toml: source.kafka.brokers",
            "f.toml:14: source.kafka.topics",
            "f.toml:15: source.kafka.properties",
        ],
        "{problems}"
    );
}

#[test]
fn the_effective_configuration_hides_secrets_and_reads_back() {
    let text = "[node]\nid = \"a\"\ntoken = \"hunter2\"\n[database]\nurl = \"mysql://app:hunter2@db/shop\"\n\
        [source.kafka]\nbrokers = \"kafka:9092\"\nproperties = { \"sasl.password\" = \"hunter2\", \"client.id\" = \"x\" }\n";
    let layers = layers(text, &[]).unwrap();
    let mut problems = Problems::default();
    let node: Node = layers.section("node", &mut problems);
    let database: Database = layers.section("database", &mut problems);
    let kafka: KafkaSource = layers.section("source.kafka", &mut problems);
    let cluster: Cluster = layers.section("cluster", &mut problems);
    assert!(problems.is_empty(), "{problems}");
    assert!(!format!("{node:?} {database:?} {kafka:?}").contains("hunter2"));
    assert_eq!(database.url.expose(), "mysql://app:hunter2@db/shop");
    let shown = Effective::default()
        .with("node", &node)
        .with("database", &database)
        .with("source.kafka", &kafka)
        .with("cluster", &cluster)
        .to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        shown.contains("url = \"mysql://app:***@db/shop\"") && shown.contains("memory = \"256MiB\""),
        "{shown}"
    );
    let back = Layers::from_text("shown", &shown, []).unwrap();
    back.section::<Node>("node", &mut problems);
    back.section::<KafkaSource>("source.kafka", &mut problems);
    assert_eq!(back.section::<Cluster>("cluster", &mut problems), cluster);
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("freshline.toml");
    let problems = Layers::load(Some(&file)).unwrap_err().to_string();
    assert!(problems.contains(&file.display().to_string()) && problems.contains("--config"), "{problems}");
    std::fs::write(&file, "[node]\nid = \"a\"\n").unwrap();
    let layers = Layers::load(Some(&file)).unwrap();
    assert_eq!((layers.file_name(), layers.line_of("node.id")), (&*file.display().to_string(), Some(2)));
    assert_eq!(layers.place("node.id"), format!("{}:2: node.id", file.display()));
    assert_eq!(layers.place("node.weight"), format!("{}: node.weight", file.display()));
}
