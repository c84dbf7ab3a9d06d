//! The tables of the pages against the code: a setting or a field that is missing there, or is there and in no code, fails.

use std::{collections::BTreeSet, fs, path::Path};

use serde::de::DeserializeOwned;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fields of a section: serde names them all when it is given one that there isn't.
fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
    let Err(error) = serde_json::from_str::<T>("{\"no_such_field\": 0}") else {
        panic!("an unknown field is taken")
    };
    let error = error.to_string();
    let (_, expected) = error.split_once("expected ").unwrap_or_else(|| panic!("no fields in: {error}"));
    expected.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// The first column of the table under a line of a page that begins like this.
fn table(page: &str, title: &str) -> BTreeSet<String> {
    let begin = page.lines().position(|line| line.starts_with(title)).unwrap_or_else(|| panic!("no {title}"));
    let rows = page.lines().skip(begin + 1).skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.filter_map(|row| row.split('`').nth(1)).map(String::from).collect()
}

fn same(what: &str, code: &BTreeSet<String>, page: &BTreeSet<String>, wrong: &mut Vec<String>) {
    wrong.extend(code.difference(page).map(|name| format!("{what}: {name} is in no line of the page")));
    wrong.extend(
        page.difference(code).map(|name| format!("{what}: {name} is on the page and not in the code")),
    );
}

#[test]
fn every_setting_has_its_line_and_every_line_its_setting() {
    use daemon::config::{BinlogSource, ClientSection, Cluster, Database, KafkaSource, Telemetry};
    use sync_service::config::Sync;
    let page = read("docs/configuration.md");
    let sections: [(&str, BTreeSet<String>, &[&str]); 8] = [
        ("## `[cluster]`", fields::<Cluster>(), &[]),
        // Tables of their own.
        ("## `[database]`", fields::<Database>(), &["breaker"]),
        ("## `[source.kafka]`", fields::<KafkaSource>(), &[]),
        ("## `[source.binlog]`", fields::<BinlogSource>(), &[]),
        ("## `[node]`", fields::<cache_node::Config>(), &[]),
        ("## `[sync]`", fields::<Sync>(), &["catch_up", "heartbeat", "verify"]),
        ("## `[client]`", fields::<ClientSection>(), &[]),
        ("## `[telemetry]`", fields::<Telemetry>(), &[]),
    ];
    let mut wrong = Vec::new();
    for (title, mut code, tables) in sections {
        for name in tables {
            assert!(code.remove(*name), "{title} has no {name}");
            let title = format!("### `[{}.{name}]`", title.trim_matches(['#', ' ', '`', '[', ']']));
            assert!(!table(&page, &title).is_empty(), "{title} has no table");
        }
        same(title, &code, &table(&page, title), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names that a part of the catalog's reader asks a table for: `fields.text("query", ..)`.
fn asked(source: &str) -> BTreeSet<String> {
    let calls = source.split("fields.").skip(1).filter_map(|rest| rest.split_once("(\""));
    calls
        .filter(|(method, _)| method.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'))
        .filter_map(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}

#[test]
fn every_field_of_groups_and_rules_is_on_both_pages() {
    let groups = asked(&read("catalog/src/load/groups.rs"));
    let rules = asked(&read("catalog/src/load/rules.rs"));
    assert!(groups.contains("query") && rules.contains("table"), "{groups:?} {rules:?}");
    let mut wrong = Vec::new();
    let (configuration, catalog) = (read("docs/configuration.md"), read("docs/catalog.md"));
    same("configuration.md, [[group]]", &groups, &table(&configuration, "`[[group]]`"), &mut wrong);
    same("configuration.md, [[rule]]", &rules, &table(&configuration, "`[[rule]]`"), &mut wrong);
    same("catalog.md, [[group]]", &groups, &table(&catalog, "## Groups"), &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The commands that the command line has, by its own source.
fn commands() -> BTreeSet<String> {
    let source = read("cli/src/cli.rs");
    let (_, body) = source.split_once("pub(crate) enum Command {").expect("the commands are an enum");
    let (body, _) = body.split_once("\n}\n").expect("it ends");
    // A variant is a line that is indented once and begins with a capital.
    let name = |line: &str| {
        let rest =
            line.strip_prefix("    ").filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))?;
        let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
        let mut kebab = String::new();
        for (at, letter) in word.char_indices() {
            if at > 0 && letter.is_ascii_uppercase() {
                kebab.push('-');
            }
            kebab.push(letter.to_ascii_lowercase());
        }
        Some(kebab)
    };
    body.lines().filter_map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_command_is_in_the_table_of_the_command() {
    let page = read("docs/cli.md");
    let begin = page.find("| command | what it does |").expect("the page has a table of commands");
    let rows = page[begin..].lines().take_while(|line| line.starts_with('|')).skip(2);
    let told: BTreeSet<String> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(String::from)
        .collect();
    let mut wrong = Vec::new();
    let code = commands();
    assert!(code.len() > 10, "{code:?}");
    same("cli.md", &code, &told, &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
