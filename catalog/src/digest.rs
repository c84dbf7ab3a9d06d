//! The digest of a group: two nodes may hand each other its values only if both declare it alike (rule R11).
//!
//! It covers what decides a value and which changes find it: the key, the query, what its rows and bytes become, its tags, and every rule that reaches
//! it. Not in it is what travels with each entry or is each node's own affair: TTLs, sizes, compression, eviction.
//!
//! *An old node has a group without tags; the new catalog tags it. The new node takes the old one's entry, which carries none: no change that
//! removes a tag finds it any more.*

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

use crate::binary::Binary;
use crate::catalog::Declared;
use crate::group::Group;
use crate::query::TableName;
use crate::{GroupId, Query};

/// What is hashed. Another number where the same words come to mean something else.
const VERSION: u32 = 1;

/// The digest of one group; 0 is no group's.
pub(crate) fn of(group: &Group, rules: &[Declared], ignored: &[(TableName, GroupId)]) -> u64 {
    let mut lines = vec![
        format!("group {VERSION} {}", group.name),
        format!("key {}", group.template.text()),
        format!("query {}", group.query.as_ref().map_or("", Query::text)),
        format!("rows {:?}", group.rows),
    ];
    // A line of their own only for these: the digests of all other groups stay what they were.
    if group.is_plain() {
        lines.push("plain".to_owned());
    }
    if group.binary != Binary::Base64 {
        lines.push(format!("binary {}", group.binary.name()));
    }
    for tag in &group.tagging.tags {
        lines.push(format!("tag {} of {:?}", tag.template.text(), tag.sources));
    }
    for tag in &group.tagging.of_key {
        lines.push(format!("tag of the key {}", tag.template.text()));
    }
    // In no order of the file: what each of them does does not depend on the others.
    let mut reaching: Vec<_> =
        rules.iter().filter(|declared| declared.rule.groups.contains(&group.id)).map(line).collect();
    reaching
        .extend(ignored.iter().filter(|(_, by)| *by == group.id).map(|(table, _)| format!("ignore {table}")));
    reaching.sort_unstable();
    reaching.dedup();
    lines.append(&mut reaching);
    let text = lines.iter().fold(String::new(), |mut text, line| {
        // Lengths, so that no line can stand for two.
        let _ = writeln!(text, "{}:{line}", line.len());
        text
    });
    xxh3_64(text.as_bytes()).max(1)
}

fn line(declared: &Declared) -> String {
    let rule = &declared.rule;
    let mut line = format!("rule {} on {:?} when {:?}", declared.pattern, rule.on, rule.when_changed);
    if let Some(keys) = &rule.keys {
        let _ = write!(line, " keys {}", keys.text());
    }
    if let Some(tags) = &rule.tags {
        let _ = write!(line, " tags {} joining {:?}", tags.template.text(), tags.joining);
    }
    line
}

#[cfg(test)]
mod tests {
    use crate::Catalog;

    const BEFORE: &str = r#"
[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"

[[group]]
name = "order"
key = "order:{id:u64}"
query = "SELECT id FROM shop.orders WHERE id = {id}"

[[rule]]
table = "shop.names"
keys = ["user:{user_id}"]
"#;

    fn digests(text: &str) -> (u64, u64) {
        let catalog = Catalog::parse("c.toml", text).unwrap();
        let digest = |name| catalog.group(name).unwrap().digest;
        (digest("user"), digest("order"))
    }

    #[test]
    fn whatever_decides_a_value_or_finds_it_changes_the_digest_of_its_group_alone() {
        let before = digests(BEFORE);
        assert_ne!(before.0, before.1);
        for (from, to) in [
            ("user:{id:u64}", "user:{id:i64}"),
            ("SELECT id, name FROM", "SELECT id, name, city FROM"),
            (
                "WHERE id = {id}\"\n\n[[group]]\nname = \"order\"",
                "WHERE id = {id}\"\nrows = \"many\"\n\n[[group]]\nname = \"order\"",
            ),
            (
                "WHERE id = {id}\"\n\n[[group]]\nname = \"order\"",
                "WHERE id = {id}\"\nbinary = \"uuid\"\n\n[[group]]\nname = \"order\"",
            ),
            ("table = \"shop.names\"", "table = \"shop.name\""),
            ("keys = [\"user:{user_id}\"]", "keys = [\"user:{user_id}\"]\nwhen_changed = [\"name\"]"),
            ("keys = [\"user:{user_id}\"]", "keys = [\"user:{id}\"]"),
            ("keys = [\"user:{user_id}\"]", "groups = [\"user\"]"),
        ] {
            let changed = BEFORE.replace(from, to);
            assert_ne!(changed, BEFORE, "{from}");
            let after = digests(&changed);
            assert_ne!(after.0, before.0, "{to}");
            assert_eq!(after.1, before.1, "{to}");
        }
    }

    #[test]
    fn times_and_the_order_of_the_file_do_not_change_it() {
        let before = digests(BEFORE);
        assert_eq!(
            digests(&BEFORE.replace("name = \"user\"\n", "name = \"user\"\nbinary = \"base64\"\n")),
            before
        );
        let times =
            BEFORE.replace("name = \"user\"\n", "name = \"user\"\nttl = \"7s\"\nmax_value = \"1KiB\"\n");
        assert_eq!(digests(&times), before);
        let (groups, rule) = BEFORE.split_once("[[rule]]").unwrap();
        let (user, order) = groups.split_at(groups.find("[[group]]\nname = \"order\"").unwrap());
        assert_eq!(digests(&format!("[[rule]]{rule}{order}{user}")), before);
    }
}
