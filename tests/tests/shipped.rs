//! Settings that this repository ships or advises must not lose changes.

use std::path::{Path, PathBuf};

/// Canal's switches that keep statements from the stream: `dml` statement-format rows, `dcl` DROP DATABASE and what Canal can't parse, `ddl` all others.
const SWITCHES: [&str; 3] =
    ["canal.instance.filter.query.dml", "canal.instance.filter.query.dcl", "canal.instance.filter.query.ddl"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// What a line sets a switch to, in any of the ways of properties, YAML, Java and prose.
fn value<'a>(line: &'a str, switch: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(switch)?;
    let rest = rest.trim_start_matches(|c: char| " =:,\"'`".contains(c));
    rest.split(|c: char| !c.is_ascii_alphanumeric()).next().filter(|word| !word.is_empty())
}

#[test]
fn nothing_that_is_shipped_keeps_statements_from_the_stream() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = vec![root.join("README.md")];
    for folder in ["deploy", "docs", "tests/tests/containers", "tests/tests/chaos", "bench"] {
        files(&root.join(folder), &mut all);
    }
    let (mut wrong, mut said) = (Vec::new(), [0; SWITCHES.len()]);
    for path in all {
        // Pictures and the like have no settings.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for (switch, said) in SWITCHES.iter().zip(&mut said) {
                match value(line, switch) {
                    Some("false") => *said += 1,
                    Some("true") => wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim())),
                    _ => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these drop statements that make keys stale:\n{}", wrong.join("\n"));
    // Compose file, image, page: what is not said may be switched on by a copy of Canal's own examples.
    let least = [3, 3, 1];
    assert!(
        said.iter().zip(least).all(|(said, least)| *said >= least),
        "{SWITCHES:?} are set to false {said:?} times"
    );
}

#[test]
fn settings_are_found_in_any_way_of_writing() {
    let dml = SWITCHES[0];
    for line in [
        "canal.instance.filter.query.dml = true",
        "      canal.instance.filter.query.dml: \"true\"",
        "\"canal.instance.filter.query.dml\", \"true\",",
        "`canal.instance.filter.query.dml=true`, its JVM",
        "  - canal.instance.filter.query.dml=true",
    ] {
        assert_eq!(value(line, dml), Some("true"), "{line}");
    }
    assert_eq!(value("canal.instance.filter.query.dml and others", dml), Some("and"));
}
