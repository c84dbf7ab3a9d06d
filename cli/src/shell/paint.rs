//! Colours of the line: commands that there are, options, what is in quotes.

use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};

use super::knowledge;

/// Paints the line.
pub(super) struct Paint {
    names: Vec<String>,
}

impl Paint {
    pub(super) fn new() -> Self {
        let mut names: Vec<String> =
            knowledge::commands().iter().map(|command| command.get_name().to_owned()).collect();
        names.extend(["help", "exit", "quit", "freshline"].map(str::to_owned));
        Self { names }
    }
}

impl Highlighter for Paint {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut text = StyledText::new();
        let mut first = true;
        for piece in line.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            let style = match word {
                "" => Style::new(),
                name if first && self.names.iter().any(|known| known == name) => {
                    Style::new().fg(Color::Green)
                }
                // It may still become one.
                name if first && self.names.iter().any(|known| known.starts_with(name)) => Style::new(),
                _ if first => Style::new().fg(Color::Red),
                option if option.starts_with('-') => Style::new().fg(Color::Cyan),
                _ => Style::new(),
            };
            first = first && (word.is_empty() || word == "freshline");
            text.push((style, piece.to_owned()));
        }
        text
    }
}
