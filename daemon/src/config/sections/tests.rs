//! The guide says what the code does.

use super::*;
use crate::config::Effective;

#[test]
fn the_guide_lists_every_field_of_the_shared_sections() {
    let guide = include_str!("../../../../docs/configuration.md");
    let section = |path: &str, defaults: String| {
        let titles = [format!("\n## `[{path}]`"), format!("\n### `[{path}]`")];
        let (_, text) = titles
            .iter()
            .find_map(|title| guide.split_once(title))
            .unwrap_or_else(|| panic!("the guide has no section {path}"));
        let text = text.split("\n## ").next().unwrap();
        let text = text.split("\n### ").next().unwrap();
        let table: toml::Table = toml::from_str(&defaults).unwrap();
        let fields = path.split('.').fold(&table, |table, part| table[part].as_table().unwrap());
        // Those with a title of their own have a table of their own.
        let apart = |field: &str| guide.contains(&format!("\n### `[{path}.{field}]`"));
        let fields: Vec<_> = fields.iter().filter(|(field, _)| !apart(field)).collect();
        for (field, value) in &fields {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{field}` |")));
            let row = row.unwrap_or_else(|| panic!("the guide's section {path} lacks {field}"));
            let shown = row.split('|').nth(2).unwrap().trim();
            let empty = matches!(value, toml::Value::String(text) if text.is_empty())
                || matches!(value, toml::Value::Array(list) if list.is_empty());
            let value = if empty && shown.starts_with("none") {
                shown.to_owned()
            } else {
                format!("`{}`", inline(value))
            };
            assert_eq!(shown, value, "default of {path}.{field}");
        }
        assert_eq!(
            text.lines().filter(|line| line.starts_with("| `")).count(),
            fields.len(),
            "rows of {path}"
        );
    };
    section("cluster", Effective::default().with("cluster", &Cluster::default()).to_string());
    section("database", Effective::default().with("database", &Database::default()).to_string());
    section("database.breaker", Effective::default().with("database", &Database::default()).to_string());
    section("source.kafka", Effective::default().with("source.kafka", &KafkaSource::default()).to_string());
    section("client", Effective::default().with("client", &ClientSection::default()).to_string());
    section("telemetry", Effective::default().with("telemetry", &Telemetry::default()).to_string());
}

fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) if table.is_empty() => "{}".to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn the_guides_example_is_right() {
    let guide = include_str!("../../../../docs/configuration.md");
    let (_, rest) = guide.split_once("## An example\n\n```toml\n").unwrap();
    let text = rest.split("```").next().unwrap();
    let layers = Layers::from_text("docs", text, []).unwrap();
    let mut problems = Problems::default();
    layers.section::<Cluster>("cluster", &mut problems).check(&layers, &mut problems);
    layers.section::<Database>("database", &mut problems).check(&layers, &mut problems);
    layers.section::<KafkaSource>("source.kafka", &mut problems).check(&layers, &mut problems);
    assert!(problems.is_empty(), "{problems}");
}
