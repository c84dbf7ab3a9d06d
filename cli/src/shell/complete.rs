//! What a word may become: commands, options and their values, groups, keys, files.

use std::{path::Path, sync::Arc};

use clap::{Arg, Command};
use reedline::{Completer as Complete, CompletionResult, Span, Suggestion};

use super::{
    knowledge::{self, Knowledge},
    words,
};

/// Most suggestions for one word.
const MOST: usize = 200;

/// Completes by the definition of the command line.
pub(super) struct Completer {
    knowledge: Arc<Knowledge>,
    commands: Vec<Command>,
}

/// A word, what is said of it, and whether it is whole.
struct Offer {
    word: String,
    about: Option<String>,
    whole: bool,
}

impl Offer {
    fn of(word: impl Into<String>) -> Self {
        Self { word: word.into(), about: None, whole: true }
    }

    fn about(self, about: &impl ToString) -> Self {
        Self { about: Some(about.to_string()), ..self }
    }
}

impl Completer {
    pub(super) fn new(knowledge: Arc<Knowledge>) -> Self {
        Self { knowledge, commands: knowledge::commands() }
    }

    fn offers(&self, before: &[String], current: &str) -> Vec<Offer> {
        let Some(command) = before.first() else { return self.names(current, true) };
        if command == "help" {
            return if before.len() == 1 { self.names(current, false) } else { Vec::new() };
        }
        let Some(command) = self.commands.iter().find(|known| known.get_name() == command) else {
            return Vec::new();
        };
        if let Some((option, value)) = current.split_once('=').filter(|_| current.starts_with("--")) {
            let Some(arg) = option_of(command, option) else { return Vec::new() };
            let mut offers = self.values(arg, value);
            for offer in &mut offers {
                offer.word = format!("{option}={}", offer.word);
            }
            return offers;
        }
        if current.starts_with('-') {
            return options(command, before, current);
        }
        let (open, position) = place(command, &before[1..]);
        let positional =
            || command.get_positionals().nth(position).or_else(|| command.get_positionals().last());
        let arg = open.or_else(|| {
            positional().filter(|arg| position < 1 || many(arg) || arg.get_index() > Some(position))
        });
        arg.map(|arg| self.values(arg, current)).unwrap_or_default()
    }

    fn names(&self, current: &str, own: bool) -> Vec<Offer> {
        let named = |command: &Command| {
            let offer = Offer::of(command.get_name());
            command.get_about().map_or_else(|| Offer::of(command.get_name()), |about| offer.about(about))
        };
        let mut offers: Vec<Offer> = self.commands.iter().map(named).collect();
        if own {
            offers.push(Offer::of("help").about(&"List the commands"));
            offers.push(Offer::of("exit").about(&"Leave"));
        }
        offers.retain(|offer| offer.word.starts_with(current));
        offers
    }

    /// Values of an option or an argument, told by its name.
    fn values(&self, arg: &Arg, current: &str) -> Vec<Offer> {
        let possible = arg.get_possible_values();
        let flag = possible.len() == 2 && possible.iter().any(|value| value.get_name() == "true");
        if !possible.is_empty() && !flag {
            let offers = possible.iter().map(|value| match value.get_help() {
                Some(help) => Offer::of(value.get_name()).about(help),
                None => Offer::of(value.get_name()),
            });
            return offers.filter(|offer| offer.word.starts_with(current)).collect();
        }
        match arg.get_id().as_str() {
            "key" | "keys" if arg.is_positional() => self.keys(current),
            "group" | "groups" => {
                let names = self.knowledge.group_names().into_iter().filter(|name| name.starts_with(current));
                names.map(Offer::of).collect()
            }
            "config" | "from" | "state" | "against" | "file" | "dir" => files(current),
            _ => Vec::new(),
        }
    }

    /// Keys in memory; before those what keys of each group begin with.
    fn keys(&self, current: &str) -> Vec<Offer> {
        let mut offers = Vec::new();
        for group in self.knowledge.groups() {
            let text = group.template.text();
            let literal = knowledge::literal(text);
            if literal.starts_with(current) && literal != current && !literal.is_empty() {
                let known: Option<&mut Offer> =
                    offers.iter_mut().find(|offer: &&mut Offer| offer.word == literal);
                match known {
                    Some(Offer { about: Some(about), .. }) => about.extend([", ", text]),
                    _ => offers.push(Offer { whole: !text.contains('{'), ..Offer::of(literal).about(&text) }),
                }
            }
        }
        offers.extend(self.knowledge.keys(current).into_iter().map(Offer::of));
        offers.truncate(MOST);
        offers
    }
}

