//! What of a catalog with mistakes can be shown all the same: the groups and rules that have none.

use std::collections::BTreeSet;

use catalog::{Catalog, Report, Severity};

/// The catalog without the tables that have errors, and without those that have some once these are gone; `None` if no group is left.
pub(super) fn without_mistakes(file: &str, text: &str, report: &Report) -> Option<Catalog> {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut report = report.clone();
    // Each round takes a table out, so it ends.
    loop {
        let wrong: BTreeSet<usize> = report
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .filter_map(|problem| table_of(&lines, problem.line?))
            .collect();
        if wrong.is_empty() {
            return None;
        }
        for begin in wrong {
            let after = lines[begin + 1..].iter().position(|line| line.trim_start().starts_with('['));
            let end = after.map_or(lines.len(), |after| begin + 1 + after);
            // Lines keep their numbers.
            lines[begin..end].fill("");
        }
        match Catalog::parse(file, &lines.join("\n")) {
            Ok(catalog) => return (!catalog.groups().is_empty()).then_some(catalog),
            Err(more) => report = more,
        }
    }
}

/// Where the `[[group]]` or `[[rule]]` begins that a line, counted from 1, belongs to.
fn table_of(lines: &[&str], line: usize) -> Option<usize> {
    let begin = lines.iter().take(line).rposition(|line| line.trim_start().starts_with('['))?;
    let title = lines[begin].trim_start();
    (title.starts_with("[[group]]") || title.starts_with("[[rule]]")).then_some(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> Vec<String> {
        let report = Catalog::parse("f.toml", text).unwrap_err();
        let left = without_mistakes("f.toml", text, &report);
        left.iter().flat_map(Catalog::groups).map(|group| group.name.to_string()).collect()
    }

    #[test]
    fn groups_without_a_mistake_are_left_and_rules_of_others_go_with_them() {
        let good = "[[group]]\nname = \"user\"\nkey = \"user:{id:u64}\"\nquery = \"SELECT id FROM shop.users WHERE id = {id}\"\n";
        let bad = "[[group]]\nname = \"order\"\nkey = \"order:{id:u46}\"\nquery = \"SELECT id FROM shop.orders WHERE id = {id}\"\n";
        let rule = "[[rule]]\ntable = \"shop.a\"\ngroups = [\"order\"]\n";
        assert_eq!(groups(&format!("{bad}{good}{rule}")), ["user"]);
        assert_eq!(groups(&format!("{rule}{good}[node]\n{bad}")), ["user"]);
        assert!(groups(bad).is_empty());
        assert!(groups("[[group]]\nname = \"a\n").is_empty(), "what is no TOML at all");
    }
}
