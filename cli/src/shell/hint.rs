//! What is shown behind the cursor: the last line that began like this, or else what a command takes.

use clap::Command;
use nu_ansi_term::Style;
use reedline::{DefaultHinter, Hinter, History};

use super::knowledge;

/// Hints.
pub(super) struct Hints {
    history: DefaultHinter,
    commands: Vec<Command>,
}

impl Hints {
    pub(super) fn new() -> Self {
        let history = DefaultHinter::default().with_style(Style::new().dimmed());
        Self { history, commands: knowledge::commands() }
    }

    /// ` <KEY>` behind `get`.
    fn usage(&self, line: &str) -> Option<String> {
        let name = line.trim_end();
        let command = self.commands.iter().find(|command| command.get_name() == name)?;
        let arguments: Vec<String> = command.get_positionals().map(ToString::to_string).collect();
        let blank = if line.ends_with(' ') { "" } else { " " };
        (!arguments.is_empty()).then(|| format!("{blank}{}", arguments.join(" ")))
    }
}

impl Hinter for Hints {
    fn handle(&mut self, line: &str, pos: usize, history: &dyn History, colour: bool, cwd: &str) -> String {
        let hint = self.history.handle(line, pos, history, colour, cwd);
        if !hint.is_empty() || pos < line.len() {
            return hint;
        }
        // Without colours it could not be told from what is typed.
        let usage = self.usage(line).filter(|_| colour).unwrap_or_default();
        if usage.is_empty() { usage } else { Style::new().dimmed().paint(usage).to_string() }
    }

    // What a command takes is for reading; only history is taken over.
    fn complete_hint(&self) -> String {
        self.history.complete_hint()
    }

    fn next_hint_token(&self) -> String {
        self.history.next_hint_token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_alone_says_what_it_takes() {
        let hints = Hints::new();
        assert_eq!(hints.usage("get").as_deref(), Some(" <KEY>"));
        assert_eq!(hints.usage("get ").as_deref(), Some("<KEY>"));
        assert_eq!(hints.usage("ring"), None);
        assert_eq!(hints.usage("get user:1"), None);
    }
}