impl Complete for Completer {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let line = line.get(..pos).unwrap_or(line);
        let words = words::split(line);
        let offers = self.offers(&words.before, &words.current);
        let suggestions: Vec<Suggestion> = offers
            .into_iter()
            .map(|offer| Suggestion {
                value: offer.word,
                description: offer.about,
                span: Span::new(words.start, pos),
                append_whitespace: offer.whole,
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

fn option_of<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| {
        let long = arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
        let short =
            arg.get_short().is_some_and(|short| word.strip_prefix('-') == Some(short.to_string().as_str()));
        long || short
    })
}

/// Options that are not there yet; those that are, unless they may come again.
fn options(command: &Command, before: &[String], current: &str) -> Vec<Offer> {
    let mut offers = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = arg.get_long() else { continue };
        let word = format!("--{long}");
        if word.starts_with(current) && (!before.contains(&word) || many(arg)) {
            offers.push(match arg.get_help() {
                Some(help) => Offer::of(word).about(help),
                None => Offer::of(word),
            });
        }
    }
    offers
}

/// The option that waits for a value, and how many arguments came before.
fn place<'c>(command: &'c Command, words: &[String]) -> (Option<&'c Arg>, usize) {
    let (mut open, mut position) = (None, 0);
    for word in words {
        if open.take().is_some() {
            continue;
        }
        if word.starts_with('-') && word.len() > 1 {
            let takes = |arg: &&Arg| arg.get_action().takes_values() && !word.contains('=');
            open = option_of(command, word).filter(takes);
        } else {
            position += 1;
        }
    }
    (open, position)
}

fn many(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}

/// Entries of the directory that is being written.
fn files(current: &str) -> Vec<Offer> {
    let (directory, name) = current.rfind('/').map_or(("", current), |at| current.split_at(at + 1));
    let Ok(entries) =
        std::fs::read_dir(if directory.is_empty() { Path::new(".") } else { Path::new(directory) })
    else {
        return Vec::new();
    };
    let mut offers: Vec<Offer> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let hidden = file.starts_with('.') && !name.starts_with('.');
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let end = if is_directory { "/" } else { "" };
            (file.starts_with(name) && !hidden).then(|| {
                let word =
                    shlex::try_quote(&format!("{directory}{file}{end}")).map(std::borrow::Cow::into_owned);
                word.ok().map(|word| Offer { whole: !is_directory, ..Offer::of(word) })
            })?
        })
        .collect();
    offers.sort_unstable_by(|a, b| a.word.cmp(&b.word));
    offers.truncate(MOST);
    offers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Connect;

    async fn complete(line: &str) -> Vec<String> {
        let line = line.to_owned();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.toml");
        std::fs::write(&file, include_str!("../dev/shop.toml")).unwrap();
        let knowledge = Arc::new(Knowledge::new(Connect::by_config(&file)));
        // As the editor does, from a thread outside of the runtime.
        let words = tokio::task::spawn_blocking(move || {
            let mut completer = Completer::new(knowledge);
            let found = completer.complete(&line, line.len());
            found.suggestions().iter().map(|found| found.value.clone()).collect()
        });
        words.await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn words_are_completed_by_what_they_stand_for() {
        assert_eq!(complete("ge").await, ["get", "get-many"]);
        assert_eq!(complete("expl").await, ["explain"]);
        assert!(complete("").await.contains(&"help".to_owned()) && complete("de").await == ["del"]);
        assert_eq!(complete("help ge").await, ["get", "get-many"]);
        assert_eq!(complete("get --max").await, ["--max-staleness"]);
        assert!(!complete("get user:1 --raw --").await.contains(&"--raw".to_owned()));
        assert_eq!(complete("flush user_").await, ["user_by_email", "user_orders"]);
        assert_eq!(complete("flush product us").await, ["user", "user_by_email", "user_orders"]);
        assert_eq!(complete("verify --group pro").await, ["product", "product_reviews", "product_page"]);
        assert_eq!(complete("warm --rate 5 user_b").await, ["user_by_email"]);
        assert_eq!(complete("bench --distribution ").await, ["zipf", "uniform"]);
        assert_eq!(complete("bench --distribution=u").await, ["--distribution=uniform"]);
        assert_eq!(complete("get us").await, ["user:"]);
        assert_eq!(complete("get-many user:1 pr").await, ["product:"]);
        assert!(complete("get user:1 pr").await.is_empty() && complete("ring ").await.is_empty());
    }

    #[test]
    fn files_are_completed_below_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ids.csv", "ids two.csv", ".hidden"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("idle")).unwrap();
        let at = dir.path().display();
        let found: Vec<String> = files(&format!("{at}/id")).into_iter().map(|offer| offer.word).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found.contains(&format!("{at}/idle/")) && found.contains(&format!("{at}/ids.csv")),
            "{found:?}"
        );
        assert!(found.iter().any(|word| word.starts_with('\'')), "a blank is quoted: {found:?}");
    }
}
