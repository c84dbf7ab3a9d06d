//! The page's table of options against the command line.

use std::{collections::BTreeSet, fs, path::Path};

use clap::{Command, CommandFactory as _};

/// A line for each option and argument of a command, and of those below it.
fn lines(command: &Command, path: &str, out: &mut Vec<String>) {
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        if matches!(argument.get_id().as_str(), "help" | "version")
            || (argument.is_global_set() && !path.is_empty())
        {
            continue;
        }
        let values: Vec<String> =
            argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
        let takes = argument.get_action().takes_values();
        let values = if takes { values.join(" ") } else { String::new() };
        let short = argument.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let name = match argument.get_long() {
            Some(long) => format!("{short}--{long} {values}").trim_end().to_owned(),
            None => values,
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty(), "{path}: {name} has no help");
        let shown = format!("{path} {name}");
        out.push(format!("| `{}` | {} |\n", shown.trim_start(), help.replace('|', "\\|")));
    }
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        lines(below, format!("{path} {}", below.get_name()).trim_start(), out);
    }
}

/// `FRESHLINE_BLESS=1` writes the page's table anew.
#[test]
fn every_option_has_its_line_on_the_page_and_every_line_its_option() {
    let mut code = Vec::new();
    lines(&super::Cli::command(), "", &mut code);
    assert!(code.len() > 40, "{}", code.len());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = fs::read_to_string(&file).unwrap();
    let head = "| option or argument | meaning |\n|---|---|\n";
    let (before, rest) = page.split_once(head).expect("the page has a table of options");
    let rows: Vec<&str> = rest.split_inclusive('\n').take_while(|line| line.starts_with('|')).collect();
    if std::env::var_os("FRESHLINE_BLESS").is_some() {
        let after = &rest[rows.concat().len()..];
        fs::write(&file, format!("{before}{head}{}{after}", code.concat())).unwrap();
        return;
    }
    let (page, code): (BTreeSet<&str>, BTreeSet<&str>) =
        (rows.into_iter().collect(), code.iter().map(String::as_str).collect());
    let missing: Vec<_> = code.difference(&page).collect();
    let superfluous: Vec<_> = page.difference(&code).collect();
    assert!(
        missing.is_empty() && superfluous.is_empty(),
        "docs/cli.md lacks {missing:#?} and has too much: {superfluous:#?}; FRESHLINE_BLESS=1 cargo test -p freshline-cli --lib options writes it"
    );
}
